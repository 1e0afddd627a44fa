//! What a check looks at, and how often: what the helper process is told.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// One check as the helper process carries it out; how its results count is the protocol's business
/// (`vrrp::CheckConfig`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckPlan {
    /// Its name in the configuration.
    pub name: String,
    /// What it looks at.
    pub target: Target,
    /// From the beginning of one run to the beginning of the next; a run that takes longer delays
    /// the next one.
    pub interval: Duration,
    /// A run that takes longer has failed.
    pub timeout: Duration,
}

/// What a check looks at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Target {
    /// A program passes with exit status 0. Never through a shell.
    Command {
        /// The program, its path made whole, and its arguments.
        argv: Vec<String>,
        /// Whom it runs as; `None`: as the daemon was started.
        user: Option<String>,
    },
    /// A TCP connection is accepted.
    Tcp {
        /// A name or an address.
        host: String,
        /// The port.
        port: u16,
    },
    /// A web server answers.
    Http(Http),
    /// A process of that name (as in `/proc/PID/comm`) or of that program (a whole path) runs; its
    /// death is noticed at once, and it has failed when there is none for `delay`.
    Process {
        /// The name, or the whole path of the program.
        process: String,
        /// How long there may be none.
        delay: Duration,
    },
    /// A systemd unit is active.
    Unit {
        /// Its name with the suffix, such as `nginx.service`.
        unit: String,
    },
    /// A file holds a number that is added to the priority; without the file the number is 0.
    File {
        /// Its whole path.
        path: PathBuf,
    },
    /// A file is there.
    FilePresent {
        /// Its whole path.
        path: PathBuf,
    },
    /// A file is not there.
    FileAbsent {
        /// Its whole path.
        path: PathBuf,
    },
    /// An interface is up and has carrier.
    Interface {
        /// Its name.
        interface: String,
    },
    /// A host answers an echo request.
    Ping {
        /// Which.
        address: IpAddr,
    },
}

/// An HTTP request and the answer that passes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Http {
    /// `http://` or `https://`, with host, port and path; no user, no fragment.
    pub url: String,
    /// The status that passes; `None`: 200 to 299.
    pub status: Option<u16>,
    /// What the first 64 KiB of the body must contain; `None`: anything passes.
    pub body: Option<String>,
    /// `https`: a PEM file of authorities to trust instead of the system's; `None`: the system's.
    pub ca_file: Option<PathBuf>,
}
