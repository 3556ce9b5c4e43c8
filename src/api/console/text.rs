//! Numbers, times and addresses as pages write them.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// What may stand in an address as it is.
const UNRESERVED: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

/// A value as it stands in an address.
pub fn encoded(value: &str) -> String {
    utf8_percent_encode(value, UNRESERVED).to_string()
}

/// A segment of a path.
pub fn segment(value: &str) -> String {
    encoded(value).replace('/', "%2F")
}

/// An address with these parameters; those without a value are left out.
pub fn address(path: &str, parameters: &[(&str, Option<&str>)]) -> String {
    let given = parameters.iter().filter_map(|(name, value)| Some((name, (*value)?)));
    let pairs: Vec<_> = given.map(|(name, value)| format!("{name}={}", encoded(value))).collect();
    if pairs.is_empty() { path.to_owned() } else { format!("{path}?{}", pairs.join("&")) }
}

/// A number with its thousands apart.
pub fn number(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.char_indices() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

/// How many of something.
pub fn counted(count: u64, one: &str, many: &str) -> String {
    format!("{} {}", number(count), if count == 1 { one } else { many })
}

/// A short one for axes and tiles: 12.3k, 4.5M.
pub fn short(value: f64) -> String {
    if value.fract() == 0.0 && value < 1e4 {
        return number(value as u64);
    }
    let (value, unit) = match value {
        value if value >= 1e9 => (value / 1e9, "G"),
        value if value >= 1e6 => (value / 1e6, "M"),
        value if value >= 1e4 => (value / 1e3, "k"),
        value => (value, ""),
    };
    let decimals =
        if value >= 100.0 || value.fract() < 0.05 && value >= 1.0 || value == 0.0 { 0 } else { 1 };
    format!("{value:.decimals$}{unit}")
}

/// A time that something took, or waited.
pub fn span(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..10_000 => format!("{:.1} s", ms as f64 / 1000.0),
        10_000..120_000 => format!("{} s", ms / 1000),
        120_000..7_200_000 => format!("{} min", ms / 60_000),
        7_200_000..172_800_000 => format!("{} h", ms / 3_600_000),
        _ => format!("{} d", ms / 86_400_000),
    }
}

pub fn bytes(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.1} GB", bytes as f64 / 1e9),
    }
}

/// A moment as programs read it: RFC 3339, in UTC.
pub fn moment(ms: u64) -> String {
    let at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(ms) * 1_000_000).ok();
    at.and_then(|at| at.format(&Rfc3339).ok()).unwrap_or_default()
}

/// The same for people: `2026-11-28 20:41:03`, in UTC.
pub fn moment_in_words(ms: u64) -> String {
    let text = moment(ms);
    let (date, time) = text.split_once('T').unwrap_or_default();
    format!("{date} {}", time.get(..8).unwrap_or_default())
}

/// A moment that somebody wrote, in milliseconds since the epoch: as a browser's field gives it, with or without
/// a zone, or as it stands in the API.
pub fn read_moment(text: &str) -> Option<u64> {
    if let Ok(ms) = text.parse() {
        return Some(ms);
    }
    let whole = match text.len() {
        10 => format!("{text}T00:00:00Z"),
        16 => format!("{text}:00Z"),
        19 => format!("{text}Z"),
        _ => text.to_owned(),
    };
    let at = OffsetDateTime::parse(&whole.replacen(' ', "T", 1), &Rfc3339).ok()?;
    u64::try_from(at.unix_timestamp_nanos() / 1_000_000).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_people_read_them() {
        assert_eq!(number(7), "7");
        assert_eq!(number(1234567), "1\u{202f}234\u{202f}567");
        assert_eq!(counted(1, "event", "events"), "1 event");
        for (value, text) in [(0.0, "0"), (0.25, "0.2"), (12.0, "12"), (1234.0, "1\u{202f}234")] {
            assert_eq!(short(value), text);
        }
        assert_eq!((short(12_345.0), short(2_500_000.0)), ("12.3k".into(), "2.5M".into()));
        assert_eq!(
            (span(5), span(1_500), span(65_000)),
            ("5 ms".into(), "1.5 s".into(), "65 s".into())
        );
        assert_eq!((span(240_000), span(10_800_000)), ("4 min".into(), "3 h".into()));
        assert_eq!((bytes(12), bytes(12_345)), ("12 B".into(), "12.3 kB".into()));
    }

    #[test]
    fn moments_are_read_as_they_are_written() {
        let ms = 1_764_362_463_000;
        assert_eq!(moment(ms), "2025-11-28T20:41:03Z");
        assert_eq!(moment_in_words(ms), "2025-11-28 20:41:03");
        for text in
            ["2025-11-28T20:41:03", "2025-11-28 20:41:03", "1764362463000", "2025-11-28T20:41:03Z"]
        {
            assert_eq!(read_moment(text), Some(ms), "{text}");
        }
        assert_eq!(read_moment("2025-11-28T20:41"), Some(ms - 3_000));
        assert_eq!(read_moment("2025-11-28"), Some(1_764_288_000_000));
        assert_eq!(read_moment("yesterday"), None);
    }

    #[test]
    fn what_stands_in_an_address_is_encoded() {
        assert_eq!(segment("a/b c"), "a%2Fb%20c");
        let parameters = [("text", Some("a&b")), ("none", None), ("then", Some("/console?x=1"))];
        assert_eq!(address("/console", &parameters), "/console?text=a%26b&then=/console%3Fx%3D1");
    }
}
