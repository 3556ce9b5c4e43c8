//! `/subscriptions/:subscriber`: looking into one queue, holding it, and taking out of it what is in the way
//! (contract §14).

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{StatusCode, Uri};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::subscription_view::SubscriptionRow;
use super::subscriptions::no_subscriber;
use crate::api::openapi::tags::{CONTROL, MONITORING};
use crate::api::state::{Api, Shared};
use crate::bus::batch::BatchId;
use crate::bus::event::{DATA_DEPTH_MAX, DataLimits, Event, EventType};
use crate::bus::item::{Item, ItemParts};
use crate::bus::json::{Rejection, parse_object};
use crate::bus::pause::PausedBy;
use crate::bus::position::EventPosition;
use crate::bus::token::ClientToken;
use crate::bus::topic::TopicName;
use crate::http::audit::Actor;
use crate::http::authentication::Caller;
use crate::http::body::Body;
use crate::http::query;
use crate::http::refusal::Refusal;
use crate::store::{Retried, Skip, Skipped, WaitingEvent};

/// How many events a page of a queue has, unless the query says otherwise, and at most.
const LIMIT: u64 = 50;
const LIMIT_MAX: u64 = 500;

/// Show one subscription, and how its delivery goes.
///
/// The subscriber is named by its token, or by its name if no other one has that.
#[utoipa::path(
    get,
    path = "/subscriptions/{subscriber}",
    operation_id = "show_subscription",
    tag = MONITORING,
    params(("subscriber" = String, Path, description = "token or name")),
    responses(
        (status = 200, description = "the subscription", body = SubscriptionRow),
        (status = 404, description = "there is no such subscriber, or several have this name"),
        Caller,
    ),
)]
pub async fn show(
    State(api): State<Shared>,
    caller: Caller,
    Path(which): Path<String>,
) -> Result<Json<SubscriptionRow>, Refusal> {
    let subscriber = find(&api, &caller, &which).await?;
    let status = api.store.subscription(&subscriber).await?.ok_or_else(no_subscriber)?;
    Ok(Json(SubscriptionRow::with_progress(&api, status, &caller)))
}

/// An event that waits.
#[derive(Serialize, ToSchema)]
struct WaitingRow {
    position: u64,
    /// Since when it waits, in milliseconds since the epoch.
    since: u64,
    /// Whether it is in the batch that was given out.
    in_batch: bool,
    /// Where the event stood that is delivered once more; left out if this is not the first time.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    replay_of: Option<u64>,
    /// As it is delivered.
    #[schema(value_type = Object)]
    event: serde_json::Value,
}

impl From<WaitingEvent> for WaitingRow {
    fn from(waiting: WaitingEvent) -> Self {
        let parts = ItemParts::of(&waiting.item);
        Self {
            position: waiting.position.number(),
            since: waiting.since_ms,
            in_batch: waiting.is_in_batch,
            replay_of: parts.replay_of.map(EventPosition::number),
            event: serde_json::from_slice(parts.json).unwrap_or_default(),
        }
    }
}

/// Some of what waits in a queue.
#[derive(Serialize, ToSchema)]
pub struct QueuePage {
    events: Vec<WaitingRow>,
    /// What `after` is to be for the next page; `null` on the last one.
    #[schema(required)]
    next: Option<u64>,
}

/// Look at what waits in a queue, in its order, without touching it.
#[utoipa::path(
    get,
    path = "/subscriptions/{subscriber}/queue",
    operation_id = "peek_queue",
    tag = CONTROL,
    params(
        ("subscriber" = String, Path, description = "token or name"),
        ("limit" = Option<u64>, Query, description = "how many, 1 to 500"),
        ("after" = Option<u64>, Query, description = "the position behind which they stand"),
    ),
    responses(
        (status = 200, description = "what waits", body = QueuePage),
        (status = 400, description = "a value in the query means nothing"),
        (status = 403, description = "this is another subscriber"),
        (status = 404, description = "there is no such subscriber"),
        Caller,
    ),
)]
pub async fn queue(
    State(api): State<Shared>,
    caller: Caller,
    Path(which): Path<String>,
    uri: Uri,
) -> Result<Json<QueuePage>, Refusal> {
    let subscriber = find_own(&api, &caller, &which).await?;
    let limit = query::number(&uri, "limit", 1..=LIMIT_MAX)?.unwrap_or(LIMIT) as usize;
    let after = query::number(&uri, "after", 0..=EventPosition::MAX.number())?;
    let after = EventPosition::new(after.unwrap_or(0));
    // One more tells whether there is another page.
    let waiting = api.store.peek(&subscriber, after, limit + 1).await?;
    let mut waiting = waiting.ok_or_else(no_subscriber)?;
    let has_more = waiting.len() > limit;
    waiting.truncate(limit);
    let last = waiting.last().map(|event| event.position.number());
    let events = waiting.into_iter().map(WaitingRow::from).collect();
    Ok(Json(QueuePage { events, next: last.filter(|_| has_more) }))
}

/// Hold a queue: nothing is sent, everything is kept.
///
/// An attempt that is on its way is finished.
#[utoipa::path(
    post,
    path = "/subscriptions/{subscriber}/pause",
    operation_id = "pause_subscription",
    tag = CONTROL,
    params(("subscriber" = String, Path, description = "token or name")),
    responses(
        (status = 204, description = "it is paused"),
        (status = 403, description = "this is another subscriber"),
        (status = 404, description = "there is no such subscriber"),
        Caller,
    ),
)]
pub async fn pause(
    State(api): State<Shared>,
    actor: Actor,
    Path(which): Path<String>,
) -> Result<StatusCode, Refusal> {
    let subscriber = find_own(&api, &actor.caller, &which).await?;
    let by = match actor.caller {
        Caller::Root => PausedBy::Root,
        _ => PausedBy::Subscriber,
    };
    if !api.store.pause(&subscriber, by).await? {
        return Err(no_subscriber());
    }
    actor.did("paused a subscription", &subscriber);
    Ok(StatusCode::NO_CONTENT)
}

/// End a pause, whoever made it: what waits goes out at once.
#[utoipa::path(
    post,
    path = "/subscriptions/{subscriber}/resume",
    operation_id = "resume_subscription",
    tag = CONTROL,
    params(("subscriber" = String, Path, description = "token or name")),
    responses(
        (status = 204, description = "it is not paused"),
        (status = 403, description = "this is another subscriber"),
        (status = 404, description = "there is no such subscriber"),
        Caller,
    ),
)]
pub async fn resume(
    State(api): State<Shared>,
    actor: Actor,
    Path(which): Path<String>,
) -> Result<StatusCode, Refusal> {
    let subscriber = find_own(&api, &actor.caller, &which).await?;
    if !api.store.resume(&subscriber).await? {
        return Err(no_subscriber());
    }
    actor.did("resumed a subscription", &subscriber);
    Ok(StatusCode::NO_CONTENT)
}

/// Deliver what waits now, and not when its time comes.
#[utoipa::path(
    post,
    path = "/subscriptions/{subscriber}/retry",
    operation_id = "retry_subscription",
    tag = CONTROL,
    params(("subscriber" = String, Path, description = "token or name")),
    responses(
        (status = 204, description = "it is due, or nothing waits, or an attempt is on its way"),
        (status = 403, description = "this is another subscriber"),
        (status = 404, description = "there is no such subscriber"),
        (status = 409, description = "the subscription is paused"),
        Caller,
    ),
)]
pub async fn retry(
    State(api): State<Shared>,
    actor: Actor,
    Path(which): Path<String>,
) -> Result<StatusCode, Refusal> {
    let subscriber = find_own(&api, &actor.caller, &which).await?;
    match api.store.retry_now(&subscriber).await? {
        Retried::Due => {
            actor.did("made a subscription's queue due", &subscriber);
            Ok(StatusCode::NO_CONTENT)
        }
        Retried::Nothing => Ok(StatusCode::NO_CONTENT),
        Retried::Paused => Err(Refusal::Conflict("the subscription is paused: resume it")),
        Retried::Unknown => Err(no_subscriber()),
    }
}

/// What a test event is.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct TestBody {
    /// Of which topic it is: one that is subscribed to, the first one if it is left out.
    #[schema(value_type = Option<TopicName>)]
    topic: Option<String>,
}

/// The event that was put into the queue.
#[derive(Serialize, ToSchema)]
pub struct TestEvent {
    topic: String,
}

/// Put an event into one queue that says that nothing has happened.
///
/// Its type is `noop`, its `data` is `{"test": true}`. It is delivered as others are, in its turn.
#[utoipa::path(
    post,
    path = "/subscriptions/{subscriber}/test",
    operation_id = "test_subscription",
    tag = CONTROL,
    params(("subscriber" = String, Path, description = "token or name")),
    request_body = TestBody,
    responses(
        (status = 200, description = "it is in the queue", body = TestEvent),
        (status = 400, description = "bad JSON, an unknown field, a topic that is not subscribed to"),
        (status = 403, description = "this is another subscriber"),
        (status = 404, description = "there is no such subscriber"),
        Caller,
        Body,
    ),
)]
pub async fn test(
    State(api): State<Shared>,
    actor: Actor,
    Path(which): Path<String>,
    body: Body,
) -> Result<Json<TestEvent>, Refusal> {
    let subscriber = find_own(&api, &actor.caller, &which).await?;
    let TestBody { topic: asked } = parse_object(&body.bytes)?;
    let status = api.store.subscription(&subscriber).await?.ok_or_else(no_subscriber)?;
    let topics = &status.subscription.topics;
    let topic = match &asked {
        None => topics.first(),
        Some(name) => topics.iter().find(|topic| topic.as_str() == name),
    };
    let topic = topic.ok_or_else(|| Refusal::bad_request("this topic is not subscribed to"))?;
    let item = test_item(&api, topic).map_err(Refusal::BadRequest)?;
    if !api.store.replay(&subscriber, vec![item]).await? {
        return Err(no_subscriber());
    }
    actor.did("sent a test event", format_args!("{topic} to {subscriber}"));
    Ok(Json(TestEvent { topic: topic.to_string() }))
}

fn test_item(api: &Api, topic: &TopicName) -> Result<Item, Rejection> {
    let url = format!("{}test", api.settings.public_url());
    let data: Box<RawValue> =
        RawValue::from_string(r#"{"test":true}"#.into()).map_err(Rejection::new)?;
    let limits = DataLimits { bytes: usize::MAX, depth: DATA_DEPTH_MAX };
    let event = Event::new(EventType::Noop.as_str(), url.into(), None, Some(&data), limits)?;
    Ok(event.encode(topic, api.clock.now_ms()))
}

/// Up to where a queue is skipped: one of the two.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct SkipBody {
    /// The position of the last event that is skipped.
    through: Option<u64>,
    /// The batch that was given out, by its `Webhook-Id`.
    batch: Option<String>,
}

/// What was skipped.
#[derive(Serialize, ToSchema)]
pub struct SkippedEvents {
    /// How many events have become dead letters.
    skipped: u64,
}

/// Take what stands at the head of a queue out of it.
///
/// What is skipped becomes dead letters, which can be looked at, retried and deleted.
#[utoipa::path(
    post,
    path = "/subscriptions/{subscriber}/skip",
    operation_id = "skip_events",
    tag = CONTROL,
    params(("subscriber" = String, Path, description = "token or name")),
    request_body = SkipBody,
    responses(
        (status = 200, description = "it is skipped", body = SkippedEvents),
        (status = 400, description = "bad JSON, an unknown field, neither or both of the two"),
        (status = 403, description = "this is another subscriber"),
        (status = 404, description = "there is no such subscriber"),
        (status = 409, description = "this is not the batch that was given out"),
        Caller,
        Body,
    ),
)]
pub async fn skip(
    State(api): State<Shared>,
    actor: Actor,
    Path(which): Path<String>,
    body: Body,
) -> Result<Json<SkippedEvents>, Refusal> {
    let subscriber = find_own(&api, &actor.caller, &which).await?;
    let skip = match parse_object(&body.bytes)? {
        SkipBody { through: Some(position), batch: None } => {
            Skip::Through(EventPosition::new(position))
        }
        SkipBody { through: None, batch: Some(id) } => {
            let status = api.store.subscription(&subscriber).await?.ok_or_else(no_subscriber)?;
            let given = status.progress.batch.filter(|batch| batch.id.to_string() == id);
            let BatchId { number, .. } = given.ok_or(Refusal::Conflict(NOT_THIS_BATCH))?.id;
            Skip::Batch(number)
        }
        _ => return Err(Refusal::bad_request("give either `through` or `batch`")),
    };
    let mut skipped = 0;
    loop {
        match api.store.skip(&subscriber, skip).await? {
            Skipped::Done { events, has_more } => {
                skipped += events;
                if has_more {
                    continue;
                }
                actor.did("skipped events", format_args!("{skipped} of {subscriber}"));
                return Ok(Json(SkippedEvents { skipped }));
            }
            Skipped::NotThisBatch => return Err(Refusal::Conflict(NOT_THIS_BATCH)),
            Skipped::Unknown => return Err(no_subscriber()),
        }
    }
}

const NOT_THIS_BATCH: &str =
    "this is not the batch that was given out: look at the subscription again";

/// The subscriber that a path names, if it is the caller's own business.
pub async fn find_own(api: &Api, caller: &Caller, which: &str) -> Result<ClientToken, Refusal> {
    let subscriber = find(api, caller, which).await?;
    match caller.may_see_secrets_of(&subscriber) {
        true => Ok(subscriber),
        false => Err(Refusal::Forbidden("this is another subscriber")),
    }
}

/// The subscriber that a path names, by its token or by a name that no other one has.
async fn find(api: &Api, caller: &Caller, which: &str) -> Result<ClientToken, Refusal> {
    let token = ClientToken::parse(which).map(|token| api.authentication.tokens.client_of(&token));
    if let Ok(token) = token
        && api.store.subscription(&token).await?.is_some()
        // Whoever is neither knows it by its name only.
        && caller.may_see_secrets_of(&token)
    {
        return Ok(token);
    }
    let all = api.store.subscriptions().await?.into_iter().map(|status| status.subscriber);
    let mut named = all.filter(|subscriber| api.authentication.name_of(subscriber) == which);
    match (named.next(), named.next()) {
        (Some(subscriber), None) => Ok(subscriber),
        (Some(_), Some(_)) => {
            Err(Refusal::NotFound("several subscribers have this name: use the token".into()))
        }
        (None, _) => Err(no_subscriber()),
    }
}
