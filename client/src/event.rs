//! Events, as they are published and as they arrive.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// What happened to a thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EventKind {
    Create,
    Update,
    Delete,
    /// Nothing: for those who come late, to tell what there is.
    Noop,
}

/// What is no kind of event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an event is one of create, update, delete and noop")]
pub struct UnknownKind;

impl std::str::FromStr for EventKind {
    type Err = UnknownKind;

    fn from_str(text: &str) -> Result<Self, UnknownKind> {
        let all = [Self::Create, Self::Update, Self::Delete, Self::Noop];
        all.into_iter().find(|kind| kind.to_string() == text).ok_or(UnknownKind)
    }
}

impl std::fmt::Display for EventKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Create => "create",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::Noop => "noop",
        })
    }
}

/// An event to publish: something happened to the thing at a URL.
#[derive(Clone, Debug, Serialize)]
pub struct Event<'a> {
    #[serde(rename = "type")]
    kind: EventKind,
    url: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    timestamp: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a RawValue>,
}

impl<'a> Event<'a> {
    /// `url` is where the thing can be looked at, `https://`.
    pub fn new(kind: EventKind, url: &'a str) -> Self {
        Self { kind, url, timestamp: None, data: None }
    }

    /// When it happened, in milliseconds since the epoch; without it, when it reaches the bus.
    pub fn at(self, timestamp_ms: u64) -> Self {
        Self { timestamp: Some(timestamp_ms), ..self }
    }

    /// Says more about it, in JSON, which is delivered as it stands here.
    pub fn with_data(self, data: &'a RawValue) -> Self {
        Self { data: Some(data), ..self }
    }
}

/// An event as a subscriber gets it.
#[derive(Clone, Debug, Deserialize)]
pub struct ReceivedEvent {
    pub topic: String,
    #[serde(rename = "type")]
    pub kind: EventKind,
    pub url: String,
    /// When it happened, in milliseconds since the epoch.
    #[serde(rename = "t")]
    pub timestamp_ms: u64,
    /// As its publisher wrote it.
    #[serde(default)]
    pub data: Option<Box<RawValue>>,
}
