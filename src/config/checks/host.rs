//! The rules for checks that need this machine: programs, users, and files of certificates.

use std::path::Path;

use super::plan::{CheckPlan, Http, Target};
use crate::config::problem::{Diagnostics, Place};
use crate::config::program::{self, ProgramFaults};

/// Places in the file of what must exist on this machine.
#[derive(Clone, Debug)]
pub(in crate::config) struct CheckPlaces {
    pub object: Place,
    pub user: Option<Place>,
    pub ca_file: Option<Place>,
}

pub(in crate::config) fn check_host(
    plan: &CheckPlan,
    places: Option<&CheckPlaces>,
    faults: &ProgramFaults,
    report: &Diagnostics,
) {
    let user_at = places.and_then(|places| places.user.as_ref());
    match &plan.target {
        Target::Command { .. } | Target::Process { .. } => program::report_faults(
            faults,
            plan.program().as_ref(),
            places.map(|places| &places.object),
            user_at,
            report,
        ),
        Target::Http(Http { ca_file: Some(path), .. }) => {
            if let Err((message, help)) = has_certificates(path) {
                match places.and_then(|places| places.ca_file.as_ref()) {
                    Some(place) => report.error_at(place.clone(), message, help),
                    None => report.error_without_place(message, help),
                }
            }
        }
        Target::Http(Http { ca_file: None, .. })
        | Target::Tcp { .. }
        | Target::Unit { .. }
        | Target::File { .. }
        | Target::FilePresent { .. }
        | Target::FileAbsent { .. }
        | Target::Interface { .. }
        | Target::Ping { .. } => {}
    }
}

/// Whether a file can be read and has PEM certificates in it.
fn has_certificates(path: &Path) -> Result<(), (String, String)> {
    const MAX_SIZE: u64 = 4 << 20;
    let shown = path.display();
    let error = |message: String, help: &str| Err((message, help.to_string()));
    match std::fs::metadata(path) {
        Err(why) => return error(format!("cannot look at `{shown}`: {why}"), "correct the path"),
        Ok(found) if !found.is_file() || found.len() > MAX_SIZE => {
            let message = format!("`{shown}` is not a file of certificates");
            return error(message, "name a file with certificates of authorities in PEM form");
        }
        Ok(_) => {}
    }
    match std::fs::read(path) {
        Err(why) => error(format!("cannot read `{shown}`: {why}"), "check who may read it: ls -l"),
        Ok(bytes) => {
            let begin = b"-----BEGIN CERTIFICATE-----";
            if bytes.windows(begin.len()).any(|window| window == begin) {
                return Ok(());
            }
            let help = "openssl x509 -inform der -outform pem makes PEM out of DER";
            error(format!("`{shown}` has no certificate in PEM form"), help)
        }
    }
}
