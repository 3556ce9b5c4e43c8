//! Dead letters of the bus: events that were taken out of a queue without being delivered, and are kept
//! (contract §12).

use std::time::Duration;

use async_trait::async_trait;

use super::{Lane, StoreResult};
use crate::bus::attempt::Failure;
use crate::bus::item::Item;
use crate::bus::position::EventPosition;
use crate::bus::token::ClientToken;

/// How many of them one call takes at most.
pub const DEAD_EVENTS_AT_ONCE: usize = 500;

/// Why an event is a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeadCause {
    /// Somebody has skipped it.
    Skipped,
    /// Its subscriber has refused it as often as it wanted.
    Refused,
}

impl DeadCause {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Skipped => "skipped",
            Self::Refused => "refused",
        }
    }

    pub(super) fn from_stored(text: &str) -> Self {
        if text == Self::Refused.as_str() { Self::Refused } else { Self::Skipped }
    }
}

/// An event that its subscriber did not get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadEvent {
    pub subscriber: ClientToken,
    /// Where it stood; with the subscriber, this names it.
    pub position: EventPosition,
    /// When it became a dead letter, in milliseconds since the epoch.
    pub dead_ms: u64,
    pub cause: DeadCause,
    /// How the last attempt at its batch failed, if one did.
    pub failure: Option<Failure>,
    pub item: Item,
}

/// After which dead letter a page begins: when it became one, its number in its lane, and the lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DeadCursor {
    pub dead_ms: u64,
    pub number: u64,
    pub lane: Lane,
}

/// How many dead letters are kept.
#[derive(Clone, Copy, Debug)]
pub struct DeadBounds {
    pub retention: Duration,
    /// Of a lane.
    pub max_bytes: u64,
}

/// How many dead letters were forgotten.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ForgottenDead {
    /// Because they were too old.
    pub old: u64,
    /// Because all took too much room.
    pub for_room: u64,
}

/// Dead letters, the newest first, each with what comes after it.
pub type DeadEventsPage = Vec<(DeadCursor, DeadEvent)>;

/// Events that were given up.
#[async_trait]
pub trait DeadEvents: Send + Sync + 'static {
    /// Those of a subscriber, or of all, older than the cursor: the newest first.
    async fn dead_events(
        &self,
        subscriber: Option<&ClientToken>,
        before: Option<DeadCursor>,
        limit: usize,
    ) -> StoreResult<DeadEventsPage>;

    /// The newest that a subscriber has of this position.
    async fn dead_event(
        &self,
        subscriber: &ClientToken,
        position: EventPosition,
    ) -> StoreResult<Option<DeadEvent>>;

    /// Puts one at the end of its subscriber's queue, marked as a replay; `false` if there is none such, or the
    /// subscriber is gone.
    async fn retry_dead_event(
        &self,
        subscriber: &ClientToken,
        position: EventPosition,
    ) -> StoreResult<bool>;

    /// Forgets one; `false` if there is none such.
    async fn delete_dead_event(
        &self,
        subscriber: &ClientToken,
        position: EventPosition,
    ) -> StoreResult<bool>;

    /// Forgets those of a lane that are too old, and the oldest as long as all take too much room,
    /// [`DEAD_EVENTS_AT_ONCE`] at most.
    async fn forget_dead_events(
        &self,
        lane: Lane,
        bounds: DeadBounds,
    ) -> StoreResult<ForgottenDead>;

    /// How many there are.
    async fn dead_event_count(&self) -> StoreResult<u64>;
}
