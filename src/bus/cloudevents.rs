//! Batches as CloudEvents 1.0 in JSON (<https://github.com/cloudevents/spec>).

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::item::{ItemParts, QueuedItem};

/// The media type of a batch.
pub const BATCH_TYPE: &str = "application/cloudevents-batch+json";

/// An event as it stands in a queue.
#[derive(Deserialize)]
struct StoredEvent<'a> {
    topic: &'a str,
    #[serde(rename = "type")]
    kind: &'a str,
    url: std::borrow::Cow<'a, str>,
    t: u64,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
}

/// An event as it is delivered. `id` and `source` together are of no other one.
#[derive(Serialize)]
struct CloudEvent<'a> {
    specversion: &'static str,
    id: String,
    source: String,
    #[serde(rename = "type")]
    kind: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    datacontenttype: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    traceparent: Option<String>,
    /// The `id` that the event had when it was delivered first.
    #[serde(skip_serializing_if = "Option::is_none")]
    replayof: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a RawValue>,
}

/// Items as one batch, in their order.
pub fn batch(items: &[QueuedItem]) -> Bytes {
    let mut body = vec![b'['];
    for (index, queued) in items.iter().enumerate() {
        if index > 0 {
            body.push(b',');
        }
        write(queued, &mut body);
    }
    body.push(b']');
    body.into()
}

fn write(queued: &QueuedItem, body: &mut Vec<u8>) {
    let parts = ItemParts::of(&queued.item);
    let stored: Option<StoredEvent<'_>> = serde_json::from_slice(parts.json).ok();
    let stored = stored.as_ref();
    let data = stored.and_then(|event| event.data);
    let event = CloudEvent {
        specversion: "1.0",
        id: queued.position.to_string(),
        source: format!("/topics/{}", stored.map_or("", |event| event.topic)),
        kind: format!("routemaster.{}", stored.map_or("noop", |event| event.kind)),
        subject: stored.map(|event| &*event.url),
        time: stored.and_then(|event| rfc3339(event.t)),
        datacontenttype: data.map(|_| "application/json"),
        traceparent: parts.trace.map(|trace| trace.next_hop().to_string()),
        replayof: parts.replay_of.map(|position| position.to_string()),
        data,
    };
    // A vector takes all that is written, and a map of texts can be written.
    let _ = serde_json::to_writer(body, &event);
}

/// `None` for times after the year 9999, which it cannot write.
fn rfc3339(ms: u64) -> Option<String> {
    let time = OffsetDateTime::from_unix_timestamp_nanos(i128::from(ms) * 1_000_000).ok()?;
    time.format(&Rfc3339).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::position::EventPosition;
    use crate::bus::trace::TraceParent;

    fn written(parts: ItemParts<'_>) -> String {
        let queued = QueuedItem {
            position: EventPosition::new(1_764_000_000_000_001),
            item: parts.to_item(),
        };
        String::from_utf8(batch(&[queued]).to_vec()).unwrap()
    }

    #[test]
    fn an_event_is_written_whole() {
        let json = br#"{"topic":"widgets","type":"create","url":"https://a.example/1","t":1764000000000,"data":{"n":1.50}}"#;
        let parts = ItemParts { json, ..ItemParts::default() };
        assert_eq!(
            written(parts),
            r#"[{"specversion":"1.0","id":"1764000000000001","source":"/topics/widgets","type":"routemaster.create","subject":"https://a.example/1","time":"2025-11-24T16:00:00Z","datacontenttype":"application/json","data":{"n":1.50}}]"#
        );
    }

    #[test]
    fn trace_and_replay_are_extensions_and_no_data_is_left_out() {
        let json = br#"{"topic":"a","type":"noop","url":"https://a.example/\"1\"","t":9223372036854775807}"#;
        let trace = TraceParent::parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
        let text = written(ItemParts { json, trace, replay_of: Some(EventPosition::new(7)) });
        assert!(text.contains(r#""traceparent":"00-4bf92f3577b34da6a3ce929d0e0e4736-"#), "{text}");
        assert!(text.contains(r#""replayof":"7""#), "{text}");
        assert!(!text.contains("\"data\"") && !text.contains("\"time\""), "{text}");
    }
}
