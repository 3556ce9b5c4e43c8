//! Subscriptions: which topics a subscriber receives, where, and in what batches.

pub mod options;

use std::collections::BTreeSet;
use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use serde::Deserialize;
use url::Url;

use crate::bus::attempt::FailedAttempt;
use crate::bus::batch::BatchId;
use crate::bus::health::Health;
use crate::bus::json::{Rejection, https_url, parse_object};
use crate::bus::pause::Pause;
use crate::bus::pubsub::{PUBSUB_TOPIC_RULE, is_pubsub_topic};
use crate::bus::token::ClientToken;
use crate::bus::topic::TopicName;
use options::{
    BatchFormat, DeliveryOptions, OptionsRequest, format_change, on_refusal_change, order_change,
    secret_change,
};

/// Where a subscriber's batches go: an `https://` URL without query, fragment or user info.
#[derive(Clone, PartialEq, Eq)]
pub struct CallbackUrl(Url);

impl CallbackUrl {
    /// What a fragment and user info say is dropped: neither is part of the place.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        Self::parse_with_user(text).map(|(url, _)| url)
    }

    /// As [`CallbackUrl::parse`], with the user name that stood in the URL: the original's command
    /// line demands one there, and means the `uuid` by it (contract §3).
    pub fn parse_with_user(text: &str) -> Result<(Self, Option<String>), &'static str> {
        let mut url = https_url(text)?;
        if url.query().is_some() {
            return Err("must not have a query string");
        }
        let user = percent_decode_str(url.username()).decode_utf8();
        let user = user.map_err(|_| "must have a user name of UTF-8, or none")?.into_owned();
        if !can_be_asked(&url) {
            return Err("has a host or a port that no request can be sent to");
        }
        url.set_fragment(None);
        let has_no_user = url.set_username("").and_then(|()| url.set_password(None));
        has_no_user.map_err(|()| "must have a host")?;
        Ok((Self(url), (!user.is_empty()).then_some(user)))
    }

    /// Takes a callback that was checked before it was stored. One that an older version took and that
    /// is none any more becomes a place that nothing can be delivered to, so that it holds up its own
    /// subscriber and nobody else.
    pub(crate) fn from_stored(text: &str) -> Self {
        let unusable =
            || Self(Url::parse(UNUSABLE).unwrap_or_else(|_| unreachable!("it is a URL")));
        Self::parse(text).unwrap_or_else(|_| unusable())
    }

    /// Whether what was stored is no callback.
    pub fn is_unusable(&self) -> bool {
        self.0.as_str() == UNUSABLE
    }

    pub fn as_url(&self) -> &Url {
        &self.0
    }

    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

/// Whether a request can be sent to this place: names have at most 253 characters in parts of 1 to 63
/// (RFC 1035), and 0 is no port.
fn can_be_asked(url: &Url) -> bool {
    let is_name = |name: &str| {
        let name = name.strip_suffix('.').unwrap_or(name);
        name.len() <= 253 && name.split('.').all(|part| (1..=63).contains(&part.len()))
    };
    url.port() != Some(0)
        && url.domain().is_none_or(is_name)
        && url.as_str().parse::<http::Uri>().is_ok()
}

/// No name is ever in this domain (RFC 2606).
const UNUSABLE: &str = "https://unusable.invalid/";

impl fmt::Debug for CallbackUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Where a subscriber's events go.
#[derive(Clone, PartialEq, Eq)]
pub enum Target {
    /// In batches.
    Callback(CallbackUrl),
    /// One by one into a topic of Google Pub/Sub, of the project that the settings name.
    PubSub(Arc<str>),
    /// Nowhere: the subscriber asks for its batches.
    Pull,
}

/// What a Pub/Sub topic is kept and shown with; no URL's scheme.
const PUBSUB: &str = "pubsub:";
/// What a target that is no place is kept and shown with.
pub(crate) const PULL: &str = "pull:";

impl Target {
    /// Takes a target that was checked before it was stored; see [`CallbackUrl::from_stored`].
    pub(crate) fn from_stored(text: &str) -> Self {
        match text.strip_prefix(PUBSUB) {
            Some(topic) => Self::PubSub(topic.into()),
            None if text == PULL => Self::Pull,
            None => Self::Callback(CallbackUrl::from_stored(text)),
        }
    }

    pub fn callback(&self) -> Option<&CallbackUrl> {
        match self {
            Self::Callback(callback) => Some(callback),
            Self::PubSub(_) | Self::Pull => None,
        }
    }

    pub fn pubsub(&self) -> Option<&str> {
        match self {
            Self::Callback(_) | Self::Pull => None,
            Self::PubSub(topic) => Some(topic),
        }
    }

    pub fn is_pull(&self) -> bool {
        *self == Self::Pull
    }
}

/// As it is stored, and shown: a URL, `pubsub:` and the topic, or `pull:`.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Callback(callback) => f.write_str(callback.as_str()),
            Self::PubSub(topic) => write!(f, "{PUBSUB}{topic}"),
            Self::Pull => f.write_str(PULL),
        }
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Where and in what portions a subscriber receives.
#[derive(Clone, PartialEq, Eq)]
pub struct Terms {
    pub target: Target,
    /// User name and password of the callback; a secret.
    pub uuid: Option<String>,
    /// How long the oldest event waits at most before a batch leaves.
    pub timeout: Duration,
    /// Events in a batch, at most.
    pub max: u32,
}

impl fmt::Debug for Terms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Terms")
            .field("target", &self.target)
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

/// A whole subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    pub topics: BTreeSet<TopicName>,
    pub terms: Terms,
    pub retention: Retention,
    pub options: DeliveryOptions,
}

/// What a subscriber asks for. The original's fields are its whole subscription; what the original
/// does not have is changed only if it is named (contract §3), because an old client that subscribes
/// again at each start knows nothing of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubscriptionRequest {
    pub topics: BTreeSet<TopicName>,
    pub terms: Terms,
    pub retention: RetentionRequest,
    pub options: OptionsRequest,
    /// When a new subscription begins, if not now: in milliseconds since the epoch.
    pub since_ms: Option<u64>,
}

/// What a subscriber asks for of its [`Retention`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RetentionRequest {
    pub age: Change<Duration>,
    pub count: Change<u64>,
}

impl RetentionRequest {
    /// What the retention is from now on.
    pub fn apply(self, Retention { age, count }: Retention) -> Retention {
        Retention { age: self.age.apply(age), count: self.count.apply(count) }
    }
}

/// What becomes of a value that may be set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Change<T> {
    /// It stays as it is.
    #[default]
    Keep,
    Clear,
    Set(T),
}

impl<T> Change<T> {
    /// The new value in place of this one.
    pub fn apply(self, value: Option<T>) -> Option<T> {
        match self {
            Self::Keep => value,
            Self::Clear => None,
            Self::Set(new) => Some(new),
        }
    }
}

/// Everything of a subscription is asked for.
impl From<Subscription> for SubscriptionRequest {
    fn from(Subscription { topics, terms, retention, options }: Subscription) -> Self {
        let retention = RetentionRequest {
            age: retention.age.map_or(Change::Clear, Change::Set),
            count: retention.count.map_or(Change::Clear, Change::Set),
        };
        Self { topics, terms, retention, options: options.into(), since_ms: None }
    }
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
    /// The last failure of the batch at the head of the queue, while it waits to be sent again.
    pub last_failure: Option<FailedAttempt>,
    /// That nothing is sent for now.
    pub pause: Option<Pause>,
    pub progress: Progress,
}

/// How far a subscriber's delivery has come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// The batch that was given out and is not acknowledged.
    pub batch: Option<OpenBatch>,
    /// When the next attempt is made, in milliseconds since the epoch; `None` while one is on its way, and while
    /// nothing waits.
    pub next_ms: Option<u64>,
}

/// A batch that was given out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenBatch {
    pub id: BatchId,
    /// How many events it has.
    pub events: u64,
    /// How many attempts at it have begun.
    pub attempts: u32,
    /// Whether one of them is on its way just now.
    pub is_in_flight: bool,
}

/// A subscription as its subscriber writes it.
// The fields are those of the contract (§3). `api/openapi/schemas.rs` describes them.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SubscriptionBody {
    topics: Vec<String>,
    callback: Option<String>,
    pubsub: Option<String>,
    pull: Option<bool>,
    uuid: Option<String>,
    timeout: Option<u64>,
    max: Option<u32>,
    retention: Option<u64>,
    max_queued: Option<u64>,
    secret: Option<serde_json::Value>,
    format: Option<String>,
    on_refusal: Option<serde_json::Value>,
    order: Option<String>,
    parallel: Option<u32>,
    since: Option<u64>,
}

/// The longest `timeout` and the largest `max`.
pub const TIMEOUT_MAX_MS: u64 = 3_600_000;
pub const BATCH_MAX: u32 = 10_000;
pub const TIMEOUT_DEFAULT_MS: u64 = 500;
pub const BATCH_DEFAULT: u32 = 100;
/// The longest `callback` and `uuid`, in characters: they are kept, and a line of the log has them.
pub const CALLBACK_MAX: usize = 2048;
pub const UUID_MAX: usize = 256;
/// The most `topics`.
pub const TOPICS_MAX: usize = 1000;
/// Retention is looked after every second. At most a year.
pub const RETENTION_MS: RangeInclusive<u64> = 1_000..=31_536_000_000;
pub const MAX_QUEUED: RangeInclusive<u64> = 1..=1_000_000_000;

impl SubscriptionRequest {
    /// Parses the body of `POST /subscription`.
    pub fn parse(body: &[u8], topic_name_max: usize) -> Result<Self, Rejection> {
        let body: SubscriptionBody = parse_object(body)?;
        let (target, user) = body.target()?;
        // Who asks for its batches does not wait for company.
        let default = if target.is_pull() { 0 } else { TIMEOUT_DEFAULT_MS };
        let timeout = body.timeout.unwrap_or(default);
        if timeout > TIMEOUT_MAX_MS {
            let reason = format!("`timeout` must be 0 to {TIMEOUT_MAX_MS} milliseconds");
            return Err(Rejection::new(reason));
        }
        let max = body.max.unwrap_or(BATCH_DEFAULT);
        if !(1..=BATCH_MAX).contains(&max) {
            return Err(Rejection::new(format!("`max` must be 1 to {BATCH_MAX} events")));
        }
        let retention = body.retention(timeout)?;
        let mut parallel = order_change(body.order.as_deref(), body.parallel)?;
        if !matches!(target, Target::Callback(_)) {
            if matches!(parallel, Change::Set(_)) {
                return Err(Rejection::new("`order` \"entity\" needs a `callback`"));
            }
            parallel = Change::Clear;
        }
        let options = OptionsRequest {
            parallel,
            secrets: secret_change(body.secret)?,
            format: format_change(body.format.as_deref())?,
            refusals_max: on_refusal_change(body.on_refusal.as_ref())?,
        };
        if matches!(
            (&target, &options.format),
            (Target::PubSub(_), Change::Set(BatchFormat::CloudEvents))
        ) {
            return Err(Rejection::new("`format` and `pubsub` exclude each other"));
        }
        let uuid = body.uuid.or(user);
        if uuid.as_deref().is_some_and(|uuid| uuid.chars().any(char::is_control)) {
            return Err(Rejection::new("`uuid` must not contain control characters"));
        }
        if uuid.as_deref().is_some_and(|uuid| uuid.chars().count() > UUID_MAX) {
            return Err(Rejection::new(format!("`uuid` is longer than {UUID_MAX} characters")));
        }
        if body.topics.len() > TOPICS_MAX {
            return Err(Rejection::new(format!("`topics` has more than {TOPICS_MAX} names")));
        }
        let names = body.topics.iter().map(|name| TopicName::parse(name, topic_name_max));
        let topics = names.collect::<Result<_, _>>();
        let topics = topics.map_err(|reason| Rejection::new(format!("`topics`: {reason}")))?;
        let timeout = Duration::from_millis(timeout);
        Ok(Self {
            topics,
            terms: Terms { target, uuid, timeout, max },
            retention,
            options,
            since_ms: body.since,
        })
    }
}

impl SubscriptionBody {
    /// Where to, and a user name that stood in it.
    fn target(&self) -> Result<(Target, Option<String>), Rejection> {
        // An empty text clears what can be cleared, and so is none.
        let pubsub = self.pubsub.as_deref().filter(|topic| !topic.is_empty());
        let is_pull = self.pull == Some(true);
        let targets = [self.callback.is_some(), pubsub.is_some(), is_pull];
        if targets.iter().filter(|is_there| **is_there).count() > 1 {
            return Err(Rejection::new("`callback`, `pubsub` and `pull` exclude each other"));
        }
        match (&self.callback, pubsub) {
            (None, None) if is_pull => Ok((Target::Pull, None)),
            (None, None) => Err(Rejection::new("missing field `callback`")),
            (None, Some(topic)) if is_pubsub_topic(topic) => {
                Ok((Target::PubSub(topic.into()), None))
            }
            (None, Some(_)) => Err(Rejection::new(format_args!("`pubsub` {PUBSUB_TOPIC_RULE}"))),
            (Some(text), _) => {
                let (callback, user) = CallbackUrl::parse_with_user(text)
                    .map_err(|reason| Rejection::new(format!("`callback` {reason}")))?;
                // As it was written, and as it is kept: what has to be escaped grows.
                let written = text.chars().count();
                if written > CALLBACK_MAX || callback.as_str().len() > CALLBACK_MAX {
                    let reason = format!("`callback` is longer than {CALLBACK_MAX} characters");
                    return Err(Rejection::new(reason));
                }
                Ok((Target::Callback(callback), user))
            }
        }
    }

    fn retention(&self, timeout_ms: u64) -> Result<RetentionRequest, Rejection> {
        let age = change(self.retention, |ms| {
            let (shortest, longest) = (RETENTION_MS.start(), RETENTION_MS.end());
            let fits = RETENTION_MS.contains(&ms) && ms > timeout_ms;
            fits.then(|| Duration::from_millis(ms)).ok_or_else(|| {
                Rejection::new(format!(
                    "`retention` must be {shortest} to {longest} milliseconds and more than \
                     `timeout`, or 0 for none"
                ))
            })
        })?;
        let count = change(self.max_queued, |count| {
            let (least, most) = (MAX_QUEUED.start(), MAX_QUEUED.end());
            MAX_QUEUED.contains(&count).then_some(count).ok_or_else(|| {
                Rejection::new(format!(
                    "`max_queued` must be {least} to {most} events, or 0 for no limit"
                ))
            })
        })?;
        Ok(RetentionRequest { age, count })
    }
}

/// What a field asks for that keeps its value when it is left out, and is cleared by 0.
fn change<T>(
    field: Option<u64>,
    check: impl FnOnce(u64) -> Result<T, Rejection>,
) -> Result<Change<T>, Rejection> {
    match field {
        None => Ok(Change::Keep),
        Some(0) => Ok(Change::Clear),
        Some(number) => check(number).map(Change::Set),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(body: &str) -> Result<SubscriptionRequest, Rejection> {
        SubscriptionRequest::parse(body.as_bytes(), 32)
    }

    #[test]
    fn what_is_left_out_or_null_has_its_default_and_what_is_ours_stays() {
        for more in
            ["", r#","uuid":null,"timeout":null,"max":null,"retention":null,"max_queued":null"#]
        {
            let body =
                format!(r#"{{"topics":["b","a","b"],"callback":"https://a.example/cb"{more}}}"#);
            let SubscriptionRequest { topics, terms, retention, options, since_ms } =
                parse(&body).unwrap();
            assert_eq!(retention, RetentionRequest { age: Change::Keep, count: Change::Keep });
            assert_eq!((options, since_ms), (OptionsRequest::default(), None));
            assert_eq!(topics.iter().map(TopicName::as_str).collect::<Vec<_>>(), ["a", "b"]);
            assert_eq!(terms.timeout, Duration::from_millis(500));
            assert_eq!((terms.max, terms.uuid), (100, None));
        }
    }

    #[test]
    fn zero_clears_what_is_ours() {
        let body = r#"{"topics":[],"callback":"https://a.example","retention":0,"max_queued":0}"#;
        let cleared = RetentionRequest { age: Change::Clear, count: Change::Clear };
        assert_eq!(parse(body).unwrap().retention, cleared);
    }

    #[test]
    fn user_info_and_a_fragment_are_no_part_of_a_callback() {
        for (callback, uuid, expected) in [
            ("https://demo@a.example/cb", "", Some("demo")),
            ("https://demo:pass@a.example/cb#there?", "", Some("demo")),
            ("https://d%40mo@a.example/cb", "", Some("d@mo")),
            ("https://demo@a.example/cb", r#","uuid":"own""#, Some("own")),
            ("https://:pass@a.example/cb", "", None),
            ("https://a.example/cb#there", "", None),
        ] {
            let body = format!(r#"{{"topics":[],"callback":"{callback}"{uuid}}}"#);
            let terms = parse(&body).expect(callback).terms;
            assert_eq!(terms.target.to_string(), "https://a.example/cb", "{callback}");
            assert_eq!(terms.uuid.as_deref(), expected, "{callback}");
        }
    }

    #[test]
    fn every_bad_body_gets_a_reason_that_names_the_field() {
        for (fields, expected) in [
            (r#""topics":[],"callback":"http://a.example""#, "`callback` must start with https://"),
            (r#""topics":[],"callback":"https://a.example?x=1""#, "query"),
            (r#""topics":[],"callback":"https://u%ff@a.example""#, "user name"),
            (r#""topics":[],"callback":"https://u%0a@a.example""#, "`uuid`"),
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
            (r#""topics":[],"callback":"https://a.example","max_queued":1.5"#, "1.5"),
            (
                r#""topics":[],"callback":"https://a.example","max_queued":1000000001"#,
                "`max_queued`",
            ),
            (r#""topics":[],"callback":"https://a.example","uuid":7"#, "expected a string"),
            (r#""topics":[],"callback":"https://a.example","more":7"#, "unknown field `more`"),
        ] {
            let reason = parse(&format!("{{{fields}}}")).expect_err(fields).to_string();
            assert!(reason.contains(expected), "{fields} was refused with: {reason}");
        }
    }

    #[test]
    fn what_is_kept_of_a_subscriber_has_a_length() {
        let long = |field: &str, length: usize| match field {
            "callback" => {
                let path = "a".repeat(length - "https://a.example/".len());
                format!(r#"{{"topics":[],"callback":"https://a.example/{path}"}}"#)
            }
            "uuid" => {
                let uuid = "\u{e9}".repeat(length);
                format!(r#"{{"topics":[],"callback":"https://a.example","uuid":"{uuid}"}}"#)
            }
            _ => {
                let names = vec![r#""widgets""#; length].join(",");
                format!(r#"{{"topics":[{names}],"callback":"https://a.example"}}"#)
            }
        };
        for (field, longest) in [("callback", 2048), ("uuid", 256), ("topics", 1000)] {
            assert!(parse(&long(field, longest)).is_ok(), "{field}");
            let reason = parse(&long(field, longest + 1)).expect_err(field).to_string();
            assert!(reason.contains(field) && reason.contains(&longest.to_string()), "{reason}");
        }
    }

    #[test]
    fn a_place_that_no_request_can_be_sent_to_is_no_callback() {
        let label = "a".repeat(63);
        let name = [label.as_str(); 4].join(".");
        for good in
            ["127.0.0.1", "[::1]:8443", "a_b.example.", "xn--bcher-kva.example", &name[..253]]
        {
            assert!(CallbackUrl::parse(&format!("https://{good}/a|b{{c}}\"")).is_ok(), "{good}");
        }
        let long = format!("{label}a.example");
        for bad in ["a\"b.example", "a{b.example", "a..example", "a.example:0", &long, &name] {
            assert!(CallbackUrl::parse(&format!("https://{bad}/")).is_err(), "{bad}");
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
