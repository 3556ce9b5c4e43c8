//! Subscriptions: which topics a subscriber receives, where, and in what batches.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use serde::Deserialize;
use url::Url;
use utoipa::ToSchema;

use crate::bus::health::Health;
use crate::bus::json::{Rejection, https_url, parse_object};
use crate::bus::schema;
use crate::bus::token::ClientToken;
use crate::bus::topic::TopicName;

/// Where a subscriber's batches go: an `https://` URL without query, fragment or user info.
#[derive(Clone, PartialEq, Eq)]
pub struct CallbackUrl(Url);

impl CallbackUrl {
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let url = https_url(text)?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err("must not carry a user name or a password: use `uuid`");
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err("must not have a query string or a fragment");
        }
        Ok(Self(url))
    }

    pub fn as_url(&self) -> &Url {
        &self.0
    }

    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl fmt::Debug for CallbackUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Where and in what portions a subscriber receives.
#[derive(Clone, PartialEq, Eq)]
pub struct Delivery {
    pub callback: CallbackUrl,
    /// User name and password of the callback; a secret.
    pub uuid: Option<String>,
    /// How long the oldest event waits at most before a batch leaves.
    pub timeout: Duration,
    /// Events in a batch, at most.
    pub max: u32,
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery")
            .field("callback", &self.callback)
            .field("timeout", &self.timeout)
            .field("max", &self.max)
            .finish_non_exhaustive()
    }
}

/// What a subscriber wants dropped rather than delivered; nothing unless it says so.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// Events older than this.
    pub age: Option<Duration>,
    /// The oldest events, as long as more than this many wait.
    pub count: Option<u64>,
}

/// A whole subscription, as its subscriber asked for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    pub topics: BTreeSet<TopicName>,
    pub delivery: Delivery,
    pub retention: Retention,
}

/// A subscription as monitoring shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubscriptionStatus {
    pub subscriber: ClientToken,
    pub subscription: Subscription,
    /// Events ever acknowledged.
    pub sent: u64,
    /// Events waiting, those in flight included.
    pub queued: u64,
    /// When the oldest waiting event was accepted, in milliseconds since the epoch.
    pub oldest_ms: Option<u64>,
    /// Events ever dropped because the store ran out of room.
    pub autodropped: u64,
    /// Events ever dropped as the subscriber's retention asks for.
    pub expired: u64,
    pub health: Health,
}

/// A subscription as its subscriber writes it. What it leaves out has its default.
// The fields are those of the contract (§3); the last two are ours.
#[derive(Deserialize, ToSchema)]
#[schema(as = Subscription)]
#[serde(deny_unknown_fields)]
pub struct SubscriptionBody {
    /// Exactly these: earlier ones that are not listed are unsubscribed, and their queued events
    /// stay.
    #[schema(value_type = Vec<TopicName>)]
    topics: Vec<String>,
    #[schema(schema_with = schema::callback)]
    callback: String,
    #[serde(default, deserialize_with = "present")]
    #[schema(schema_with = schema::uuid)]
    uuid: Option<String>,
    #[serde(default = "default_timeout_ms")]
    #[schema(schema_with = schema::timeout)]
    timeout: u64,
    #[serde(default = "default_max")]
    #[schema(schema_with = schema::max)]
    max: u32,
    #[serde(default, deserialize_with = "present")]
    #[schema(schema_with = schema::retention)]
    retention: Option<u64>,
    #[serde(default, deserialize_with = "present")]
    #[schema(schema_with = schema::max_queued)]
    max_queued: Option<u64>,
}

/// The longest `timeout` and the largest `max`.
pub const TIMEOUT_MAX_MS: u64 = 3_600_000;
pub const BATCH_MAX: u32 = 10_000;
/// Retention is looked after every second. At most a year.
pub(super) const RETENTION_MS: RangeInclusive<u64> = 1_000..=31_536_000_000;
pub(super) const MAX_QUEUED: RangeInclusive<u64> = 1..=1_000_000_000;

pub(super) fn default_timeout_ms() -> u64 {
    500
}

pub(super) fn default_max() -> u32 {
    100
}

/// A field that may be left out, but not be `null`.
fn present<'de, T: Deserialize<'de>, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

impl Subscription {
    /// Parses the body of `POST /subscription`. What it leaves out has its default.
    pub fn parse(body: &[u8], topic_name_max: usize) -> Result<Self, Rejection> {
        let body: SubscriptionBody = parse_object(body)?;
        let callback = CallbackUrl::parse(&body.callback)
            .map_err(|reason| Rejection::new(format!("`callback` {reason}")))?;
        if body.timeout > TIMEOUT_MAX_MS {
            let reason = format!("`timeout` must be 0 to {TIMEOUT_MAX_MS} milliseconds");
            return Err(Rejection::new(reason));
        }
        if !(1..=BATCH_MAX).contains(&body.max) {
            return Err(Rejection::new(format!("`max` must be 1 to {BATCH_MAX} events")));
        }
        if body.uuid.as_deref().is_some_and(|uuid| uuid.chars().any(char::is_control)) {
            return Err(Rejection::new("`uuid` must not contain control characters"));
        }
        let retention = body.retention()?;
        let names = body.topics.iter().map(|name| TopicName::parse(name, topic_name_max));
        let topics = names.collect::<Result<_, _>>();
        let topics = topics.map_err(|reason| Rejection::new(format!("`topics`: {reason}")))?;
        let delivery = Delivery {
            callback,
            uuid: body.uuid,
            timeout: Duration::from_millis(body.timeout),
            max: body.max,
        };
        Ok(Self { topics, delivery, retention })
    }
}

impl SubscriptionBody {
    fn retention(&self) -> Result<Retention, Rejection> {
        let (shortest, longest) = (RETENTION_MS.start(), RETENTION_MS.end());
        if self.retention.is_some_and(|ms| !RETENTION_MS.contains(&ms) || ms <= self.timeout) {
            return Err(Rejection::new(format!(
                "`retention` must be {shortest} to {longest} milliseconds, and more than `timeout`"
            )));
        }
        if self.max_queued.is_some_and(|count| !MAX_QUEUED.contains(&count)) {
            let (least, most) = (MAX_QUEUED.start(), MAX_QUEUED.end());
            return Err(Rejection::new(format!("`max_queued` must be {least} to {most} events")));
        }
        Ok(Retention { age: self.retention.map(Duration::from_millis), count: self.max_queued })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(body: &str) -> Result<Subscription, Rejection> {
        Subscription::parse(body.as_bytes(), 32)
    }

    #[test]
    fn what_is_left_out_has_its_default() {
        let parsed = parse(r#"{"topics":["b","a","b"],"callback":"https://a.example/cb"}"#);
        let Subscription { topics, delivery, retention } = parsed.unwrap();
        assert_eq!(retention, Retention::default());
        assert_eq!(topics.iter().map(TopicName::as_str).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(delivery.timeout, Duration::from_millis(500));
        assert_eq!((delivery.max, delivery.uuid), (100, None));
    }

    #[test]
    fn every_bad_body_gets_a_reason_that_names_the_field() {
        for (fields, expected) in [
            (r#""topics":[],"callback":"http://a.example""#, "`callback` must start with https://"),
            (r#""topics":[],"callback":"https://a.example?x=1""#, "query"),
            (r#""topics":[],"callback":"https://a.example#x""#, "fragment"),
            (r#""topics":[],"callback":"https://u:p@a.example""#, "user name"),
            (r#""topics":[],"callback":"https:///x""#, "host"),
            (r#""topics":[]"#, "missing field `callback`"),
            (r#""callback":"https://a.example""#, "missing field `topics`"),
            (r#""topics":"a","callback":"https://a.example""#, "expected a sequence"),
            (r#""topics":["A"],"callback":"https://a.example""#, "`A` is not a topic name"),
            (r#""topics":[1],"callback":"https://a.example""#, "expected a string"),
            (r#""topics":[],"callback":"https://a.example","timeout":3600001"#, "`timeout`"),
            (r#""topics":[],"callback":"https://a.example","timeout":-1"#, "-1"),
            (r#""topics":[],"callback":"https://a.example","timeout":"1""#, "string"),
            (r#""topics":[],"callback":"https://a.example","max":0"#, "`max`"),
            (r#""topics":[],"callback":"https://a.example","max":10001"#, "`max`"),
            (r#""topics":[],"callback":"https://a.example","max":1.0"#, "1.0"),
            (r#""topics":[],"callback":"https://a.example","retention":999"#, "`retention`"),
            (
                r#""topics":[],"callback":"https://a.example","retention":31536000001"#,
                "`retention`",
            ),
            (
                r#""topics":[],"callback":"https://a.example","timeout":5000,"retention":5000"#,
                "`timeout`",
            ),
            (r#""topics":[],"callback":"https://a.example","retention":null"#, "null"),
            (r#""topics":[],"callback":"https://a.example","max_queued":0"#, "`max_queued`"),
            (r#""topics":[],"callback":"https://a.example","max_queued":1.5"#, "1.5"),
            (r#""topics":[],"callback":"https://a.example","uuid":7"#, "expected a string"),
            (r#""topics":[],"callback":"https://a.example","uuid":null"#, "expected a string"),
            (r#""topics":[],"callback":"https://a.example","more":7"#, "unknown field `more`"),
        ] {
            let reason = parse(&format!("{{{fields}}}")).expect_err(fields).to_string();
            assert!(reason.contains(expected), "{fields} was refused with: {reason}");
        }
    }

    #[test]
    fn the_limits_are_inclusive() {
        for fields in [
            r#""timeout":0,"max":1,"retention":1000,"max_queued":1"#,
            r#""timeout":3600000,"max":10000,"retention":31536000000,"max_queued":1000000000"#,
        ] {
            let body = format!(r#"{{"topics":[],"callback":"https://a.example",{fields}}}"#);
            assert!(parse(&body).is_ok(), "{fields}");
        }
    }

    #[test]
    fn a_uuid_is_never_printed() {
        let body = r#"{"topics":[],"callback":"https://a.example","uuid":"s3cr3t"}"#;
        assert!(!format!("{:?}", parse(body).unwrap()).contains("s3cr3t"));
    }
}
