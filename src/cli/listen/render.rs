//! How a batch looks: for a person, aligned, or as JSON lines for another program.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{self, Write};

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::cli::words::{age, clean, counted};
use crate::note;

/// The longest URL that others are aligned to, in characters; a longer one stands out.
const URL_WIDTH_MAX: usize = 60;
/// How much of an event's data is shown, in characters.
const DATA_SHOWN: usize = 60;

/// A delivery's body, without its headers.
pub struct Delivered<'a> {
    /// `Webhook-Id`.
    pub batch: &'a str,
    /// `Routemaster-Attempt`, from 1.
    pub attempt: u32,
    /// Each event as the bus wrote it.
    pub events: &'a [&'a RawValue],
}

/// Standard output, for people or for programs.
pub struct Output {
    json: bool,
}

impl Output {
    pub fn new(json: bool) -> Self {
        Self { json }
    }

    /// Shows a batch that is about to be acknowledged. `now_ms` is the time, in milliseconds
    /// since the epoch.
    ///
    /// # Errors
    /// If nobody reads the output any more.
    pub fn batch(&self, delivered: &Delivered<'_>, now_ms: u64) -> io::Result<()> {
        let text = if self.json {
            json_lines(delivered)
        } else {
            let mut text = header(delivered, now_ms);
            text.push('\n');
            text.push_str(&table(delivered, now_ms));
            text
        };
        write(&text)
    }

    /// Shows a batch that is about to be refused because `--fail` asks for it.
    pub fn failed(&self, delivered: &Delivered<'_>, now_ms: u64) -> io::Result<()> {
        let line = format!("{}  answered 500 (--fail)\n", header(delivered, now_ms));
        if self.json {
            note!("{}", line.trim_end());
            return Ok(());
        }
        write(&line)
    }
}

/// Unlike `print!`, reports a reader that went away instead of panicking.
fn write(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

/// The events as they were delivered, one a line.
fn json_lines(delivered: &Delivered<'_>) -> String {
    let mut text = String::new();
    for event in delivered.events {
        text.push_str(&on_one_line(event.get()));
        text.push('\n');
    }
    text
}

/// `data` is delivered as its publisher wrote it, line breaks between its parts included. In a
/// JSON string a line break is written as an escape, so what stands here is white space.
fn on_one_line(json: &str) -> Cow<'_, str> {
    if json.contains(['\n', '\r']) { json.replace(['\n', '\r'], " ").into() } else { json.into() }
}

/// `14:03:07.512Z  2 events  batch 7f3a-12  attempt 2`.
fn header(delivered: &Delivered<'_>, now_ms: u64) -> String {
    let events = counted(delivered.events.len() as u64, "event", "events");
    let mut line = format!("{}  {events}  batch {}", clock(now_ms), clean(delivered.batch));
    if delivered.attempt > 1 {
        let _ = write!(line, "  attempt {}", delivered.attempt);
    }
    line
}

/// The time of day, in UTC.
fn clock(now_ms: u64) -> String {
    let (seconds, ms) = (now_ms / 1000, now_ms % 1000);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
}

/// An event as a subscriber receives it.
#[derive(Deserialize)]
struct Event<'a> {
    #[serde(borrow)]
    topic: Cow<'a, str>,
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    url: Cow<'a, str>,
    t: i64,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
}

/// One line per event: topic, type, URL, age and data, in columns.
fn table(delivered: &Delivered<'_>, now_ms: u64) -> String {
    let rows = delivered.events.iter().map(|event| row(event, now_ms)).collect::<Vec<_>>();
    let width = |column: usize, max: usize| {
        let widths = rows.iter().map(|row| row[column].chars().count());
        widths.filter(|width| *width <= max).max().unwrap_or(0)
    };
    let widths = [width(0, 64), width(1, 6), width(2, URL_WIDTH_MAX), width(3, 12)];
    let mut text = String::new();
    for [topic, kind, url, age, data] in &rows {
        let [topic_width, kind_width, url_width, age_width] = widths;
        let mut line = format!(
            "  {topic:topic_width$}  {kind:kind_width$}  {url:url_width$}  {age:>age_width$}  {data}"
        );
        line.truncate(line.trim_end().len());
        text.push_str(&line);
        text.push('\n');
    }
    text
}

fn row(event: &RawValue, now_ms: u64) -> [String; 5] {
    let Ok(event) = serde_json::from_str::<Event>(event.get()) else {
        // Not an event of this version of the bus: shown as it is.
        return [shorten(event.get()), String::new(), String::new(), String::new(), String::new()];
    };
    let data = event.data.map(|data| shorten(data.get())).unwrap_or_default();
    let age = age(now_ms as i64 - event.t);
    [clean(&event.topic), clean(&event.kind), clean(&event.url), age, data]
}

/// JSON on one line, cut where it gets long.
fn shorten(json: &str) -> String {
    let words = json.split_ascii_whitespace().collect::<Vec<_>>().join(" ");
    let words = clean(&words);
    if words.chars().count() <= DATA_SHOWN {
        return words;
    }
    let shown = words.chars().take(DATA_SHOWN - 1).collect::<String>();
    format!("{shown}…")
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: u64 = 1_767_277_397_123;

    fn raw(events: &[&str]) -> Vec<Box<RawValue>> {
        events.iter().map(|event| RawValue::from_string((*event).into()).unwrap()).collect()
    }

    fn shown(events: &[&str], attempt: u32, show: fn(&Delivered<'_>, u64) -> String) -> String {
        let events = raw(events);
        let events = events.iter().map(|event| &**event).collect::<Vec<_>>();
        show(&Delivered { batch: "q1-7", attempt, events: &events }, NOW_MS)
    }

    #[test]
    fn the_header_names_time_batch_and_attempt() {
        assert_eq!(shown(&["{}"], 1, header), "14:23:17.123Z  1 event  batch q1-7");
        let again = shown(&["{}", "{}"], 3, header);
        assert_eq!(again, "14:23:17.123Z  2 events  batch q1-7  attempt 3");
    }

    #[test]
    fn events_are_aligned_in_columns() {
        let events = [
            r#"{"topic":"widgets","type":"create","url":"https://a.example/1","t":1767277397111}"#,
            r#"{"topic":"orders","type":"noop","url":"https://a.example/22","t":1767277392023,"data":{"n": 1.50}}"#,
        ];
        let expected = "  widgets  create  https://a.example/1   12 ms\n  \
                          orders   noop    https://a.example/22  5.1 s  {\"n\": 1.50}\n";
        assert_eq!(shown(&events, 1, table), expected);
    }

    #[test]
    fn json_lines_are_the_events_untouched_but_for_line_breaks() {
        let events = ["{\"t\":1,\"data\":{\n\"n\":1.50,\r\n\"s\":\"\\n\"}}", "{}"];
        let lines = shown(&events, 1, |delivered, _| json_lines(delivered));
        assert_eq!(lines, "{\"t\":1,\"data\":{ \"n\":1.50,  \"s\":\"\\n\"}}\n{}\n");
    }

    #[test]
    fn long_data_is_cut_and_control_characters_are_shown() {
        let long = format!("[\"{}\"]", "é".repeat(200));
        assert_eq!(shorten(&long).chars().count(), DATA_SHOWN);
        assert_eq!(shorten("{\n  \"a\": \"\u{9b}\"\n}"), "{ \"a\": \"·\" }");
    }

    #[test]
    fn what_is_no_event_is_shown_as_it_is() {
        assert_eq!(shown(&["{\"x\":1}"], 1, table), "  {\"x\":1}\n");
    }
}
