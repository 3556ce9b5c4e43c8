//! Message topics and their publishers, as Postoffice's clients make them (contract §11).

use async_trait::async_trait;

use super::StoreResult;
use crate::bus::message::{
    MessageTopicName, NewPublisher, NewTopic, PublisherChange, TargetKind, Terms,
};
use crate::bus::token::ClientToken;

/// A message topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageTopic {
    /// Given once, and never again.
    pub id: u64,
    pub name: MessageTopicName,
    pub origin_host: String,
    pub recovery_enabled: bool,
    /// Who made it.
    pub owner: ClientToken,
    /// Milliseconds since the epoch.
    pub made_ms: u64,
}

/// Who forwards a topic's messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessagePublisher {
    /// Given once, and never again.
    pub id: u64,
    pub topic_id: u64,
    pub kind: TargetKind,
    pub target: String,
    pub from_now: bool,
    pub terms: Terms,
    /// Who made it.
    pub owner: ClientToken,
    /// Milliseconds since the epoch.
    pub made_ms: u64,
}

impl MessagePublisher {
    /// How many messages one request carries at most.
    pub fn pack_size(&self) -> u32 {
        match self.kind {
            TargetKind::Http => 1,
            TargetKind::PubSub => self.terms.chunk_size.max(1),
        }
    }
}

/// What became of a new topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TopicAdded {
    /// It has this id.
    Added(u64),
    NameTaken,
    /// The client has as many as it may.
    TooMany,
}

/// What became of a topic that is to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TopicRemoved {
    Gone,
    Unknown,
    /// It stays.
    HasPublishers,
}

/// What became of a new publisher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublisherAdded {
    /// It has this id.
    Added(u64),
    UnknownTopic,
    /// The topic has one of this kind and target already.
    Taken,
    /// The client has as many as it may.
    TooMany,
}

/// What became of a publisher that is to change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublisherChanged {
    Changed,
    Unknown,
    /// Its topic has another one of the new target.
    Taken,
}

/// What became of a publisher that is to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublisherRemoved {
    Gone,
    /// There was one of this id once.
    WasGone,
    /// There never was one.
    Unknown,
}

/// Message topics and publishers.
#[async_trait]
pub trait MessageTopics: Send + Sync + 'static {
    /// Makes a topic, if its name is free and its owner has fewer than `max`.
    async fn add_message_topic(
        &self,
        new: &NewTopic,
        owner: &ClientToken,
        max: u32,
    ) -> StoreResult<TopicAdded>;

    /// All topics, by id.
    async fn message_topics(&self) -> StoreResult<Vec<MessageTopic>>;

    /// The topic of this id.
    async fn message_topic(&self, id: u64) -> StoreResult<Option<MessageTopic>>;

    /// Removes a topic; one that has publishers only with `cascade`, and them with it.
    async fn remove_message_topic(&self, id: u64, cascade: bool) -> StoreResult<TopicRemoved>;

    /// Makes a publisher, if its topic has none of this target and its owner has fewer than `max`.
    async fn add_message_publisher(
        &self,
        new: &NewPublisher,
        owner: &ClientToken,
        max: u32,
    ) -> StoreResult<PublisherAdded>;

    /// All publishers, by id.
    async fn message_publishers(&self) -> StoreResult<Vec<MessagePublisher>>;

    /// The publisher of this id.
    async fn message_publisher(&self, id: u64) -> StoreResult<Option<MessagePublisher>>;

    /// Changes what a change names, and nothing else.
    async fn change_message_publisher(
        &self,
        id: u64,
        change: &PublisherChange,
    ) -> StoreResult<PublisherChanged>;

    /// Removes a publisher; what waits for it is discarded in time
    /// ([`discard_deliveries`](super::Messages::discard_deliveries)).
    async fn remove_message_publisher(&self, id: u64) -> StoreResult<PublisherRemoved>;
}
