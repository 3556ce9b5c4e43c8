//! `/subscription`: subscribing, unsubscribing and listing (contract §3, §5).

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::Serialize;

use super::auth::Caller;
use super::error::ApiError;
use super::extract::Body;
use super::state::{Api, Shared};
use super::topics::unknown_topic;
use crate::bus::subscription::{Subscription, SubscriptionStatus};
use crate::bus::token::ClientToken;
use crate::store::Subscribed;

pub async fn subscribe(
    State(api): State<Shared>,
    caller: Caller,
    Body(body): Body,
) -> Result<StatusCode, ApiError> {
    let subscriber = caller.into_client()?;
    let subscription = Subscription::parse(&body, api.settings.topic_name_max)?;
    // As the URL says it: what a name resolves to is looked at when it is delivered to.
    let callback = &subscription.delivery.callback;
    let allowed = api.callback_rules.check(callback);
    allowed.map_err(|denied| ApiError::bad_request(format!("`callback`: {denied}")))?;
    let create_topics = api.settings.subscribe_creates_topics;
    match api.store.subscribe(&subscriber, &subscription, create_topics).await? {
        Subscribed::Done => Ok(StatusCode::NO_CONTENT),
        Subscribed::UnknownTopic(topic) => Err(unknown_topic(&topic)),
    }
}

pub async fn unsubscribe(
    State(api): State<Shared>,
    caller: Caller,
) -> Result<StatusCode, ApiError> {
    remove(&api, &caller.into_client()?).await
}

/// Removes the subscriber in the path: any of them for root, itself for a client.
pub async fn delete(
    State(api): State<Shared>,
    caller: Caller,
    Path(token): Path<String>,
) -> Result<StatusCode, ApiError> {
    let subscriber = ClientToken::parse(&token).map_err(ApiError::bad_request)?;
    match caller {
        Caller::Root => {}
        Caller::Client(client) if client == subscriber => {}
        Caller::Client(_) => return Err(ApiError::Forbidden("this is another subscriber")),
    }
    remove(&api, &subscriber).await
}

async fn remove(api: &Api, subscriber: &ClientToken) -> Result<StatusCode, ApiError> {
    if api.store.unsubscribe(subscriber).await? {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(ApiError::NotFound("there is no such subscriber".into()))
    }
}

pub async fn unsubscribe_topic(
    State(api): State<Shared>,
    caller: Caller,
    Path(topic): Path<String>,
) -> Result<StatusCode, ApiError> {
    let subscriber = caller.into_client()?;
    let topic = api.topic_name(&topic)?;
    if api.store.unsubscribe_topic(&subscriber, &topic).await? {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(ApiError::NotFound(format!("you are not subscribed to the topic `{topic}`")))
    }
}

/// A row of `GET /subscriptions`.
#[derive(Serialize)]
pub struct SubscriptionRow {
    subscriber: String,
    callback: String,
    /// Always there, because clients of the original require it; a secret, so mostly `null`.
    uuid: Option<String>,
    max_events: u32,
    /// Milliseconds.
    timeout: u64,
    /// Milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    retention: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_queued: Option<u64>,
    topics: Vec<String>,
    events: Counts,
}

#[derive(Serialize)]
struct Counts {
    sent: u64,
    queued: u64,
    /// Seconds since the epoch.
    oldest: Option<u64>,
    /// Ever dropped because the store ran out of room. Ours, and so left out while it is 0.
    #[serde(skip_serializing_if = "is_zero")]
    autodropped: u64,
    /// Ever dropped as the subscriber's own retention asks for; left out while it is 0.
    #[serde(skip_serializing_if = "is_zero")]
    expired: u64,
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

pub async fn list(
    State(api): State<Shared>,
    caller: Caller,
) -> Result<Json<Vec<SubscriptionRow>>, ApiError> {
    let subscriptions = api.store.subscriptions().await?;
    Ok(Json(subscriptions.into_iter().map(|status| row(status, &caller)).collect()))
}

fn row(status: SubscriptionStatus, caller: &Caller) -> SubscriptionRow {
    let SubscriptionStatus { subscriber, subscription, .. } = status;
    let Subscription { topics, delivery, retention } = subscription;
    SubscriptionRow {
        subscriber: caller.view_of(&subscriber),
        callback: delivery.callback.as_str().to_owned(),
        uuid: delivery.uuid.filter(|_| caller.may_see_secrets_of(&subscriber)),
        max_events: delivery.max,
        timeout: delivery.timeout.as_millis() as u64,
        retention: retention.age.map(|age| age.as_millis() as u64),
        max_queued: retention.count,
        topics: topics.iter().map(ToString::to_string).collect(),
        events: Counts {
            sent: status.sent,
            queued: status.queued,
            oldest: status.oldest_ms.map(|ms| ms / 1000),
            autodropped: status.autodropped,
            expired: status.expired,
        },
    }
}
