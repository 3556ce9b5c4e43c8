//! Queues: what publishers put in, and workers deliver from.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use super::{Alarm, Lane, Lanes, StoreResult};
use crate::bus::attempt::Failure;
use crate::bus::batch::Batch;
use crate::bus::health::Health;
use crate::bus::item::Item;
use crate::bus::position::EventPosition;
use crate::bus::subscription::Terms;
use crate::bus::subscription::options::DeliveryOptions;
use crate::bus::token::ClientToken;
use crate::bus::topic::TopicName;

/// By how much the clock may be set back without anything being done about it.
pub const CLOCK_STEP: Duration = Duration::from_secs(1);

/// How long after the end of its lease a delivery has been broken off by a worker that reaches the store:
/// it renews leases more often than this. One that is cut off from the store goes on until the lease that
/// it knows of runs out.
pub const BROKEN_OFF_AFTER: Duration = Duration::from_secs(2);

/// In what time a batch that waits to be sent again is due at the latest when its subscriber has a new `uuid`:
/// not at once, or each change would send a whole batch to whoever refuses it.
pub const NEW_UUID_PAUSE: Duration = Duration::from_secs(10);

/// Where a claim ends even if more queues are due: so much must fit into one answer of a store,
/// and into its time.
pub const CLAIM_MAX_BYTES: usize = 16 * 1024 * 1024;

/// Items that one client publishes to one topic in one request.
#[derive(Clone, Debug)]
pub struct Publication {
    pub topic: TopicName,
    pub publisher: ClientToken,
    pub items: Vec<Item>,
    /// What makes it stored once, however often it comes.
    pub key: Option<PublishKey>,
}

/// What tells a publication that comes again from another one, for [`PUBLISH_KEYS_KEPT`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishKey {
    /// Of its publisher and the key that it chose; no other publication has it.
    pub name: String,
    /// Of what is published.
    pub fingerprint: String,
}

/// How long the key of a publication is known (contract §14), and of how many publications of one client, the last
/// ones. They take room that autodrop cannot make free.
pub const PUBLISH_KEYS_KEPT: Duration = Duration::from_secs(24 * 3600);
pub const PUBLISH_KEYS_MAX: usize = 20_000;

/// What became of a publication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Published {
    /// Every item is in every subscribed queue. The first one has this position, and each of the others the
    /// one after that of the one before.
    Stored(EventPosition),
    /// It was stored before, under the same key, from this position on; nothing was stored now.
    StoredBefore(EventPosition),
    /// Something else was stored under its key; nothing was stored now.
    KeyTaken,
    /// The topic belongs to another client; nothing was stored.
    OwnedByAnother,
    /// The topic is new, and the client has as many as it may; nothing was stored.
    TooManyTopics,
}

/// The right to deliver from one queue, for as long as it is renewed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct QueueLease {
    pub subscriber: ClientToken,
    /// The queue's own name; a subscriber that leaves and comes back gets a new queue.
    pub queue: String,
    /// The fencing number: no two leases of a queue have the same, not even if the store has lost
    /// its last changes in between, because it is at least the time in microseconds.
    pub fence: u64,
}

/// A batch to deliver, with all that is needed to do so.
#[derive(Clone, Debug)]
pub struct LeasedBatch {
    pub lease: QueueLease,
    pub terms: Terms,
    pub options: DeliveryOptions,
    pub health: Health,
    /// How long its oldest item has waited, by the store's clock, when it was given out.
    pub waited: Duration,
    pub batch: Batch,
}

/// What a look for work found.
#[derive(Debug, Default)]
pub struct QueueClaim {
    pub batches: Vec<LeasedBatch>,
    /// When the next queue is due, or a lease runs out; `None` if nothing waits.
    pub next_due: Option<Duration>,
}

/// How a delivery ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchOutcome {
    /// The batch leaves its queue.
    Acknowledged,
    /// The batch stays at the head and is due again after the pause.
    Failed { retry_in: Duration },
    /// The batch stays at the head, and the subscription is paused: its callback is gone.
    Gone,
    /// The batch was not sent; it stays at the head and is due at once.
    Returned,
}

/// What a worker reports about a leased batch.
#[derive(Clone, Debug)]
pub struct BatchSettlement {
    pub lease: QueueLease,
    pub outcome: BatchOutcome,
    /// Why it failed, to be shown until the queue's next acknowledgement.
    pub failure: Option<Failure>,
    /// The subscriber's health from now on.
    pub health: Health,
    /// Whether the worker would take the queue's next batch, if one is due, under the same lease.
    pub take_next: bool,
}

/// What became of a settlement.
#[derive(Debug)]
pub enum BatchSettled {
    /// The queue has its next batch due already; the lease goes on.
    Next(Box<LeasedBatch>),
    /// The lease is given back.
    Released,
    /// The lease was lost before; nothing was changed.
    Stale,
}

/// Puts publications into queues.
#[async_trait]
pub trait Publisher: Send + Sync {
    /// Commits publications together, in order, and says for each what became of it.
    ///
    /// Creates a topic on its first publication, and gives it its publisher. On success
    /// everything is as durable as the store can make it. After `give_up` the publishers are told
    /// that nothing was stored, so what has not begun by then is not begun.
    async fn publish(
        &self,
        publications: Vec<Publication>,
        give_up: Instant,
    ) -> StoreResult<Vec<Published>>;

    /// How many calls of [`Publisher::publish`] are worth having under way at once; more of them would
    /// only make the groups smaller.
    fn commits_at_once(&self) -> usize;
}

/// What comes into queues and goes out of them.
#[async_trait]
pub trait Queues: Publisher + Lanes {
    /// A publisher for one thread: with a connection of its own where the store has connections. What that needs is
    /// spawned on the runtime that this is called on.
    ///
    /// # Errors
    /// If none can be made.
    fn publisher(self: Arc<Self>) -> anyhow::Result<Arc<dyn Publisher>>;

    /// Forgets keys of publications that need not be known any more, if that does not happen by itself.
    async fn forget_publish_keys(&self) -> StoreResult<()>;

    /// How many batches are due within this time, those in flight included.
    async fn due_batches(&self, within: Duration) -> StoreResult<u64>;

    /// Leases up to `limit` queues of a lane that have a batch due and gives out their batches;
    /// fewer once they hold [`CLAIM_MAX_BYTES`] together.
    async fn claim_queues(
        &self,
        lane: Lane,
        limit: usize,
        lease: Duration,
    ) -> StoreResult<QueueClaim>;

    /// Records how deliveries from a lane's queues ended and, where that is asked for, takes the queue's
    /// next batch in the same step; no more once those hold [`CLAIM_MAX_BYTES`] together. Says for each
    /// what became of it.
    async fn settle_batches(
        &self,
        lane: Lane,
        settlements: Vec<BatchSettlement>,
        lease: Duration,
    ) -> StoreResult<Vec<BatchSettled>>;

    /// Prolongs leases of one lane's queues to `lease` from now. Returns those that were lost.
    async fn renew_queues(
        &self,
        lane: Lane,
        leases: &[QueueLease],
        lease: Duration,
    ) -> StoreResult<Vec<QueueLease>>;

    /// Rings when a queue of a lane may have come due. The first call starts listening to other
    /// processes.
    fn alarm(&self, lane: Lane) -> &Alarm;
}
