//! What a message says, as a client sends it and as an HTTP target receives it.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use time::OffsetDateTime;
use time::format_description::well_known::{Iso8601, Rfc3339};

use super::params::{NotTaken, Params};
use super::topic::MessageTopicName;
use crate::bus::json::Members;

/// Text by name, which Google Pub/Sub has beside a message's data.
pub type Attributes = BTreeMap<String, String>;

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
}

/// A message, or the messages of one request, on the way into a topic.
#[derive(Clone, Debug)]
pub struct NewMessages {
    pub topic: MessageTopicName,
    pub contents: Vec<MessageContent>,
    /// When they are forwarded, in milliseconds since the epoch; nothing, or what is past: now.
    pub at: Option<u64>,
}

/// Which form of request brings messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageForm {
    One,
    /// `payload` is an array of messages.
    Bulk,
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
            MessageForm::Bulk => several(&mut params),
            MessageForm::One | MessageForm::Scheduled => one(&mut params).map(|one| vec![one]),
        };
        let at = if form == MessageForm::Scheduled { moment(&mut params) } else { None };
        params.finish()?;
        match (topic, payloads, attributes) {
            (Some(topic), Some(payloads), Some(attributes)) => {
                let content = |payload| MessageContent { payload, attributes: attributes.clone() };
                Ok(Self { topic, contents: payloads.into_iter().map(content).collect(), at })
            }
            // Whatever is not there was noted as a fault.
            _ => Err(NotTaken::Faulty(Default::default())),
        }
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

fn several(params: &mut Params) -> Option<Vec<Payload>> {
    let Some(value) = params.get("payload") else {
        params.fault("payload", "can't be blank");
        return None;
    };
    let Ok(all) = serde_json::from_str::<Vec<&RawValue>>(value.get()) else {
        params.fault("payload", "must be an array of messages");
        return None;
    };
    let payloads: Option<Vec<_>> = all.into_iter().map(Payload::of).collect();
    if payloads.is_none() {
        params.fault("payload", "must have objects or arrays only");
    }
    payloads
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
struct Kept<'a> {
    #[serde(borrow)]
    payload: &'a RawValue,
    attributes: Attributes,
}

impl MessageContent {
    /// `None` unless the payload is an object or an array.
    pub fn new(payload: &RawValue, attributes: &Attributes) -> Option<Self> {
        let attributes = attributes.clone();
        Payload::of(payload).map(|payload| Self { payload, attributes })
    }

    pub fn to_bytes(&self) -> Bytes {
        let kept = Kept { payload: &self.payload.0, attributes: self.attributes.clone() };
        // Nothing in it can fail to be written.
        serde_json::to_vec(&kept).unwrap_or_default().into()
    }

    /// `None` if that is no message.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let Kept { payload, attributes } = serde_json::from_slice(bytes).ok()?;
        Some(Self { payload: Payload::of(payload)?, attributes })
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
        let kept = MessageContent::from_bytes(&messages.contents[0].to_bytes()).unwrap();
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
        let messages = parse(json, MessageForm::Bulk).unwrap();
        let payloads: Vec<_> = messages.contents.iter().map(|one| one.payload.as_str()).collect();
        assert_eq!(payloads, [r#"{"n":1}"#, "[2]", "{}"]);
        assert!(messages.contents.iter().all(|one| one.attributes["a"] == "b"));
        assert!(
            parse(r#"{"topic":"t","payload":[]}"#, MessageForm::Bulk).unwrap().contents.is_empty()
        );
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
            (r#"{"topic":"t","payload":{}}"#, MessageForm::Bulk, &["payload"]),
            (r#"{"topic":"t","payload":[{},1]}"#, MessageForm::Bulk, &["payload"]),
        ] {
            let Err(NotTaken::Faulty(Faults(faults))) = parse(json, form) else { panic!("{json}") };
            assert_eq!(faults.keys().copied().collect::<Vec<_>>(), fields, "{json}");
        }
    }
}
