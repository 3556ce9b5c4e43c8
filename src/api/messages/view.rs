//! What a requester may see of messages, and how they are shown.

use std::collections::HashMap;

use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::requester::Requester;
use crate::api::journal::Attempt;
use crate::api::state::Api;
use crate::bus::call::CallState;
use crate::bus::message::{Attributes, MessageContent};
use crate::bus::user_info;
use crate::store::{MessageDelivery, MessagePublisher, MessageRecord, MessageTopic, StoreResult};

/// Who looks, and at what.
pub struct Viewer<'a> {
    requester: &'a Requester,
    topics: HashMap<u64, MessageTopic>,
    publishers: HashMap<u64, MessagePublisher>,
}

/// A message.
#[derive(Serialize, ToSchema)]
pub struct ShownMessage {
    id: u64,
    /// `null` once the topic is removed.
    topic: Option<String>,
    /// When it was received, in milliseconds since the epoch.
    received: u64,
    /// When it is forwarded at the earliest, in milliseconds since the epoch.
    due: u64,
    /// Who sent it, by name.
    sender: String,
    /// As it was sent, an object or an array; `null` if what is kept of it cannot be read.
    #[schema(value_type = serde_json::Value)]
    payload: Box<RawValue>,
    attributes: Attributes,
    publishers: Vec<ShownDelivery>,
}

/// Where a message stands with one publisher.
#[derive(Serialize, ToSchema)]
pub struct ShownDelivery {
    /// Its `message-id` there.
    id: u64,
    /// The publisher's id.
    publisher: u64,
    /// `null` once the publisher is removed.
    target: Option<String>,
    /// `waiting`, `sending`, `failing`, `dead` or `done`.
    state: &'static str,
    /// When it was forwarded, or given up, in milliseconds since the epoch.
    processed: Option<u64>,
    /// How often it was tried.
    attempts: u32,
    /// When it is tried next, in milliseconds since the epoch.
    next_try: Option<u64>,
    /// What the last attempt was answered, if it was.
    status: Option<u16>,
    /// Why the last attempt failed, if it did.
    error: Option<String>,
    /// Each attempt, where one message is asked for: what the journal has of it, the first one first.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    journal: Option<Vec<Attempt>>,
}

impl<'a> Viewer<'a> {
    /// # Errors
    /// If the store cannot be asked.
    pub async fn new(api: &Api, requester: &'a Requester) -> StoreResult<Self> {
        let topics = api.store.message_topics().await?;
        let publishers = api.store.message_publishers().await?;
        Ok(Self {
            requester,
            topics: topics.into_iter().map(|topic| (topic.id, topic)).collect(),
            publishers: publishers.into_iter().map(|one| (one.id, one)).collect(),
        })
    }

    /// The id of the topic of this name, or of this id.
    pub fn topic_id(&self, text: &str) -> Option<u64> {
        let named = self.topics.values().find(|topic| topic.name.as_str() == text);
        let by_id = || text.parse().ok().filter(|id| self.topics.contains_key(id));
        named.map(|topic| topic.id).or_else(by_id)
    }

    /// Whether a message may be erased: by whom its topic belongs to, or who has sent it.
    pub fn may_erase(&self, message: &MessageRecord) -> bool {
        self.owns_topic(message.topic_id) || self.requester.may_change(&message.sender)
    }

    fn owns_topic(&self, id: u64) -> bool {
        self.requester.is_root()
            || self.topics.get(&id).is_some_and(|topic| self.requester.may_change(&topic.owner))
    }

    /// Whether it may see how a publisher gets on, and let it try again.
    pub fn owns_publisher(&self, id: u64) -> bool {
        self.requester.is_root()
            || self.publishers.get(&id).is_some_and(|one| self.requester.may_change(&one.owner))
    }

    /// What it may see of a message: whom the topic belongs to, and who has sent it, all; whose publisher forwards it,
    /// that.
    pub fn seen(&self, mut message: MessageRecord) -> Option<MessageRecord> {
        if self.may_erase(&message) {
            return Some(message);
        }
        message.deliveries.retain(|delivery| self.owns_publisher(delivery.publisher_id));
        (!message.deliveries.is_empty()).then_some(message)
    }

    pub fn shown(&self, message: &MessageRecord) -> ShownMessage {
        let content = MessageContent::from_bytes(&message.content);
        let (payload, attributes) = match content {
            Some(MessageContent { payload, attributes, .. }) => {
                (payload.as_json().to_owned(), attributes)
            }
            None => (RawValue::NULL.to_owned(), Attributes::new()),
        };
        ShownMessage {
            id: message.number,
            topic: self.topics.get(&message.topic_id).map(|topic| topic.name.to_string()),
            received: message.received_ms,
            due: message.due_ms,
            sender: message.sender.label(),
            payload,
            attributes,
            publishers: message.deliveries.iter().map(|one| self.delivery(one)).collect(),
        }
    }

    fn delivery(&self, delivery: &MessageDelivery) -> ShownDelivery {
        let publisher = self.publishers.get(&delivery.publisher_id);
        let is_over = matches!(delivery.state, CallState::Done | CallState::Dead);
        ShownDelivery {
            id: delivery.number,
            publisher: delivery.publisher_id,
            target: publisher.map(|publisher| user_info::taken_out(&publisher.target).0),
            state: delivery.state.as_str(),
            processed: delivery.ended_ms.filter(|_| is_over),
            attempts: delivery.attempts,
            next_try: delivery.due_ms,
            status: delivery.status,
            error: Some(delivery.reason.clone()).filter(|reason| !reason.is_empty()),
            journal: None,
        }
    }
}

impl ShownMessage {
    /// With what the journal has of each delivery, in their order.
    pub fn with_journal(mut self, journal: Vec<Vec<Attempt>>) -> Self {
        for (delivery, attempts) in self.publishers.iter_mut().zip(journal) {
            delivery.journal = Some(attempts);
        }
        self
    }
}
