//! The journal: every attempt at a batch, a call, a postback or a message (contract §12).
//!
//! It is no part of the store: it has a file or keys of its own, a room of its own, and is fed in groups,
//! beside the road, by a [`Recorder`] that nobody waits for. What it holds of secrets is nothing: a token is
//! known by its [`Owner`], which is a hash.

mod carried;
mod entry;
mod query;
mod recorder;
mod sqlite;

use std::time::Duration;

use async_trait::async_trait;

pub use carried::CarriedEvents;
pub use entry::{Entry, EntryKind, Owner};
pub use query::{JournalPage, JournalQuery};
pub use recorder::{JournalMode, Recorder};
pub use sqlite::SqliteJournal;

/// Why the journal could not be written or read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JournalError {
    #[error("the journal is not available: {0}")]
    Unavailable(String),
    #[error("`after` is no place in the journal: take `next` of the page before")]
    NoPlace,
}

/// How much the journal keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JournalBounds {
    pub retention: Duration,
    /// Bytes, about.
    pub max_bytes: u64,
}

/// Where entries are kept.
#[async_trait]
pub trait Journal: Send + Sync {
    /// Adds entries; the oldest go where there are too many.
    async fn append(&self, entries: Vec<Entry>, bounds: JournalBounds) -> Result<(), JournalError>;

    /// Entries that match, the newest first, before a place that an earlier page ended at.
    ///
    /// # Errors
    /// Also if that is no such place.
    async fn find(
        &self,
        query: &JournalQuery,
        after: Option<&str>,
        limit: usize,
    ) -> Result<JournalPage, JournalError>;

    /// Takes away what there is of deliveries of messages, by their ids.
    async fn erase_messages(&self, ids: Vec<String>) -> Result<(), JournalError>;
}
