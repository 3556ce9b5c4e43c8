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
//! - **Dropping**: who holds most gives first, its oldest items. A batch in flight is left alone.
//!
//! `rusqlite` is known to `sqlite` only, `fred` to `redis` only.

mod alarm;
mod arrivals;
mod budget;
mod calls;
#[cfg(test)]
pub(crate) mod conformance;
mod control;
mod dead_events;
mod directory;
mod drops;
mod duties;
mod entity_order;
mod error;
mod held_duty;
mod imports;
mod kept_events;
mod lanes;
mod message_topics;
mod messages;
mod new_call;
mod processes;
mod pulls;
mod queues;
pub mod redis;
mod room;
pub mod sqlite;
mod tallies;

use async_trait::async_trait;

pub use alarm::Alarm;
pub use arrivals::{Arrival, Arrivals};
pub use budget::Budget;
pub use calls::{
    Acceptance, Accepted, CALLS_AT_ONCE, CallCancelled, CallClaim, CallCounts, CallFilter, CallKey,
    CallLease, CallMemory, CallOutcome, CallSettled, CallSettlement, CallStatus, CallTitle, Calls,
    DestinationLimits, DestinationStatus, LeasedCall, NewCall, WAITING_COUNTED,
};
pub use control::{Control, Retried, SKIP_STEP, Skip, Skipped, WaitingEvent};
pub use dead_events::{
    DEAD_EVENTS_AT_ONCE, DeadBounds, DeadCause, DeadCursor, DeadEvent, DeadEvents, DeadEventsPage,
    ForgottenDead,
};
pub use directory::{Directory, Subscribed, TopicDeleted};
pub use drops::{Dropped, Drops};
pub use duties::{Duties, Duty};
pub use entity_order::{
    AsideEntity, AsideProgress, BYTES_ASIDE_MAX, ENTITIES_ASIDE_MAX, EVENTS_ASIDE_MAX, EntityOrder,
    Window, WindowStep,
};
pub use error::{StoreError, StoreResult};
pub use held_duty::HeldDuty;
pub use imports::{
    IMPORT_MAX_BYTES, IMPORT_MAX_ITEMS, IMPORT_MEMORY, ImportedPortion, ImportedTopic, Imports,
    Portion, Taken,
};
pub use kept_events::{Caught, KEPT_AT_ONCE, KeepSet, KeptEvents};
pub use lanes::{Lane, Lanes};
pub use message_topics::{
    MessagePublisher, MessageTopic, MessageTopics, PublisherAdded, PublisherChanged,
    PublisherRemoved, TopicAdded, TopicRemoved,
};
pub use messages::{
    AcceptedMessage, Forgotten, MESSAGES_AT_ONCE, MessageAcceptance, MessageCounts,
    MessageDelivery, MessageRecord, Messages, MessagesAccepted, NewMessageGroup, PublisherBehind,
    delivery_key, publisher_of,
};
pub use processes::Processes;
pub use pulls::{PullRequest, Pulled, PulledBatch, Pulls};
pub use queues::{
    BROKEN_OFF_AFTER, BatchOutcome, BatchSettled, BatchSettlement, CLAIM_MAX_BYTES, CLOCK_STEP,
    LeasedBatch, NEW_UUID_PAUSE, PUBLISH_KEYS_KEPT, PUBLISH_KEYS_MAX, Publication, PublishKey,
    Published, Publisher, QueueClaim, QueueLease, Queues,
};
pub use room::{DROP_STEP, ITEM_OVERHEAD, Room, Usage, fullest_usage};
pub use tallies::{TALLY_SUBJECTS_MAX, Tallies};

/// What batches are delivered from.
pub trait BatchStore: Queues + EntityOrder {}

impl<S: Queues + EntityOrder> BatchStore for S {}

/// What the bus remembers. Every call is bounded in time: a store that does not answer gives
/// [`StoreError::Unavailable`]. A caller takes the part that it uses.
#[async_trait]
pub trait Store:
    BatchStore
    + Pulls
    + Control
    + DeadEvents
    + KeptEvents
    + Calls
    + MessageTopics
    + Messages
    + Directory
    + Room
    + Duties
    + Processes
    + Tallies
    + Imports
{
    /// Answers if the store can be written to.
    async fn ping(&self) -> StoreResult<()>;

    /// Completes when the store can never work again in this process, and says why; a process that goes on
    /// would look well and do nothing.
    async fn broken(&self) -> StoreError;

    /// The store in a few words, for people; no password.
    fn describe(&self) -> String;
}
