//! Checks that JSON from outside must pass and that serde_json does not make.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use url::Url;

/// Why a body was refused: one line that tells its author what to change.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Rejection(String);

impl Rejection {
    /// Takes a reason, which may quote the body: line breaks and other control characters are
    /// blanked, and what goes past 300 characters is cut.
    pub fn new(reason: impl fmt::Display) -> Self {
        let blank_controls = |c: char| if c.is_control() { ' ' } else { c };
        Self(reason.to_string().chars().map(blank_controls).take(300).collect())
    }
}

/// Parses one JSON object strictly: not an array of its fields, which serde would take as well.
pub fn parse_object<'de, T: Deserialize<'de>>(json: &'de [u8]) -> Result<T, Rejection> {
    match first_byte(json) {
        None => Err(Rejection::new("the body is empty: a JSON object is expected")),
        Some(b'{') => serde_json::from_slice(json).map_err(Rejection::new),
        Some(_) => {
            // The parser's own complaint is the better one when the body is not JSON at all.
            serde_json::from_slice::<serde::de::IgnoredAny>(json).map_err(Rejection::new)?;
            Err(Rejection::new("a JSON object is expected"))
        }
    }
}

/// The members of an object, in order, each as it is written.
pub struct Members(pub Vec<(String, Box<RawValue>)>);

impl Members {
    /// The one of this name; of several the last, as most parsers take it.
    pub fn last(&self, name: &str) -> Option<&RawValue> {
        self.0.iter().rev().find(|(known, _)| known == name).map(|(_, value)| &**value)
    }
}

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Reader)
    }
}

/// The first byte that is not white space.
pub fn first_byte(json: &[u8]) -> Option<u8> {
    json.iter().copied().find(|byte| !byte.is_ascii_whitespace())
}

/// The whole number from 0 that a JSON value is, also one with decimals that say nothing, such as
/// `1.0`; `None` if it is none. A number that is not written as an integer must fit into 53 bits:
/// beyond them it would not be the number that was meant.
pub fn whole_number(json: &str) -> Option<u64> {
    if let Ok(number) = json.parse() {
        return Some(number);
    }
    let number = serde_json::from_str::<f64>(json).ok()?;
    let is_exact = (0.0..9_007_199_254_740_992.0).contains(&number) && number.fract() == 0.0;
    is_exact.then_some(number as u64)
}

/// The longest number, in characters: parsers bound what they turn into a whole number, Python's at
/// 4,300 digits.
const NUMBER_MAX: usize = 1000;

/// Refuses a value that parsed, but that a receiver's parser could choke on: nested deeper than
/// `max_depth`, with a number of more than 1,000 characters, or with half of a surrogate pair in a
/// string. One such value would hold up a
/// subscriber's queue for ever, because its batch could never be read.
pub fn check_portable(json: &str, max_depth: usize) -> Result<(), &'static str> {
    let mut depth = 0usize;
    // No other run of these outside of a string is longer than `false`.
    let mut number = 0usize;
    let mut bytes = json.bytes();
    while let Some(byte) = bytes.next() {
        let goes_on = matches!(byte, b'0'..=b'9' | b'.' | b'-' | b'+' | b'e' | b'E');
        number = if goes_on { number + 1 } else { 0 };
        if number > NUMBER_MAX {
            return Err("a number has more than 1000 characters");
        }
        match byte {
            b'{' | b'[' => {
                depth += 1;
                if depth > max_depth {
                    return Err("nested too deeply");
                }
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            b'"' => skip_string(&mut bytes)?,
            _ => {}
        }
    }
    Ok(())
}

/// Consumes a string's bytes up to its closing quote.
fn skip_string(bytes: &mut std::str::Bytes<'_>) -> Result<(), &'static str> {
    const LONE: Result<(), &str> = Err("a string holds half of a surrogate pair");
    let mut high_surrogate = false;
    while let Some(byte) = bytes.next() {
        let unit = match byte {
            b'\\' => match bytes.next() {
                Some(b'u') => hex_unit(bytes),
                _ => 0,
            },
            b'"' if high_surrogate => return LONE,
            b'"' => return Ok(()),
            _ => 0,
        };
        let low_surrogate = (0xdc00..0xe000).contains(&unit);
        if high_surrogate != low_surrogate {
            return LONE;
        }
        high_surrogate = (0xd800..0xdc00).contains(&unit);
    }
    Ok(())
}

fn hex_unit(bytes: &mut std::str::Bytes<'_>) -> u32 {
    let digits = bytes.by_ref().take(4).map(|byte| char::from(byte).to_digit(16).unwrap_or(0));
    digits.fold(0, |unit, digit| unit << 4 | digit)
}

/// Parses an absolute `https://` URL with a host, as it is written: what the URL standard would
/// quietly repair (a missing slash, a line break, a space) is refused.
pub fn https_url(text: &str) -> Result<Url, &'static str> {
    let scheme = text.get(..8).unwrap_or_default();
    if !scheme.eq_ignore_ascii_case("https://") {
        return Err("must start with https://");
    }
    if text.chars().any(|c| c.is_whitespace() || c.is_control() || c == '\\') {
        return Err("must not contain white space, control characters or backslashes");
    }
    if text[8..].starts_with('/') {
        return Err("must have a host");
    }
    Url::parse(text).map_err(|_| "must be a URL with a valid host")
}

/// Checks a URL as [`https_url`] does, without making one.
pub fn check_https_url(text: &str) -> Result<(), &'static str> {
    if is_plain_https_url(text) { Ok(()) } else { https_url(text).map(drop) }
}

/// Whether a URL is of the kind that nearly all are, and that takes no parser to see: a host name of
/// lower-case letters, digits, hyphens and dots that is neither an address nor punycode, perhaps
/// a port, and ASCII.
fn is_plain_https_url(text: &str) -> bool {
    const LABEL_MAX: usize = 63;
    const HOST_MAX: usize = 253;
    let Some(rest) = text.as_bytes().strip_prefix(b"https://") else { return false };
    let is_label_byte = |byte: &u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
    let mut host_length = 0;
    let mut tail = rest;
    loop {
        let length = tail.iter().take_while(|byte| is_label_byte(byte)).count();
        let (label, after) = tail.split_at(length);
        if !(1..=LABEL_MAX).contains(&length) || label.windows(2).any(|pair| pair == b"--") {
            return false;
        }
        host_length += length + 1;
        tail = after;
        match after.split_first() {
            Some((b'.', after)) => tail = after,
            // What ends like a number would have to be an address.
            _ if !label[0].is_ascii_lowercase() || host_length > HOST_MAX => return false,
            _ => break,
        }
    }
    if let Some((b':', after)) = tail.split_first() {
        let digits = after.iter().take_while(|byte| byte.is_ascii_digit()).count();
        if !(1..=4).contains(&digits) {
            return false;
        }
        tail = &after[digits..];
    }
    matches!(tail.first(), None | Some(b'/' | b'?' | b'#'))
        && tail.iter().all(|byte| byte.is_ascii_graphic() && *byte != b'\\')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_short_way_takes_nothing_that_the_parser_refuses(
            url in "https://[a-z0-9.-]{0,12}(xn--)?[a-z0-9.:@%A-Zé-]{0,8}(:[0-9]{0,6})?([/?#][ -~]{0,8})?"
        ) {
            prop_assert!(!is_plain_https_url(&url) || https_url(&url).is_ok(), "{url}");
        }
    }

    #[test]
    fn the_short_way_takes_what_is_usual() {
        for usual in [
            "https://a.example/bookings/17?x=1#y",
            "https://localhost:8443/",
            "https://a-1.b2.example",
        ] {
            assert!(is_plain_https_url(usual), "{usual}");
        }
        for unusual in
            ["https://127.0.0.1/", "https://a.0x1/", "https://xn--a.example/", "https://u@a/"]
        {
            assert!(!is_plain_https_url(unusual), "{unusual}");
        }
    }

    #[test]
    fn a_whole_number_is_one_however_it_is_written() {
        for (json, expected) in [("7", 7), ("7.0", 7), ("7e2", 700), ("-0.0", 0)] {
            assert_eq!(whole_number(json), Some(expected), "{json}");
        }
        for bad in ["-1", "7.5", "1e999", "9007199254740993.0", r#""7""#, "true", "null", "[7]"] {
            assert_eq!(whole_number(bad), None, "{bad}");
        }
    }

    #[test]
    fn depth_counts_brackets_outside_of_strings() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(check_portable(&nested(128), 128).is_ok());
        assert!(check_portable(&nested(129), 128).is_err());
        assert!(check_portable(r#"{"a":"[[[[","b":[{}]}"#, 3).is_ok());
        assert!(check_portable(r#""\"[[[[\\""#, 0).is_ok());
    }

    #[test]
    fn a_number_is_no_longer_than_parsers_read() {
        for (number, fits) in [
            ("1".repeat(1000), true),
            ("1".repeat(1001), false),
            (format!("-1.{}e+5", "0".repeat(1000)), false),
            (format!("[{0},{0}]", "7".repeat(999)), true),
            (format!("\"{}\"", "1".repeat(5000)), true),
        ] {
            assert_eq!(check_portable(&number, 8).is_ok(), fits, "{}", number.len());
        }
    }

    #[test]
    fn half_a_surrogate_pair_is_refused_and_a_whole_one_is_not() {
        for good in [r#""\ud83d\ude00""#, r#""\u00e9\n""#, r#""\\ud83d""#] {
            assert_eq!(check_portable(good, 8), Ok(()), "{good}");
        }
        for bad in [r#""\ud83d""#, r#""\ude00""#, r#""\ud83dx""#, r#""\ud83d\n""#] {
            assert!(check_portable(bad, 8).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_url_is_taken_as_written_or_not_at_all() {
        for good in ["https://a.example/1?x=%20#y", "HTTPS://A.example", "https://[::1]:8443/x"] {
            assert!(https_url(good).is_ok(), "{good}");
        }
        for bad in [
            "http://a.example",
            "https:a.example",
            "https:///a",
            "https://",
            "https://a b/",
            "https://a.example/\n",
            "https:\\\\a.example",
            "https://a:99999/",
            "ftp://a",
            "",
        ] {
            assert!(https_url(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_rejection_is_one_line_of_bounded_length() {
        let rejection = Rejection::new(format!("a\nb\u{7}{}", "c".repeat(1000))).to_string();
        assert!(rejection.starts_with("a b c"));
        assert_eq!(rejection.chars().count(), 300);
    }
}
