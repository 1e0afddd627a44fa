//! A check as the helper process runs it: what it tests, and how often.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::file::CheckKind;
use crate::config::program::ProgramUse;

/// One check as the helper process runs it. How its results count is in `vrrp::CheckConfig`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckPlan {
    /// Its name in the configuration.
    pub name: String,
    /// What it tests.
    pub target: Target,
    /// From the start of one run to the start of the next; a run that takes longer delays the next
    /// one. For a process: the longest time between two searches while it is missing.
    pub interval: Duration,
    /// A run that takes longer has failed.
    pub timeout: Duration,
}

impl CheckPlan {
    /// The program that it runs and the user that it names.
    pub(in crate::config) fn program(&self) -> Option<ProgramUse> {
        match &self.target {
            Target::Command { argv, user } => Some(ProgramUse::of(argv, user.as_deref())),
            // Root need not be looked up, and so not be listed.
            Target::Process { user, .. } => {
                (user != "root").then(|| ProgramUse { program: None, user: Some(user.clone()) })
            }
            Target::Tcp { .. }
            | Target::Http(_)
            | Target::Unit { .. }
            | Target::File { .. }
            | Target::FilePresent { .. }
            | Target::FileAbsent { .. }
            | Target::Interface { .. }
            | Target::Ping { .. } => None,
        }
    }

    /// The systemd unit that it tests.
    pub fn unit(&self) -> Option<&str> {
        match &self.target {
            Target::Unit { unit } => Some(unit),
            Target::Command { .. }
            | Target::Tcp { .. }
            | Target::Http(_)
            | Target::Process { .. }
            | Target::File { .. }
            | Target::FilePresent { .. }
            | Target::FileAbsent { .. }
            | Target::Interface { .. }
            | Target::Ping { .. } => None,
        }
    }
}

/// What a check tests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Target {
    /// A program passes with exit status 0. Never through a shell.
    Command {
        /// The program (an absolute path, or a name to be found in [`HOOK_PATH`](crate::config::HOOK_PATH)) and its
        /// arguments; never empty.
        argv: Vec<String>,
        /// The user to run it as; `None`: the user the daemon was started as.
        user: Option<String>,
    },
    /// A TCP connection is accepted.
    Tcp {
        /// A name or an address.
        host: String,
        /// 1 to 65535.
        port: u16,
    },
    /// A web server answers.
    Http(Http),
    /// A process with this name (`/proc/PID/comm`) or program (absolute path) runs. Its exit is
    /// noticed at once; the check fails when none has run for `delay`.
    Process {
        /// The name, or the whole path of the program.
        process: String,
        /// The user that it belongs to: everybody can give a process any name.
        user: String,
        /// How long it may be missing.
        delay: Duration,
    },
    /// A systemd unit is active.
    Unit {
        /// Its name with the suffix, such as `nginx.service`.
        unit: String,
    },
    /// The number in the file is added to the priority; 0 if there is no file.
    File {
        /// Absolute.
        path: PathBuf,
    },
    /// The file exists.
    FilePresent {
        /// Absolute.
        path: PathBuf,
    },
    /// The file does not exist.
    FileAbsent {
        /// Absolute.
        path: PathBuf,
    },
    /// An interface is up and has carrier.
    Interface {
        /// Name or alternative name of at most 15 bytes.
        interface: String,
    },
    /// A host answers an echo request.
    Ping {
        /// The host's address.
        address: IpAddr,
    },
}

/// An HTTP request, and the response that passes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Http {
    /// `http://` or `https://` in small letters, a host, a port unless it is 80 or 443, and a path
    /// that begins with `/`, perhaps with a query; no user, no fragment, visible ASCII only.
    pub url: String,
    /// The status that passes; `None`: 200 to 299.
    pub status: Option<u16>,
    /// What the first 64 KiB of the body must contain; `None`: anything passes.
    pub body: Option<String>,
    /// For `https`: a PEM file of certificate authorities to trust instead of the system's.
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
            Target::Process { process, user, delay } => {
                write!(f, "a process {process} of {user} runs, gaps below {delay:?} aside")
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
    /// The key of the configuration that selects it.
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
