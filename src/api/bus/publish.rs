//! `POST /topics/:name`: publishing (contract §2).

use std::net::SocketAddr;
use std::time::Instant;

use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Request};
use axum::response::{IntoResponse, Response};
use futures_util::future::BoxFuture;
use ring::digest::{SHA256, digest};

use super::topics::{OWNED, TOO_MANY};
use crate::api::openapi::schemas::Publish;
use crate::api::openapi::tags::PUBLISHING;
use crate::api::state::{Api, Shared};
use crate::bus::event::{DataLimits, parse_publish};
use crate::bus::hex::hex;
use crate::bus::item::{Item, ItemParts};
use crate::bus::position::EventPosition;
use crate::bus::topic::{NEWS_TOPIC, TopicName};
use crate::commit::Publishes;
use crate::http::authentication::Caller;
use crate::http::body::Body;
use crate::http::idempotency;
use crate::http::in_flight::Holder;
use crate::http::refusal::Refusal;
use crate::http::{RequestBody, ShortWay, trace};
use crate::store::{Publication, PublishKey, Published};
use crate::telemetry::metrics::record;

/// Publish to a topic.
///
/// The first publish to a topic creates it and makes the client its publisher. A refused request
/// creates and claims nothing.
#[utoipa::path(
    post,
    path = "/topics/{name}",
    tag = PUBLISHING,
    params(
        ("name" = TopicName, Path),
        (
            "Idempotency-Key" = Option<String>,
            Header,
            description = "makes it stored once, however often it comes within 24 h",
        ),
        ("traceparent" = Option<String>, Header, description = "the trace that it is part of"),
    ),
    request_body = Publish,
    responses(
        Caller,
        Body,
        (
            status = 204,
            description = "stored in the queue of every subscriber",
            headers((
                "Routemaster-Event" = u64,
                description = "the position of the event; of several, of the first one, and each of the others has \
                    the next"
            )),
        ),
        (status = 200, description = "the same, with `ROUTEMASTER_PUBLISH_STATUS=200`"),
        (
            status = 400,
            description = "a bad topic name, bad JSON, a duplicated or unknown field, a bad value; \
                of several events with the index of the first bad one",
        ),
        (
            status = 403,
            description = "the topic belongs to another client; or it is new, and the client has as many as \
                `ROUTEMASTER_MAX_TOPICS_PER_CLIENT` allows; or this is the root key",
        ),
        (status = 422, description = "something else was published with this `Idempotency-Key`"),
        (
            status = 429,
            description = "more publishes than `ROUTEMASTER_PUBLISH_RATE` allows this client; or \
                too many unknown tokens from this address",
        ),
        (status = 503, description = "the store is not available or full"),
    ),
)]
pub async fn publish(
    State(api): State<Shared>,
    caller: Caller,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<impl IntoResponse, Refusal> {
    accept(&api, &api.publishes, &caller, &name, &headers, &body.bytes).await
}

/// Publishing is what most requests are there for. One that is written as usual goes straight here;
/// every other one comes through the router.
pub struct PublishWay {
    pub api: Shared,
    /// Of the front that this way is on.
    pub publishes: Publishes,
}

impl ShortWay for PublishWay {
    fn is_for(&self, method: &Method, path: &str) -> bool {
        let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
        let topic = path.strip_prefix(TOPICS).unwrap_or_default();
        method == Method::POST && !topic.is_empty() && topic.bytes().all(is_plain)
    }

    fn answer(
        &self,
        request: Request<RequestBody>,
        peer: SocketAddr,
    ) -> BoxFuture<'static, Response> {
        let (api, publishes) = (self.api.clone(), self.publishes.clone());
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let topic = parts.uri.path().strip_prefix(TOPICS).unwrap_or_default();
            let answer = async {
                let caller = api.authentication.caller(&parts.headers, Some(peer)).await?;
                let holder = Holder::from(&caller);
                let body = api.bodies.read(&parts.headers, body, holder).await?;
                accept(&api, &publishes, &caller, topic, &parts.headers, &body.bytes).await
            };
            answer.await.into_response()
        })
    }
}

/// What the path of a publish has before the topic.
const TOPICS: &str = "/topics/";

async fn accept(
    api: &Api,
    publishes: &Publishes,
    caller: &Caller,
    name: &str,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<impl IntoResponse + use<>, Refusal> {
    let started = Instant::now();
    let answer = store(api, publishes, caller, name, headers, body).await;
    let status = answer.as_ref().map_or_else(Refusal::status, |_| api.settings.publish_status);
    record::publish_answered(status, started.elapsed());
    answer.map(|first| (status, [(EVENT, HeaderValue::from(first.number()))]))
}

/// The position of what was published, in the answer.
const EVENT: HeaderName = HeaderName::from_static("routemaster-event");
const KEY_TAKEN: &str = "something else was published with this `Idempotency-Key`: use another one";
const THE_BUS_S_OWN: &str = "the bus publishes its own news in this topic: choose another one";

async fn store(
    api: &Api,
    publishes: &Publishes,
    caller: &Caller,
    name: &str,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<EventPosition, Refusal> {
    let publisher = caller.client()?.clone();
    api.authentication.limits.publish(&publisher)?;
    let topic = api.topic_name(name)?;
    if topic.as_str() == NEWS_TOPIC {
        return Err(Refusal::Forbidden(THE_BUS_S_OWN));
    }
    let settings = &api.settings;
    let limits = DataLimits { bytes: settings.max_event_data, depth: settings.max_event_depth };
    let items = parse_publish(body, &topic, api.clock.now_ms(), limits)?;
    let key = idempotency::key(headers)?.map(|key| PublishKey {
        name: short_hash(&[publisher.reveal(), key].map(str::as_bytes)),
        fingerprint: short_hash(&[topic.as_str().as_bytes(), body]),
    });
    let items = in_trace(items, headers);
    match publishes.commit(Publication { topic, publisher, items, key }).await? {
        Published::Stored(first) | Published::StoredBefore(first) => Ok(first),
        Published::KeyTaken => Err(Refusal::Unprocessable(KEY_TAKEN)),
        Published::OwnedByAnother => Err(Refusal::Forbidden(OWNED)),
        Published::TooManyTopics => Err(Refusal::Forbidden(TOO_MANY)),
    }
}

/// What tells some parts from others, in 32 hex digits. No part but the last holds a line break.
fn short_hash(parts: &[&[u8]]) -> String {
    hex(&digest(&SHA256, &parts.join(&b'\n')).as_ref()[..16])
}

/// Items with the trace that their publisher is in, if it is in one.
fn in_trace(items: Vec<Item>, headers: &HeaderMap) -> Vec<Item> {
    let trace = trace::parent(headers);
    if trace.is_none() {
        return items;
    }
    let mark = |json: Item| ItemParts { trace, json: &json, ..ItemParts::default() }.to_item();
    items.into_iter().map(mark).collect()
}
