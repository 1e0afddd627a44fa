//! `command`: a program passes with exit status 0.

use std::time::Duration;

use tokio::time::timeout;

use crate::helper::hook::Outcome;
use crate::helper::output::Sink;
use crate::helper::program::{Program, language};

pub(super) struct CommandCheck {
    name: String,
    argv: Vec<String>,
    user: Option<String>,
    /// A program that was killed at its timeout and may not have ended yet.
    lingering: Option<Program>,
}

impl CommandCheck {
    pub(super) fn new(name: String, argv: Vec<String>, user: Option<String>) -> Self {
        CommandCheck { name, argv, user, lingering: None }
    }

    pub(super) async fn run(&mut self, limit: Duration) -> Result<String, String> {
        if let Some(earlier) = &mut self.lingering
            && !earlier.is_gone(limit).await
        {
            return Err(format!(
                "process {} hangs in the kernel and cannot be killed",
                earlier.pid()
            ));
        }
        self.lingering = None;
        let environment =
            [("PATH", crate::config::HOOK_PATH.join(":")), ("VIPD_CHECK", self.name.clone())];
        let environment = environment.map(|(name, value)| (name.to_owned(), value));
        let environment = environment.into_iter().chain(language()).collect();
        let kept = Sink::Keep(Vec::new());
        let mut program = Program::start(&self.argv, self.user.as_deref(), environment, kept)
            .map_err(|error| format!("cannot start a process: {error}"))?;
        let outcome = timeout(limit, program.run()).await;
        if outcome.is_err() {
            program.kill();
        }
        let said = program.finish_output();
        match outcome {
            Ok(Outcome::Done) => Ok(said),
            Ok(outcome) => Err(with(&outcome.to_string(), &said)),
            Err(_) => {
                self.lingering = Some(program);
                Err(with(&format!("took longer than {limit:?} and was killed"), &said))
            }
        }
    }
}

fn with(outcome: &str, said: &str) -> String {
    if said.is_empty() { outcome.to_owned() } else { format!("{outcome}: {said}") }
}
