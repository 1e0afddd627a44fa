//! The `vipd` command: arguments to one subcommand.

use std::process::ExitCode;

fn main() -> ExitCode {
    vipd::cli::main()
}
