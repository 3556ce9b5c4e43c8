//! Into which parts a store is divided.

use async_trait::async_trait;

use super::StoreResult;

/// A part of the store whose queues are worked off by themselves, so that a part which is on its way
/// from one node of a Cluster to another holds up no other one. Each subscriber has its queue in one
/// lane. An embedded store, and a Redis that is no Cluster, has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lane(usize);

impl Lane {
    /// The lane that every store has, and that keeps what is not a subscriber's.
    pub const HOME: Lane = Lane(0);

    /// How many there can be.
    pub const MAX: usize = 64;

    /// The first lanes, as many as are asked for.
    pub fn first(count: usize) -> impl ExactSizeIterator<Item = Lane> {
        (0..count).map(Lane)
    }

    /// From 0.
    pub fn index(self) -> usize {
        self.0
    }
}

/// How a store is divided.
#[async_trait]
pub trait Lanes: Send + Sync + 'static {
    /// How many lanes the store has; it never changes.
    async fn lanes(&self) -> StoreResult<usize>;
}
