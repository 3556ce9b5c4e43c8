//! Queues whose subscriber wants the order of each entity kept, and not of the whole queue (contract §3): a worker has
//! a **window** of the queue in hand, of which it delivers several batches at once. Events of an entity that fails are
//! **set aside**, out of the others' way, and come again in their own time.

use std::time::Duration;

use async_trait::async_trait;

use super::{Lane, QueueLease, StoreResult};
use crate::bus::attempt::Failure;
use crate::bus::entity::Entity;
use crate::bus::health::Health;
use crate::bus::item::QueuedItem;

/// How many entities of a queue may be set aside, how many events of all of them, and how many bytes these take, about:
/// with more, what fails holds up the queue. Nothing of it is ever dropped to make room.
pub const ENTITIES_ASIDE_MAX: usize = 1_000;
pub const EVENTS_ASIDE_MAX: usize = 10_000;
pub const BYTES_ASIDE_MAX: usize = 8 * 1024 * 1024;

/// An entity that is set aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AsideEntity {
    pub entity: Entity,
    /// How many events of it are.
    pub events: usize,
    /// What these take, about.
    pub bytes: usize,
    /// How often its first batch has failed.
    pub attempts: u32,
    /// In what time it is to be tried again.
    pub due_in: Duration,
}

/// How far a worker has come with a window.
#[derive(Clone, Debug)]
pub struct WindowStep {
    pub lease: QueueLease,
    /// Which events of the window are acknowledged, by their places in it, from 0.
    pub done: Vec<usize>,
    /// Which are set aside, with their entities; in the order of the window. None of them is done.
    pub aside: Vec<(usize, Entity)>,
    /// What became of entities that are set aside, by then.
    pub entities: Vec<AsideProgress>,
    pub health: Health,
    /// The last failure since the step before.
    pub failure: Option<Failure>,
    /// Whether the failures before are over, unless something is set aside.
    pub has_recovered: bool,
    /// How many events are wanted behind those that stay in the window.
    pub more: usize,
}

/// What became of an entity that is set aside.
#[derive(Clone, Debug)]
pub struct AsideProgress {
    pub entity: Entity,
    /// How many of its first events are acknowledged.
    pub done: usize,
    /// Why the one after these becomes a dead letter, if it does.
    pub dead: Option<Failure>,
    pub attempts: u32,
    pub due_in: Duration,
}

/// What a step brought.
#[derive(Clone, Debug)]
pub struct Window {
    /// The lease from now on: the one before counts no more.
    pub lease: QueueLease,
    /// What has come into the window, behind what stays in it.
    pub items: Vec<QueuedItem>,
    /// Nothing more is to be sent.
    pub is_paused: bool,
}

/// Delivering in the order of entities. Each call needs the queue's lease, and without it changes nothing.
#[async_trait]
pub trait EntityOrder: Send + Sync + 'static {
    /// Records a step, and prolongs the lease to `lease` from now; `None` if it was lost before.
    async fn step_window(
        &self,
        lane: Lane,
        step: WindowStep,
        lease: Duration,
    ) -> StoreResult<Option<Window>>;

    /// Gives a lease back; what is left in the window comes again.
    async fn close_window(&self, lane: Lane, lease: &QueueLease) -> StoreResult<()>;

    /// Whether something stands behind the window.
    async fn is_behind_window(&self, lane: Lane, lease: &QueueLease) -> StoreResult<bool>;

    /// The entities of a queue that are set aside.
    async fn entities_aside(&self, lane: Lane, lease: &QueueLease)
    -> StoreResult<Vec<AsideEntity>>;

    /// The first events of an entity that is set aside.
    async fn events_aside(
        &self,
        lane: Lane,
        lease: &QueueLease,
        entity: &Entity,
        limit: usize,
    ) -> StoreResult<Vec<QueuedItem>>;
}
