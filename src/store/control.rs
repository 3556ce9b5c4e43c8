//! Control: looking into a queue, holding it, and taking out of it what is in the way (contract §14).

use async_trait::async_trait;

use super::StoreResult;
use crate::bus::item::Item;
use crate::bus::pause::PausedBy;
use crate::bus::position::EventPosition;
use crate::bus::token::ClientToken;

/// How many events one call of [`Control::skip`] takes out at most: so long may others wait.
pub const SKIP_STEP: usize = 2_000;

/// An event that waits in a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaitingEvent {
    pub position: EventPosition,
    /// Since when it waits, in milliseconds since the epoch.
    pub since_ms: u64,
    /// Whether it is in a batch that was given out.
    pub is_in_batch: bool,
    pub item: Item,
}

/// Up to where a queue is skipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Skip {
    /// The event of this position, with all that wait before it.
    Through(EventPosition),
    /// The batch of this number, if it is the one that was given out.
    Batch(u64),
}

/// What a call of [`Control::skip`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Skipped {
    /// So many events have become dead letters. If there are more, the next call takes them.
    Done { events: u64, has_more: bool },
    /// The batch is not the one that was given out; nothing was changed.
    NotThisBatch,
    /// There is no such subscriber.
    Unknown,
}

/// What became of a request to deliver at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retried {
    /// The queue is due.
    Due,
    /// Nothing waits, or an attempt is on its way.
    Nothing,
    /// The subscription is paused.
    Paused,
    /// There is no such subscriber.
    Unknown,
}

/// Looking into queues, and holding them.
#[async_trait]
pub trait Control: Send + Sync + 'static {
    /// Holds a subscriber's queue from the end of the attempt that is on its way; one that is paused already
    /// stays as it is. `false` if there is no such subscriber.
    async fn pause(&self, subscriber: &ClientToken, by: PausedBy) -> StoreResult<bool>;

    /// Ends a pause, whoever made it; what waits to be sent again is due at once. `false` if there is no such
    /// subscriber.
    async fn resume(&self, subscriber: &ClientToken) -> StoreResult<bool>;

    /// Makes what waits due at once.
    async fn retry_now(&self, subscriber: &ClientToken) -> StoreResult<Retried>;

    /// What waits behind a position, in order; `None` if there is no such subscriber.
    async fn peek(
        &self,
        subscriber: &ClientToken,
        after: EventPosition,
        limit: usize,
    ) -> StoreResult<Option<Vec<WaitingEvent>>>;

    /// The event that waits at a position, if it is there.
    async fn waiting_event(
        &self,
        subscriber: &ClientToken,
        position: EventPosition,
    ) -> StoreResult<Option<WaitingEvent>>;

    /// Takes what stands at the head of a queue out of it, [`SKIP_STEP`] events at most, and keeps it as dead
    /// letters. A batch that is in flight loses its lease; what comes behind it is due
    /// [`BROKEN_OFF_AFTER`](super::BROKEN_OFF_AFTER).
    async fn skip(&self, subscriber: &ClientToken, skip: Skip) -> StoreResult<Skipped>;
}
