//! What passed, counted over time.

use async_trait::async_trait;

use super::StoreResult;
use crate::bus::tally::{Span, Subject, Tally};

/// How many subjects there are charts of at most. One that is new when there are so many is not counted until others
/// have not been for as long as [`Span::Day`] is kept.
pub const TALLY_SUBJECTS_MAX: usize = 1_000;

/// Counts in buckets of a minute, an hour and a day, as many as [`Span::kept`] says. They are for looking at: what is
/// counted last may be lost with the process that counted it.
#[async_trait]
pub trait Tallies: Send + Sync + 'static {
    /// Adds what passed to the buckets that a moment, in milliseconds since the epoch, is in.
    async fn add_tallies(&self, at_ms: u64, tallies: Vec<(Subject, Tally)>) -> StoreResult<()>;

    /// What passed in the buckets that begin at these times; those without anything are left out.
    async fn tallies(
        &self,
        subject: &Subject,
        span: Span,
        starts_ms: Vec<u64>,
    ) -> StoreResult<Vec<(u64, Tally)>>;
}
