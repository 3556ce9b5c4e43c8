//! Where messages are kept that wait for nobody any more, if that is not the store: months of them need not stand in a
//! Redis' memory. What waits stays in the store, and nothing that is delivered asks for anything here.

#[cfg(feature = "postgres")]
pub mod postgres;

use async_trait::async_trait;

use crate::bus::call::CallState;
use crate::bus::message::MessageText;
use crate::store::{MessageRecord, StoreError};

/// Why history could not be written or read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("history is not available: {0}")]
pub struct HistoryError(pub String);

impl From<HistoryError> for StoreError {
    fn from(error: HistoryError) -> Self {
        Self::Unavailable(error.to_string())
    }
}

pub type HistoryResult<T> = Result<T, HistoryError>;

/// Which messages somebody looks for; what is `None` does not matter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HistoryQuery {
    pub topic_id: Option<u64>,
    pub publisher_id: Option<u64>,
    /// With the publisher, or with any.
    pub state: Option<CallState>,
    /// What stands in payload or attributes, whatever its case.
    pub text: Option<MessageText>,
    /// Received then or later, in milliseconds since the epoch.
    pub since_ms: Option<u64>,
    /// Received before then.
    pub until_ms: Option<u64>,
}

/// Messages that wait for nobody.
#[async_trait]
pub trait MessageHistory: Send + Sync {
    /// Keeps messages; one that is there already stays as it is.
    async fn add(&self, messages: Vec<MessageRecord>) -> HistoryResult<()>;

    /// Messages below a number that match, the newest first.
    async fn find_messages(
        &self,
        query: &HistoryQuery,
        before: u64,
        limit: usize,
    ) -> HistoryResult<Vec<MessageRecord>>;

    /// The message of this number, or of which this is the number of a delivery.
    async fn message(&self, number: u64) -> HistoryResult<Option<MessageRecord>>;

    /// Messages of a topic after a number, the oldest first.
    async fn after(
        &self,
        topic_id: u64,
        number: u64,
        limit: usize,
    ) -> HistoryResult<Vec<MessageRecord>>;

    /// Takes messages away with all that is known of them; for each whether it was there.
    async fn erase(&self, numbers: &[u64]) -> HistoryResult<Vec<bool>>;

    /// Removes what was received before a time, a whole day at once.
    async fn remove_before(&self, before_ms: u64) -> HistoryResult<()>;

    /// Answers if it can be used.
    async fn ping(&self) -> HistoryResult<()>;
}
