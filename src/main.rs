//! The `vipd` command: arguments to one subcommand.

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    match args.next().as_ref().and_then(|name| name.to_str()) {
        Some("helper") => vipd::helper::main(),
        Some("exec-hook") => vipd::helper::exec_hook(args.collect()),
        _ => ExitCode::from(2),
    }
}
