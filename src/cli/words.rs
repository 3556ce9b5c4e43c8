//! Numbers, times and foreign text as people read them in a terminal.

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

#[cfg(test)]
mod tests {
    use super::*;

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
