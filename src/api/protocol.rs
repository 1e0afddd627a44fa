//! The control protocol: requests to the running daemon over `control.sock` in its runtime
//! directory.
//!
//! One line of JSON with a [`Request`] in, one line of JSON with an [`Answer`] out, then the
//! connection ends; both carry `"version": 1`. Root, the daemon's own user and members of the group
//! `vipd` can connect and read. Only root and the daemon's own user can change something; the daemon
//! takes the user from the socket's peer credentials.
//!
//! ```text
//! > {"version":1,"command":"status"}
//! < {"version":1,"status":{...}}                      api::status::Status
//! > {"version":1,"command":"events"}
//! < {"version":1,"events":{"events":[...]}}           api::events::Event, the newest last
//! > {"version":1,"command":"failover","router":"web"}
//! < {"version":1,"moved":{"moves":[{"router":"web","outcome":"taken","by":"192.0.2.2","after_seconds":0.012,"text":"..."}]}}
//! > {"version":1,"command":"resume","router":"web"}   also announce, drain, undrain, reload
//! < {"version":1,"done":{"text":"..."}}               drain answers as failover does, with a "text" too
//! > {"version":1,"command":"drain","force":true}
//! < {"version":1,"reloaded":{"changes":["web: priority 100 -> 150"]}}
//! < {"version":1,"error":{"code":"unknown_router","text":"..."}}
//! ```

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::events::Event;
use super::status::Status;

/// The version of requests, answers and the status document.
pub const VERSION: u32 = 1;
/// The socket's name in the runtime directory.
pub const SOCKET: &str = "control.sock";
/// The group whose members may read the status.
pub const GROUP: &str = "vipd";

/// What a client may ask for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case")]
pub enum Request {
    /// The state of the daemon and all its virtual routers.
    Status,
    /// The newest events of the history, also from before the last restart.
    Events,
    /// Hand a virtual router over; answered once another host has taken it, or none has.
    Failover {
        router: String,
    },
    /// End the hold of a failover: preempt again.
    Resume {
        router: String,
    },
    /// Announce the addresses again.
    Announce {
        router: String,
    },
    /// Hand everything over and serve only where no other host is fit, or with `force` not at all;
    /// answered like a failover.
    Drain {
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        force: bool,
    },
    Undrain,
    /// Read the configuration again; answered when it is applied or refused.
    Reload,
}

impl Request {
    /// Whether it changes nothing, so that members of the group may ask it.
    pub fn only_reads(&self) -> bool {
        match self {
            Request::Status | Request::Events => true,
            Request::Failover { .. }
            | Request::Resume { .. }
            | Request::Announce { .. }
            | Request::Drain { .. }
            | Request::Undrain
            | Request::Reload => false,
        }
    }
}

/// The answer to a request; [`Client`](super::Client) knows which belongs to which.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// To [`Request::Status`].
    Status(Box<Status>),
    /// To [`Request::Events`].
    Events {
        /// The newest last.
        events: Vec<Event>,
    },
    /// How each handover ended.
    Moved {
        /// What is so from now on, as a sentence; empty if there is nothing to say.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        text: String,
        /// One for each that was master here.
        moves: Vec<Move>,
    },
    /// The request was carried out.
    Done {
        /// What was done and what follows, as a sentence.
        text: String,
    },
    /// The configuration was applied.
    Reloaded {
        /// What has changed; empty if nothing has.
        changes: Vec<String>,
    },
    /// The request was refused, or failed.
    Error {
        /// The kind of error, for programs.
        code: ErrorCode,
        /// The reason and the next step, as a sentence.
        text: String,
    },
}

impl Answer {
    /// [`Answer::Done`] with this sentence.
    pub fn done(text: impl Into<String>) -> Self {
        Answer::Done { text: text.into() }
    }

    /// [`Answer::Error`] with this code and sentence.
    pub fn error(code: ErrorCode, text: impl Into<String>) -> Self {
        Answer::Error { code, text: text.into() }
    }
}

words! {
    /// The kind of an error.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(rename_all = "snake_case")]
    pub enum ErrorCode {
        /// The request is not understood.
        BadRequest = "bad_request",
        /// Too many clients.
        Busy = "busy",
        /// Only root and the daemon's own user may change something.
        NotAllowed = "not_allowed",
        /// No virtual router has this name.
        UnknownRouter = "unknown_router",
        /// Not possible in the present state.
        Refused = "refused",
        /// The daemon could not carry it out or store it.
        Failed = "failed",
    }
}

/// How the handover of one virtual router ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Move {
    pub router: String,
    /// Whether another host took over.
    pub outcome: MoveOutcome,
    /// The host that took over, for [`MoveOutcome::Taken`].
    pub by: Option<IpAddr>,
    /// From the request until the outcome was known.
    pub after_seconds: f64,
    /// The outcome and the next step, as a sentence.
    pub text: String,
}

/// How a handover ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MoveOutcome {
    /// Another host took over.
    Taken,
    /// No other host did; this host has it still or again, or no host has it.
    NobodyCame,
    /// It could not be completed: a fault, a reload that removed it, or the end of the daemon.
    Interrupted,
}

/// A document with the version of its schema: requests, answers, and what `--json` prints.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Versioned<T> {
    /// [`VERSION`].
    pub version: u32,
    /// Its fields stand beside the version.
    #[serde(flatten)]
    pub body: T,
}

impl<T> Versioned<T> {
    /// A document of this version.
    pub fn new(body: T) -> Self {
        Versioned { version: VERSION, body }
    }
}

/// A request or an answer as one line.
pub fn encode<T: Serialize>(body: T) -> Vec<u8> {
    // Cannot fail: strings, numbers and lists of them.
    let mut bytes = serde_json::to_vec(&Versioned::new(body)).unwrap_or_default();
    bytes.push(b'\n');
    bytes
}

/// The request in one line.
///
/// # Errors
/// What is wrong with it, as a sentence for the client.
pub fn decode_request(line: &[u8]) -> Result<Request, String> {
    #[derive(Deserialize)]
    struct AnyMessage {
        version: u32,
    }
    let AnyMessage { version } = serde_json::from_slice(line).map_err(|error| {
        format!(
            "a request is one line of JSON like {{\"version\":1,\"command\":\"status\"}}: {error}"
        )
    })?;
    if version != VERSION {
        return Err(format!("this vipd speaks version {VERSION}, not {version}"));
    }
    let message: Versioned<Request> = serde_json::from_slice(line)
        .map_err(|error| format!("this request is not understood: {error}"))?;
    Ok(message.body)
}

/// The answer in one line.
///
/// # Errors
/// It is none that this version knows.
pub fn decode_answer(line: &[u8]) -> serde_json::Result<Answer> {
    serde_json::from_slice(line).map(|message: Versioned<Answer>| message.body)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn requests_and_answers_are_what_the_documentation_shows() {
        let shown = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        assert_eq!(shown(encode(&Request::Status)), "{\"version\":1,\"command\":\"status\"}\n");
        assert_eq!(
            shown(encode(&Request::Failover { router: "web".into() })),
            "{\"version\":1,\"command\":\"failover\",\"router\":\"web\"}\n"
        );
        assert_eq!(
            shown(encode(Answer::error(ErrorCode::UnknownRouter, "..."))),
            "{\"version\":1,\"error\":{\"code\":\"unknown_router\",\"text\":\"...\"}}\n"
        );
        let changes = vec!["web: priority 100 -> 150".to_owned()];
        let answer = Answer::Reloaded { changes };
        let text = encode(answer.clone());
        let back: Versioned<Answer> = serde_json::from_slice(&text).unwrap();
        assert_eq!((back.version, back.body), (VERSION, answer));
    }

    #[test]
    fn words_are_the_same_in_json() {
        for code in ErrorCode::ALL {
            assert_eq!(serde_json::to_value(code).unwrap(), code.name());
        }
    }
}
