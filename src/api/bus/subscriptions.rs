//! `/subscription`: subscribing, unsubscribing and listing (contract §3, §5).

use std::collections::BTreeSet;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;

use super::subscription_view::SubscriptionRow;
use super::topics::{TOO_MANY, unknown_topic};
use crate::api::openapi::schemas;
use crate::api::openapi::tags::{MONITORING, SUBSCRIBING};
use crate::api::state::{Api, Shared};
use crate::bus::position::EventPosition;
use crate::bus::subscription::{SubscriptionRequest, Target};
use crate::bus::token::{ClientToken, NEWS_CLIENT};
use crate::bus::topic::{NEWS_TOPIC, TopicName};
use crate::http::audit::Actor;
use crate::http::authentication::Caller;
use crate::http::body::Body;
use crate::http::refusal::Refusal;
use crate::store::{Caught, Publication, Subscribed};

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
    if request.topics.iter().any(|topic| topic.as_str() == NEWS_TOPIC) {
        make_news_topic(&api).await?;
    }
    let begins = request.since_ms.is_some() && begins(&api, subscriber).await?;
    if let Some(since_ms) = request.since_ms.filter(|_| begins) {
        return subscribe_from(&api, &actor, &request, since_ms).await;
    }
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
        refused => Err(refusal(refused)),
    }
}

fn refusal(refused: Subscribed) -> Refusal {
    match refused {
        Subscribed::UnknownTopic(topic) => unknown_topic(&topic),
        Subscribed::TooManyTopics => Refusal::Forbidden(TOO_MANY),
        Subscribed::KeptRetentionTooShort(age) => Refusal::bad_request(format!(
            "`timeout` must be less than the `retention` of {} milliseconds that this subscription \
             has: give another `retention` with it, or 0 for none",
            age.as_millis()
        )),
        Subscribed::Done => no_subscriber(),
    }
}

/// Whether a subscription is new, or has not come to any topic yet.
async fn begins(api: &Api, subscriber: &ClientToken) -> Result<bool, Refusal> {
    let status = api.store.subscription(subscriber).await?;
    Ok(status.is_none_or(|status| status.subscription.topics.is_empty()))
}

/// Subscribes to what topics have kept since a time, and to what comes.
async fn subscribe_from(
    api: &Api,
    actor: &Actor,
    request: &SubscriptionRequest,
    since_ms: u64,
) -> Result<StatusCode, Refusal> {
    let subscriber = actor.caller.client()?;
    if api.store.lanes().await? > 1 {
        return Err(Refusal::bad_request(
            "`since` needs a store of one lane: subscribe without it, and replay what is kept",
        ));
    }
    let known = api.store.topics().await?;
    for topic in &request.topics {
        let known = known.iter().find(|known| known.name == *topic);
        if known.ok_or_else(|| unknown_topic(topic))?.keep.is_none() {
            return Err(Refusal::bad_request(format!(
                "`since`: the topic `{topic}` keeps nothing; its publisher says how much with \
                 PUT /topics/{topic}/keep"
            )));
        }
    }
    // It comes to its topics when it has what they have kept: until then nothing new can get before that.
    let without_topics = SubscriptionRequest { topics: BTreeSet::new(), ..request.clone() };
    match api.store.subscribe(subscriber, &without_topics, false).await? {
        Subscribed::Done => {}
        refused => return Err(refusal(refused)),
    }
    let topics: Vec<_> = request.topics.iter().cloned().collect();
    let mut after = EventPosition::before_time(since_ms);
    loop {
        match api.store.subscribe_from(subscriber, &topics, after).await? {
            Caught::UpTo(position) => after = position,
            Caught::Up => break,
            Caught::Gone => return Err(no_subscriber()),
        }
    }
    actor.did("subscribed", format_args!("{} topics from {since_ms} on", topics.len()));
    Ok(StatusCode::NO_CONTENT)
}

/// The bus publishes its news as soon as there is a topic for them: whoever subscribes first makes it.
async fn make_news_topic(api: &Api) -> Result<(), Refusal> {
    let topic = TopicName::from_stored(NEWS_TOPIC);
    let publisher = ClientToken::from_stored(NEWS_CLIENT);
    let nothing = Publication { topic, publisher, items: vec![], key: None };
    Ok(api.publishes.commit(nothing).await.map(drop)?)
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
    Ok(Json(SubscriptionRow::new(&api, status, &caller)))
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
    path = "/subscriptions/{subscriber}",
    operation_id = "delete_subscriber",
    tag = SUBSCRIBING,
    params(("subscriber" = ClientToken, Path)),
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
    let token = ClientToken::parse(&token).map_err(Refusal::bad_request)?;
    let subscriber = api.authentication.tokens.client_of(&token);
    if !actor.caller.may_see_secrets_of(&subscriber) {
        return Err(Refusal::Forbidden("this is another subscriber"));
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

pub fn no_subscriber() -> Refusal {
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
    let row = |status| SubscriptionRow::new(&api, status, &caller);
    Ok(Json(subscriptions.into_iter().map(row).collect()))
}
