//! Any bytes as what a client sends to the exporter: it is answered once or not at all, and never with
//! more than the page.

use vipd::fuzzing;

use crate::bounded::bounded;

/// Those of `src/exporter`, and what hyper says of a request that is none.
const STATUSES: [&str; 9] = ["200", "400", "404", "405", "408", "413", "414", "431", "503"];

pub fn exporter(requests: &[u8]) {
    // What all inputs share is made by the first.
    fuzzing::exporter(b"").unwrap();
    let answer = bounded(requests.len(), 16, || fuzzing::exporter(requests).unwrap());
    if answer.is_empty() {
        return;
    }
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n").expect("a whole head");
    let head = std::str::from_utf8(&answer[..end]).expect("plain text");
    let mut lines = head.split("\r\n");
    let first = lines.next().unwrap();
    let mut words = first.split(' ');
    assert!(matches!(words.next(), Some("HTTP/1.0" | "HTTP/1.1")), "{first}");
    let status = words.next().unwrap();
    assert!(STATUSES.contains(&status), "{first}");
    let headers: Vec<String> = lines.map(str::to_ascii_lowercase).collect();
    let value = |name: &str| {
        let values = headers.iter().filter_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        values.collect::<Vec<_>>()
    };
    let body = &answer[end + 4..];
    // A second answer would be behind the body of the first. That to HEAD has none.
    let lengths = value("content-length");
    if let [length] = lengths[..] {
        assert!(body.is_empty() || length.parse() == Ok(body.len()), "{head}");
    } else {
        assert!(lengths.is_empty() && body.is_empty(), "{head}");
    }
    if ["200", "404", "405", "503"].contains(&status) {
        assert_eq!(value("x-content-type-options"), ["nosniff"], "{head}");
        assert_eq!(value("cache-control"), ["no-store"], "{head}");
        assert!(value("content-security-policy")[0].starts_with("default-src 'none'"), "{head}");
    }
}
