//! Numbers, times and foreign text as people read and write them in a terminal.

use crate::bus::clock::Clock;
use crate::config::parse;

/// `1 event`, `2 events`.
pub fn counted(number: u64, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

/// How long ago something was, in the one unit that says most.
pub fn age(ms: i64) -> String {
    let (before, ms) = if ms < 0 { ("in ", ms.unsigned_abs()) } else { ("", ms.unsigned_abs()) };
    let seconds = ms / 1000;
    match seconds {
        0 => format!("{before}{ms} ms"),
        1..10 => format!("{before}{seconds}.{} s", ms % 1000 / 100),
        10..120 => format!("{before}{seconds} s"),
        120..7_200 => format!("{before}{} min", seconds / 60),
        7_200..172_800 => format!("{before}{} h", seconds / 3_600),
        _ => format!("{before}{} d", seconds / 86_400),
    }
}

/// As [`age`], of what is known to the second only.
pub fn age_in_seconds(seconds: u64) -> String {
    if seconds < 10 { format!("{seconds} s") } else { age(seconds as i64 * 1000) }
}

/// What comes from elsewhere must not move the terminal's cursor.
pub fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '·' } else { c }).collect()
}

/// A number of bytes, in the largest unit that it is a whole number of: `512 MiB`, `1500 bytes`.
pub fn size(bytes: u64) -> String {
    let units = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"), (1, "bytes")];
    let fits = |(unit, _): &(u64, &str)| bytes > 0 && bytes.is_multiple_of(*unit);
    let (unit, name) = units.into_iter().find(fits).unwrap_or((1, "bytes"));
    format!("{} {name}", bytes / unit)
}

/// A time as people write it: milliseconds since 1970, or how long ago, such as `30m`, `12h` or `7d`.
///
/// # Errors
/// If it is neither.
pub fn moment(text: &str) -> Result<u64, String> {
    if let Ok(ms) = text.parse() {
        return Ok(ms);
    }
    let ago = parse::time_span(text)
        .ok_or("give milliseconds since 1970, or how long ago: 90s, 30m, 12h or 7d")?;
    Ok(Clock::system().now_ms().saturating_sub(ago.as_millis() as u64))
}

/// A time span in milliseconds, such as `30m`, `12h` or `7d`.
///
/// # Errors
/// If it is none.
pub fn span_ms(text: &str) -> Result<u64, String> {
    let span = parse::time_span(text).ok_or("give a time such as 90s, 30m, 12h or 7d")?;
    Ok(span.as_millis() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_a_time_or_how_long_ago_it_was() {
        assert_eq!(moment("1764349212345"), Ok(1_764_349_212_345));
        let (hour_ago, now) = (moment("1h").unwrap(), Clock::system().now_ms());
        assert!((3_600_000..3_660_000).contains(&(now - hour_ago)), "{hour_ago}");
        assert!(moment("yesterday").is_err() && moment("").is_err() && moment("-5").is_err());
        assert_eq!(span_ms("7d"), Ok(604_800_000));
    }

    #[test]
    fn a_size_is_told_in_the_largest_unit() {
        let sizes = [0, 1_500, 64 << 20, 1 << 30, (1 << 30) + 1_024].map(size);
        assert_eq!(sizes, ["0 bytes", "1500 bytes", "64 MiB", "1 GiB", "1048577 KiB"]);
    }

    #[test]
    fn an_age_has_one_unit() {
        for (ms, expected) in [
            (0, "0 ms"),
            (999, "999 ms"),
            (1_050, "1.0 s"),
            (59_999, "59 s"),
            (120_000, "2 min"),
            (7_200_000, "2 h"),
            (172_800_000, "2 d"),
            (-3_200, "in 3.2 s"),
        ] {
            assert_eq!(age(ms), expected);
        }
        assert_eq!((age_in_seconds(0).as_str(), age_in_seconds(3_600).as_str()), ("0 s", "60 min"));
    }
}
