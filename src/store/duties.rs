//! Work on the whole store that one process at a time does for all.

use std::time::Duration;

use async_trait::async_trait;

use super::StoreResult;

/// Work on the whole store that one process at a time does for all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Duty {
    /// Looking whether anything is too old or too much.
    Upkeep,
    /// Making room, for as long as one run takes.
    Autodrop,
    /// Reporting how long the queues are.
    Gauges,
    /// Counting, for charts, what waits.
    Tallies,
    /// Fetching messages that got lost on their way here.
    Recovery,
    /// Looking after messages that nobody forwards just now.
    Messages,
}

impl Duty {
    /// Its name in the store.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Upkeep => "upkeep",
            Self::Autodrop => "autodrop",
            Self::Gauges => "gauges",
            Self::Tallies => "tallies",
            Self::Recovery => "recovery",
            Self::Messages => "messages",
        }
    }
}

/// Which process does what for all.
#[async_trait]
pub trait Duties: Send + Sync + 'static {
    /// Whether this process has a duty, from now on for `term`. It keeps what it has, and gets
    /// what nobody has; a term of zero gives the duty back.
    async fn take_duty(&self, duty: Duty, term: Duration) -> StoreResult<bool>;
}
