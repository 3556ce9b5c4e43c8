//! The original's authorisation: base64 of `H:T`, where T is a Unix time, and H the SHA-256 of `T:key` in
//! lower-case hexadecimal digits (contract §8).

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use ring::digest::{SHA256, digest};
use subtle::ConstantTimeEq;

use crate::bus::hex::hex;
use crate::config::{CallsKey, KeyWindow};

/// Whether a header's value was made with the key, at a time that counts.
pub fn is_good(value: &[u8], key: &CallsKey, window: KeyWindow, now_ms: u64) -> bool {
    let decoded = BASE64_STANDARD.decode(value.trim_ascii()).ok();
    let Some(text) = decoded.and_then(|bytes| String::from_utf8(bytes).ok()) else { return false };
    let Some((hash, time)) = text.split_once(':') else { return false };
    let expected = hex(digest(&SHA256, format!("{time}:{}", key.reveal()).as_bytes()).as_ref());
    let is_made_with_key: bool = expected.as_bytes().ct_eq(hash.as_bytes()).into();
    is_made_with_key && is_recent(time, window, now_ms)
}

fn is_recent(time: &str, window: KeyWindow, now_ms: u64) -> bool {
    match window {
        KeyWindow::Any => true,
        KeyWindow::Within(window) => {
            let time: Option<u64> = time.parse().ok();
            time.is_some_and(|time| time.abs_diff(now_ms / 1000) <= window.as_secs())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const HASH: &str = "54c15a9ea30b680ee264d34cd9688f7dc9d5e933ea2cbb4b81c8b5d3d1954533";
    const TIME: u64 = 1_482_938_098;

    fn check(text: &str, window: KeyWindow, now: u64) -> bool {
        let key = CallsKey::parse("yourauthorizationkey").unwrap();
        is_good(BASE64_STANDARD.encode(text).as_bytes(), &key, window, now * 1000)
    }

    #[test]
    fn the_known_pair_is_good() {
        assert!(check(&format!("{HASH}:{TIME}"), KeyWindow::Any, 0));
        for bad in [
            format!("{HASH}:{}", TIME + 1),
            format!("{}:{TIME}", HASH.to_uppercase()),
            format!("{HASH}{TIME}"),
            format!(":{TIME}"),
            String::new(),
        ] {
            assert!(!check(&bad, KeyWindow::Any, 0), "{bad}");
        }
        let key = CallsKey::parse("yourauthorizationkey").unwrap();
        assert!(!is_good(b"no base64!", &key, KeyWindow::Any, 0));
    }

    #[test]
    fn the_time_must_be_near_unless_any_counts() {
        let window = KeyWindow::Within(Duration::from_secs(300));
        let good = format!("{HASH}:{TIME}");
        assert!(check(&good, window, TIME + 300) && check(&good, window, TIME - 300));
        assert!(!check(&good, window, TIME + 301) && !check(&good, window, TIME - 301));
    }
}
