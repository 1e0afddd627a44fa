//! `unit`: a systemd unit is active.
//!
//! Implements the small part of D-Bus that is needed: starting `systemctl` costs twenty times as
//! much, and a D-Bus library would be larger than everything else here. Every run opens a
//! connection, to the system bus or, without one, to systemd itself (root only).

use std::path::{Path, PathBuf};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::UnixStream;

use super::tcp::describe;

const SYSTEM_BUS: &str = "/run/dbus/system_bus_socket";
/// The private socket of systemd, with the same protocol.
const SYSTEMD: &str = "/run/systemd/private";
/// Far longer than any expected message.
const MAX_LENGTH: usize = 64 * 1024;

const METHOD_CALL: u8 = 1;
const METHOD_RETURN: u8 = 2;
const ERROR: u8 = 3;

// The fields of a header (D-Bus specification, "Header Fields").
const PATH: u8 = 1;
const INTERFACE: u8 = 2;
const MEMBER: u8 = 3;
const REPLY_SERIAL: u8 = 5;
const DESTINATION: u8 = 6;
const SIGNATURE: u8 = 8;

pub(crate) struct UnitCheck {
    name: String,
    path: String,
}

impl UnitCheck {
    pub(crate) fn new(name: &str) -> Self {
        UnitCheck { name: name.to_owned(), path: object_path(name) }
    }

    pub(super) async fn run(&self) -> Result<String, String> {
        self.ask(connect().await?).await
    }

    /// Authenticates, and asks over this connection.
    pub(crate) async fn run_over(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin,
    ) -> Result<String, String> {
        self.ask(Bus::authenticated(stream).await?).await
    }

    async fn ask(
        &self,
        mut bus: Bus<impl AsyncRead + AsyncWrite + Unpin>,
    ) -> Result<String, String> {
        let name = &self.name;
        let state = bus.get(&self.path, "ActiveState").await?;
        match state.as_str() {
            "active" | "reloading" | "refreshing" => Ok(format!("{name} is {state}")),
            "inactive" => match bus.get(&self.path, "LoadState").await?.as_str() {
                "loaded" => Err(format!("{name} is inactive")),
                load => Err(format!("{name} is inactive ({load})")),
            },
            _ => Err(format!("{name} is {state}")),
        }
    }
}

/// The object path of a unit: characters other than letters and digits are written in hexadecimal.
fn object_path(unit: &str) -> String {
    let mut path = "/org/freedesktop/systemd1/unit/".to_owned();
    for (at, byte) in unit.bytes().enumerate() {
        if byte.is_ascii_alphabetic() || (byte.is_ascii_digit() && at > 0) {
            path.push(char::from(byte));
        } else {
            path += &format!("_{byte:02x}");
        }
    }
    path
}

async fn connect() -> Result<Bus<UnixStream>, String> {
    let mut failed = Vec::new();
    for socket in sockets() {
        match UnixStream::connect(&socket).await {
            Ok(stream) => {
                return Bus::authenticated(stream).await.map_err(|why| complain(&socket, &why));
            }
            Err(error) => failed.push(complain(&socket, &describe(&error))),
        }
    }
    Err(format!("systemd cannot be asked: {}", failed.join("; ")))
}

/// A connection to systemd.
struct Bus<S> {
    stream: S,
    serial: u32,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Bus<S> {
    async fn authenticated(stream: S) -> Result<Self, String> {
        let mut bus = Bus { stream, serial: 0 };
        bus.authenticate().await?;
        Ok(bus)
    }

    /// Authenticates by our uid, which the kernel confirms (EXTERNAL).
    async fn authenticate(&mut self) -> Result<(), String> {
        let uid = nix::unistd::geteuid().to_string();
        let uid: String = uid.bytes().map(|digit| format!("{digit:02x}")).collect();
        // Like systemd's own clients, do not send a message together with BEGIN: systemd would not
        // process it until the next one arrives.
        self.write(format!("\0AUTH EXTERNAL {uid}\r\nBEGIN\r\n").as_bytes()).await?;
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n") && answer.len() < 512 {
            answer.push(self.stream.read_u8().await.map_err(|error| describe(&error))?);
        }
        if !answer.starts_with(b"OK ") {
            return Err(format!(
                "refused authentication: {}",
                String::from_utf8_lossy(&answer).trim_end()
            ));
        }
        // Required by a bus; systemd itself answers with an error, which does no harm.
        let hello = DbusCall {
            destination: "org.freedesktop.DBus",
            path: "/org/freedesktop/DBus",
            interface: "org.freedesktop.DBus",
            member: "Hello",
            strings: &[],
        };
        let _ = self.call(hello).await?;
        Ok(())
    }

    /// Reads a string property of a unit.
    async fn get(&mut self, path: &str, property: &str) -> Result<String, String> {
        let get = DbusCall {
            destination: "org.freedesktop.systemd1",
            path,
            interface: "org.freedesktop.DBus.Properties",
            member: "Get",
            strings: &["org.freedesktop.systemd1.Unit", property],
        };
        let reply = self.call(get).await?;
        match reply.kind {
            METHOD_RETURN => {
                reply.variant().ok_or_else(|| "systemd's reply is not a string".into())
            }
            _ => Err(format!("systemd says: {}", reply.string().unwrap_or_default())),
        }
    }

    async fn call(&mut self, call: DbusCall<'_>) -> Result<DbusReply, String> {
        self.serial += 1;
        let message = call.encode(self.serial);
        self.write(&message).await?;
        loop {
            let reply = self.receive().await?;
            // Skip signals.
            if matches!(reply.kind, METHOD_RETURN | ERROR) && reply.serial == Some(self.serial) {
                return Ok(reply);
            }
        }
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.stream.write_all(bytes).await.map_err(|error| describe(&error))
    }

    async fn receive(&mut self) -> Result<DbusReply, String> {
        let strange = || "the reply is not a D-Bus message that vipd understands".to_owned();
        let mut begin = [0; 16];
        self.stream.read_exact(&mut begin).await.map_err(|error| describe(&error))?;
        let number =
            |at: usize| Some(u32::from_le_bytes(*begin.get(at..)?.first_chunk()?) as usize);
        // Replies use the byte order of the request.
        let (b'l', Some(body), Some(fields)) = (begin[0], number(4), number(12)) else {
            return Err(strange());
        };
        if body > MAX_LENGTH || fields > MAX_LENGTH {
            return Err(strange());
        }
        let mut rest = vec![0; fields.next_multiple_of(8) + body];
        self.stream.read_exact(&mut rest).await.map_err(|error| describe(&error))?;
        let body = rest.split_off(fields.next_multiple_of(8));
        rest.truncate(fields);
        Ok(DbusReply { kind: begin[1], serial: reply_serial(&rest), body })
    }
}

fn complain(socket: &Path, why: &str) -> String {
    format!("{}: {why}", socket.display())
}

/// The sockets to try; DBUS_SYSTEM_BUS_ADDRESS replaces them.
fn sockets() -> Vec<PathBuf> {
    let named = std::env::var("DBUS_SYSTEM_BUS_ADDRESS").ok();
    match named.as_deref().and_then(|address| address.strip_prefix("unix:path=")) {
        Some(path) => vec![PathBuf::from(path.split([',', ';']).next().unwrap_or(path))],
        None => vec![PathBuf::from(SYSTEM_BUS), PathBuf::from(SYSTEMD)],
    }
}

/// A method call with strings as its arguments.
struct DbusCall<'a> {
    destination: &'a str,
    path: &'a str,
    interface: &'a str,
    member: &'a str,
    strings: &'a [&'a str],
}

impl DbusCall<'_> {
    fn encode(&self, serial: u32) -> Vec<u8> {
        let mut body = Vec::new();
        for text in self.strings {
            put_string(&mut body, text);
        }
        // Little-endian, no flags, version 1.
        let mut message = vec![b'l', METHOD_CALL, 0, 1];
        message.extend((body.len() as u32).to_le_bytes());
        message.extend(serial.to_le_bytes());
        message.extend([0; 4]);
        let begin = message.len();
        for (field, kind, text) in [
            (PATH, b'o', self.path),
            (DESTINATION, b's', self.destination),
            (INTERFACE, b's', self.interface),
            (MEMBER, b's', self.member),
        ] {
            align(&mut message, 8);
            message.extend([field, 1, kind, 0]);
            put_string(&mut message, text);
        }
        if !self.strings.is_empty() {
            align(&mut message, 8);
            message.extend([SIGNATURE, 1, b'g', 0, self.strings.len() as u8]);
            message.extend(vec![b's'; self.strings.len()]);
            message.push(0);
        }
        let length = (message.len() - begin) as u32;
        message.splice(12..16, length.to_le_bytes());
        align(&mut message, 8);
        message.extend(body);
        message
    }
}

fn align(message: &mut Vec<u8>, to: usize) {
    message.resize(message.len().next_multiple_of(to), 0);
}

/// The length, the text, and a zero that the length does not include.
fn put_string(message: &mut Vec<u8>, text: &str) {
    align(message, 4);
    message.extend((text.len() as u32).to_le_bytes());
    message.extend(text.as_bytes());
    message.push(0);
}

/// The string at this offset, after padding, and the offset behind it.
fn get_string(bytes: &[u8], at: usize) -> Option<(String, usize)> {
    let at = at.next_multiple_of(4);
    let length = u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?) as usize;
    let begin = at + 4;
    let text = bytes.get(begin..begin.checked_add(length)?)?;
    Some((String::from_utf8_lossy(text).into_owned(), begin + length + 1))
}

/// The serial of the call that a message with these header fields replies to.
fn reply_serial(fields: &[u8]) -> Option<u32> {
    let mut at = 0_usize;
    loop {
        at = at.next_multiple_of(8);
        let [field, 1, kind, 0] = *fields.get(at..)?.first_chunk()? else { return None };
        at += 4;
        match (field, kind) {
            (REPLY_SERIAL, b'u') => {
                return Some(u32::from_le_bytes(*fields.get(at..)?.first_chunk()?));
            }
            (_, b'u') => at += 4,
            (_, b's' | b'o') => at = get_string(fields, at)?.1,
            (_, b'g') => at += usize::from(*fields.get(at)?) + 2,
            _ => return None,
        }
    }
}

/// A reply to a call.
struct DbusReply {
    kind: u8,
    serial: Option<u32>,
    body: Vec<u8>,
}

impl DbusReply {
    /// The body as a string.
    fn string(&self) -> Option<String> {
        Some(get_string(&self.body, 0)?.0)
    }

    /// The body as a variant that holds a string.
    fn variant(&self) -> Option<String> {
        match self.body.first_chunk()? {
            [1, b's', 0] => Some(get_string(&self.body, 3)?.0),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_unit_is_found_where_systemd_keeps_it() {
        let path = object_path("php8.2-fpm@web.service");
        assert_eq!(path, "/org/freedesktop/systemd1/unit/php8_2e2_2dfpm_40web_2eservice");
    }

    #[test]
    fn no_answer_is_read_beyond_its_end() {
        let mut body = vec![1, b's', 0];
        put_string(&mut body, "active");
        let reply = DbusReply { kind: METHOD_RETURN, serial: None, body: body.clone() };
        assert_eq!(reply.variant().as_deref(), Some("active"));
        for length in 0..body.len() - 1 {
            let reply =
                DbusReply { kind: METHOD_RETURN, serial: None, body: body[..length].to_vec() };
            assert_eq!(reply.variant(), None, "{length}");
        }
        let fields =
            [6, 1, b's', 0, 2, 0, 0, 0, b':', b'1', 0, 0, 0, 0, 0, 0, 5, 1, b'u', 0, 7, 0, 0, 0];
        assert_eq!(reply_serial(&fields), Some(7));
        for length in 0..fields.len() {
            assert_eq!(reply_serial(&fields[..length]), None, "{length}");
        }
    }
}
