//! The `vipd` command: arguments to one subcommand.

fn main() {}
