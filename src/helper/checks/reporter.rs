//! Reports the results of one check, and whether each may change the check's verdict.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use tokio::sync::mpsc;

use crate::helper::check_run::{CheckResult, CheckRun};
use crate::helper::output::excerpt;

pub(super) struct CheckReport {
    pub run: CheckRun,
    /// It may change the check's verdict.
    pub matters: bool,
}

pub(super) struct Reporter {
    number: u64,
    stable_after: Arc<AtomicU32>,
    sender: mpsc::Sender<CheckReport>,
    last: Option<CheckResult>,
    streak: u32,
    output: Option<String>,
}

impl Reporter {
    /// After `stable_after` equal results in a row further ones change nothing.
    pub(super) fn new(
        number: u64,
        stable_after: Arc<AtomicU32>,
        sender: mpsc::Sender<CheckReport>,
    ) -> Self {
        Reporter { number, stable_after, sender, last: None, streak: 0, output: None }
    }

    pub(super) async fn report(&mut self, result: CheckResult, output: String, took: Duration) {
        let output = shown(&output);
        let alike = self.last.is_some_and(|last| last.failed() == result.failed());
        self.streak = if alike { self.streak.saturating_add(1) } else { 1 };
        let number_changed = self.last != Some(result) && alike;
        let matters = number_changed || self.streak <= self.stable_after.load(Ordering::Relaxed);
        self.last = Some(result);
        let output = Some(output).filter(|output| self.output.as_ref() != Some(output));
        if output.is_some() {
            self.output.clone_from(&output);
        }
        let run = CheckRun { number: self.number, result, output, took, at: SystemTime::now() };
        // The receiver lives as long as this task.
        let _ = self.sender.send(CheckReport { run, matters }).await;
    }
}

/// The text of a result, which may have text of a server, of a certificate or of systemd, or the name of
/// a file: it can be long, have several lines, or disturb a terminal.
pub(crate) fn shown(text: &str) -> String {
    excerpt(text.as_bytes())
}
