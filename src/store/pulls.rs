//! Pulling: a subscriber that has no callback asks for its batches (contract §13).

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::{Arrivals, LeasedBatch, StoreResult};
use crate::bus::batch::BatchId;
use crate::bus::token::ClientToken;

/// What a subscriber asks for.
#[derive(Clone, Debug)]
pub struct PullRequest {
    /// The batch that it has worked off.
    pub acknowledge: Option<BatchId>,
    /// Events in its next one, at most, if the subscription does not allow fewer.
    pub max: u32,
    /// How long nobody else gets that batch.
    pub lease: Duration,
}

/// What it gets.
#[derive(Debug)]
pub enum Pulled {
    Batch(Box<LeasedBatch>),
    /// Nothing waits.
    Nothing,
    /// Its batch is out, and comes again after this time unless it is acknowledged.
    Out(Duration),
    /// What it would acknowledge is not its batch, or not any more; nothing was changed.
    Stale,
    Paused,
    /// It has no subscription, or one with another target.
    NoPullQueue,
}

/// What became of an acknowledgement, or of a release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PulledBatch {
    /// It is done; the batch had so many events, and this was the attempt.
    Done { events: u64, attempt: u32 },
    /// It is not the subscriber's batch, or not any more; nothing was changed.
    Stale,
}

/// Pulling from queues.
#[async_trait]
pub trait Pulls: Send + Sync + 'static {
    /// Gives out a subscriber's batch, after it has acknowledged the one before: the same one as long as it is not
    /// acknowledged, but only when its lease is over.
    async fn pull(&self, subscriber: &ClientToken, request: &PullRequest) -> StoreResult<Pulled>;

    /// Takes a batch off its queue, whether its lease is over or not, unless another one was given out since.
    async fn acknowledge_pulled(
        &self,
        subscriber: &ClientToken,
        batch: &BatchId,
    ) -> StoreResult<PulledBatch>;

    /// Gives a batch back before its lease is over.
    async fn release_pulled(
        &self,
        subscriber: &ClientToken,
        batch: &BatchId,
    ) -> StoreResult<PulledBatch>;

    /// Who waits for events of which queue. The first call starts listening to other processes.
    fn arrivals(&self) -> &Arc<Arrivals>;
}
