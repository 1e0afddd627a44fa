//! A network namespace, kept alive by a thread in it.

use std::ffi::{CString, OsString};
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::mpsc;
use std::thread;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::unistd::{getgid, getppid, getuid};

use super::link::LinkEditor;

/// Gives this process a network and a mount table of its own, so that nothing it does to them
/// is seen outside: as root directly, as any other user through a user namespace.
///
/// # Errors
/// If there is already a second thread, or the system refuses; the message says what to do.
pub fn enter() -> io::Result<()> {
    let (uid, gid) = (getuid(), getgid());
    let mut flags = CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS;
    if !uid.is_root() {
        flags |= CloneFlags::CLONE_NEWUSER;
    }
    unshare(flags).map_err(|errno| refused("making namespaces", errno.into()))?;
    if !uid.is_root() {
        std::fs::write("/proc/self/setgroups", "deny")
            .and_then(|()| std::fs::write("/proc/self/uid_map", format!("0 {uid} 1")))
            .and_then(|()| std::fs::write("/proc/self/gid_map", format!("0 {gid} 1")))
            .map_err(|error| refused("mapping users", error))?;
    }
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
        .map_err(|errno| refused("making mounts private", errno.into()))?;
    LinkEditor::open()
        .and_then(|links| links.up("lo"))
        .map_err(|error| refused("setting up a network", error))
}

fn refused(what: &str, error: io::Error) -> io::Error {
    let advice = if getuid().is_root() {
        "this container may need CAP_SYS_ADMIN and CAP_NET_ADMIN"
    } else {
        "this system may not let ordinary users make user namespaces: try as root"
    };
    io::Error::new(error.kind(), format!("{what} failed: {error} ({advice})"))
}

/// The entry point of `vipd lab-child PARENT PROGRAM ARGUMENTS...`: becomes the program, killed by
/// the kernel when the thread that started it ends, so that no lab leaves a process behind.
pub fn child_main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let mut arguments = arguments.into_iter();
    let parent = arguments.next().and_then(|pid| pid.into_string().ok()?.parse::<i32>().ok());
    let argv: Vec<CString> =
        arguments.filter_map(|argument| CString::new(argument.into_vec()).ok()).collect();
    let (Some(parent), Some(program)) = (parent, argv.first()) else {
        eprintln!("vipd: lab-child is for the lab's own use");
        return ExitCode::from(2);
    };
    if let Err(errno) = prctl::set_pdeathsig(Signal::SIGKILL) {
        eprintln!("vipd: no death signal for {}: {errno}", program.to_string_lossy());
        return ExitCode::FAILURE;
    }
    // The parent may have ended before the kernel was told.
    if getppid().as_raw() != parent {
        return ExitCode::FAILURE;
    }
    let Err(errno) = nix::unistd::execvp(program, &argv);
    eprintln!("vipd: {} does not start: {errno}", program.to_string_lossy());
    ExitCode::FAILURE
}

type Task = Box<dyn FnOnce() + Send>;

/// A network namespace. It ends, and with it the processes started in it, when this is dropped.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    file: File,
    links: LinkEditor,
    /// `None` only while dropping.
    tasks: Option<mpsc::Sender<Task>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Namespace {
    /// A new namespace with nothing but a loopback device that is up.
    ///
    /// # Errors
    /// The namespace cannot be created, for example as [`enter`] was not called.
    pub fn new(name: &str) -> io::Result<Self> {
        let (ready_sender, ready) = mpsc::channel();
        let (tasks, queue) = mpsc::channel::<Task>();
        let thread = thread::Builder::new().name(format!("ns-{name}")).spawn(move || {
            let prepared = unshare(CloneFlags::CLONE_NEWNET)
                .map_err(io::Error::from)
                .and_then(|()| Ok((File::open("/proc/thread-self/ns/net")?, LinkEditor::open()?)));
            if ready_sender.send(prepared).is_ok() {
                for task in queue {
                    task();
                }
            }
        })?;
        let (file, links) = ready.recv().map_err(io::Error::other)??;
        links.up("lo")?;
        let namespace =
            Self { name: name.to_owned(), file, links, tasks: Some(tasks), thread: Some(thread) };
        namespace.run(disable_autoconfiguration);
        Ok(namespace)
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Links and addresses in it.
    pub fn links(&self) -> &LinkEditor {
        &self.links
    }

    /// The open namespace, to move links into.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Runs `task` inside and returns its result.
    ///
    /// # Panics
    /// If `task` does.
    pub fn run<T: Send + 'static>(&self, task: impl FnOnce() -> T + Send + 'static) -> T {
        let (sender, result) = mpsc::channel();
        let task = Box::new(move || {
            let _ = sender.send(task());
        });
        let sent = self.tasks.as_ref().is_some_and(|tasks| tasks.send(task).is_ok());
        match result.recv() {
            Ok(value) if sent => value,
            _ => panic!("a task in namespace {} panicked", self.name),
        }
    }

    /// Starts a thread inside: threads inherit the namespace of the one that starts them.
    ///
    /// # Errors
    /// If the thread cannot be started.
    pub fn thread<T: Send + 'static>(
        &self,
        name: &str,
        body: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<thread::JoinHandle<T>> {
        let builder = thread::Builder::new().name(format!("{name}-{}", self.name));
        self.run(move || builder.spawn(body))
    }

    /// Starts a process inside, in a process group of its own, printing to `output`. It is killed
    /// when the namespace or this process ends. The running program must answer to `lab-child`
    /// with [`child_main`].
    ///
    /// # Errors
    /// If the program cannot be started.
    pub fn spawn(&self, command: &Command, output: File) -> io::Result<Child> {
        let mut child = Command::new("/proc/self/exe");
        child.arg("lab-child").arg(std::process::id().to_string());
        child.arg(command.get_program()).args(command.get_args());
        for (key, value) in command.get_envs() {
            match value {
                Some(value) => child.env(key, value),
                None => child.env_remove(key),
            };
        }
        child.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        child.process_group(0);
        self.run(move || child.spawn())
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        self.tasks = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Keeps the kernel from sending packets of its own accord. Where /proc/sys is read-only the lab
/// works without.
fn disable_autoconfiguration() {
    for key in ["default", "all"] {
        let dir = format!("/proc/sys/net/ipv6/conf/{key}");
        for (file, value) in
            [("accept_dad", "0"), ("accept_ra", "0"), ("router_solicitations", "0")]
        {
            let _ = std::fs::write(format!("{dir}/{file}"), value);
        }
    }
}
