//! `vipd exporter`: metrics and a page by HTTP.

use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;

use super::output::fail;
use crate::exporter;

pub(super) fn run(listen: SocketAddr, runtime_dir: &Path) -> ExitCode {
    match exporter::run(listen, runtime_dir) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(format_args!(
            "cannot serve on {listen}: {error}; --listen ADDRESS:PORT chooses another address"
        )),
    }
}
