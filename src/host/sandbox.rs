//! What this process can no longer do once it has started: write outside its own directories, look into
//! other processes, or change what is mounted and loaded, whatever a bug may make it try.
//!
//! The one program that it executes, `vipd check` before a restart, is restricted with it. Hooks and
//! checks are not: the helper that runs them was started before.

use std::io;
use std::path::Path;

use landlock::{
    ABI, AccessFs, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreatedAttr,
};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch};

/// System calls that the daemon has no use for after its start, and somebody else might have: they
/// look into other processes, change the kernel or what is mounted.
const REFUSED: [i64; 29] = [
    libc::SYS_add_key,
    libc::SYS_bpf,
    libc::SYS_chroot,
    libc::SYS_delete_module,
    libc::SYS_finit_module,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fsopen,
    libc::SYS_init_module,
    libc::SYS_io_uring_setup,
    libc::SYS_kcmp,
    libc::SYS_kexec_load,
    libc::SYS_keyctl,
    libc::SYS_mount,
    libc::SYS_move_mount,
    libc::SYS_name_to_handle_at,
    libc::SYS_open_by_handle_at,
    libc::SYS_open_tree,
    libc::SYS_perf_event_open,
    libc::SYS_pivot_root,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_ptrace,
    libc::SYS_request_key,
    libc::SYS_setns,
    libc::SYS_swapon,
    libc::SYS_umount2,
    libc::SYS_unshare,
    libc::SYS_userfaultfd,
];

/// Restricts this process for ever. Threads that exist already are not restricted.
///
/// It may write below `writable` only, of which those that do not exist are left out. Whatever the
/// permissions of files allow, it may read: a configuration can be moved, or linked to, anywhere.
///
/// # Errors
/// The kernel lacks one of the two mechanisms. The other one is in force.
pub fn enter(writable: &[&Path]) -> io::Result<()> {
    nix::sys::prctl::set_no_new_privs()?;
    let files = restrict_files(writable).map_err(io::Error::other);
    restrict_calls().map_err(io::Error::other)?;
    files
}

/// What a kernel does not know is left out: of the rights, each came with some version of Landlock.
fn restrict_files(writable: &[&Path]) -> Result<(), landlock::RulesetError> {
    let newest = ABI::V5;
    let writing = AccessFs::from_write(newest);
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(writing)?
        .create()?;
    for path in writable {
        if let Ok(directory) = PathFd::new(path) {
            ruleset = ruleset.add_rule(PathBeneath::new(directory, writing))?;
        }
    }
    match ruleset.restrict_self()?.ruleset {
        landlock::RulesetStatus::FullyEnforced | landlock::RulesetStatus::PartiallyEnforced => {}
        landlock::RulesetStatus::NotEnforced => tracing::debug!("this kernel has no Landlock"),
    }
    Ok(())
}

/// All other calls cost nothing more: the kernel notes once that they are always allowed.
fn restrict_calls() -> Result<(), seccompiler::Error> {
    let rules = REFUSED.into_iter().map(|call| (call, Vec::new())).collect();
    let refuse = SeccompAction::Errno(libc::EPERM as u32);
    let here = TargetArch::try_from(std::env::consts::ARCH)?;
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, refuse, here)?;
    let program: BpfProgram = filter.try_into()?;
    seccompiler::apply_filter(&program)
}
