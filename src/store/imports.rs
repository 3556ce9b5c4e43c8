//! What an import brings from another bus into a store, and what becomes of it.
//!
//! Each call may be made again with the same arguments: what is there already stays, and entries
//! that were taken before are not taken twice. So an import that was interrupted is run again.

use std::time::Duration;

use crate::bus::batch::Item;
use crate::bus::token::ClientToken;

/// How many items one call of [`Store::import_batches`](super::Store::import_batches) brings at
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
