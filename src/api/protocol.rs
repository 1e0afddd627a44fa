//! The control protocol: `control.sock` in the runtime directory, for `vipd status` and its kin.
//!
//! One line of JSON with a [`Request`] in, one line of JSON with an [`Answer`] out, then the
//! connection ends; both carry `"version": 1`. Whoever can open the socket may ask for the status:
//! root, the daemon's own user and the group `vipd`. Whoever changes something must be root or the
//! daemon's own user, which the kernel vouches for.
//!
//! ```text
//! > {"version":1,"command":"status"}
//! < {"version":1,"status":{...}}                      api::status::Status
//! > {"version":1,"command":"events"}
//! < {"version":1,"events":{"events":[...]}}           api::events::Event, the newest last
//! > {"version":1,"command":"failover","router":"web"}
//! < {"version":1,"moved":{"moves":[{"router":"web","outcome":"taken","by":"192.0.2.2","after_seconds":0.012,"text":"..."}]}}
//! > {"version":1,"command":"resume","router":"web"}   also announce, drain, undrain, reload
//! < {"version":1,"done":{"text":"..."}}               drain answers as failover does
//! < {"version":1,"reloaded":{"changes":["web: priority 100 -> 150"]}}
//! < {"version":1,"error":{"code":"unknown_router","text":"..."}}
//! ```

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::events::Event;
use super::status::Status;

/// Of requests, answers and the status document.
pub const VERSION: u32 = 1;
/// The socket's name in the runtime directory.
pub const SOCKET: &str = "control.sock";
/// The group whose members may read the status.
pub const GROUP: &str = "vipd";

/// What a client may ask for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case")]
pub enum Request {
    /// Everything.
    Status,
    /// The newest events of the history, also of before the last restart.
    Events,
    /// Hand a virtual router over; answered when it is known who took it.
    Failover {
        /// Its name.
        router: String,
    },
    /// Take part fully again.
    Resume {
        /// Its name.
        router: String,
    },
    /// Announce the addresses again.
    Announce {
        /// Its name.
        router: String,
    },
    /// Hand everything over and take nothing, also after a reboot; answered as a failover.
    Drain,
    /// Take part again.
    Undrain,
    /// Read the configuration again; answered when it is applied or refused.
    Reload,
}

impl Request {
    /// Whether asking changes nothing.
    pub fn only_reads(&self) -> bool {
        match self {
            Request::Status | Request::Events => true,
            Request::Failover { .. }
            | Request::Resume { .. }
            | Request::Announce { .. }
            | Request::Drain
            | Request::Undrain
            | Request::Reload => false,
        }
    }
}

/// What a client is told. Which answer belongs to which request is known to
/// [`Client`](super::Client).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// To [`Request::Status`].
    Status(Box<Status>),
    /// To [`Request::Events`].
    Events {
        /// The last one last.
        events: Vec<Event>,
    },
    /// What became of virtual routers that were to be handed over.
    Moved {
        /// One for each that was master here.
        moves: Vec<Move>,
    },
    /// It was done.
    Done {
        /// What, and what follows.
        text: String,
    },
    /// The configuration was applied.
    Reloaded {
        /// What is different now; empty if nothing is.
        changes: Vec<String>,
    },
    /// It was not done.
    Error {
        /// For programs.
        code: Code,
        /// Why, and what to do.
        text: String,
    },
}

impl Answer {
    /// It was done, and this is what follows.
    pub fn done(text: impl Into<String>) -> Self {
        Answer::Done { text: text.into() }
    }

    /// It was not done, for this reason.
    pub fn error(code: Code, text: impl Into<String>) -> Self {
        Answer::Error { code, text: text.into() }
    }
}

/// Kinds of refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// The request is not understood.
    BadRequest,
    /// Too many clients.
    Busy,
    /// Only root and the daemon's own user may change something.
    NotAllowed,
    /// No virtual router has this name.
    UnknownRouter,
    /// It makes no sense now.
    Refused,
    /// The daemon could not do or store it.
    Failed,
}

impl Code {
    /// As in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Code::BadRequest => "bad_request",
            Code::Busy => "busy",
            Code::NotAllowed => "not_allowed",
            Code::UnknownRouter => "unknown_router",
            Code::Refused => "refused",
            Code::Failed => "failed",
        }
    }
}

/// What became of one virtual router that was to be handed over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Move {
    /// Its name.
    pub router: String,
    /// How it ended.
    pub outcome: Moved,
    /// Who has it now, if another host does.
    pub by: Option<IpAddr>,
    /// From the request until that was known.
    pub after_seconds: f64,
    /// The same as a sentence, with what to do.
    pub text: String,
}

/// How a hand-over ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Moved {
    /// Another host took over.
    Taken,
    /// Nobody did, and it is still or again here.
    NobodyCame,
    /// Something else came between: a fault, or the end of the daemon.
    Interrupted,
}

/// A document with the version of its schema: requests, answers, and what `--json` prints.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Message<T> {
    /// [`VERSION`].
    pub version: u32,
    /// Its fields stand beside the version.
    #[serde(flatten)]
    pub body: T,
}

impl<T> Message<T> {
    /// A document of this version.
    pub fn new(body: T) -> Self {
        Message { version: VERSION, body }
    }
}

/// A request or an answer as one line.
pub fn encode<T: Serialize>(body: T) -> Vec<u8> {
    // Strings, numbers and lists of them: nothing that JSON could not say.
    let mut bytes = serde_json::to_vec(&Message::new(body)).unwrap_or_default();
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
    let message: Message<Request> = serde_json::from_slice(line)
        .map_err(|error| format!("this request is not understood: {error}"))?;
    Ok(message.body)
}

/// The answer in one line.
///
/// # Errors
/// It is none that this version knows.
pub fn decode_answer(line: &[u8]) -> serde_json::Result<Answer> {
    serde_json::from_slice(line).map(|message: Message<Answer>| message.body)
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
            shown(encode(Answer::error(Code::UnknownRouter, "..."))),
            "{\"version\":1,\"error\":{\"code\":\"unknown_router\",\"text\":\"...\"}}\n"
        );
        let changes = vec!["web: priority 100 -> 150".to_owned()];
        let answer = Answer::Reloaded { changes };
        let text = encode(answer.clone());
        let back: Message<Answer> = serde_json::from_slice(&text).unwrap();
        assert_eq!((back.version, back.body), (VERSION, answer));
    }
}
