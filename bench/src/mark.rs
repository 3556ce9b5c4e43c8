//! How the benchmark knows its events again: each one's URL says which stream it belongs to, which
//! number it has there and when it was published.
//!
//! All three have a fixed width, so that a request is built once and then patched in place, and
//! so that what arrives is found without parsing JSON.

use std::time::Instant;

/// What all URLs of the benchmark begin with.
const HEAD: &[u8] = b"https://bench.example/";
const STREAM_DIGITS: usize = 5;
const NUMBER_DIGITS: usize = 10;
const MICROS_DIGITS: usize = 12;
/// The part of the URL that differs from event to event.
const LEN: usize = STREAM_DIGITS + 1 + NUMBER_DIGITS + 1 + MICROS_DIGITS;

/// The time of this run, in microseconds since its start.
#[derive(Clone, Copy)]
pub struct Clock(Instant);

impl Clock {
    pub fn start() -> Self {
        Self(Instant::now())
    }

    pub fn micros(self) -> u64 {
        self.micros_at(Instant::now())
    }

    pub fn micros_at(self, instant: Instant) -> u64 {
        instant.saturating_duration_since(self.0).as_micros() as u64
    }
}

/// What stands in the URL of one event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Events of one stream are published one after the other, so that their order is known.
    pub stream: u32,
    /// From 0, without gaps.
    pub number: u64,
    pub micros: u64,
}

impl Mark {
    /// The time of an event whose time on the way is not asked for.
    pub const UNMEASURED: u64 = 0;

    /// An event as it is published, with room for the mark.
    pub fn event() -> String {
        let mark = format!("{:0STREAM_DIGITS$}/{:0NUMBER_DIGITS$}/{:0MICROS_DIGITS$}", 0, 0, 0);
        format!(r#"{{"type":"update","url":"{}{mark}"}}"#, String::from_utf8_lossy(HEAD))
    }

    /// Where the marks of a request or a delivery begin.
    pub fn places(bytes: &[u8]) -> Vec<usize> {
        let mut places = Vec::new();
        let mut from = 0;
        while let Some(at) = find(bytes, from) {
            places.push(at);
            from = at + LEN;
        }
        places
    }

    /// Writes the mark at its place.
    pub fn write(self, bytes: &mut [u8], place: usize) {
        let (number, micros) = (STREAM_DIGITS + 1, STREAM_DIGITS + NUMBER_DIGITS + 2);
        write_digits(&mut bytes[place..place + STREAM_DIGITS], self.stream.into());
        write_digits(&mut bytes[place + number..place + number + NUMBER_DIGITS], self.number);
        write_digits(&mut bytes[place + micros..place + LEN], self.micros);
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let mut parts = bytes.splitn(3, |byte| *byte == b'/');
        let stream = read_digits(parts.next()?, STREAM_DIGITS)?;
        let number = read_digits(parts.next()?, NUMBER_DIGITS)?;
        let micros = read_digits(parts.next()?, MICROS_DIGITS)?;
        Some(Self { stream: u32::try_from(stream).ok()?, number, micros })
    }
}

/// The marks of a delivery, in its order. Whatever is not an event of the benchmark is passed over.
pub struct Marks<'a> {
    body: &'a [u8],
    /// Where the last mark was, and how far from the one before: events are all equally long but
    /// for their topic, so that the next one is looked for there first.
    last: usize,
    stride: usize,
}

impl<'a> Marks<'a> {
    pub fn of(body: &'a [u8]) -> Self {
        Self { body, last: 0, stride: 0 }
    }
}

impl Iterator for Marks<'_> {
    type Item = Mark;

    fn next(&mut self) -> Option<Mark> {
        loop {
            let guess = self.last + self.stride;
            let guessed = self.stride > 0
                && self.body.get(guess - HEAD.len()..guess).is_some_and(|bytes| bytes == HEAD);
            let place = if guessed { guess } else { find(self.body, self.last)? };
            if self.last > 0 {
                self.stride = place - self.last;
            }
            self.last = place;
            if let Some(mark) = self.body.get(place..place + LEN).and_then(Mark::read) {
                return Some(mark);
            }
        }
    }
}

/// Where the first mark after `from` begins.
fn find(bytes: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    loop {
        let rest = bytes.get(at..)?;
        let first = rest.iter().position(|byte| *byte == HEAD[0])?;
        if rest[first..].starts_with(HEAD) {
            return Some(at + first + HEAD.len());
        }
        at += first + 1;
    }
}

fn write_digits(place: &mut [u8], mut number: u64) {
    for digit in place.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

fn read_digits(bytes: &[u8], count: usize) -> Option<u64> {
    let digits = bytes.get(..count)?;
    digits.iter().try_fold(0, |number, byte| {
        byte.is_ascii_digit().then(|| number * 10 + u64::from(byte - b'0'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(stream: u32, number: u64, micros: u64) -> Mark {
        Mark { stream, number, micros }
    }

    #[test]
    fn what_was_written_into_a_request_is_read_from_a_delivery() {
        let mut request = format!("[{},{}]", Mark::event(), Mark::event()).into_bytes();
        let places = Mark::places(&request);
        assert_eq!(places.len(), 2);
        let marks = [mark(31, 4_000_000_000, 999_999_999_999), mark(0, 0, 1)];
        for (mark, place) in marks.iter().zip(places) {
            mark.write(&mut request, place);
        }
        assert_eq!(Marks::of(&request).collect::<Vec<_>>(), marks);
    }

    #[test]
    fn marks_are_found_whatever_stands_between_them() {
        let event = |number| {
            let mut event = Mark::event().into_bytes();
            let place = Mark::places(&event)[0];
            mark(1, number, 7).write(&mut event, place);
            String::from_utf8(event).unwrap()
        };
        let body = [
            &event(0),
            r#"{"url":"https://other.example/1"}"#,
            &event(1),
            &event(2),
            r#"{"url":"https://bench.example/none"}"#,
            &event(3),
            "https://bench.example/",
        ]
        .join(",");
        let numbers: Vec<_> = Marks::of(body.as_bytes()).map(|mark| mark.number).collect();
        assert_eq!(numbers, [0, 1, 2, 3]);
        assert_eq!(Marks::of(b"[]").count(), 0);
    }
}
