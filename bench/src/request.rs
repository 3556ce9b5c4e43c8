//! A request as bytes: built once, then only where it goes and its marks are written over.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use super::connection::Endpoint;
use super::mark::Mark;
use routemaster::bus::token::ClientToken;

/// The bytes of a call's JSON: what the alternatives to this bus were measured with.
const CALL: usize = 400;

/// What a request asks of the bus.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// To publish events to a topic.
    Events,
    /// To make calls to a URL.
    Calls,
    /// To make a call to a URL for each object.
    Postbacks,
    /// To forward messages of a topic.
    Messages,
}

/// One request that is sent again and again.
#[derive(Clone)]
pub struct Request {
    bytes: Vec<u8>,
    /// Where the target stands.
    targets: Vec<usize>,
    marks: Vec<usize>,
}

impl Request {
    /// A request for so many events, calls or postbacks; an array if it is more than one. All
    /// targets that it will have, topics or URLs, are of the same length.
    pub fn new(
        endpoint: &Endpoint,
        token: &ClientToken,
        kind: Kind,
        target: &str,
        items: usize,
    ) -> Self {
        let (path, body) = match kind {
            Kind::Events => (format!("/topics/{target}"), several(&Mark::event(), items)),
            Kind::Calls => ("/calls".into(), several(&call(target), items)),
            Kind::Postbacks => ("/postbacks".into(), postbacks(target, items)),
            Kind::Messages if items > 1 => ("/api/bulk_messages".into(), messages(target, items)),
            Kind::Messages => ("/api/messages".into(), messages(target, items)),
        };
        let head = format!(
            "POST {}{path} HTTP/1.1\r\nHost: {}\r\nAuthorization: Basic {}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            endpoint.path(),
            endpoint.authority(),
            BASE64_STANDARD.encode(format!("{}:", token.reveal())),
            body.len()
        );
        let text = format!("{head}{body}");
        let targets = text.match_indices(target).map(|(place, _)| place).collect();
        let bytes = text.into_bytes();
        let marks = Mark::places(&bytes);
        Self { bytes, targets, marks }
    }

    /// How many events, calls or postbacks it carries.
    pub fn items(&self) -> u64 {
        self.marks.len() as u64
    }

    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub fn set_target(&mut self, target: &str) {
        for place in &self.targets {
            self.bytes[*place..place + target.len()].copy_from_slice(target.as_bytes());
        }
    }

    /// Numbers its items from `first` on.
    pub fn set_marks(&mut self, stream: u32, first: u64, micros: u64) {
        for (number, place) in (first..).zip(&self.marks) {
            Mark { stream, number, micros }.write(&mut self.bytes, *place);
        }
    }
}

fn several(item: &str, items: usize) -> String {
    match items {
        0 | 1 => item.into(),
        _ => format!("[{}]", vec![item; items].join(",")),
    }
}

/// A call that is made again until it succeeds, of 400 bytes where the URL leaves room for it.
fn call(url: &str) -> String {
    let written = |note: &str| {
        let call = json!({
            "url": url,
            "method": "POST",
            "headers": {"Content-Type": "application/json"},
            "body": {"note": note, "event": event()},
            "requeue": true,
        });
        call.to_string()
    };
    written(&"x".repeat(CALL.saturating_sub(written("").len())))
}

fn postbacks(url: &str, items: usize) -> String {
    let data = vec![event(); items];
    json!({"endpoint": {"method": "POST", "url": url}, "data": data}).to_string()
}

/// As large as a call.
fn messages(topic: &str, items: usize) -> String {
    let payload = |note: &str| json!({"note": note, "event": event()});
    let written = |note: &str| {
        let payload = match items {
            0 | 1 => payload(note),
            _ => Value::Array(vec![payload(note); items]),
        };
        json!({"topic": topic, "payload": payload, "attributes": {"kind": "bench"}}).to_string()
    };
    let note = match items {
        0 | 1 => "x".repeat(CALL.saturating_sub(written("").len())),
        _ => "x".repeat(CALL / 2),
    };
    written(&note)
}

fn event() -> Value {
    serde_json::from_str(&Mark::event()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const URL: &str = "http://localhost:40000/0123456789abcdef/000";

    #[test]
    fn a_call_is_as_long_as_those_of_the_alternatives() {
        assert_eq!(call(URL).len(), CALL);
        assert_eq!(Mark::places(call(URL).as_bytes()).len(), 1);
    }

    #[test]
    fn each_item_has_its_mark_and_its_target() {
        let endpoint = Endpoint::plain("http://localhost:1").unwrap();
        let token = ClientToken::parse("name--secret").unwrap();
        for (kind, target, targets) in [
            (Kind::Events, "bench_topic", 1),
            (Kind::Calls, URL, 3),
            (Kind::Postbacks, URL, 1),
            (Kind::Messages, "bench_topic", 1),
        ] {
            let mut request = Request::new(&endpoint, &token, kind, target, 3);
            assert_eq!((request.items(), request.targets.len()), (3, targets), "{kind:?}");
            let other = target.replace('0', "7").replace("topic", "cipot");
            request.set_target(&other);
            let text = String::from_utf8(request.bytes).unwrap();
            assert_eq!(text.matches(&other).count(), targets);
            assert!(!text.contains(target));
        }
    }
}
