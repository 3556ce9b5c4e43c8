//! What a message says, as a client sends it and as an HTTP target receives it.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use time::OffsetDateTime;
use time::format_description::well_known::{Iso8601, Rfc3339};

use super::params::{NotTaken, Params};
use super::topic::MessageTopicName;
use crate::bus::json::Members;
use crate::bus::trace::TraceParent;

/// Text by name, which Google Pub/Sub has beside a message's data.
pub type Attributes = BTreeMap<String, String>;

/// How many bytes the messages of one request come to, at most. Each is kept with the attributes, which come once.
pub const KEPT_MAX: usize = 16_000_000;

/// The JSON of an object or an array, as it was sent.
#[derive(Clone, Debug)]
pub struct Payload(Box<RawValue>);

impl Payload {
    /// `None` unless it is an object or an array.
    fn of(json: &RawValue) -> Option<Self> {
        matches!(json.get().as_bytes().first(), Some(b'{' | b'[')).then(|| Self(json.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        self.0.get()
    }

    pub fn as_json(&self) -> &RawValue {
        &self.0
    }

    fn is_object(&self) -> bool {
        self.as_str().starts_with('{')
    }
}

/// What is forwarded.
#[derive(Clone, Debug)]
pub struct MessageContent {
    pub payload: Payload,
    pub attributes: Attributes,
    /// The trace that its sender was in.
    pub trace: Option<TraceParent>,
}

/// A message, or the messages of one request, on the way into a topic.
#[derive(Clone, Debug)]
pub struct NewMessages {
    pub topic: MessageTopicName,
    /// Each as [`MessageContent::to_bytes`] writes it.
    pub contents: Vec<Bytes>,
    /// When they are forwarded, in milliseconds since the epoch; nothing, or what is past: now.
    pub at: Option<u64>,
}

/// Which form of request brings messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageForm {
    One,
    /// `payload` is an array of so many messages, at most.
    Bulk(usize),
    /// `schedule_at` says when.
    Scheduled,
}

impl NewMessages {
    /// Reads a request.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn parse(json: &[u8], form: MessageForm) -> Result<Self, NotTaken> {
        let mut params = Params::read(json)?;
        let topic = params.text("topic").map(|name| MessageTopicName::from_checked(&name));
        let attributes = attributes(&mut params);
        let payloads = match form {
            MessageForm::Bulk(max) => several(&mut params, max)?,
            MessageForm::One | MessageForm::Scheduled => one(&mut params).map(|one| vec![one]),
        };
        let at = if form == MessageForm::Scheduled { moment(&mut params) } else { None };
        params.finish()?;
        match (topic, payloads, attributes) {
            (Some(topic), Some(payloads), Some(attributes)) => {
                Ok(Self { topic, contents: contents(&payloads, &attributes)?, at })
            }
            // Whatever is not there was noted as a fault.
            _ => Err(NotTaken::Faulty(Default::default())),
        }
    }
}

impl NewMessages {
    /// The same, as part of a trace.
    pub fn in_trace(mut self, trace: Option<TraceParent>) -> Self {
        if trace.is_some() {
            for content in &mut self.contents {
                if let Some(read) = MessageContent::from_bytes(content) {
                    *content = MessageContent { trace, ..read }.to_bytes();
                }
            }
        }
        self
    }
}

/// `None` if it is absent or wrong; both are noted.
fn one(params: &mut Params) -> Option<Payload> {
    let Some(value) = params.get("payload") else {
        params.fault("payload", "can't be blank");
        return None;
    };
    let payload = Payload::of(value);
    if payload.is_none() {
        params.fault("payload", "must be an object or an array");
    }
    payload
}

fn several(params: &mut Params, max: usize) -> Result<Option<Vec<Payload>>, NotTaken> {
    let Some(value) = params.get("payload") else {
        params.fault("payload", "can't be blank");
        return Ok(None);
    };
    // Counted before anything is made of them.
    let number = serde_json::from_str::<Vec<IgnoredAny>>(value.get()).map_or(0, |all| all.len());
    if number > max {
        return Err(NotTaken::TooMany(max));
    }
    let Ok(all) = serde_json::from_str::<Vec<&RawValue>>(value.get()) else {
        params.fault("payload", "must be an array of messages");
        return Ok(None);
    };
    let payloads: Option<Vec<_>> = all.into_iter().map(Payload::of).collect();
    if payloads.is_none() {
        params.fault("payload", "must have objects or arrays only");
    }
    Ok(payloads)
}

/// What is kept of each, as long as all of it is not too much.
fn contents(payloads: &[Payload], attributes: &Attributes) -> Result<Vec<Bytes>, NotTaken> {
    let mut left = KEPT_MAX;
    let mut content = |payload: &Payload| {
        let bytes = kept(&payload.0, attributes, None);
        left = left.checked_sub(bytes.len()).ok_or(NotTaken::TooLarge)?;
        Ok(bytes)
    };
    payloads.iter().map(&mut content).collect()
}

/// An object of strings, `{}` where there is none.
fn attributes(params: &mut Params) -> Option<Attributes> {
    let Some(value) = params.get("attributes") else { return Some(Attributes::new()) };
    let attributes = serde_json::from_str(value.get()).ok();
    if attributes.is_none() {
        params.fault("attributes", "must be an object of strings");
    }
    attributes
}

fn moment(params: &mut Params) -> Option<u64> {
    let text = params.text("schedule_at")?;
    let at = OffsetDateTime::parse(&text, &Rfc3339)
        .or_else(|_| OffsetDateTime::parse(&text, &Iso8601::DEFAULT));
    let Ok(at) = at else {
        params.fault("schedule_at", "must be a time with its offset, such as 2026-12-01T08:30:00Z");
        return None;
    };
    // What is before the epoch is past, and so now.
    Some(u64::try_from(at.unix_timestamp_nanos() / 1_000_000).unwrap_or(0))
}

/// As it is kept: the payload as it was sent.
#[derive(Serialize, Deserialize)]
struct Kept<'a, A> {
    #[serde(borrow)]
    payload: &'a RawValue,
    attributes: A,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    trace: Option<String>,
}

fn kept(payload: &RawValue, attributes: &Attributes, trace: Option<TraceParent>) -> Bytes {
    let trace = trace.map(|trace| trace.to_string());
    // Nothing in it can fail to be written.
    serde_json::to_vec(&Kept { payload, attributes, trace }).unwrap_or_default().into()
}

impl MessageContent {
    /// `None` unless the payload is an object or an array.
    pub fn new(payload: &RawValue, attributes: &Attributes) -> Option<Self> {
        let attributes = attributes.clone();
        Payload::of(payload).map(|payload| Self { payload, attributes, trace: None })
    }

    pub fn to_bytes(&self) -> Bytes {
        kept(&self.payload.0, &self.attributes, self.trace)
    }

    /// `None` if that is no message.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let Kept::<'_, Attributes> { payload, attributes, trace } =
            serde_json::from_slice(bytes).ok()?;
        let trace = trace.as_deref().and_then(TraceParent::parse);
        Some(Self { payload: Payload::of(payload)?, attributes, trace })
    }

    /// What an HTTP target receives: the payload with a key `attributes`, or an array as it is.
    pub fn http_body(&self) -> Bytes {
        let payload = self.payload.as_str();
        let members =
            serde_json::from_str::<Members>(payload).ok().filter(|_| self.payload.is_object());
        let Some(Members(members)) = members else { return payload.to_owned().into() };
        let own = |(name, value): (String, Box<RawValue>)| (name, value.get().to_owned());
        let mut all: Vec<_> =
            members.into_iter().filter(|(name, _)| name != "attributes").map(own).collect();
        let attributes = serde_json::to_string(&self.attributes).unwrap_or_default();
        all.push(("attributes".into(), attributes));
        let mut body = String::with_capacity(payload.len() + 32);
        body.push('{');
        for (index, (name, value)) in all.iter().enumerate() {
            if index > 0 {
                body.push(',');
            }
            // A name that was read can be written.
            body.push_str(&serde_json::to_string(name).unwrap_or_default());
            body.push(':');
            body.push_str(value);
        }
        body.push('}');
        body.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::message::Faults;

    fn parse(json: &str, form: MessageForm) -> Result<NewMessages, NotTaken> {
        NewMessages::parse(json.as_bytes(), form)
    }

    fn body(json: &str) -> String {
        let messages = parse(json, MessageForm::One).unwrap();
        let kept = MessageContent::from_bytes(&messages.contents[0]).unwrap();
        String::from_utf8(kept.http_body().to_vec()).unwrap()
    }

    #[test]
    fn a_target_receives_the_payload_with_its_attributes() {
        for (json, expected) in [
            (
                r#"{"topic":"t","payload":{"id": 1.50, "ü":[{}]},"attributes":{"b":"2","a":"1"}}"#,
                r#"{"id":1.50,"ü":[{}],"attributes":{"a":"1","b":"2"}}"#,
            ),
            (r#"{"topic":"t","payload":{}}"#, r#"{"attributes":{}}"#),
            (
                r#"{"topic":"t","payload":{"attributes":7,"a\"b":1},"attributes":{}}"#,
                r#"{"a\"b":1,"attributes":{}}"#,
            ),
            (r#"{"topic":"t","payload":[1, {"a":2}],"attributes":{"x":"y"}}"#, r#"[1, {"a":2}]"#),
        ] {
            assert_eq!(body(json), expected);
        }
    }

    #[test]
    fn many_come_in_one_request_and_share_their_attributes() {
        let json = r#"{"topic":"t","payload":[{"n":1},[2],{}],"attributes":{"a":"b"}}"#;
        let messages = parse(json, MessageForm::Bulk(3)).unwrap();
        let kept = messages.contents.iter().map(|bytes| MessageContent::from_bytes(bytes).unwrap());
        let kept: Vec<_> = kept.collect();
        let payloads: Vec<_> = kept.iter().map(|one| one.payload.as_str()).collect();
        assert_eq!(payloads, [r#"{"n":1}"#, "[2]", "{}"]);
        assert!(kept.iter().all(|one| one.attributes["a"] == "b"));
        let none = parse(r#"{"topic":"t","payload":[]}"#, MessageForm::Bulk(3)).unwrap();
        assert!(none.contents.is_empty());
        assert_eq!(parse(json, MessageForm::Bulk(2)).err(), Some(NotTaken::TooMany(2)));
    }

    #[test]
    fn attributes_that_all_have_are_not_multiplied_without_a_bound() {
        let json = |payloads: usize| {
            let (payload, text) = (vec!["{}"; payloads].join(","), "x".repeat(4_000_000));
            format!(r#"{{"topic":"t","payload":[{payload}],"attributes":{{"a":"{text}"}}}}"#)
        };
        assert_eq!(parse(&json(3), MessageForm::Bulk(3_000)).unwrap().contents.len(), 3);
        let refused = parse(&json(1_000), MessageForm::Bulk(3_000)).err();
        assert_eq!(refused, Some(NotTaken::TooLarge));
    }

    #[test]
    fn a_time_needs_its_offset() {
        let at = |text: &str| {
            let json = format!(r#"{{"topic":"t","payload":{{}},"schedule_at":"{text}"}}"#);
            parse(&json, MessageForm::Scheduled).map(|messages| messages.at)
        };
        assert_eq!(at("1970-01-01T00:00:01.500Z"), Ok(Some(1_500)));
        assert_eq!(at("1970-01-01T02:00:01+02:00"), Ok(Some(1_000)));
        assert_eq!(at("19700101T000001Z"), Ok(Some(1_000)));
        assert_eq!(at("1969-12-31T23:59:59Z"), Ok(Some(0)));
        for wrong in ["1970-01-01T00:00:01", "tomorrow", "1970-13-01T00:00:00Z"] {
            assert!(at(wrong).is_err(), "{wrong}");
        }
        assert!(parse(r#"{"topic":"t","payload":{}}"#, MessageForm::Scheduled).is_err());
    }

    #[test]
    fn everything_that_is_wrong_is_told_by_field() {
        for (json, form, fields) in [
            ("{}", MessageForm::One, &["payload", "topic"][..]),
            (r#"{"topic":"t","payload":"text"}"#, MessageForm::One, &["payload"]),
            (
                r#"{"topic":7,"payload":{},"attributes":{"a":1}}"#,
                MessageForm::One,
                &["attributes", "topic"],
            ),
            (r#"{"topic":"t","payload":{},"attributes":[]}"#, MessageForm::One, &["attributes"]),
            (r#"{"topic":"t","payload":{}}"#, MessageForm::Bulk(9), &["payload"]),
            (r#"{"topic":"t","payload":[{},1]}"#, MessageForm::Bulk(9), &["payload"]),
        ] {
            let Err(NotTaken::Faulty(Faults(faults))) = parse(json, form) else { panic!("{json}") };
            assert_eq!(faults.keys().copied().collect::<Vec<_>>(), fields, "{json}");
        }
    }
}
