//! The helper process runs hooks and checks, so that none can ever delay an advert or inherit a
//! capability.
//!
//! It is this same binary, started before privileges are given up (`vipd helper`, hidden), at the
//! other end of a SOCK_SEQPACKET socket pair: one JSON message per packet. [`Helper`] is the
//! daemon's end. Each virtual router's hooks run one at a time and in order, different routers'
//! side by side; a state that was overtaken by a newer one before its hooks began is skipped, so
//! the hooks run last always match the last state.
//!
//! A check goes on by itself from when it is told to until it is told to stop. A result that may
//! change what the check amounts to is reported at once; the others are collected, for a second at
//! most, so that they cost the daemon next to nothing.
//!
//! A hook is called *at least* once per change: after a restart of the daemon its state's hooks run
//! again unless they are known to have finished with success.

mod check_run;
mod checks;
mod client;
mod exec_hook;
mod hook;
mod output;
mod process;
mod program;
mod protocol;
mod queue;
mod run;

pub use crate::config::HookCommand;
pub use check_run::{CheckResult, CheckRun};
pub use client::Helper;
pub use exec_hook::exec_hook;
pub use hook::{Finished, HookRun, Outcome};
pub use process::main;
