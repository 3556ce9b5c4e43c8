//! What an import brings from another bus into a store, and what becomes of it.
//!
//! Each call may be made again with the same arguments: what is there already stays, and entries
//! that were taken before are not taken twice. So an import that was interrupted is run again.

use std::time::Duration;

use async_trait::async_trait;

use super::StoreResult;
use crate::bus::health::Health;
use crate::bus::item::Item;
use crate::bus::subscription::Subscription;
use crate::bus::token::ClientToken;
use crate::bus::topic::Topic;

/// How many items one call of [`Imports::import_batches`] brings at
/// most, and how many bytes of them: so long must a publisher be able to wait.
pub const IMPORT_MAX_ITEMS: usize = 2_000;
pub const IMPORT_MAX_BYTES: usize = 1024 * 1024;

/// How long a queue remembers which batches of another bus were taken, from the last one on. Long
/// enough to try a move, and to repeat it a month later; after that it would only take up room.
pub const IMPORT_MEMORY: Duration = Duration::from_secs(30 * 24 * 3600);

/// What became of a topic that was brought in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportedTopic {
    /// Whether it was not there before.
    pub created: bool,
    /// Its publisher from now on.
    pub publisher: Option<ClientToken>,
}

/// Entries of one batch of another bus, all that follow the ones taken before or the first of
/// them.
#[derive(Clone, Debug)]
pub struct Portion {
    /// The batch's name at the other bus.
    pub batch: String,
    /// When it was begun there, in milliseconds since the epoch.
    pub created_ms: u64,
    /// How many of its entries have been taken before.
    pub from: u64,
    /// How many entries are taken now, the ones included that are no events.
    pub entries: u64,
    /// The events among them.
    pub items: Vec<Item>,
}

/// How much of a batch of another bus was taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    pub entries: u64,
    /// The events among them, which were put into the queue.
    pub items: u64,
}

/// What became of a portion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImportedPortion {
    /// Its items are at the queue's end.
    Appended,
    /// It was taken before; nothing was changed.
    TakenBefore,
    /// Less of the batch, or another part of it, was taken before than was thought; nothing was
    /// changed.
    OutOfStep,
}

/// What another bus held.
#[async_trait]
pub trait Imports: Send + Sync + 'static {
    /// Brings a topic of another bus in. One that is there keeps its publisher, or gets this one if
    /// it has none; it counts as many events as were received there or here, whichever is more.
    async fn import_topic(&self, topic: &Topic) -> StoreResult<ImportedTopic>;

    /// Brings a subscriber of another bus in, with an empty queue. `false` if it is there: it then
    /// stays as it is. The topics must have been brought in before.
    async fn import_subscriber(
        &self,
        subscriber: &ClientToken,
        subscription: &Subscription,
        health: Health,
    ) -> StoreResult<bool>;

    /// Puts portions of batches of another bus at the end of a subscriber's queue, in order, and
    /// says what became of each; `None` if there is no such subscriber. The items count as accepted
    /// when their batch was begun, but not later than now nor earlier than what they follow.
    ///
    /// What was taken is remembered for [`IMPORT_MEMORY`], or as long as the queue lives. No more
    /// than [`IMPORT_MAX_ITEMS`] and [`IMPORT_MAX_BYTES`] in one call.
    async fn import_batches(
        &self,
        subscriber: &ClientToken,
        portions: Vec<Portion>,
    ) -> StoreResult<Option<Vec<ImportedPortion>>>;

    /// How much of each of these batches of another bus was taken for a subscriber.
    async fn imported_batches(
        &self,
        subscriber: &ClientToken,
        batches: &[String],
    ) -> StoreResult<Vec<Taken>>;
}
