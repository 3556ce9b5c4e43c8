//! Reads events from a stream of lines, with the number of each line, in bounded memory.

use std::io::{self, BufRead, Read};

use serde::de::IgnoredAny;
use tokio::sync::mpsc;

/// The longest line, in bytes, without its line break.
pub const LINE_MAX: usize = 1024 * 1024;
/// How many lines are read ahead of what is sent.
const LINES_AHEAD: usize = 32;

/// A line that holds a JSON object. Its event may still be refused by the bus.
#[derive(Debug, PartialEq, Eq)]
pub struct Line {
    /// From 1, as editors count.
    pub number: u64,
    pub json: Vec<u8>,
}

/// Why reading ended before the end of the input.
#[derive(Debug, thiserror::Error)]
pub enum LineError {
    #[error("line {number}: {reason}")]
    Bad { number: u64, reason: String },
    #[error("failed to read standard input: {0}")]
    Input(#[from] io::Error),
}

/// Reads standard input on a thread of its own, up to its end or the first bad line.
///
/// A plain thread, because a task that waits for input cannot be cancelled: the program would
/// not end before somebody presses Enter.
pub fn from_stdin() -> mpsc::Receiver<Result<Line, LineError>> {
    let (sender, receiver) = mpsc::channel(LINES_AHEAD);
    std::thread::spawn(move || {
        let mut reader = LineReader::new(io::stdin().lock());
        while let Some(line) = reader.next().transpose() {
            let ended = line.is_err();
            if sender.blocking_send(line).is_err() || ended {
                return;
            }
        }
    });
    receiver
}

struct LineReader<R> {
    input: R,
    number: u64,
}

impl<R: BufRead> LineReader<R> {
    fn new(input: R) -> Self {
        Self { input, number: 0 }
    }

    /// The next line that is not blank; `None` at the end of the input.
    fn next(&mut self) -> Result<Option<Line>, LineError> {
        loop {
            let mut json = Vec::new();
            // Two bytes more than allowed: room for the line break, or the proof of too much.
            let limit = LINE_MAX as u64 + 2;
            if self.input.by_ref().take(limit).read_until(b'\n', &mut json)? == 0 {
                return Ok(None);
            }
            self.number += 1;
            json.truncate(json.trim_ascii_end().len());
            if json.trim_ascii_start().is_empty() && json.len() <= LINE_MAX {
                continue;
            }
            let number = self.number;
            check(&json).map_err(|reason| LineError::Bad { number, reason })?;
            return Ok(Some(Line { number, json }));
        }
    }
}

/// Checks that a line is a JSON object, so that lines can be joined to an array without one of
/// them spoiling the others.
fn check(json: &[u8]) -> Result<(), String> {
    if json.len() > LINE_MAX {
        return Err(format!("it is longer than {LINE_MAX} bytes"));
    }
    if std::str::from_utf8(json).is_err() {
        return Err("it is not UTF-8".into());
    }
    if let Err(error) = serde_json::from_slice::<IgnoredAny>(json) {
        // The parser counts lines as well, and sees one line only.
        let (line, column) = (error.line(), error.column());
        let reason = error.to_string();
        let reason = reason.trim_end_matches(&format!(" at line {line} column {column}"));
        return Err(format!("it is not JSON: {reason} at column {column}"));
    }
    if json.trim_ascii_start().first() != Some(&b'{') {
        return Err("a JSON object is expected, like {\"type\": \"create\", \"url\": …}".into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(input: &[u8]) -> (Vec<(u64, String)>, Option<String>) {
        let mut reader = LineReader::new(input);
        let mut lines = vec![];
        loop {
            match reader.next() {
                Ok(Some(line)) => lines.push((line.number, String::from_utf8(line.json).unwrap())),
                Ok(None) => return (lines, None),
                Err(error) => return (lines, Some(error.to_string())),
            }
        }
    }

    #[test]
    fn blank_lines_are_skipped_but_counted() {
        let (lines, error) = read(b"\n{\"a\":1}\r\n  \t\n {}");
        assert_eq!(lines, [(2, "{\"a\":1}".into()), (4, " {}".into())]);
        assert_eq!(error, None);
    }

    #[test]
    fn a_bad_line_is_named_by_its_number() {
        for (input, expected) in [
            (&b"{}\n{\"a\":}\n{}"[..], "line 2: it is not JSON: expected value at column 6"),
            (b"{}\n\n[]", "line 3: a JSON object is expected"),
            (b"{}\n{} {}", "line 2: it is not JSON: trailing"),
            (b"{}\n{\"a\":\"\xff\"}", "line 2: it is not UTF-8"),
        ] {
            let (lines, error) = read(input);
            assert_eq!(lines.len(), 1);
            let error = error.unwrap();
            assert!(error.starts_with(expected), "{error}");
        }
    }

    #[test]
    fn the_limit_of_a_line_is_exact() {
        let line = |length: usize| format!("{{}}\n{{\"a\":\"{}\"}}\n", "x".repeat(length - 8));
        assert_eq!(read(line(LINE_MAX).as_bytes()).1, None);
        let error = read(line(LINE_MAX + 1).as_bytes()).1.unwrap();
        assert!(error.starts_with("line 2: it is longer"), "{error}");
        let endless = vec![b'x'; 3 * LINE_MAX];
        assert!(read(&endless).1.unwrap().contains("longer"));
    }
}
