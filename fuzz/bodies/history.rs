//! Any bytes as a part of the history of events.

use vipd::api::events::{Event, parse};
use vipd::fuzzing;

use crate::bounded::bounded;

pub fn history(part: &[u8]) {
    let events = bounded(part.len(), 128, || parse(part));
    assert!(events.len() <= part.split(|byte| *byte == b'\n').count());
    for event in &events {
        let sentence = fuzzing::sentence(event);
        assert!(sentence.contains(&event.at));
    }
    // What is written again is the same, also behind the end of a line that is cut off.
    let mut lines = b"n\",\"kind\":\"role\"}\n".to_vec();
    for event in &events {
        serde_json::to_writer(&mut lines, event).unwrap();
        lines.push(b'\n');
    }
    lines.extend(b"{\"at\":\"2026-11-2");
    let again: Vec<Event> = parse(&lines);
    assert_eq!(again, events);
}
