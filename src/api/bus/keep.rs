//! `/topics/:name/keep` and `/subscription/replay`: topics that keep their events, and who wants them once more
//! (contract §14).

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::control::find_own;
use super::subscriptions::no_subscriber;
use super::topics::{OWNED, unknown_topic};
use crate::api::openapi::tags::{CONTROL, PUBLISHING};
use crate::api::state::{Api, Shared};
use crate::bus::item::{Item, replayed};
use crate::bus::json::parse_object;
use crate::bus::position::EventPosition;
use crate::bus::token::ClientToken;
use crate::bus::topic::{Keep, TopicName};
use crate::http::audit::Actor;
use crate::http::authentication::Caller;
use crate::http::body::Body;
use crate::http::refusal::Refusal;
use crate::store::{KEPT_AT_ONCE, KeepSet};

/// How many events one request replays at most.
const REPLAY_MAX: u64 = 1_000_000;

/// How much a topic keeps: both, or 0 for nothing.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct KeepBody {
    /// For how long, in milliseconds.
    ms: u64,
    /// How many bytes, of which an event takes some 60 beside its own.
    bytes: u64,
}

/// Say how much a topic keeps, beside what waits in queues.
#[utoipa::path(
    put,
    path = "/topics/{name}/keep",
    operation_id = "keep_events",
    tag = PUBLISHING,
    params(("name" = TopicName, Path)),
    request_body = KeepBody,
    responses(
        (status = 204, description = "it keeps so much of what comes from now on"),
        (status = 400, description = "a bad topic name, bad JSON, a bad value"),
        (status = 403, description = "the topic belongs to another client"),
        (status = 404, description = "there is no such topic"),
        (status = 409, description = "all topics together would keep more than `ROUTEMASTER_KEEP_MAX_BYTES`"),
        Caller,
        Body,
    ),
)]
pub async fn set(
    State(api): State<Shared>,
    actor: Actor,
    Path(name): Path<String>,
    body: Body,
) -> Result<StatusCode, Refusal> {
    let topic = api.topic_name(&name)?;
    let owner = actor.caller.owner()?;
    let KeepBody { ms, bytes } = parse_object(&body.bytes)?;
    let keep = Keep::new(ms, bytes).map_err(Refusal::bad_request)?;
    match api.store.keep(&topic, keep, owner, api.settings.kept_room()).await? {
        KeepSet::Done => {
            actor.did("set what a topic keeps", format_args!("{topic}: {ms} ms, {bytes} bytes"));
            Ok(StatusCode::NO_CONTENT)
        }
        KeepSet::UnknownTopic => Err(unknown_topic(&topic)),
        KeepSet::OwnedByAnother => Err(Refusal::Forbidden(OWNED)),
        KeepSet::NoRoom => Err(Refusal::Conflict(
            "all topics together would keep more than ROUTEMASTER_KEEP_MAX_BYTES allows",
        )),
    }
}

/// What is delivered once more.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ReplayBody {
    /// Of these topics, which must be subscribed to; of all of the subscription, if they are left out.
    #[schema(value_type = Option<Vec<TopicName>>)]
    topics: Option<Vec<String>>,
    /// Stored then or later, in milliseconds since the epoch.
    since: u64,
    /// Stored before then; until now, if it is left out.
    until: Option<u64>,
}

/// What was put into the queue.
#[derive(Serialize, ToSchema)]
pub struct Replayed {
    /// How many events.
    replayed: u64,
}

/// Put what topics have kept at the end of the caller's queue, in order.
///
/// Their batches have the header `Routemaster-Replay`.
#[utoipa::path(
    post,
    path = "/subscription/replay",
    operation_id = "replay_events",
    tag = CONTROL,
    request_body = ReplayBody,
    responses(
        (status = 200, description = "it is in the queue", body = Replayed),
        (status = 400, description = "bad JSON, an unknown field, a topic that is not subscribed to"),
        (status = 403, description = "this is the root key"),
        (status = 404, description = "there is no subscription"),
        Caller,
        Body,
    ),
)]
pub async fn replay(
    State(api): State<Shared>,
    actor: Actor,
    body: Body,
) -> Result<Json<Replayed>, Refusal> {
    let subscriber = actor.caller.client()?;
    put_back(&api, &actor, subscriber, &body).await
}

/// Put what topics have kept at the end of a queue, in order.
///
/// Their batches have the header `Routemaster-Replay`.
#[utoipa::path(
    post,
    path = "/subscriptions/{subscriber}/replay",
    operation_id = "replay_events_to",
    tag = CONTROL,
    params(("subscriber" = String, Path, description = "token or name")),
    request_body = ReplayBody,
    responses(
        (status = 200, description = "it is in the queue", body = Replayed),
        (status = 400, description = "bad JSON, an unknown field, a topic that is not subscribed to"),
        (status = 403, description = "this is another subscriber"),
        (status = 404, description = "there is no such subscriber"),
        Caller,
        Body,
    ),
)]
pub async fn replay_to(
    State(api): State<Shared>,
    actor: Actor,
    Path(which): Path<String>,
    body: Body,
) -> Result<Json<Replayed>, Refusal> {
    let subscriber = find_own(&api, &actor.caller, &which).await?;
    put_back(&api, &actor, &subscriber, &body).await
}

async fn put_back(
    api: &Api,
    actor: &Actor,
    subscriber: &ClientToken,
    body: &Body,
) -> Result<Json<Replayed>, Refusal> {
    let ReplayBody { topics, since, until } = parse_object(&body.bytes)?;
    let status = api.store.subscription(subscriber).await?.ok_or_else(no_subscriber)?;
    let subscribed = status.subscription.topics;
    let topics = match topics {
        None => subscribed.into_iter().collect(),
        Some(names) => {
            let topics = names.iter().map(|name| api.topic_name(name));
            let topics = topics.collect::<Result<Vec<_>, _>>()?;
            if let Some(other) = topics.iter().find(|topic| !subscribed.contains(topic)) {
                let reason = format!("the topic `{other}` is not subscribed to");
                return Err(Refusal::bad_request(reason));
            }
            topics
        }
    };
    let until = until.unwrap_or_else(|| api.clock.now_ms() + 1);
    let replayed = replay_all(api, subscriber, &topics, since, until).await?;
    let of = format_args!("{replayed} of {} topics to {subscriber}", topics.len());
    actor.did("replayed events", of);
    Ok(Json(Replayed { replayed }))
}

async fn replay_all(
    api: &Api,
    subscriber: &ClientToken,
    topics: &[TopicName],
    since_ms: u64,
    until_ms: u64,
) -> Result<u64, Refusal> {
    let (mut after, until) =
        (EventPosition::before_time(since_ms), EventPosition::of_time(until_ms));
    let mut count = 0;
    while count < REPLAY_MAX && !topics.is_empty() {
        let kept = api.store.kept_events(topics, after).await?;
        let Some(last) = kept.last().map(|queued| queued.position) else { break };
        let is_all = kept.len() < KEPT_AT_ONCE || last >= until;
        let wanted = kept.iter().take_while(|queued| queued.position < until);
        let items: Vec<Item> = wanted.map(replayed).collect();
        count += items.len() as u64;
        if !api.store.replay(subscriber, items).await? {
            return Err(no_subscriber());
        }
        if is_all {
            break;
        }
        after = last;
    }
    Ok(count)
}
