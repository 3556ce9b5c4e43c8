//! News: what happens to the bus itself, as events of a topic of its own (contract §14).
//!
//! Whoever is allowed may subscribe to it, so that nothing stands in it that is not shown to everybody.

use serde_json::{Value, json};
use url::Url;

use super::call::CallKind;
use super::event::EventType;
use super::item::Item;
use super::topic::NEWS_TOPIC;

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// A subscriber does not take its batches.
    SubscriberStalled {
        subscriber: String,
        status: Option<u16>,
        attempts: u32,
    },
    /// It takes them again.
    SubscriberRecovered {
        subscriber: String,
        attempts: u32,
    },
    /// A subscriber's callback is gone, and its subscription paused.
    SubscriberPaused {
        subscriber: String,
    },
    /// A destination does not take calls.
    DestinationFailing {
        destination: String,
        status: Option<u16>,
    },
    DestinationRecovered {
        destination: String,
    },
    /// A call or a message was given up.
    DeadLetter {
        kind: CallKind,
        client: String,
    },
    /// An event was refused as often as its subscriber wanted, and given up.
    DeadEvent {
        subscriber: String,
        status: Option<u16>,
    },
    /// The store ran out of room, and events were dropped.
    Autodrop {
        events: u64,
        subscribers: u64,
    },
}

/// What was given up, for people: what nobody can read is a call to them.
fn dead(kind: CallKind) -> &'static str {
    match kind {
        CallKind::Unread => CallKind::Call,
        kind => kind,
    }
    .as_str()
}

impl News {
    /// What it is, and whom or what it is about: of these, no more is told than a line a minute.
    pub fn subject(&self) -> (&'static str, &str) {
        match self {
            Self::SubscriberStalled { subscriber, .. } => ("subscriber_stalled", subscriber),
            Self::SubscriberRecovered { subscriber, .. } => ("subscriber_recovered", subscriber),
            Self::SubscriberPaused { subscriber } => ("subscriber_paused", subscriber),
            Self::DestinationFailing { destination, .. } => ("destination_failing", destination),
            Self::DestinationRecovered { destination } => ("destination_recovered", destination),
            Self::DeadLetter { client, .. } => ("dead_letter", client),
            Self::DeadEvent { subscriber, .. } => ("dead_letter", subscriber),
            Self::Autodrop { .. } => ("autodrop", ""),
        }
    }

    /// The event that tells of it. `base` is where people reach the bus.
    pub fn to_item(&self, base: &Url, now_ms: u64) -> Item {
        let (what, about) = self.subject();
        let (path, data) = match self {
            Self::SubscriberStalled { status, attempts, .. } => (
                "subscriptions",
                json!({ "news": what, "subscriber": about, "status": status, "attempts": attempts }),
            ),
            Self::SubscriberRecovered { attempts, .. } => (
                "subscriptions",
                json!({ "news": what, "subscriber": about, "attempts": attempts }),
            ),
            Self::SubscriberPaused { .. } => {
                ("subscriptions", json!({ "news": what, "subscriber": about }))
            }
            Self::DestinationFailing { status, .. } => {
                ("calls", json!({ "news": what, "destination": about, "status": status }))
            }
            Self::DestinationRecovered { .. } => {
                ("calls", json!({ "news": what, "destination": about }))
            }
            Self::DeadLetter { kind, .. } => {
                ("dead_letters", json!({ "news": what, "kind": dead(*kind), "client": about }))
            }
            Self::DeadEvent { status, .. } => (
                "dead_letters",
                json!({ "news": what, "kind": "event", "client": about, "status": status }),
            ),
            Self::Autodrop { events, subscribers } => {
                ("topics", json!({ "news": what, "events": events, "subscribers": subscribers }))
            }
        };
        let mut url = base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().push(path);
            if path == "subscriptions" {
                segments.push(about);
            }
        }
        let event: Value = json!({
            "topic": NEWS_TOPIC, "type": EventType::Update.as_str(), "url": url, "t": now_ms, "data": data,
        });
        event.to_string().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn news_are_events_like_others() {
        let base = Url::parse("https://bus.example/x/").unwrap();
        let subscriber = "shop".to_owned();
        let news = News::SubscriberStalled { subscriber, status: Some(500), attempts: 1 };
        let event: Value = serde_json::from_slice(&news.to_item(&base, 7)).unwrap();
        assert_eq!(
            event,
            json!({
                "topic": "routemaster_news", "type": "update",
                "url": "https://bus.example/x/subscriptions/shop", "t": 7,
                "data": {"news": "subscriber_stalled", "subscriber": "shop", "status": 500, "attempts": 1},
            })
        );
    }
}
