//! The helper process runs hooks and checks, so that they can neither delay an advert nor inherit a
//! capability.
//!
//! It is this same binary (`vipd helper`, hidden), started before the daemon drops its privileges,
//! and connected by a SOCK_SEQPACKET socket pair with one JSON message per packet (`protocol`).
//! [`Helper`] is the daemon's end (`client`), `process` the other one.
//!
//! The hooks of one virtual router run one at a time and in order, those of different routers in
//! parallel. If a newer state arrives before the hooks of an older one have started, these are
//! skipped (`queue`), so the hooks that ran last always match the last state. A hook runs *at
//! least* once per change: after a restart of the daemon the hooks of the current state run again
//! unless they are known to have succeeded.
//!
//! Once started, a check repeats until it is stopped. A result that may change the check's verdict
//! is reported at once; others are batched, for at most a second, so that they cost the daemon
//! little.

mod check_run;
pub(crate) mod checks;
mod children;
mod client;
pub(crate) mod exec_hook;
mod hook;
pub(crate) mod output;
mod process;
mod program;
pub(crate) mod protocol;
mod queue;
mod run;
mod supervisor;

pub use check_run::{CheckResult, CheckRun};
pub use checks::process_of_another;
pub use client::Helper;
pub use exec_hook::exec_hook;
pub use hook::{Finished, HookRun, Outcome};
pub use process::main;
