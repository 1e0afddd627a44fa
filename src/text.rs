//! Text of others, made safe to show: in logs, on terminals, on the page.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Whether a character shows itself and nothing else: it is no control character, does not change
/// how its neighbours are shown (U+202E reverses them, U+200B is invisible), and is no line break.
pub(crate) fn is_printable(character: char) -> bool {
    match character {
        ' '..='~' => true,
        '\u{2028}' | '\u{2029}' => false,
        other if other.is_whitespace() => !other.is_control(),
        // The standard library has the table for its own escapes: control and format characters,
        // separators, private use, unassigned. Behind another character it leaves accents alone.
        other => {
            let mut text = String::from("a");
            text.push(other);
            text.escape_debug().nth(1) == Some(other)
        }
    }
}

/// The text with whatever is not printable escaped, but for tabs.
pub(crate) fn printable(text: &str) -> String {
    escape(text, |character| character == '\t').into_owned()
}

/// As [`printable`]; line breaks are kept as well.
pub(crate) fn printable_lines(text: &str) -> Cow<'_, str> {
    escape(text, |character| character == '\t' || character == '\n')
}

fn escape(text: &str, keep: impl Fn(char) -> bool) -> Cow<'_, str> {
    let shown = |character| keep(character) || is_printable(character);
    if text.chars().all(shown) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        if shown(character) {
            escaped.push(character);
        } else {
            // Writing to a string cannot fail.
            let _ = write!(escaped, "{}", character.escape_default());
        }
    }
    Cow::Owned(escaped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_and_format_characters_are_escaped() {
        for (text, shown) in [
            ("\x1b[31m", "\\u{1b}[31m"),
            ("a\r\nb", "a\\r\\nb"),
            ("gpj.\u{202e}exe", "gpj.\\u{202e}exe"),
            ("\u{2066}x\u{2069}", "\\u{2066}x\\u{2069}"),
            ("we\u{200b}b", "we\\u{200b}b"),
            ("\u{feff}\u{ad}\u{61c}", "\\u{feff}\\u{ad}\\u{61c}"),
            ("line\u{2028}line\u{2029}", "line\\u{2028}line\\u{2029}"),
            ("\u{9b}31m\u{85}", "\\u{9b}31m\\u{85}"),
            ("\u{e0041}\u{e000}", "\\u{e0041}\\u{e000}"),
        ] {
            assert_eq!(printable(text), shown, "{text:?}");
        }
        assert_eq!(printable_lines("a\tb\nc\u{200b}\n"), "a\tb\nc\\u{200b}\n");
    }

    #[test]
    fn text_of_any_language_is_shown_as_it_is() {
        for text in [
            "caf\u{e9}\tok",
            "e\u{301}",
            "\u{4f8b}\u{3000}\u{5b50}",
            "\u{915}\u{93f}",
            "1\u{202f}000",
            "'\"\\",
            "\u{1f600}",
        ] {
            assert_eq!(printable(text), text);
        }
    }
}
