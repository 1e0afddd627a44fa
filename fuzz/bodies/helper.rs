//! Any bytes as a message between the daemon and the helper, or from it to a program that it starts; and
//! as the output of a program.

use vipd::fuzzing;

use crate::bounded::bounded;

pub fn helper(packet: &[u8]) {
    let messages = bounded(packet.len(), 128, || fuzzing::helper_message(packet));
    for (kind, message) in messages.into_iter().enumerate() {
        let Some(message) = message else { continue };
        let again = fuzzing::helper_message(&message)[kind].clone();
        assert_eq!(again.as_deref(), Some(&*message), "{}", String::from_utf8_lossy(&message));
    }
    output(packet);
}

fn output(bytes: &[u8]) {
    let (logged, excerpt) = bounded(bytes.len(), 64, || fuzzing::program_output(bytes));
    assert!(!logged.chars().any(|c| c.is_control() && c != '\t'), "{logged:?}");
    assert!(!excerpt.chars().any(|c| c.is_control() && c != '\t'), "{excerpt:?}");
    assert!(excerpt.len() <= 403, "{} bytes", excerpt.len());
    let again = fuzzing::program_output(logged.as_bytes()).0;
    assert_eq!(again, logged);
}
