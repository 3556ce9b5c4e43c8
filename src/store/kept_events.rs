//! Events that their topics keep, whether anybody waits for them or not: for those who want them once more, or come
//! later (contract §14).

use async_trait::async_trait;

use super::StoreResult;
use crate::bus::item::{Item, QueuedItem};
use crate::bus::position::EventPosition;
use crate::bus::token::ClientToken;
use crate::bus::topic::{Keep, TopicName};

/// How many events one call of [`KeptEvents::kept_events`], [`KeptEvents::replay`] or
/// [`KeptEvents::subscribe_from`] takes at most: so long may others wait.
pub const KEPT_AT_ONCE: usize = 1_000;

/// What became of a wish to keep a topic's events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeepSet {
    Done,
    UnknownTopic,
    OwnedByAnother,
    /// With that, the topics would keep more than all may.
    NoRoom,
}

/// How far a subscription that begins in the past has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caught {
    /// What stands up to here is in its queue; there is more.
    UpTo(EventPosition),
    /// All of it is, and whatever comes from now on.
    Up,
    /// There is no such subscriber any more.
    Gone,
}

/// What topics keep.
#[async_trait]
pub trait KeptEvents: Send + Sync + 'static {
    /// Says how much a topic keeps from now on, `None` for nothing. With an `owner`, only if it is the topic's
    /// publisher. All topics together keep no more than `max_bytes`.
    async fn keep(
        &self,
        topic: &TopicName,
        keep: Option<Keep>,
        owner: Option<&ClientToken>,
        max_bytes: u64,
    ) -> StoreResult<KeepSet>;

    /// What some topics have kept behind a position, in order, [`KEPT_AT_ONCE`] at most.
    async fn kept_events(
        &self,
        topics: &[TopicName],
        after: EventPosition,
    ) -> StoreResult<Vec<QueuedItem>>;

    /// Puts items at the end of a subscriber's queue; `false` if there is no such subscriber.
    async fn replay(&self, subscriber: &ClientToken, items: Vec<Item>) -> StoreResult<bool>;

    /// Puts what these topics have kept behind a position at the end of a subscriber's queue, [`KEPT_AT_ONCE`] events at
    /// most; when that is all, subscribes it to them in the same step, so that nothing comes twice or is missing.
    /// Only in a store with one lane.
    async fn subscribe_from(
        &self,
        subscriber: &ClientToken,
        topics: &[TopicName],
        after: EventPosition,
    ) -> StoreResult<Caught>;

    /// Forgets a portion of what is older, or more, than its topic keeps; `true` if there is more.
    async fn forget_kept(&self) -> StoreResult<bool>;
}
