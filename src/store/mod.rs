//! The store: what the bus remembers, behind one trait with two implementations.
//!
//! [`Store`] speaks the domain. Its rules, which `conformance` checks against both stores:
//!
//! - **Order**: a queue gives its items out in the order in which they were committed.
//! - **No loss**: an item leaves its queue only by an acknowledgement of the batch that held it,
//!   with its queue when the subscriber is removed, or by being dropped, and then it is counted.
//! - **Exclusivity**: a queue is leased to one holder at a time. A lease that ran out may be
//!   taken over; its former holder's settle then changes nothing (fencing).
//! - **Stable batches**: a batch that was given out once is given out with the same items and
//!   the same [`BatchId`](crate::bus::batch::BatchId) until it is acknowledged. What is left of
//!   one whose items were dropped while it waited to be sent again is another batch.
//! - **Importing**: what another bus held is taken once, however often it is brought.
//! - **Dropping**: the oldest items go first, across queues. A batch in flight is left alone.
//!
//! `rusqlite` is known to `sqlite` only, `fred` to `redis` only.

mod alarm;
#[cfg(test)]
pub(crate) mod conformance;
mod drops;
mod imports;
pub mod redis;
pub mod sqlite;

use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use crate::bus::attempt::Failure;
use crate::bus::batch::{Batch, Item};
use crate::bus::health::Health;
use crate::bus::subscription::{Delivery, Subscription, SubscriptionRequest, SubscriptionStatus};
use crate::bus::token::{ApiToken, ClientToken};
use crate::bus::topic::{Topic, TopicName};

pub use alarm::Alarm;
pub use drops::{Dropped, Drops};
pub use imports::{
    IMPORT_MAX_BYTES, IMPORT_MAX_ITEMS, IMPORT_MEMORY, ImportedPortion, ImportedTopic, Portion,
    Taken,
};

/// Items that one client publishes to one topic in one request.
#[derive(Clone, Debug)]
pub struct Publication {
    pub topic: TopicName,
    pub publisher: ClientToken,
    pub items: Vec<Item>,
}

/// What became of a publication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Published {
    /// Every item is in every subscribed queue.
    Stored,
    /// The topic belongs to another client; nothing was stored.
    OwnedByAnother,
}

/// What became of a request to subscribe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subscribed {
    Done,
    /// This topic does not exist; nothing was changed.
    UnknownTopic(TopicName),
    /// The subscription keeps an age after which events are dropped, and this is not more than the
    /// new timeout: none would ever be delivered. Nothing was changed.
    KeptRetentionTooShort(Duration),
}

/// What became of a request to delete a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TopicDeleted {
    Done,
    Unknown,
    OwnedByAnother,
}

/// The right to deliver from one queue, for as long as it is renewed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Lease {
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
    pub lease: Lease,
    pub delivery: Delivery,
    pub health: Health,
    /// How long its oldest item has waited, by the store's clock, when it was given out.
    pub waited: Duration,
    pub batch: Batch,
}

/// What a look for work found.
#[derive(Debug, Default)]
pub struct Claim {
    pub batches: Vec<LeasedBatch>,
    /// When the next queue is due, or a lease runs out; `None` if nothing waits.
    pub next_due: Option<Duration>,
}

/// How a delivery ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The batch leaves its queue.
    Acknowledged,
    /// The batch stays at the head and is due again after the pause.
    Failed { retry_in: Duration },
    /// The batch was not sent; it stays at the head and is due at once.
    Returned,
}

/// What a worker reports about a leased batch.
#[derive(Clone, Debug)]
pub struct Settlement {
    pub lease: Lease,
    pub outcome: Outcome,
    /// Why it failed, to be shown until the queue's next acknowledgement.
    pub failure: Option<Failure>,
    /// The subscriber's health from now on.
    pub health: Health,
    /// Whether the worker would take the queue's next batch, if one is due, under the same lease.
    pub take_next: bool,
}

/// What became of a settlement.
#[derive(Debug)]
pub enum Settled {
    /// The queue has its next batch due already; the lease goes on.
    Next(Box<LeasedBatch>),
    /// The lease is given back.
    Released,
    /// The lease was lost before; nothing was changed.
    Stale,
}

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

/// Work on the whole store that one process at a time does for all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Duty {
    /// Looking whether anything is too old or too much.
    Upkeep,
    /// Making room, for as long as one run takes.
    Autodrop,
    /// Reporting how long the queues are.
    Gauges,
}

impl Duty {
    /// Its name in the store.
    fn name(self) -> &'static str {
        match self {
            Self::Upkeep => "upkeep",
            Self::Autodrop => "autodrop",
            Self::Gauges => "gauges",
        }
    }
}

/// A part of the store whose queues are worked off by themselves, so that a part which is on its way
/// from one node of a Cluster to another holds up no other one. Each subscriber has its queue in one
/// lane. An embedded store, and a Redis that is no Cluster, has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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

/// Why the store did not do what it was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// It cannot be reached or is too busy; the same call may succeed later.
    #[error("the store is not available: {0}")]
    Unavailable(String),
    /// It has no room left for what it was to store.
    #[error("the store is full: {0}")]
    Full(String),
    /// It answered something that the bus does not understand.
    #[error("the store answered wrongly: {0}")]
    Corrupt(String),
}

/// By how much the clock may be set back without anything being done about it.
const CLOCK_STEP: Duration = Duration::from_secs(1);

/// How long after the end of its lease a delivery has been broken off for certain: workers renew
/// leases more often than this.
pub const BROKEN_OFF_AFTER: Duration = Duration::from_secs(2);

/// How many items one call drops at most: so long must a publisher be able to wait.
pub const DROP_STEP: usize = 2_000;

/// What an item costs beyond its own bytes, about, on either store.
pub const ITEM_OVERHEAD: u64 = 24;

/// Where a claim ends even if more queues are due: so much must fit into one answer of a store,
/// and into its time.
pub const CLAIM_MAX_BYTES: usize = 16 * 1024 * 1024;

pub type StoreResult<T> = Result<T, StoreError>;

/// What the bus remembers. Every call is bounded in time: a store that does not answer gives
/// [`StoreError::Unavailable`].
#[async_trait]
pub trait Store: Send + Sync + 'static {
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

    /// How many calls of [`Store::publish`] are worth having under way at once; more of them would
    /// only make the groups smaller.
    fn commits_at_once(&self) -> usize;

    /// Makes what is asked for the subscriber's subscription; queued items stay. A new
    /// callback or uuid starts with full health, and a batch that waits to be sent again is due
    /// at once. A batch in flight to an old callback loses its lease, and is due
    /// [`BROKEN_OFF_AFTER`].
    /// With `create_topics`, topics that do not exist are created without a publisher.
    async fn subscribe(
        &self,
        subscriber: &ClientToken,
        request: &SubscriptionRequest,
        create_topics: bool,
    ) -> StoreResult<Subscribed>;

    /// Removes a subscriber with its queue; `false` if there was none.
    async fn unsubscribe(&self, subscriber: &ClientToken) -> StoreResult<bool>;

    /// Takes one topic out of a subscription; `false` if it was not in it. Queued items stay.
    async fn unsubscribe_topic(
        &self,
        subscriber: &ClientToken,
        topic: &TopicName,
    ) -> StoreResult<bool>;

    /// Deletes a topic and takes it out of all subscriptions; queued items stay. With an
    /// `owner`, only if it is the topic's publisher.
    async fn delete_topic(
        &self,
        topic: &TopicName,
        owner: Option<&ClientToken>,
    ) -> StoreResult<TopicDeleted>;

    /// All topics, by name.
    async fn topics(&self) -> StoreResult<Vec<Topic>>;

    /// All subscriptions, by subscriber.
    async fn subscriptions(&self) -> StoreResult<Vec<SubscriptionStatus>>;

    /// One subscriber's subscription.
    async fn subscription(
        &self,
        subscriber: &ClientToken,
    ) -> StoreResult<Option<SubscriptionStatus>>;

    /// How many batches are due within this time, those in flight included.
    async fn due_batches(&self, within: Duration) -> StoreResult<u64>;

    /// All tokens made through `/api_tokens`, by name and then by token.
    async fn api_tokens(&self) -> StoreResult<Vec<ApiToken>>;

    /// Adds a token, or renames one that exists.
    async fn add_api_token(&self, token: &ApiToken) -> StoreResult<()>;

    /// Removes a token, if it exists. The client's topics and subscription stay.
    async fn delete_api_token(&self, token: &ClientToken) -> StoreResult<()>;

    /// Answers if the store can be written to.
    async fn ping(&self) -> StoreResult<()>;

    /// How many lanes the store has; it never changes.
    async fn lanes(&self) -> StoreResult<usize>;

    /// Leases up to `limit` queues of a lane that have a batch due and gives out their batches;
    /// fewer once they hold [`CLAIM_MAX_BYTES`] together.
    async fn claim(&self, lane: Lane, limit: usize, lease: Duration) -> StoreResult<Claim>;

    /// Records how a delivery ended and, if asked, takes the queue's next batch in the same step.
    async fn settle(&self, settlement: Settlement, lease: Duration) -> StoreResult<Settled>;

    /// Prolongs leases of one lane's queues to `lease` from now. Returns those that were lost.
    async fn renew(&self, lane: Lane, leases: &[Lease], lease: Duration)
    -> StoreResult<Vec<Lease>>;

    /// How much room is taken up where a lane is; several lanes may share it.
    async fn usage(&self, lane: Lane) -> StoreResult<Usage>;

    /// Drops the oldest items of a lane, oldest first across its queues, until they amount to
    /// `bytes` or to [`DROP_STEP`] items; nothing if nothing is left but batches in flight.
    async fn drop_oldest(&self, lane: Lane, bytes: u64) -> StoreResult<Drops>;

    /// What [`Store::drop_oldest`] would drop if `before` had been dropped already.
    async fn preview_drop(&self, lane: Lane, bytes: u64, before: &Drops) -> StoreResult<Drops>;

    /// Drops what is older than its subscriber's `retention`, or more than its `max_queued` behind
    /// what is in flight, up to [`DROP_STEP`] items of a lane.
    async fn drop_expired(&self, lane: Lane) -> StoreResult<Drops>;

    /// Whether this process has a duty, from now on for `term`. It keeps what it has, and gets
    /// what nobody has; a term of zero gives the duty back.
    async fn take_duty(&self, duty: Duty, term: Duration) -> StoreResult<bool>;

    /// Brings a topic of another bus in. One that is there keeps its publisher, or gets this one if
    /// it has none; it counts as many events as were received there or here, whichever is more.
    async fn import_topic(&self, topic: &Topic) -> StoreResult<ImportedTopic>;

    /// Brings a subscriber of another bus in, with an empty queue. `false` if it is there: it then
    /// stays as it is. The topics must have been brought in before.
    async fn import_subscriber(
        &self,
        subscriber: &ClientToken,
        subscription: &Subscription,
        health: Health,
    ) -> StoreResult<bool>;

    /// Puts portions of batches of another bus at the end of a subscriber's queue, in order, and
    /// says what became of each; `None` if there is no such subscriber. The items count as accepted
    /// when their batch was begun, but not later than now nor earlier than what they follow.
    ///
    /// What was taken is remembered for [`IMPORT_MEMORY`], or as long as the queue lives. No more
    /// than [`IMPORT_MAX_ITEMS`] and [`IMPORT_MAX_BYTES`] in one call.
    async fn import_batches(
        &self,
        subscriber: &ClientToken,
        portions: Vec<Portion>,
    ) -> StoreResult<Option<Vec<ImportedPortion>>>;

    /// How much of each of these batches of another bus was taken for a subscriber.
    async fn imported_batches(
        &self,
        subscriber: &ClientToken,
        batches: &[String],
    ) -> StoreResult<Vec<Taken>>;

    /// Rings when a queue of a lane may have come due. The first call starts listening to other
    /// processes.
    fn alarm(&self, lane: Lane) -> &Alarm;

    /// The store in a few words, for people; no password.
    fn describe(&self) -> String;
}

/// How much room is taken up where most of it is, of all places where the store has lanes.
///
/// # Errors
/// If one of them cannot be asked.
pub async fn fullest_usage(store: &dyn Store) -> StoreResult<Usage> {
    let mut fullest = store.usage(Lane::HOME).await?;
    for lane in Lane::first(store.lanes().await?).skip(1) {
        let usage = store.usage(lane).await?;
        if usage.used > fullest.used {
            fullest = usage;
        }
    }
    Ok(fullest)
}
