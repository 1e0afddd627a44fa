//! Processor time and delays of vipd, beside keepalived and beside a program that does nothing
//! else (`floor`), in the same run.
//!
//! `cargo bench --bench fast [-- ROW.. | --rounds N | --alone]`: about a quarter of an hour for all
//! rows, in network namespaces; as root, or as any other user, without real-time priority then.
//! Prints a table in Markdown. Processor time is what the kernel's scheduler counted for the
//! threads of the measured program; times are the kernel's, taken where the frames reach a client.
//! With `VIPD_BEFORE=PATH` another vipd takes keepalived's place, to see what a change has cost.
#![allow(clippy::unwrap_used)]

mod floor;
#[path = "../../tests/lab/mod.rs"]
mod lab;
mod listener;
mod rows;
mod table;

use std::net::{IpAddr, Ipv4Addr};
use std::process::ExitCode;

use lab::Program;
use rows::{Bench, ROWS};
use table::Row;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_some_and(|first| first == "lab-child") {
        return lab::child_main(arguments);
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|first| first == "floor") {
        let Err(error) = floor::main(&arguments[1..]) else { return ExitCode::SUCCESS };
        eprintln!("floor: {error}");
        return ExitCode::FAILURE;
    }
    if let Err(error) = lab::enter() {
        eprintln!("fast: {error}");
        return ExitCode::FAILURE;
    }
    let rounds = arguments.iter().position(|argument| argument == "--rounds");
    let given = rounds.and_then(|at| arguments.get(at + 1)?.parse().ok());
    let wanted: Vec<&String> = arguments
        .iter()
        .enumerate()
        .filter(|(n, argument)| !argument.starts_with('-') && rounds.is_none_or(|at| *n != at + 1))
        .map(|(_, argument)| argument)
        .collect();
    if let Some(unknown) = wanted.iter().find(|name| ROWS.iter().all(|(row, _)| row != **name)) {
        let names: Vec<_> = ROWS.iter().map(|(name, _)| *name).collect();
        eprintln!("fast: there is no row {unknown}; there are {}", names.join(", "));
        return ExitCode::from(2);
    }
    let alone = arguments.iter().any(|argument| argument == "--alone");
    let (name, beside) = match std::env::var_os("VIPD_BEFORE") {
        Some(before) => ("vipd before", Some(Program::Vipd(before.into()))),
        None => ("keepalived", lab::keepalived().map(Program::Keepalived)),
    };
    if beside.is_none() {
        println!("SKIPPED: keepalived is not installed, so nothing is beside it");
    }
    let bench = Bench::new(beside, given.unwrap_or(3), alone);
    let mut rows: Vec<Row> = Vec::new();
    for (name, row) in ROWS {
        if wanted.is_empty() || wanted.contains(&&name.to_owned()) {
            eprintln!("{name} ...");
            rows.extend(row(&bench));
        }
    }
    table::print(&rows, name);
    ExitCode::SUCCESS
}

/// The address number `n` of router number `router`, both counted from 0.
fn shared(router: usize, n: usize) -> IpAddr {
    let first = Ipv4Addr::new(10, 128, 0, 1).to_bits();
    Ipv4Addr::from_bits(first + 1024 * router as u32 + n as u32).into()
}
