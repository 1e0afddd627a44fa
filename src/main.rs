//! The `vipd` command: arguments to one subcommand.

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    match arguments.next().as_deref().and_then(|first| first.to_str()) {
        Some("demo") => vipd::cli::demo::demo(),
        Some("lab-child") => vipd::lab::child_main(arguments),
        _ => ExitCode::from(2),
    }
}
