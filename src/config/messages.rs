//! What settings say of messages, beyond plain values.

use std::time::Duration;

use chrono::{DateTime, Utc};
use croner::Cron;
use croner::parser::CronParser;
use url::Url;

use super::parse::time_span;
use crate::bus::pubsub::is_pubsub_topic;

/// When old messages are removed.
#[derive(Clone, Debug)]
pub struct Cleaning(Cron);

impl Cleaning {
    /// Reads the five fields of a crontab.
    pub fn parse(text: &str) -> Option<Self> {
        // Seconds and years are others' additions.
        if text.split_whitespace().count() != 5 {
            return None;
        }
        let cron = CronParser::new().parse(text).ok()?;
        let cleaning = Self(cron);
        // What never comes, such as a 31st of February, is a mistake.
        cleaning.next_after(0)?;
        Some(cleaning)
    }

    /// When it is due next after a time; both in milliseconds since the epoch.
    pub fn next_after(&self, now_ms: u64) -> Option<u64> {
        let next = self.0.find_next_occurrence(&moment(now_ms)?, false).ok()?;
        u64::try_from(next.timestamp_millis()).ok()
    }

    /// When it was due last before a time; both in milliseconds since the epoch.
    pub fn last_before(&self, now_ms: u64) -> Option<u64> {
        let last = self.0.find_previous_occurrence(&moment(now_ms)?, true).ok()?;
        u64::try_from(last.timestamp_millis()).ok()
    }
}

/// A crontab knows no parts of a second.
fn moment(ms: u64) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp(i64::try_from(ms / 1000).ok()?, 0)
}

/// Seconds, as Postoffice had them, or a number with a unit.
pub fn messages_retention(text: &str) -> Option<Duration> {
    time_span(text).or_else(|| time_span(&format!("{text}s")))
}

/// A topic of Google Pub/Sub, by its name alone.
pub fn pubsub_topic(text: &str) -> Option<String> {
    is_pubsub_topic(text).then(|| text.to_owned())
}

/// Where a service is: without a path, and without user info.
pub fn endpoint(text: &str) -> Option<Url> {
    let url = Url::parse(text).ok()?;
    let is_plain = url.username().is_empty() && url.password().is_none() && url.query().is_none();
    (matches!(url.scheme(), "http" | "https") && url.has_host() && is_plain).then_some(url)
}

/// As Google's tools write it: a host with its port, without a scheme.
pub fn emulator(text: &str) -> Option<Url> {
    let url = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    endpoint(&url)
}

/// As far as it can be told without the driver, which a build may lack.
pub fn history_url(text: &str) -> Option<String> {
    let url = Url::parse(text).ok()?;
    let is_known = matches!(url.scheme(), "postgres" | "postgresql") && url.has_host();
    is_known.then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cleaning_is_when_a_crontab_says() {
        // 1970 began on a Thursday, so that its first Sunday was the 4th.
        let day_ms = 24 * 3600 * 1000;
        let noon = |day| day * day_ms + day_ms / 2;
        let sundays = Cleaning::parse("0 12 * * 0").unwrap();
        assert_eq!(sundays.next_after(0), Some(noon(3)));
        assert_eq!(sundays.next_after(noon(3)), Some(noon(10)));
        assert_eq!(sundays.last_before(noon(3)), Some(noon(3)));
        assert_eq!(sundays.last_before(noon(10) - 1), Some(noon(3)));
        let nights = Cleaning::parse("*/30 2-3 * * MON").unwrap();
        assert_eq!(nights.next_after(0), Some(4 * day_ms + 2 * 3600 * 1000));
        for wrong in ["", "0 12 * *", "0 0 12 * * 0", "61 * * * *", "0 0 31 2 *", "often a b c d"] {
            assert!(Cleaning::parse(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn endpoints_are_hosts() {
        assert_eq!(emulator("localhost:8085").unwrap().as_str(), "http://localhost:8085/");
        assert_eq!(emulator("http://[::1]:1").unwrap().as_str(), "http://[::1]:1/");
        assert_eq!(endpoint("https://pubsub.example").unwrap().host_str(), Some("pubsub.example"));
        for wrong in ["pubsub.example", "ftp://a", "https://u:p@a.example", "https://"] {
            assert!(endpoint(wrong).is_none(), "{wrong}");
        }
        assert_eq!(messages_retention("60"), Some(Duration::from_secs(60)));
        assert_eq!(messages_retention("2d"), Some(Duration::from_secs(172_800)));
        assert_eq!(messages_retention("soon"), None);
    }
}
