//! What the helper process is told of a check: what it tests, and how often.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::file::CheckKind;

/// One check as the helper process carries it out; how its results count is the protocol's business
/// (`vrrp::CheckConfig`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckPlan {
    /// Its name in the configuration.
    pub name: String,
    /// What it looks at.
    pub target: Target,
    /// From the beginning of one run to the beginning of the next; a run that takes longer delays
    /// the next one. A process is looked for at least so often while there is none.
    pub interval: Duration,
    /// A run that takes longer has failed.
    pub timeout: Duration,
}

/// What a check looks at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Target {
    /// A program passes with exit status 0. Never through a shell.
    Command {
        /// The program (an absolute path, or a name to be found in [`super::HOOK_PATH`]) and its
        /// arguments; never empty.
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
    /// `http://` or `https://` in small letters, a host, a port unless it is 80 or 443, and a path
    /// that begins with `/`, perhaps with a query; no user, no fragment, visible ASCII only.
    pub url: String,
    /// The status that passes; `None`: 200 to 299.
    pub status: Option<u16>,
    /// What the first 64 KiB of the body must contain; `None`: anything passes.
    pub body: Option<String>,
    /// `https`: a PEM file of authorities to trust instead of the system's; `None`: the system's.
    pub ca_file: Option<PathBuf>,
}

/// In words of one line, such as `GET http://127.0.0.1/ answers 200 to 299`.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Command { argv, user: None } => write!(f, "{argv:?} ends with 0"),
            Target::Command { argv, user: Some(user) } => {
                write!(f, "{argv:?} ends with 0, run as {user}")
            }
            Target::Tcp { host, port } if host.contains(':') => {
                write!(f, "[{host}]:{port} accepts a connection")
            }
            Target::Tcp { host, port } => write!(f, "{host}:{port} accepts a connection"),
            Target::Http(http) => http.fmt(f),
            Target::Process { process, delay } => {
                write!(f, "a process {process} runs, gaps below {delay:?} aside")
            }
            Target::Unit { unit } => write!(f, "{unit} is active"),
            Target::File { path } => {
                write!(f, "{} holds a number, or is not there", path.display())
            }
            Target::FilePresent { path } => write!(f, "{} is there", path.display()),
            Target::FileAbsent { path } => write!(f, "{} is not there", path.display()),
            Target::Interface { interface } => write!(f, "{interface} is up and has carrier"),
            Target::Ping { address } => write!(f, "{address} answers an echo request"),
        }
    }
}

impl fmt::Display for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Http { url, status, body, ca_file } = self;
        write!(f, "GET {url} answers ")?;
        match status {
            Some(status) => write!(f, "{status}")?,
            None => f.write_str("200 to 299")?,
        }
        if let Some(body) = body {
            write!(f, " with {body:?}")?;
        }
        if let Some(ca_file) = ca_file {
            write!(f, ", trusting {}", ca_file.display())?;
        }
        Ok(())
    }
}

impl Target {
    /// The key that names it in the configuration.
    pub fn kind(&self) -> &'static str {
        let kind = match self {
            Target::Command { .. } => CheckKind::Command,
            Target::Tcp { .. } => CheckKind::Tcp,
            Target::Http(_) => CheckKind::Http,
            Target::Process { .. } => CheckKind::Process,
            Target::Unit { .. } => CheckKind::Unit,
            Target::File { .. } => CheckKind::File,
            Target::FilePresent { .. } => CheckKind::FilePresent,
            Target::FileAbsent { .. } => CheckKind::FileAbsent,
            Target::Interface { .. } => CheckKind::Interface,
            Target::Ping { .. } => CheckKind::Ping,
        };
        kind.name()
    }
}
