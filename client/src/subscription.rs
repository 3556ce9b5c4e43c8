//! What a subscriber asks for.

use serde::{Serialize, Serializer};
use serde_json::json;

/// A subscription: which topics, and how their events come. A client has one; another takes its place, and what waits
/// in the queue stays.
///
/// What is not set is as the bus has it, or as it was before.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Subscription {
    pub topics: Vec<String>,
    /// Where batches are POSTed to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub callback: Option<String>,
    /// Whether batches are asked for.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub pull: bool,
    /// What deliveries carry as user name and password: a secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uuid: Option<String>,
    /// How long a batch waits for more events, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<u64>,
    /// How many events a batch has at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<u32>,
    /// How long an event waits at most before it is dropped, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retention: Option<u64>,
    /// How many events wait at most; the oldest are dropped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_queued: Option<u64>,
    /// What deliveries are signed with, `whsec_…`: one, or two while one takes the other's place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<Vec<String>>,
    /// `routemaster` or `cloudevents`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_refusal: Option<OnRefusal>,
    /// `queue`, or `entity` to have the order of the events of each URL kept, and several batches on their way at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order: Option<String>,
    /// How many these are at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parallel: Option<u32>,
    /// From when on a new subscription gets what its topics have kept, in milliseconds since the epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<u64>,
}

/// What is done about a batch that is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnRefusal {
    /// It is sent until it is taken.
    Hold,
    /// After so many attempts the event is looked for that is refused, and becomes a dead letter.
    Attempts(u32),
}

impl Serialize for OnRefusal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Hold => "hold".serialize(serializer),
            Self::Attempts(attempts) => json!({ "attempts": attempts }).serialize(serializer),
        }
    }
}

impl Subscription {
    /// Batches are POSTed to a callback, `https://`.
    pub fn to(
        callback: impl Into<String>,
        topics: impl IntoIterator<Item = impl Into<String>>,
    ) -> Self {
        Self { callback: Some(callback.into()), ..Self::of(topics) }
    }

    /// Batches are asked for: see [`Bus::batches`](crate::Bus::batches).
    pub fn pull(topics: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { pull: true, ..Self::of(topics) }
    }

    fn of(topics: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { topics: topics.into_iter().map(Into::into).collect(), ..Self::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_set_is_said() {
        let pulling = serde_json::to_value(Subscription::pull(["a", "b"])).unwrap();
        assert_eq!(pulling, json!({"topics": ["a", "b"], "pull": true}));
        let posted = Subscription {
            max: Some(7),
            on_refusal: Some(OnRefusal::Attempts(3)),
            ..Subscription::to("https://a.example", ["a"])
        };
        assert_eq!(
            serde_json::to_value(posted).unwrap(),
            json!({"topics": ["a"], "callback": "https://a.example", "max": 7,
                   "on_refusal": {"attempts": 3}})
        );
        assert_eq!(serde_json::to_value(OnRefusal::Hold).unwrap(), "hold");
    }
}
