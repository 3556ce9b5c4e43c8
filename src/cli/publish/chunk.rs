//! A chunk: the lines that one request publishes together, as a JSON array.

use bytes::Bytes;

use crate::cli::publish::lines::Line;

/// Events in a chunk, at most.
const EVENTS_MAX: usize = 100;
/// The body stays below this many bytes, half of what a bus takes by default. A line that is
/// longer goes by itself.
const BYTES_MAX: usize = 512 * 1024;

#[derive(Default)]
pub struct Chunk {
    lines: Vec<Line>,
    /// The array's elements with what stands between and around them, in bytes.
    bytes: usize,
}

impl Chunk {
    /// Adds a line, or gives it back if it belongs into the next chunk.
    pub fn push(&mut self, line: Line) -> Result<(), Line> {
        // One byte for the comma or the bracket before the line, one for the bracket at the end.
        let bytes = self.bytes + line.json.len() + 1;
        let fits = self.lines.len() < EVENTS_MAX && bytes + 1 < BYTES_MAX;
        if !fits && !self.lines.is_empty() {
            return Err(line);
        }
        self.bytes = bytes;
        self.lines.push(line);
        Ok(())
    }

    pub fn is_full(&self) -> bool {
        self.lines.len() >= EVENTS_MAX
    }

    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    pub fn len(&self) -> usize {
        self.lines.len()
    }

    /// The lines as one JSON array.
    pub fn to_json(&self) -> Bytes {
        let mut body = Vec::with_capacity(self.bytes + 1);
        for line in &self.lines {
            body.push(if body.is_empty() { b'[' } else { b',' });
            body.extend_from_slice(&line.json);
        }
        body.push(b']');
        body.into()
    }

    /// Understands the bus's "event N: reason": takes the lines from the refused one on away, and
    /// returns its number with the reason. `None` if the reason names no event of this chunk.
    pub fn cut_at_refused<'a>(&mut self, reason: &'a str) -> Option<(u64, &'a str)> {
        let (index, reason) = reason.strip_prefix("event ")?.split_once(": ")?;
        let index: usize = index.parse().ok()?;
        let number = self.lines.get(index)?.number;
        self.lines.truncate(index);
        self.bytes = self.lines.iter().map(|line| line.json.len() + 1).sum();
        Some((number, reason))
    }

    /// The numbers of the first and the last line.
    pub fn range(&self) -> (u64, u64) {
        let number = |line: Option<&Line>| line.map_or(0, |line| line.number);
        (number(self.lines.first()), number(self.lines.last()))
    }

    /// The lines' numbers, in words.
    pub fn lines(&self) -> String {
        match self.range() {
            (first, last) if first == last => format!("line {first}"),
            (first, last) => format!("lines {first} to {last}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(number: u64, length: usize) -> Line {
        Line { number, json: vec![b'x'; length] }
    }

    #[test]
    fn a_chunk_takes_a_hundred_events() {
        let mut chunk = Chunk::default();
        for number in 1..=100 {
            assert!(!chunk.is_full());
            chunk.push(line(number, 2)).unwrap();
        }
        assert!(chunk.is_full());
        assert_eq!(chunk.push(line(101, 2)), Err(line(101, 2)));
        assert_eq!((chunk.len(), chunk.range()), (100, (1, 100)));
    }

    #[test]
    fn a_body_stays_below_the_limit_unless_one_line_is_longer() {
        let mut chunk = Chunk::default();
        chunk.push(line(1, BYTES_MAX / 2)).unwrap();
        let rest = BYTES_MAX - 1 - chunk.to_json().len() - 1;
        assert!(chunk.push(line(2, rest + 1)).is_err());
        chunk.push(line(2, rest)).unwrap();
        assert_eq!(chunk.to_json().len(), BYTES_MAX - 1);
        assert!(chunk.push(line(3, 0)).is_err());

        let mut chunk = Chunk::default();
        chunk.push(line(1, BYTES_MAX * 2)).unwrap();
        assert!(chunk.push(line(2, 2)).is_err());
    }

    #[test]
    fn lines_become_one_array() {
        let mut chunk = Chunk::default();
        for json in ["{\"a\":1}", " {}"] {
            chunk.push(Line { number: 1, json: json.into() }).unwrap();
        }
        assert_eq!(chunk.to_json(), "[{\"a\":1}, {}]");
    }

    #[test]
    fn a_refused_event_is_mapped_to_its_line_and_what_stands_before_it_is_kept() {
        let chunk = || {
            let mut chunk = Chunk::default();
            for number in [3, 5, 6] {
                chunk.push(line(number, 2)).unwrap();
            }
            chunk
        };
        let mut cut = chunk();
        assert_eq!(cut.cut_at_refused("event 1: `url` must: x"), Some((5, "`url` must: x")));
        assert_eq!((cut.len(), cut.range(), cut.to_json().len()), (1, (3, 3), 4));
        for other in ["event 3: x", "event x: y", "the array is empty", "event 1"] {
            let mut cut = chunk();
            assert_eq!(cut.cut_at_refused(other), None, "{other}");
            assert_eq!(cut.len(), 3);
        }
    }
}
