//! How much room the store takes, and what is dropped so that there is some.

use std::time::Duration;

use async_trait::async_trait;

use super::{Drops, Lane, Lanes, StoreResult};

/// How many items one call drops at most: so long must a publisher be able to wait.
pub const DROP_STEP: usize = 2_000;

/// What an item costs beyond its own bytes, about, on either store.
pub const ITEM_OVERHEAD: u64 = 24;

/// How much room the store takes up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Bytes.
    pub used: u64,
    /// Bytes that the store is limited to by its own settings, if it is.
    pub limit: Option<u64>,
    /// Processor time that a server of its own has used, in user and in system mode.
    pub cpu: Option<(Duration, Duration)>,
}

impl Usage {
    /// What is left for events, where so many bytes are others' that have room of their own.
    pub fn without(self, others: u64) -> Self {
        Self {
            used: self.used.saturating_sub(others),
            limit: self.limit.map(|limit| limit.saturating_sub(others)),
            ..self
        }
    }
}

/// The room that is taken, and how some is made.
#[async_trait]
pub trait Room: Lanes {
    /// How much room is taken up where a lane is; several lanes may share it. Calls and the journal do not
    /// count: they have room of their own.
    async fn usage(&self, lane: Lane) -> StoreResult<Usage>;

    /// The lanes that share the room of this one, itself among them.
    async fn neighbours(&self, lane: Lane) -> StoreResult<Vec<Lane>>;

    /// What could be dropped of each queue of a lane: all behind what is in flight. Items are counted,
    /// bytes estimated.
    async fn droppable(&self, lane: Lane) -> StoreResult<Drops>;

    /// Drops the oldest items of a lane, oldest first across the queues that have a share to give and of
    /// none more than its share, until they amount to `bytes` or to [`DROP_STEP`] items; nothing of what is
    /// in flight. The last item of each may go past its share.
    async fn drop_oldest(&self, lane: Lane, bytes: u64, shares: &Drops) -> StoreResult<Drops>;

    /// Drops what is older than its subscriber's `retention`, or more than its `max_queued` behind
    /// what is in flight, up to [`DROP_STEP`] items of a lane.
    async fn drop_expired(&self, lane: Lane) -> StoreResult<Drops>;
}

/// How much room is taken up where most of it is, of all places where the store has lanes.
///
/// # Errors
/// If one of them cannot be asked.
pub async fn fullest_usage(store: &dyn Room) -> StoreResult<Usage> {
    let mut fullest = store.usage(Lane::HOME).await?;
    for lane in Lane::first(store.lanes().await?).skip(1) {
        let usage = store.usage(lane).await?;
        if usage.used > fullest.used {
            fullest = usage;
        }
    }
    Ok(fullest)
}
