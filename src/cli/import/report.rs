//! What an import found and did, and what there is to look at.

use std::io::{self, Write};

use indicatif::HumanCount;
use serde::Serialize;

/// How many examples a note names.
const EXAMPLES_MAX: usize = 3;
/// How long an example may be, in characters.
const EXAMPLE_LENGTH_MAX: usize = 100;

/// Things of one kind that were found in the source, by what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub imported: u64,
    /// They were there already, or taken by an earlier run.
    pub present: u64,
    pub skipped: u64,
}

impl Tally {
    pub fn found(&self) -> u64 {
        self.imported + self.present + self.skipped
    }

    /// One more that was imported, or that was there.
    pub fn add(&mut self, imported: bool) {
        let count = if imported { &mut self.imported } else { &mut self.present };
        *count += 1;
    }
}

/// Something that a person should know of, with how often it was met.
#[derive(Serialize)]
struct Note {
    text: String,
    count: u64,
    examples: Vec<String>,
}

#[derive(Default)]
pub struct Report {
    pub topics: Tally,
    pub tokens: Tally,
    pub subscribers: Tally,
    pub batches: Tally,
    pub events: Tally,
    /// Control messages of the Ruby processes.
    pub control: u64,
    /// About how many bytes the imported events take up.
    pub bytes: u64,
    notes: Vec<Note>,
}

/// How an import is introduced.
pub struct Title<'a> {
    pub from: &'a str,
    pub to: &'a str,
    pub dry_run: bool,
    /// Whether it came to its end.
    pub complete: bool,
}

#[derive(Serialize)]
struct Counts {
    found: u64,
    imported: u64,
    present: u64,
    skipped: u64,
}

/// What is printed with `--json`.
#[derive(Serialize)]
struct Json<'a> {
    from: &'a str,
    to: &'a str,
    dry_run: bool,
    complete: bool,
    topics: Counts,
    tokens: Counts,
    subscribers: Counts,
    batches: Counts,
    events: Counts,
    control_messages: u64,
    event_bytes: u64,
    notes: &'a [Note],
}

impl From<Tally> for Counts {
    fn from(tally: Tally) -> Self {
        let Tally { imported, present, skipped } = tally;
        Self { found: tally.found(), imported, present, skipped }
    }
}

impl Report {
    /// Takes a note. The text says what was met and what was done about it; it stands once,
    /// however often that is.
    pub fn note(&mut self, text: &str, example: impl FnOnce() -> String) {
        self.note_many(text, 1, example);
    }

    pub fn note_many(&mut self, text: &str, count: u64, example: impl FnOnce() -> String) {
        let known = self.notes.iter_mut().position(|note| note.text == text);
        let index = known.unwrap_or_else(|| {
            self.notes.push(Note { text: text.to_owned(), count: 0, examples: vec![] });
            self.notes.len() - 1
        });
        let note = &mut self.notes[index];
        note.count += count;
        if note.examples.len() < EXAMPLES_MAX {
            let example = one_line(&example());
            if !example.is_empty() && !note.examples.contains(&example) {
                note.examples.push(example);
            }
        }
    }

    pub fn write_json(&self, out: &mut impl Write, title: &Title<'_>) -> io::Result<()> {
        let json = Json {
            from: title.from,
            to: title.to,
            dry_run: title.dry_run,
            complete: title.complete,
            topics: self.topics.into(),
            tokens: self.tokens.into(),
            subscribers: self.subscribers.into(),
            batches: self.batches.into(),
            events: self.events.into(),
            control_messages: self.control,
            event_bytes: self.bytes,
            notes: &self.notes,
        };
        serde_json::to_writer(&mut *out, &json)?;
        writeln!(out)
    }

    pub fn write_table(&self, out: &mut impl Write, title: &Title<'_>) -> io::Result<()> {
        writeln!(out, "from  {}\nto    {}\n", title.from, title.to)?;
        let imported = if title.dry_run { "would import" } else { "imported" };
        let (found, present, skipped) = ("found", "there already", "skipped");
        writeln!(out, "{:11} {found:>13} {imported:>13} {present:>14} {skipped:>11}", "")?;
        for (name, tally) in [
            ("topics", self.topics),
            ("tokens", self.tokens),
            ("subscribers", self.subscribers),
            ("batches", self.batches),
            ("events", self.events),
        ] {
            let [found, imported, present, skipped] =
                [tally.found(), tally.imported, tally.present, tally.skipped]
                    .map(|count| HumanCount(count).to_string());
            writeln!(out, "{name:11} {found:>13} {imported:>13} {present:>14} {skipped:>11}")?;
        }
        if self.control > 0 {
            let control = HumanCount(self.control);
            writeln!(out, "\nControl messages among the events, not to be delivered: {control}")?;
        }
        if !self.notes.is_empty() {
            writeln!(out, "\nTo look at:")?;
        }
        for note in &self.notes {
            writeln!(out, "{:>7}  {}", HumanCount(note.count).to_string(), note.text)?;
            if !note.examples.is_empty() {
                let more = if note.count > note.examples.len() as u64 { ", …" } else { "" };
                writeln!(out, "         {}{more}", note.examples.join(", "))?;
            }
        }
        Ok(())
    }
}

/// Text from the source as it may be printed.
pub fn printable(bytes: &[u8]) -> String {
    let shown: &[u8] = &bytes[..bytes.len().min(4 * EXAMPLE_LENGTH_MAX)];
    format!("`{}`", one_line(&String::from_utf8_lossy(shown)))
}

/// What may be shown of a token that is none here: its first characters, or its service's name.
pub fn veiled(token: &[u8]) -> String {
    let token = one_line(&String::from_utf8_lossy(token));
    let label = match token.split_once("--") {
        Some((name, _)) if !name.is_empty() => name.to_owned(),
        _ => token.chars().take((token.chars().count() / 2).min(4)).collect(),
    };
    format!("`{label}…`")
}

fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(EXAMPLE_LENGTH_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_stands_once_with_its_count_and_the_first_examples() {
        let mut report = Report::default();
        for number in 0..5 {
            report.note("entries that are garbled", || format!("entry {number}\n"));
        }
        report.note_many("batches of nobody", 7, String::new);
        report.events = Tally { imported: 1_234_567, present: 1, skipped: 2 };
        let title = Title { from: "a", to: "b", dry_run: true, complete: true };
        let mut out = Vec::new();
        report.write_table(&mut out, &title).unwrap();
        let out = String::from_utf8(out).unwrap();
        let line = "      5  entries that are garbled\n         entry 0 , entry 1 , entry 2 , …\n";
        assert!(out.contains(line), "{out}");
        assert!(out.contains("      7  batches of nobody\n"), "{out}");
        assert!(out.contains("would import"), "{out}");
        assert!(out.contains("1,234,570     1,234,567              1           2"), "{out}");
        let mut out = Vec::new();
        report.write_json(&mut out, &title).unwrap();
        let json: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(json["events"]["found"], 1_234_570);
        assert_eq!(json["notes"][0]["count"], 5);
    }

    #[test]
    fn a_token_that_is_none_is_not_shown_whole() {
        for (token, shown) in [
            ("Booking--SECRET", "`Booking…`"),
            ("SECRETSECRET", "`SECR…`"),
            ("--x", "`-…`"),
            ("É\u{1}", "`É…`"),
            ("", "`…`"),
        ] {
            assert_eq!(veiled(token.as_bytes()), shown);
        }
        assert_eq!(veiled(b"\xff\xff\xff\xff"), "`\u{fffd}\u{fffd}…`");
    }
}
