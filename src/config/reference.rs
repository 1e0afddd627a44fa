//! The commented reference configuration, `etc/vipd.toml`, as data: the manual page is made from
//! it.

/// The text of the installed file.
pub(crate) const REFERENCE: &str = include_str!("../../etc/vipd.toml");

/// Its contents, in the order of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reference<'a> {
    /// The first comment.
    pub head: Vec<Block<'a>>,
    /// The sections; the first one has no title.
    pub sections: Vec<Section<'a>>,
}

/// The part below one title.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Section<'a> {
    /// Empty for the part before the first title.
    pub title: &'a str,
    /// Consecutive tables of the same name count as one.
    pub tables: Vec<ReferenceTable<'a>>,
}

/// `[node]`, `[[virtual_router]]` and the like.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ReferenceTable<'a> {
    /// With its brackets.
    pub name: &'a str,
    /// The comment above it.
    pub about: Vec<Block<'a>>,
    /// The keys that have a comment.
    pub keys: Vec<Key<'a>>,
    /// All its lines, without the `#` in front.
    pub lines: Vec<&'a str>,
}

/// One key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Key<'a> {
    /// Without its value.
    pub name: &'a str,
    /// The comment above it.
    pub about: Vec<Block<'a>>,
    /// The whole line, without the `#` in front.
    pub example: &'a str,
}

/// A piece of a comment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Block<'a> {
    /// Sentences, joined to one line.
    Paragraph(String),
    /// An indented line, to be shown as it is.
    Literal(&'a str),
}

impl<'a> Reference<'a> {
    /// Parses the text. Lines that begin with "# " are comments, others that begin with "#" are
    /// settings.
    pub(crate) fn parse(text: &'a str) -> Self {
        let mut reference = Reference::default();
        let mut section = Section::default();
        let mut pending = Vec::new();
        let mut headless = true;
        for line in text.lines() {
            if let Some(title) = line.strip_prefix("# ---- ") {
                reference.sections.push(std::mem::take(&mut section));
                section.title = title.trim_end_matches('-').trim_end();
                continue;
            }
            if line == "#" {
                pending.push(Block::Paragraph(String::new()));
            } else if let Some(comment) = line.strip_prefix("# ") {
                explain(&mut pending, comment);
            } else if line.is_empty() {
                if headless {
                    reference.head = std::mem::take(&mut pending);
                    headless = false;
                } else if !pending.is_empty() {
                    pending.push(Block::Paragraph(String::new()));
                }
            } else {
                setting(&mut section, line.strip_prefix('#').unwrap_or(line), &mut pending);
            }
        }
        reference.sections.push(section);
        for section in &mut reference.sections {
            for table in &mut section.tables {
                table.about.retain(says_something);
                table.keys.iter_mut().for_each(|key| key.about.retain(says_something));
            }
        }
        reference.head.retain(says_something);
        reference
    }
}

/// Adds one line of a comment, which continues the paragraph before it.
fn explain<'a>(pending: &mut Vec<Block<'a>>, comment: &'a str) {
    if let Some(literal) = comment.strip_prefix("    ") {
        pending.push(Block::Literal(literal));
        return;
    }
    match pending.last_mut() {
        Some(Block::Paragraph(text)) if text.is_empty() => text.push_str(comment),
        Some(Block::Paragraph(text)) => {
            text.push(' ');
            text.push_str(comment);
        }
        Some(Block::Literal(_)) | None => pending.push(Block::Paragraph(comment.to_owned())),
    }
}

fn setting<'a>(section: &mut Section<'a>, line: &'a str, pending: &mut Vec<Block<'a>>) {
    if line.starts_with('[') {
        let about = std::mem::take(pending);
        match section.tables.last_mut() {
            Some(table) if table.name == line && about.is_empty() => table.lines.push(line),
            _ => section.tables.push(ReferenceTable {
                name: line,
                about,
                keys: Vec::new(),
                lines: vec![line],
            }),
        }
        return;
    }
    let Some(table) = section.tables.last_mut() else { return };
    table.lines.push(line);
    let name = line.split('=').next().unwrap_or_default().trim();
    let about = std::mem::take(pending);
    if about.iter().any(says_something) {
        table.keys.push(Key { name, about, example: line });
    }
}

fn says_something(block: &Block<'_>) -> bool {
    match block {
        Block::Paragraph(text) => !text.is_empty(),
        Block::Literal(_) => true,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_reference_is_taken_apart() {
        let text = "# Head\n# goes on.\n#\n#     literal\n\n[a]\n# Of x.\n#x = 1\n\n\
                    # ---- Title ----\n# Of it.\n\n#[[b]]\n#y = 2\n# Of z.\n#z = 3\n";
        let reference = Reference::parse(text);
        let paragraph = |text: &str| Block::Paragraph(text.to_owned());
        assert_eq!(reference.head, [paragraph("Head goes on."), Block::Literal("literal")]);
        let [first, second] = &reference.sections[..] else { panic!("{reference:?}") };
        assert_eq!((first.title, first.tables[0].name), ("", "[a]"));
        assert_eq!(first.tables[0].keys[0].about, [paragraph("Of x.")]);
        let b = &second.tables[0];
        assert_eq!(
            (second.title, b.name, &b.about[..]),
            ("Title", "[[b]]", &[paragraph("Of it.")][..])
        );
        assert_eq!(b.lines, ["[[b]]", "y = 2", "z = 3"]);
        assert_eq!((b.keys.len(), b.keys[0].name, b.keys[0].example), (1, "z", "z = 3"));
    }
}
