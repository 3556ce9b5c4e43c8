//! Events: how a publisher writes them, and how subscribers receive them.

use std::borrow::Cow;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::bus::item::Item;
use crate::bus::json::{
    self, Rejection, check_https_url, check_portable, parse_object, whole_number,
};
use crate::bus::topic::TopicName;

/// How many events one request may publish: what a store can copy to many subscribers in one go.
pub const EVENTS_MAX: usize = 10_000;
/// The longest `url`, in characters.
pub const URL_MAX: usize = 1024;
/// The deepest nesting of `data` that can be allowed: with the array and the event around it, Ruby's
/// parser still reads a batch, which stops at 100.
pub const DATA_DEPTH_MAX: usize = 96;

/// How much `data` an event may have.
#[derive(Clone, Copy, Debug)]
pub struct DataLimits {
    /// Of JSON.
    pub bytes: usize,
    /// Levels of arrays and objects in each other, at most [`DATA_DEPTH_MAX`].
    pub depth: usize,
}

/// What happened to the thing an event tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventType {
    Create,
    Update,
    Delete,
    Noop,
}

impl EventType {
    pub const ALL: [Self; 4] = [Self::Create, Self::Update, Self::Delete, Self::Noop];

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::Noop => "noop",
        }
    }
}

/// An event, checked. Borrows from where it was read.
#[derive(Debug)]
pub struct Event<'a> {
    kind: EventType,
    url: Cow<'a, str>,
    /// Milliseconds since the epoch, if the publisher gave a time.
    timestamp: Option<u64>,
    /// Any JSON, as it was written: no digit of a number is lost on the way.
    data: Option<&'a RawValue>,
}

/// An event as its publisher writes it.
// The fields are those of the contract (§2). `api/openapi/schemas.rs` describes them.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PublishedEvent<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    url: Cow<'a, str>,
    #[serde(default, deserialize_with = "timestamp")]
    timestamp: Option<u64>,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
    /// The topic of the path, which a Go client of the original repeats here. It has no effect.
    #[serde(borrow, default)]
    topic: Option<Cow<'a, str>>,
}

/// Clients of the original send `null` for no time, and a whole number with decimals for one.
fn timestamp<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let written: Option<&RawValue> = Deserialize::deserialize(deserializer)?;
    let Some(text) = written.map(RawValue::get) else { return Ok(None) };
    whole_number(text).filter(|ms| i64::try_from(*ms).is_ok()).map(Some).ok_or_else(|| {
        serde::de::Error::custom("`timestamp` must be a whole number of milliseconds, from 0")
    })
}

/// Parses the body of a publish: one event, or an array of them, all of which must be good.
///
/// Returns the items to store, in the order of the body. `now_ms` becomes the time of the events
/// that carry none.
pub fn parse_publish(
    body: &[u8],
    topic: &TopicName,
    now_ms: u64,
    limits: DataLimits,
) -> Result<Vec<Item>, Rejection> {
    let item = |json: &[u8]| Ok(Event::parse(json, topic, limits)?.encode(topic, now_ms));
    if json::first_byte(body) != Some(b'[') {
        return Ok(vec![item(body)?]);
    }
    let events: Vec<&RawValue> = serde_json::from_slice(body).map_err(Rejection::new)?;
    if events.is_empty() {
        return Err(Rejection::new("the array is empty: there is nothing to publish"));
    }
    if events.len() > EVENTS_MAX {
        return Err(Rejection::new(format!("more than {EVENTS_MAX} events in one array")));
    }
    let numbered = events.iter().enumerate().map(|(index, event)| {
        let at_index = |reason: Rejection| Rejection::new(format!("event {index}: {reason}"));
        item(event.get().as_bytes()).map_err(at_index)
    });
    numbered.collect()
}

impl<'a> Event<'a> {
    fn parse(json: &'a [u8], topic: &TopicName, limits: DataLimits) -> Result<Self, Rejection> {
        let body: PublishedEvent<'a> = parse_object(json)?;
        let repeated = body.topic.as_deref().unwrap_or_default();
        if !repeated.is_empty() && repeated != topic.as_str() {
            return Err(Rejection::new("`topic` is not the topic of the path: leave it out"));
        }
        Self::new(&body.kind, body.url, body.timestamp, body.data, limits)
    }

    /// Checks the parts of an event, however they came.
    pub fn new(
        kind: &str,
        url: Cow<'a, str>,
        timestamp: Option<u64>,
        data: Option<&'a RawValue>,
        limits: DataLimits,
    ) -> Result<Self, Rejection> {
        let kind = EventType::parse(kind)
            .ok_or_else(|| Rejection::new("`type` must be create, update, delete or noop"))?;
        if url.len() > URL_MAX && url.chars().count() > URL_MAX {
            return Err(Rejection::new(format!("`url` is longer than {URL_MAX} characters")));
        }
        check_https_url(&url).map_err(|reason| Rejection::new(format!("`url` {reason}")))?;
        if let Some(data) = data {
            if data.get().len() > limits.bytes {
                let bytes = limits.bytes;
                return Err(Rejection::new(format!("`data` is larger than {bytes} bytes")));
            }
            check_portable(data.get(), limits.depth)
                .map_err(|reason| Rejection::new(format!("`data` is refused: {reason}")))?;
        }
        Ok(Event { kind, url, timestamp, data })
    }

    /// Writes the event as subscribers receive it: `{"topic","type","url","t","data"?}`.
    pub fn encode(&self, topic: &TopicName, now_ms: u64) -> Item {
        let data = self.data.map(RawValue::get);
        let mut json = Vec::with_capacity(80 + self.url.len() + data.map_or(0, str::len));
        json.extend_from_slice(b"{\"topic\":\"");
        json.extend_from_slice(topic.as_str().as_bytes());
        json.extend_from_slice(b"\",\"type\":\"");
        json.extend_from_slice(self.kind.as_str().as_bytes());
        json.extend_from_slice(b"\",\"url\":\"");
        // A URL that passed `https_url` holds no control character and no backslash, so the
        // quotation mark is all that JSON asks to be escaped.
        for (index, part) in self.url.split('"').enumerate() {
            if index > 0 {
                json.extend_from_slice(b"\\\"");
            }
            json.extend_from_slice(part.as_bytes());
        }
        json.extend_from_slice(b"\",\"t\":");
        json.extend_from_slice(self.timestamp.unwrap_or(now_ms).to_string().as_bytes());
        if let Some(data) = data {
            json.extend_from_slice(b",\"data\":");
            json.extend_from_slice(data.as_bytes());
        }
        json.push(b'}');
        Bytes::from(json)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(body: &str) -> Result<Vec<Item>, Rejection> {
        let topic = TopicName::parse("widgets", 32).unwrap();
        parse_publish(
            body.as_bytes(),
            &topic,
            1_700_000_000_000,
            DataLimits { bytes: 64, depth: 60 },
        )
    }

    fn reason(body: &str) -> String {
        parse(body).expect_err(body).to_string()
    }

    #[test]
    fn an_event_leaves_as_the_contract_writes_it() {
        let items = parse(
            r#"{"url":"https://a.example/\"1\"","type":"create","data":{"n":1.50, "big":18446744073709551617000}}"#,
        );
        assert_eq!(
            items.unwrap(),
            [
                r#"{"topic":"widgets","type":"create","url":"https://a.example/\"1\"","t":1700000000000,"data":{"n":1.50, "big":18446744073709551617000}}"#
            ]
        );
        let items = parse(r#"{"type":"noop","url":"https://a.example","timestamp":7,"data":null}"#);
        assert_eq!(
            items.unwrap(),
            [r#"{"topic":"widgets","type":"noop","url":"https://a.example","t":7}"#]
        );
    }

    #[test]
    fn what_clients_of_the_original_send_is_taken() {
        for (timestamp, expected) in [
            ("null", 1_700_000_000_000u64),
            ("1764272000000.0", 1_764_272_000_000),
            ("1.764272e12", 1_764_272_000_000),
            ("0", 0),
            (r#"7,"topic":"widgets""#, 7),
            (r#"7,"topic":"""#, 7),
            (r#"7,"topic":null"#, 7),
            ("9223372036854775807", 9_223_372_036_854_775_807),
        ] {
            let body =
                format!(r#"{{"type":"noop","url":"https://a.example","timestamp":{timestamp}}}"#);
            let item = &parse(&body).expect(timestamp)[0];
            assert!(item.ends_with(format!(r#""t":{expected}}}"#).as_bytes()), "{item:?}");
        }
    }

    #[test]
    fn every_bad_body_gets_a_reason_that_names_the_trouble() {
        for (body, expected) in [
            ("", "empty"),
            ("  ", "empty"),
            ("{", "EOF"),
            ("7", "JSON object"),
            ("nope", "expected"),
            ("[]", "empty"),
            (r#"[["create","https://a.example"]]"#, "event 0: a JSON object"),
            (r#"{"type":"create"}"#, "missing field `url`"),
            (r#"{"url":"https://a.example"}"#, "missing field `type`"),
            (r#"{"type":"create","type":"update","url":"https://a.example"}"#, "duplicate"),
            (r#"{"type":"create","url":"https://a.example","extra":1}"#, "unknown field `extra`"),
            (r#"{"type":"created","url":"https://a.example"}"#, "`type` must be"),
            (r#"{"type":"create","url":"https://a.example","topic":"gadgets"}"#, "`topic` is not"),
            (r#"{"type":"create","url":"http://a.example"}"#, "`url` must start with https://"),
            (r#"{"type":"create","url":17}"#, "invalid type"),
            (r#"{"type":"create","url":"https://a.example","timestamp":-1}"#, "`timestamp`"),
            (r#"{"type":"create","url":"https://a.example","timestamp":1.5}"#, "`timestamp`"),
            (r#"{"type":"create","url":"https://a.example","timestamp":"1"}"#, "`timestamp`"),
            (r#"{"type":"create","url":"https://a.example","timestamp":1e999}"#, "`timestamp`"),
            (
                r#"{"type":"create","url":"https://a.example","timestamp":18446744073709551616}"#,
                "`timestamp`",
            ),
            (r#"{"type":"create","url":"https://a.example"} x"#, "trailing"),
            (r#"{"type":"create","url":"https://a.example","data":"\ud800"}"#, "surrogate"),
        ] {
            let reason = reason(body);
            assert!(reason.contains(expected), "{body} was refused with: {reason}");
            assert!(!reason.contains('\n'), "{reason}");
        }
    }

    #[test]
    fn the_limits_of_url_and_data_are_exact() {
        let url = |length: usize| {
            let path = "a".repeat(length - "https://a.example/".len());
            format!(r#"{{"type":"create","url":"https://a.example/{path}"}}"#)
        };
        assert!(parse(&url(1024)).is_ok());
        assert!(reason(&url(1025)).contains("1024"));
        let data = |length: usize| {
            let text = "x".repeat(length - 2);
            format!(r#"{{"type":"create","url":"https://a.example","data":"{text}"}}"#)
        };
        assert!(parse(&data(64)).is_ok());
        assert!(reason(&data(65)).contains("64 bytes"));
    }

    #[test]
    fn an_array_is_taken_in_order_or_refused_at_its_first_bad_event() {
        let good = r#"{"type":"create","url":"https://a.example/1","timestamp":1}"#;
        let other = r#"{"type":"delete","url":"https://a.example/2","timestamp":2}"#;
        let items = parse(&format!("[{good},{other}]")).unwrap();
        assert!(items[0].ends_with(br#""t":1}"#) && items[1].ends_with(br#""t":2}"#));
        let bad = format!(r#"[{good},{{"type":"create"}},{{"type":"x"}}]"#);
        assert!(reason(&bad).starts_with("event 1: missing field `url`"));
    }
}
