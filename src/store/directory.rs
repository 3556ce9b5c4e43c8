//! Who and what the bus knows: topics, subscriptions, tokens.

use std::time::Duration;

use async_trait::async_trait;

use super::StoreResult;
use crate::bus::signature::SigningSecrets;
use crate::bus::subscription::{SubscriptionRequest, SubscriptionStatus};
use crate::bus::token::{ApiToken, ClientToken};
use crate::bus::topic::{Topic, TopicName};

/// What became of a request to subscribe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subscribed {
    Done,
    /// This topic does not exist; nothing was changed.
    UnknownTopic(TopicName),
    /// With the topics that it would make, the subscriber had more than it may; nothing was changed.
    TooManyTopics,
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

/// Who and what the bus knows.
#[async_trait]
pub trait Directory: Send + Sync + 'static {
    /// Makes what is asked for the subscriber's subscription; queued items stay. A new
    /// callback or uuid starts with full health; a batch that waits to be sent again is due at once with a
    /// new callback, and within [`NEW_UUID_PAUSE`](super::NEW_UUID_PAUSE) with a new uuid. A batch in flight to an old callback loses its lease, and is due
    /// [`BROKEN_OFF_AFTER`](super::BROKEN_OFF_AFTER).
    /// With `create_topics`, topics that do not exist are created without a publisher; until they have one
    /// they count as the subscriber's.
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

    /// All tokens made through `/api_tokens`, by name and then by token.
    async fn api_tokens(&self) -> StoreResult<Vec<ApiToken>>;

    /// Adds a token, or changes what is known of one.
    async fn add_api_token(&self, token: &ApiToken) -> StoreResult<()>;

    /// Gives a topic to another publisher, whatever it has already; `false` if there is no such topic.
    async fn set_publisher(&self, topic: &TopicName, publisher: &ClientToken) -> StoreResult<bool>;

    /// What each client's calls are signed with, of those that have something.
    async fn client_secrets(&self) -> StoreResult<Vec<(ClientToken, SigningSecrets)>>;

    /// Says what a client's calls are signed with from now on.
    async fn set_client_secrets(
        &self,
        client: &ClientToken,
        secrets: &SigningSecrets,
    ) -> StoreResult<()>;

    /// Removes a token, if it exists. The client's topics and subscription stay.
    async fn delete_api_token(&self, token: &ClientToken) -> StoreResult<()>;
}
