//! Hooks: programs that run when a virtual router changes its role, and their results.

words! {
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
    pub enum Hook {
        /// Before the addresses are claimed; a failure prevents that.
        BeforeClaim = "before_claim",
        /// After becoming master.
        Master = "master",
        /// After becoming backup.
        Backup = "backup",
        /// After a fault.
        Fault = "fault",
        /// When the daemon stops or the virtual router is removed.
        Stop = "stop",
        /// Before a planned release.
        BeforeRelease = "before_release",
    }
}

/// The result of a hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct HookOutcome {
    pub hook: Hook,
    /// It ended with status 0 within its limit.
    pub succeeded: bool,
}
