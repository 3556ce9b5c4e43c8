//! Messages, and what each publisher has of them to forward (contract §11). What a publisher has to forward is a call
//! of its own kind, whose destination is the publisher; see [`Calls`].

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::time::Instant;

use super::{CallKey, Calls, StoreResult};
use crate::bus::call::{CallId, CallState};
use crate::bus::message::{MessageText, MessageTopicName};
use crate::bus::token::{ClientToken, MESSAGES_CLIENT};

/// Messages of one request, which are kept together or not at all.
#[derive(Clone, Debug)]
pub struct NewMessageGroup {
    pub topic: MessageTopicName,
    /// Who sends them.
    pub sender: ClientToken,
    /// What each says; the store does not look into it.
    pub contents: Vec<Bytes>,
    /// When they are forwarded, in milliseconds since the epoch; nothing, or what is past: now.
    pub at_ms: Option<u64>,
    /// What names them where they come from, if they are to be kept once however often they come.
    pub once: Option<String>,
    /// The one publisher that forwards them, in place of all that the topic has.
    pub only: Option<u64>,
}

/// A message that was kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcceptedMessage {
    pub number: u64,
    /// A number for each publisher that forwards it, in the order of their ids.
    pub deliveries: Vec<u64>,
}

/// What became of a group of messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MessagesAccepted {
    /// All are kept, in their order.
    Kept(Vec<AcceptedMessage>),
    /// They were kept before, by what names them.
    Known,
    /// There is no such topic; nothing is kept.
    UnknownTopic,
    /// There is no room; nothing is kept.
    Full,
}

/// What became of groups of messages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MessageAcceptance {
    pub groups: Vec<MessagesAccepted>,
    /// How many of the history were forgotten before their time, to make room.
    pub forgotten: Forgotten,
}

/// Messages that were forgotten.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Forgotten {
    pub messages: u64,
    /// How many of what went with them had been given up on.
    pub dead: u64,
}

/// A message as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageRecord {
    pub number: u64,
    pub topic_id: u64,
    pub sender: ClientToken,
    /// Milliseconds since the epoch.
    pub received_ms: u64,
    /// When it is forwarded at the earliest, in milliseconds since the epoch.
    pub due_ms: u64,
    pub content: Bytes,
    /// The oldest first.
    pub deliveries: Vec<MessageDelivery>,
}

impl MessageRecord {
    /// Adds the deliveries that another record of the same message has besides.
    pub fn add_deliveries_of(&mut self, other: Self) {
        for delivery in other.deliveries {
            if self.deliveries.iter().all(|known| known.number != delivery.number) {
                self.deliveries.push(delivery);
            }
        }
        self.deliveries.sort_by_key(|delivery| delivery.number);
    }
}

/// Where a message stands with one publisher.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageDelivery {
    pub number: u64,
    pub publisher_id: u64,
    pub state: CallState,
    pub attempts: u32,
    /// When it is made next, in milliseconds since the epoch.
    pub due_ms: Option<u64>,
    /// When it was done or given up, in milliseconds since the epoch.
    pub ended_ms: Option<u64>,
    /// Of the last attempt that has ended.
    pub status: Option<u16>,
    /// Why that failed; empty if it did not.
    pub reason: String,
}

impl MessageDelivery {
    /// What names it among calls.
    pub fn key(&self) -> CallKey {
        delivery_key(self.number)
    }
}

/// What names a delivery among calls.
pub fn delivery_key(number: u64) -> CallKey {
    CallKey {
        client: ClientToken::from_stored(MESSAGES_CLIENT),
        id: CallId::from_stored(&number.to_string()),
    }
}

/// What a publisher's deliveries queue behind.
pub fn publisher_destination(id: u64) -> String {
    format!("{PUBLISHER_PREFIX}{id}")
}

/// The publisher whose deliveries queue behind this, if it is one's.
pub fn publisher_of(destination: &str) -> Option<u64> {
    destination.strip_prefix(PUBLISHER_PREFIX)?.parse().ok()
}

/// No URL's destination begins so: it would have slashes after the colon.
const PUBLISHER_PREFIX: &str = "publisher:";

/// How much messages come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MessageCounts {
    pub messages: u64,
    /// What they take with all that is known of them, about.
    pub bytes: u64,
}

/// How many messages one look lists, forgets or gives a publisher, at most.
pub const MESSAGES_AT_ONCE: usize = 200;
/// How many bytes of contents one look lists at most, beyond the first message.
pub const MESSAGES_MAX_BYTES: usize = 16 * 1024 * 1024;
/// How many messages make room for others at once, at most.
pub const MESSAGES_FORGOTTEN_FOR_ROOM: usize = 2_000;
/// How long is known what names messages that are kept once, if nobody says that they will not come again.
pub const ONCE_KEPT: Duration = Duration::from_secs(30 * 24 * 3600);
/// How many deliveries a publisher that begins in the past is given ahead.
pub const CATCH_UP_AHEAD: usize = 2_000;

/// Messages. Its rules, which `conformance` checks, beyond those of [`Calls`]:
///
/// - **Once**: a publisher that its topic has when a message comes gets one delivery of it. So does one that
///   begins in the past, of each message that is there or comes, the oldest first.
/// - **History**: a message is kept as long as it waits for a publisher, and after that until it is forgotten.
/// - **Numbers**: messages and deliveries have numbers below 2^53 of one sequence, which grow.
#[async_trait]
pub trait Messages: Calls {
    /// Keeps groups of messages, each as a whole or not at all, as long as all messages take no more than
    /// `max_bytes`: before that, the oldest are forgotten that wait for nobody. After `give_up` nobody waits,
    /// and what has not begun by then is not begun.
    async fn accept_messages(
        &self,
        groups: Vec<NewMessageGroup>,
        max_bytes: u64,
        give_up: Instant,
    ) -> StoreResult<MessageAcceptance>;

    /// Forgets what named messages that were kept once: they will not come again.
    async fn forget_once(&self, names: &[String]) -> StoreResult<()>;

    /// The message of this number, or of which this is the number of a delivery.
    async fn message(&self, number: u64) -> StoreResult<Option<MessageRecord>>;

    /// Messages below a number, of one topic or of all, the newest first: at most [`MESSAGES_AT_ONCE`], and
    /// [`MESSAGES_MAX_BYTES`]; none only if there are no more. Where the store has an index for text, those without it
    /// are left out, as far as that is known.
    async fn messages_before(
        &self,
        number: u64,
        topic_id: Option<u64>,
        text: Option<&MessageText>,
        at_most: usize,
    ) -> StoreResult<Vec<MessageRecord>>;

    /// Brings some messages into the index for text, if there is one; how many.
    async fn index_texts(&self) -> StoreResult<usize>;

    /// What all messages come to.
    async fn message_counts(&self) -> StoreResult<MessageCounts>;

    /// Forgets messages that came before a time and wait for nobody, the oldest first: up to
    /// [`MESSAGES_AT_ONCE`].
    async fn forget_messages(&self, before_ms: u64) -> StoreResult<Forgotten>;

    /// Takes messages away with all that is known of them; what is on its way is not repeated. For each
    /// whether it was there.
    async fn erase_messages(&self, numbers: &[u64]) -> StoreResult<Vec<bool>>;

    /// Discards what waits for publishers that are gone, up to [`MESSAGES_AT_ONCE`]; how much. None only if
    /// nothing is left.
    async fn discard_deliveries(&self) -> StoreResult<u64>;

    /// Publishers that begin in the past and have not caught up.
    async fn publishers_behind(&self) -> StoreResult<Vec<PublisherBehind>>;

    /// Gives such a publisher some of what it lacks, up to [`CATCH_UP_AHEAD`] ahead; how much. First what is brought
    /// from history, which is kept here again; without that, what is here. If that is all, it has caught up.
    async fn catch_up(
        &self,
        publisher: u64,
        from_history: Vec<MessageRecord>,
    ) -> StoreResult<usize>;

    /// Messages after a number that wait for nobody, and of which nothing was given up, the oldest first: up to
    /// [`MESSAGES_AT_ONCE`] and [`MESSAGES_MAX_BYTES`]. None of topics with a publisher that is behind.
    async fn closed_messages(&self, after: u64) -> StoreResult<Vec<MessageRecord>>;

    /// Forgets those of these messages that still wait for nobody, also not for a publisher that is behind.
    async fn forget_closed(&self, numbers: &[u64]) -> StoreResult<u64>;
}

/// A publisher that has not caught up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublisherBehind {
    pub publisher: u64,
    pub topic_id: u64,
    /// The last message that it has been given.
    pub caught_up_to: u64,
}
