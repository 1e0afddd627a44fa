//! Problems of a configuration: the place in the file, the message, and the suggestion.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use annotate_snippets::{AnnotationKind, Level, Origin, Renderer, Snippet};

use crate::text::is_printable;

/// Further problems are only counted.
const MAX_SHOWN: usize = 100;
/// In bytes; longer lines are not quoted. 255 IPv6 addresses fit.
const MAX_SHOWN_LINE: usize = 12_000;

/// Whether a problem makes the file unusable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// The file is refused.
    Error,
    /// The file is valid, but the operator should know.
    Advice,
}

/// One error or note.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Whether the file is refused.
    pub severity: Severity,
    /// The name of the file.
    pub file: Arc<str>,
    /// Where in the file; `None` if it is about the file itself.
    pub place: Option<Place>,
    /// What is wrong, in one sentence.
    pub message: String,
    /// What to write or do instead.
    pub suggestion: String,
    /// Another place in the file that it conflicts with, and a label for it.
    pub earlier: Option<(Place, String)>,
}

impl Problem {
    /// Several lines of text: the message, the quoted line with a marker, and the suggestion.
    pub fn render(&self, colours: bool) -> String {
        let level = match self.severity {
            Severity::Error => Level::ERROR,
            Severity::Advice => Level::NOTE,
        };
        let title = level.primary_title(&*self.message);
        let mut group = match &self.place {
            // Rendering a long line is slow, and the result is unreadable.
            Some(place) if place.line_at.len() > MAX_SHOWN_LINE => {
                title.element(Origin::path(&*self.file).line(place.line).char_column(place.column))
            }
            Some(place) => title.element(place.snippet(&self.file, AnnotationKind::Primary, None)),
            None => title.element(Origin::path(&*self.file)),
        };
        if let Some((place, label)) = &self.earlier
            && place.line_at.len() <= MAX_SHOWN_LINE
        {
            group = group.element(place.snippet(&self.file, AnnotationKind::Context, Some(label)));
        }
        group = group.element(Level::HELP.message(&*self.suggestion));
        let renderer = if colours { Renderer::styled() } else { Renderer::plain() };
        // The renderer knows only some of the characters that disturb a terminal. Those of the file
        // are not escaped, so that the marker stays below its place.
        let kept = |c: char| c == '\n' || (colours && c == '\x1b');
        let rendered = renderer.render(&[group]);
        rendered.chars().map(|c| if kept(c) { c } else { shown(c) }).collect()
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

/// A range within one line of the file.
#[derive(Clone, PartialEq, Eq)]
pub struct Place {
    /// Counted from 1.
    pub line: usize,
    /// Counted in characters from 1.
    pub column: usize,
    text: Arc<str>,
    line_at: Range<usize>,
    marked: Range<usize>,
}

impl Place {
    /// The whole line, without its end.
    pub fn text(&self) -> &str {
        self.text.get(self.line_at.clone()).unwrap_or_default()
    }

    fn snippet<'a>(
        &'a self,
        file: &'a str,
        kind: AnnotationKind,
        label: Option<&'a str>,
    ) -> Snippet<'a, annotate_snippets::Annotation<'a>> {
        Snippet::source(self.text())
            .path(file)
            .line_start(self.line)
            .annotation(kind.span(self.marked.clone()).label(label))
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{} {:?}", self.line, self.column, self.text())
    }
}

/// All errors of a file, by position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems {
    file: Arc<str>,
    problems: Vec<Problem>,
    /// The line of the first syntax error; nothing after it could be checked.
    unchecked_after: Option<usize>,
}

impl Problems {
    /// One error that concerns the file as a whole.
    pub fn about_file(file: &str, message: impl AsRef<str>, suggestion: impl AsRef<str>) -> Self {
        let report = Diagnostics::new(file, "");
        report.error_without_place(message, suggestion);
        report.into_parts().0
    }

    /// Errors, in the order of the file.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.problems.iter()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.problems.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.problems.is_empty()
    }

    /// All problems and their number, as text without a line break at the end.
    pub fn render(&self, colours: bool) -> String {
        let mut text = String::new();
        for problem in self.problems.iter().take(MAX_SHOWN) {
            text.push_str(&problem.render(colours));
            text.push_str("\n\n");
        }
        text.push_str(&match self.len() {
            1 => format!("1 problem in {}", self.file),
            count => format!("{count} problems in {}", self.file),
        });
        if self.len() > MAX_SHOWN {
            text.push_str(&format!("; the first {MAX_SHOWN} are shown"));
        }
        if let Some(line) = self.unchecked_after {
            text.push_str(&format!(
                "; what follows line {line} is checked once the syntax is right"
            ));
        }
        text
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for Problems {}

/// Collects errors and notes while a file is read.
pub(super) struct Diagnostics {
    file: Arc<str>,
    text: Arc<str>,
    line_starts: Vec<usize>,
    problems: RefCell<Vec<Problem>>,
    unchecked_after: Cell<Option<usize>>,
}

impl Diagnostics {
    pub(super) fn new(file: &str, text: &str) -> Self {
        let starts = text.bytes().enumerate().filter(|(_, b)| *b == b'\n').map(|(at, _)| at + 1);
        let mut line_starts: Vec<usize> = std::iter::once(0).chain(starts).collect();
        // An error at the end of the file is shown at its last line.
        if line_starts.len() > 1 && line_starts.last() == Some(&text.len()) {
            line_starts.pop();
        }
        Diagnostics {
            file: plain(file).into(),
            text: text.into(),
            line_starts,
            problems: RefCell::default(),
            unchecked_after: Cell::default(),
        }
    }

    /// Adds an error: `message` says what is wrong, `suggestion` what to write instead.
    pub(super) fn error(
        &self,
        at: &Range<usize>,
        message: impl AsRef<str>,
        suggestion: impl AsRef<str>,
    ) {
        self.add(Severity::Error, Some(self.place(at)), message, suggestion, None);
    }

    /// As [`Diagnostics::error`], for two places that conflict.
    pub(super) fn conflict(
        &self,
        at: &Range<usize>,
        message: impl AsRef<str>,
        suggestion: impl AsRef<str>,
        earlier: &Range<usize>,
        label: &str,
    ) {
        let earlier = Some((self.place(earlier), plain(label)));
        self.add(Severity::Error, Some(self.place(at)), message, suggestion, earlier);
    }

    pub(super) fn error_at(
        &self,
        place: Place,
        message: impl AsRef<str>,
        suggestion: impl AsRef<str>,
    ) {
        self.add(Severity::Error, Some(place), message, suggestion, None);
    }

    pub(super) fn error_without_place(
        &self,
        message: impl AsRef<str>,
        suggestion: impl AsRef<str>,
    ) {
        self.add(Severity::Error, None, message, suggestion, None);
    }

    /// Adds a note: the file stays valid.
    pub(super) fn advice(
        &self,
        at: &Range<usize>,
        message: impl AsRef<str>,
        suggestion: impl AsRef<str>,
    ) {
        self.add(Severity::Advice, Some(self.place(at)), message, suggestion, None);
    }

    pub(super) fn advice_without_place(&self, message: &str, suggestion: &str) {
        self.add(Severity::Advice, None, message, suggestion, None);
    }

    fn add(
        &self,
        severity: Severity,
        place: Option<Place>,
        message: impl AsRef<str>,
        suggestion: impl AsRef<str>,
        earlier: Option<(Place, String)>,
    ) {
        // What follows a syntax error may have been parsed wrongly.
        if let (Some(place), Some(last)) = (&place, self.unchecked_after.get())
            && place.line >= last
        {
            return;
        }
        self.problems.borrow_mut().push(Problem {
            severity,
            file: self.file.clone(),
            place,
            message: plain(message.as_ref()),
            suggestion: plain(suggestion.as_ref()),
            earlier,
        });
    }

    /// Drops everything reported from now on that lies after the first error so far.
    pub(super) fn stop_at_first_problem(&self) {
        let problems = self.problems.borrow();
        let lines = problems.iter().filter_map(|problem| problem.place.as_ref()).map(|p| p.line);
        self.unchecked_after.set(lines.min());
    }

    /// Whether there was a syntax error, so that anything missing may follow it.
    pub(super) fn is_partial(&self) -> bool {
        self.unchecked_after.get().is_some()
    }

    /// The part of `at` that lies in its first line.
    pub(super) fn place(&self, at: &Range<usize>) -> Place {
        let start = floor(&self.text, at.start);
        let index = self.line_starts.partition_point(|line| *line <= start).saturating_sub(1);
        let line_start = self.line_starts.get(index).copied().unwrap_or(0);
        let next = self.line_starts.get(index + 1).copied().unwrap_or(self.text.len());
        let line = self.text.get(line_start..next).unwrap_or_default();
        let line = line.strip_suffix('\n').unwrap_or(line);
        let line = line.strip_suffix('\r').unwrap_or(line);
        let line_at = line_start..line_start + line.len();
        let start = start.min(line_at.end);
        let end = floor(&self.text, at.end).clamp(start, line_at.end);
        let before = self.text.get(line_start..start).unwrap_or_default();
        Place {
            line: index + 1,
            column: before.chars().count() + 1,
            text: self.text.clone(),
            line_at,
            marked: start - line_start..end - line_start,
        }
    }

    /// The errors and the notes, each by position.
    pub(super) fn into_parts(self) -> (Problems, Vec<Problem>) {
        let mut problems = self.problems.into_inner();
        problems.sort_by_key(|problem| problem.place.as_ref().map(|p| (p.line, p.column)));
        problems.dedup();
        let (errors, advice) =
            problems.into_iter().partition(|problem| problem.severity == Severity::Error);
        let unchecked_after = self.unchecked_after.get();
        (Problems { file: self.file, problems: errors, unchecked_after }, advice)
    }
}

/// The last character boundary at or before `at`.
fn floor(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

fn shown(c: char) -> char {
    if is_printable(c) { c } else { char::REPLACEMENT_CHARACTER }
}

/// Text from the file, made safe for a terminal: no escape sequences, limited length.
fn plain(text: &str) -> String {
    const MAX_LENGTH: usize = 400;
    let mut plain: String = annotate_snippets::normalize_untrusted_str(text)
        .chars()
        .map(|c| if c == '\n' { ' ' } else { shown(c) })
        .take(MAX_LENGTH + 1)
        .collect();
    if plain.chars().count() > MAX_LENGTH {
        plain.pop();
        plain.push('…');
    }
    plain
}
