//! Calls: single requests that are leased, made and settled by themselves (contract §9).

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::time::Instant;

use super::{Alarm, Lane, Lanes, MessagePublisher, StoreResult};
use crate::bus::call::{CallId, CallKind, CallState, Due};
use crate::bus::token::ClientToken;

/// A call that is to be kept.
#[derive(Clone, Debug)]
pub struct NewCall {
    pub key: CallKey,
    pub kind: CallKind,
    /// What tells it from a call of another content with the same key.
    pub fingerprint: String,
    /// What it queues behind.
    pub destination: String,
    pub title: CallTitle,
    /// What is needed beside the title to make it; the store does not look into it.
    pub content: Bytes,
    pub due: Due,
}

/// Method and URL of a call, as people see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallTitle {
    Own(String),
    /// Many calls have the same, which is kept once for all of them.
    Shared(Arc<str>),
}

impl CallTitle {
    pub fn as_str(&self) -> &str {
        match self {
            Self::Own(title) => title,
            Self::Shared(title) => title,
        }
    }
}

/// What names a call: nobody else's has the same.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CallKey {
    pub client: ClientToken,
    pub id: CallId,
}

/// What became of a new call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accepted {
    /// It is kept, with all that came with it.
    Stored,
    /// One of this key and content is there already; nothing was stored.
    Known,
    /// One of this key and another content is there; nothing of what came with it was stored.
    Conflict,
}

/// What became of groups of new calls.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Acceptance {
    pub groups: Vec<Vec<Accepted>>,
    /// How many calls that were given up on were forgotten before their time, to make room.
    pub dead_dropped: u64,
}

/// The right to make a call, for as long as it is renewed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CallLease {
    pub key: CallKey,
    /// The fencing number: no two leases of a call have the same.
    pub fence: u64,
}

/// A call to make.
#[derive(Clone, Debug)]
pub struct LeasedCall {
    pub lease: CallLease,
    pub kind: CallKind,
    pub destination: String,
    pub title: String,
    pub content: Bytes,
    /// From 1.
    pub attempt: u32,
    /// How long ago it was accepted, by the store's clock.
    pub age: Duration,
    /// Who forwards it, if it is a message: as that stands now.
    pub publisher: Option<Arc<MessagePublisher>>,
}

/// What a look for calls found.
#[derive(Debug, Default)]
pub struct CallClaim {
    pub calls: Vec<LeasedCall>,
    /// When the next one is due, or a lease runs out; `None` if nothing waits that may be made.
    pub next_due: Option<Duration>,
}

/// How many calls to one destination may be on their way, all workers together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DestinationLimits {
    pub in_flight: u32,
    /// While its last call has failed.
    pub probes: u32,
    /// To a message publisher; one that sends several messages in one request may have so many requests.
    pub per_publisher: u32,
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallOutcome {
    Done,
    /// It is due again after the pause.
    Failed {
        retry_in: Duration,
    },
    /// It has failed and is given up.
    Dead,
    /// It was not made, which says nothing of the destination; it is due at once.
    Returned,
}

impl CallOutcome {
    /// The pause after which it is due again, if it is.
    pub fn retry_in(self) -> Option<Duration> {
        match self {
            Self::Failed { retry_in } => Some(retry_in),
            Self::Done | Self::Dead | Self::Returned => None,
        }
    }
}

/// What a worker reports about a leased call.
#[derive(Clone, Debug)]
pub struct CallSettlement {
    pub lease: CallLease,
    pub outcome: CallOutcome,
    /// The status that was answered, if one was.
    pub status: Option<u16>,
    /// Why it failed; empty if it did not.
    pub reason: String,
}

impl CallSettlement {
    /// One that says nothing of an answer.
    pub fn new(leased: &LeasedCall, outcome: CallOutcome) -> Self {
        Self { lease: leased.lease.clone(), outcome, status: None, reason: String::new() }
    }
}

/// What became of a settlement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallSettled {
    Recorded,
    /// The lease was lost before; nothing was changed.
    Stale,
}

/// A call as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallStatus {
    pub key: CallKey,
    pub kind: CallKind,
    /// Its place among all calls: what was accepted later has a higher one.
    pub position: u64,
    pub destination: String,
    pub title: String,
    pub state: CallState,
    pub attempts: u32,
    /// In milliseconds since the epoch.
    pub accepted_ms: u64,
    /// When it is made next; `None` while it is on its way, or if it never will be again.
    pub due_ms: Option<u64>,
    /// Of the last attempt that has ended.
    pub status: Option<u16>,
    /// Why that failed; empty if it did not.
    pub reason: String,
}

/// What became of a request to end a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallCancelled {
    /// It is gone, and was not on its way.
    Gone,
    /// It is on its way, and is not repeated.
    OnItsWay,
    Unknown,
}

/// Which calls are looked for; what is `None` does not matter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CallFilter {
    pub state: Option<CallState>,
    pub destination: Option<String>,
    pub client: Option<ClientToken>,
    /// Accepted then or later, in milliseconds since the epoch.
    pub since_ms: Option<u64>,
    /// Accepted before then.
    pub until_ms: Option<u64>,
}

impl CallFilter {
    pub fn matches(&self, call: &CallStatus) -> bool {
        let Self { state, destination, client, since_ms, until_ms } = self;
        state.is_none_or(|state| state == call.state)
            && destination.as_ref().is_none_or(|destination| *destination == call.destination)
            && client.as_ref().is_none_or(|client| *client == call.key.client)
            && since_ms.is_none_or(|since| call.accepted_ms >= since)
            && until_ms.is_none_or(|until| call.accepted_ms < until)
    }
}

/// How many calls of a kind are kept, and what they take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CallCounts {
    /// Not over: those that wait, also to be made again, and those that are on their way.
    pub waiting: u64,
    pub dead: u64,
    /// Of all, those that are done included.
    pub bytes: u64,
}

/// Which of the calls that are over are forgotten: those that ended before these times ago.
#[derive(Clone, Copy, Debug)]
pub struct CallMemory {
    pub done: Duration,
    pub dead: Duration,
}

/// How it goes with the calls to a destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DestinationStatus {
    pub destination: String,
    /// How many calls wait, counted up to [`WAITING_COUNTED`].
    pub waiting: u64,
    /// How many are on their way.
    pub in_flight: u64,
    /// How many attempts have failed since one did not.
    pub failures: u64,
    /// When the next call is due, in milliseconds since the epoch.
    pub due_ms: u64,
}

/// Up to how many calls that wait for a destination are counted.
pub const WAITING_COUNTED: u64 = 1_000;
/// How many destinations are looked at, from either end, for how it goes with them.
pub const DESTINATIONS_SHOWN_OF: usize = 500;

/// What a call costs beyond its content, about, on either store, in bytes.
pub const CALL_OVERHEAD: u64 = 500;
/// How many calls one look ends the leases of, forgets or lists, at most.
pub const CALLS_AT_ONCE: usize = 500;
/// How many calls that are done, and how many that are dead, make room for others at once, at most.
pub const FORGOTTEN_FOR_ROOM: usize = 5_000;
/// How many bytes of contents one look for calls leases at most, beyond the first call.
pub const CLAIMED_MAX_BYTES: usize = 16 * 1024 * 1024;
/// How many destinations one look for calls looks at, at most.
pub const DESTINATIONS_AT_ONCE: usize = 500;

/// Single requests that are made until they succeed. Its rules, which `conformance` checks:
///
/// - **No loss**: a call stays until it is settled as done, is dead and forgotten in its time, or is
///   cancelled.
/// - **Exclusivity**: a call is leased to one holder at a time; a settlement with an old fencing number
///   changes nothing.
/// - **Limits**: no more calls to one destination are leased than its limits say, whoever claims.
/// - **Fairness**: of destinations that are due, each gets a call before any gets two; of one, the one that
///   has been due longest comes first.
#[async_trait]
pub trait Calls: Lanes {
    /// Keeps groups of calls, each as a whole or not at all, as long as all calls of a lane take no more than
    /// `max_bytes`: before that, those that are done are forgotten and then those that are dead, the oldest
    /// first. After `give_up` nobody waits, and what has not begun by then is not begun.
    ///
    /// # Errors
    /// Also [`StoreError::Full`](super::StoreError::Full), and nothing was kept.
    async fn accept_calls(
        &self,
        groups: Vec<Vec<NewCall>>,
        max_bytes: u64,
        give_up: Instant,
    ) -> StoreResult<Acceptance>;

    /// Leases up to `limit` calls of a lane that are due, for the time of `lease`.
    async fn claim_calls(
        &self,
        lane: Lane,
        limit: usize,
        limits: DestinationLimits,
        lease: Duration,
    ) -> StoreResult<CallClaim>;

    /// Prolongs leases of a lane that still hold; returns those that were lost.
    async fn renew_calls(
        &self,
        lane: Lane,
        leases: &[CallLease],
        lease: Duration,
    ) -> StoreResult<Vec<CallLease>>;

    /// Records how attempts at calls of a lane ended; says for each what became of it.
    async fn settle_calls(
        &self,
        lane: Lane,
        settlements: Vec<CallSettlement>,
    ) -> StoreResult<Vec<CallSettled>>;

    /// A call as it stands, and its content.
    async fn call(&self, key: &CallKey) -> StoreResult<Option<(CallStatus, Bytes)>>;

    /// Calls before a position, whichever they are, the newest first: up to [`CALLS_AT_ONCE`]; fewer than
    /// `at_most` only if there are no more.
    async fn calls_before(&self, position: u64, at_most: usize) -> StoreResult<Vec<CallStatus>>;

    /// Makes calls due at once, also dead ones; for each `false` if it is unknown, done, or on its way.
    async fn retry_calls(&self, keys: &[CallKey]) -> StoreResult<Vec<bool>>;

    /// Ends calls, which are then never made again.
    async fn cancel_calls(&self, keys: &[CallKey]) -> StoreResult<Vec<CallCancelled>>;

    /// What all calls of a kind come to.
    async fn call_counts(&self, kind: CallKind) -> StoreResult<CallCounts>;

    /// How many calls, and deliveries of messages, are due within this time at destinations that have a place for them:
    /// counted up to `at_most`.
    async fn due_calls(
        &self,
        within: Duration,
        limits: DestinationLimits,
        at_most: u64,
    ) -> StoreResult<u64>;

    /// Destinations that something waits for, those that fail first; where there are very many, of those that are due
    /// first and last.
    async fn destinations(&self, at_most: usize) -> StoreResult<Vec<DestinationStatus>>;

    /// Forgets calls of a lane that were over long ago, up to [`CALLS_AT_ONCE`] of them; how many.
    async fn forget_calls(&self, lane: Lane, memory: CallMemory) -> StoreResult<usize>;

    /// The lane of calls to a destination.
    async fn lane_of_destination(&self, destination: &str) -> StoreResult<Lane>;

    /// Rings when a call of a lane may have come due. The first call starts listening to other processes.
    fn call_alarm(&self, lane: Lane) -> &Alarm;
}
