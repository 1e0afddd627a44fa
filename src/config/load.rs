//! Reads the file, and refuses one that users other than root or our own could have changed: it says
//! what runs as root.

use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use super::problem::{Diagnostics, Problems};
use crate::host::trust::{Trust, Untrusted};

/// What others could do who can change the file.
const POWER: &str = "decide what runs as root";

/// Ample for thousands of virtual routers; a larger file is not a configuration.
const MAX_FILE_SIZE: u64 = 4 << 20;

/// Why a file is not trusted, and what to do: message and suggestion.
pub(super) fn explain(untrusted: &Untrusted) -> (String, String) {
    (untrusted.message(POWER), untrusted.help())
}

/// Without `trust` it does not matter who could have changed it.
pub(super) fn read(path: &Path, name: &str, trust: Option<&Trust>) -> Result<String, Problems> {
    let refuse = |message: String, help: &str| Err(Problems::about_file(name, message, help));
    // So that opening a named pipe does not wait for a writer.
    let flags = nix::fcntl::OFlag::O_NONBLOCK.bits();
    let mut open = std::fs::OpenOptions::new();
    let opened = open.read(true).custom_flags(flags).open(path);
    let (file, metadata) = match opened.and_then(|file| Ok((file.metadata()?, file))) {
        Ok((metadata, file)) => (file, metadata),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return refuse(
                format!("there is no file {name}"),
                "create it, or name another one; etc/vipd.toml shows every key",
            );
        }
        Err(error) => {
            return refuse(
                format!("cannot open {name}: {error}"),
                "check who may read it: ls -l, and the directories above",
            );
        }
    };
    if !metadata.is_file() {
        return refuse(format!("{name} is not a file"), "name the configuration file itself");
    }
    if let Some(trust) = trust {
        match trust.check(path) {
            Err(untrusted) => {
                let (message, help) = explain(&untrusted);
                return refuse(message, &help);
            }
            // What has been checked is what is read.
            Ok(last)
                if (last.metadata.dev(), last.metadata.ino())
                    != (metadata.dev(), metadata.ino()) =>
            {
                return refuse(format!("{name} was replaced while it was read"), "try again");
            }
            Ok(_) => {}
        }
    }
    let mut bytes = Vec::new();
    if let Err(error) = file.take(MAX_FILE_SIZE + 1).read_to_end(&mut bytes) {
        return refuse(format!("cannot read {name}: {error}"), "check the disk (dmesg, smartctl)");
    }
    if bytes.len() as u64 > MAX_FILE_SIZE {
        return refuse(
            format!("{name} is larger than {} MiB", MAX_FILE_SIZE >> 20),
            "name the configuration file",
        );
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok(text),
        Err(error) => {
            let good = error.utf8_error().valid_up_to();
            let text = String::from_utf8_lossy(error.as_bytes());
            let report = Diagnostics::new(name, &text);
            report.error(
                &(good..good + '\u{fffd}'.len_utf8()),
                "here is a byte that is not UTF-8",
                "save the file as UTF-8",
            );
            Err(report.into_parts().0)
        }
    }
}
