//! `/subscription`: subscribing, unsubscribing and listing (contract §3, §5).

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use super::topics::{TOO_MANY, unknown_topic};
use crate::api::openapi::schemas;
use crate::api::openapi::tags::{MONITORING, SUBSCRIBING};
use crate::api::state::{Api, Shared};
use crate::bus::attempt::FailedAttempt;
use crate::bus::subscription::{Subscription, SubscriptionRequest, SubscriptionStatus, Target};
use crate::bus::token::ClientToken;
use crate::bus::topic::TopicName;
use crate::http::audit::Actor;
use crate::http::authentication::Caller;
use crate::http::body::Body;
use crate::http::refusal::Refusal;
use crate::store::Subscribed;

/// Subscribe to topics.
///
/// The body is the whole subscription: what it leaves out has its default again, but for `retention`
/// and `max_queued`, which stay as they are unless they are named. The same body again has no effect.
/// A token has one subscription.
#[utoipa::path(
    post,
    path = "/subscription",
    tag = SUBSCRIBING,
    request_body = schemas::AnySubscription,
    responses(
        (status = 204, description = "subscribed to these topics and no others"),
        (status = 400, description = "bad JSON, a duplicated or unknown field, a bad value"),
        (
            status = 403,
            description = "with the topics that this would make, there would be more than \
                `ROUTEMASTER_MAX_TOPICS_PER_CLIENT`; or this is the root key",
        ),
        (status = 404, description = "nobody has published to a topic"),
        Caller,
        Body,
    ),
)]
pub async fn subscribe(
    State(api): State<Shared>,
    actor: Actor,
    body: Body,
) -> Result<StatusCode, Refusal> {
    let subscriber = actor.caller.client()?;
    let request = SubscriptionRequest::parse(&body.bytes, api.settings.topic_name_max)?;
    // As the URL says it: what a name resolves to is looked at when it is delivered to.
    let callback = request.terms.target.callback();
    let allowed = callback.map_or(Ok(()), |callback| api.egress_rules.check(callback.as_url()));
    allowed.map_err(|denied| Refusal::bad_request(format!("`callback`: {denied}")))?;
    let create_topics = api.settings.subscribe_creates_topics;
    match api.store.subscribe(subscriber, &request, create_topics).await? {
        Subscribed::Done => {
            let place = match &request.terms.target {
                Target::Callback(callback) => {
                    callback.as_url().host_str().unwrap_or_default().to_owned()
                }
                pubsub => pubsub.to_string(),
            };
            actor.did("subscribed", format_args!("{} topics at {place}", request.topics.len()));
            Ok(StatusCode::NO_CONTENT)
        }
        Subscribed::UnknownTopic(topic) => Err(unknown_topic(&topic)),
        Subscribed::TooManyTopics => Err(Refusal::Forbidden(TOO_MANY)),
        Subscribed::KeptRetentionTooShort(age) => Err(Refusal::bad_request(format!(
            "`timeout` must be less than the `retention` of {} milliseconds that this subscription \
             has: give another `retention` with it, or 0 for none",
            age.as_millis()
        ))),
    }
}

/// Show the caller's own subscription.
#[utoipa::path(
    get,
    path = "/subscription",
    operation_id = "own_subscription",
    tag = MONITORING,
    responses(
        (status = 200, description = "the subscription", body = SubscriptionRow),
        (status = 403, description = "this is the root key"),
        (status = 404, description = "there is no subscription"),
        Caller,
    ),
)]
pub async fn own(
    State(api): State<Shared>,
    caller: Caller,
) -> Result<Json<SubscriptionRow>, Refusal> {
    let subscriber = caller.client()?;
    let status = api.store.subscription(subscriber).await?.ok_or_else(no_subscriber)?;
    Ok(Json(row(&api, status, &caller)))
}

/// Unsubscribe from everything.
#[utoipa::path(
    delete,
    path = "/subscription",
    tag = SUBSCRIBING,
    responses(
        (status = 204, description = "the subscription and its queue are gone"),
        (status = 403, description = "this is the root key"),
        (status = 404, description = "there is no subscription"),
        Caller,
    ),
)]
pub async fn unsubscribe(State(api): State<Shared>, actor: Actor) -> Result<StatusCode, Refusal> {
    remove(&api, &actor, actor.caller.client()?).await
}

/// Remove a subscriber: any of them for root, itself for a client.
#[utoipa::path(
    delete,
    path = "/subscriptions/{token}",
    operation_id = "delete_subscriber",
    tag = SUBSCRIBING,
    params(("token" = ClientToken, Path)),
    responses(
        (status = 204, description = "the subscription and its queue are gone"),
        (status = 400, description = "what is in the path is no token"),
        (status = 403, description = "this is another subscriber"),
        (status = 404, description = "there is no such subscriber"),
        Caller,
    ),
)]
pub async fn delete(
    State(api): State<Shared>,
    actor: Actor,
    Path(token): Path<String>,
) -> Result<StatusCode, Refusal> {
    let subscriber = ClientToken::parse(&token).map_err(Refusal::bad_request)?;
    match &actor.caller {
        Caller::Root => {}
        Caller::Client(client) if *client == subscriber => {}
        Caller::Client(_) => return Err(Refusal::Forbidden("this is another subscriber")),
    }
    remove(&api, &actor, &subscriber).await
}

async fn remove(api: &Api, actor: &Actor, subscriber: &ClientToken) -> Result<StatusCode, Refusal> {
    if api.store.unsubscribe(subscriber).await? {
        actor.did("removed a subscription with its queue", subscriber);
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(no_subscriber())
    }
}

fn no_subscriber() -> Refusal {
    Refusal::NotFound("there is no such subscriber".into())
}

/// Unsubscribe from one topic.
///
/// Its events in the queue stay.
#[utoipa::path(
    delete,
    path = "/subscription/topics/{topic}",
    tag = SUBSCRIBING,
    params(("topic" = TopicName, Path)),
    responses(
        (status = 204, description = "unsubscribed"),
        (status = 400, description = "a bad topic name"),
        (status = 403, description = "this is the root key"),
        (status = 404, description = "the caller is not subscribed to it"),
        Caller,
    ),
)]
pub async fn unsubscribe_topic(
    State(api): State<Shared>,
    actor: Actor,
    Path(topic): Path<String>,
) -> Result<StatusCode, Refusal> {
    let subscriber = actor.caller.client()?;
    let topic = api.topic_name(&topic)?;
    if api.store.unsubscribe_topic(subscriber, &topic).await? {
        actor.did("unsubscribed from a topic", &topic);
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(Refusal::NotFound(format!("you are not subscribed to the topic `{topic}`")))
    }
}

/// A row of `GET /subscriptions`.
// What the original does not have is left out where there is nothing to say.
#[derive(Serialize, ToSchema)]
#[schema(as = SubscriptionStatus)]
pub struct SubscriptionRow {
    /// The subscriber's token. Of `<name>--<secret>`, others than root and its holder see the name
    /// only.
    subscriber: String,
    /// `null` if events go elsewhere.
    #[schema(required)]
    callback: Option<String>,
    /// The topic on Google Pub/Sub that events go to, if they do.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pubsub: Option<String>,
    /// A secret: `null` for others than root and the subscriber itself.
    // Always there, because clients of the original require it.
    #[schema(required)]
    uuid: Option<String>,
    max_events: u32,
    /// Milliseconds.
    timeout: u64,
    /// Milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    retention: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    max_queued: Option<u64>,
    #[schema(value_type = Vec<TopicName>)]
    topics: Vec<String>,
    events: Counts,
    /// Why the batch at the head of the queue waits to be sent again; left out while none does, and
    /// for others than root and the subscriber itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    last_error: Option<LastError>,
}

/// The last attempt that failed.
#[derive(Serialize, ToSchema)]
struct LastError {
    /// In seconds since the epoch.
    at: u64,
    /// Which attempt at the batch it was, from 1.
    attempt: u32,
    /// The status of the answer; left out if there was none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    status: Option<u16>,
    /// One line.
    reason: String,
}

impl From<FailedAttempt> for LastError {
    fn from(FailedAttempt { at_ms, attempt, failure }: FailedAttempt) -> Self {
        Self { at: at_ms / 1000, attempt, status: failure.status, reason: failure.reason }
    }
}

#[derive(Serialize, ToSchema)]
#[schema(as = EventCounts)]
struct Counts {
    /// Ever acknowledged.
    sent: u64,
    /// Waiting, those on their way included.
    queued: u64,
    /// When the oldest one that waits was accepted, in seconds since the epoch.
    #[schema(required)]
    oldest: Option<u64>,
    /// Ever dropped because the store ran out of room; left out while it is 0.
    #[serde(skip_serializing_if = "is_zero")]
    #[schema(required = false)]
    autodropped: u64,
    /// Ever dropped as the subscriber's own retention asks for; left out while it is 0.
    #[serde(skip_serializing_if = "is_zero")]
    #[schema(required = false)]
    expired: u64,
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// List all subscriptions.
#[utoipa::path(
    get,
    path = "/subscriptions",
    operation_id = "list_subscriptions",
    tag = MONITORING,
    responses((status = 200, description = "all subscriptions", body = [SubscriptionRow]), Caller),
)]
pub async fn list(
    State(api): State<Shared>,
    caller: Caller,
) -> Result<Json<Vec<SubscriptionRow>>, Refusal> {
    let subscriptions = api.store.subscriptions().await?;
    Ok(Json(subscriptions.into_iter().map(|status| row(&api, status, &caller)).collect()))
}

fn row(api: &Api, status: SubscriptionStatus, caller: &Caller) -> SubscriptionRow {
    let SubscriptionStatus { subscriber, subscription, last_failure, .. } = status;
    let is_own = caller.may_see_secrets_of(&subscriber);
    let Subscription { topics, terms, retention } = subscription;
    SubscriptionRow {
        subscriber: api.authentication.view_of(&subscriber, caller),
        callback: terms.target.callback().map(|callback| callback.as_str().to_owned()),
        pubsub: terms.target.pubsub().map(str::to_owned),
        uuid: terms.uuid.filter(|_| is_own),
        max_events: terms.max,
        timeout: terms.timeout.as_millis() as u64,
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
        last_error: last_failure.filter(|_| is_own).map(LastError::from),
    }
}
