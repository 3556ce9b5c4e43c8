//! `POST /topics/:name`: publishing (contract §2).

use std::net::SocketAddr;
use std::time::Instant;

use axum::extract::{Path, State};
use axum::http::{Method, Request, StatusCode};
use axum::response::{IntoResponse, Response};
use futures_util::future::BoxFuture;

use super::topics::{OWNED, TOO_MANY};
use crate::api::openapi::schemas::Publish;
use crate::api::openapi::tags::PUBLISHING;
use crate::api::state::{Api, Shared};
use crate::bus::event::{DataLimits, parse_publish};
use crate::bus::topic::TopicName;
use crate::http::authentication::Caller;
use crate::http::body::Body;
use crate::http::in_flight::Holder;
use crate::http::refusal::Refusal;
use crate::http::{RequestBody, ShortWay};
use crate::store::{Publication, Published};
use crate::telemetry::metrics::record;

/// Publish to a topic.
///
/// The first publish to a topic creates it and makes the client its publisher. A refused request
/// creates and claims nothing.
#[utoipa::path(
    post,
    path = "/topics/{name}",
    tag = PUBLISHING,
    params(("name" = TopicName, Path)),
    request_body = Publish,
    responses(
        Caller,
        Body,
        (status = 204, description = "stored in the queue of every subscriber"),
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
    body: Body,
) -> Result<StatusCode, Refusal> {
    accept(&api, &caller, &name, &body.bytes).await
}

/// Publishing is what most requests are there for. One that is written as usual goes straight here;
/// every other one comes through the router.
pub struct PublishWay(pub Shared);

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
        let api = self.0.clone();
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let topic = parts.uri.path().strip_prefix(TOPICS).unwrap_or_default();
            let answer = async {
                let caller = api.authentication.caller(&parts.headers, Some(peer)).await?;
                let holder = Holder::from(&caller);
                let body = api.bodies.read(&parts.headers, body, holder).await?;
                accept(&api, &caller, topic, &body.bytes).await
            };
            answer.await.into_response()
        })
    }
}

/// What the path of a publish has before the topic.
const TOPICS: &str = "/topics/";

async fn accept(
    api: &Api,
    caller: &Caller,
    name: &str,
    body: &[u8],
) -> Result<StatusCode, Refusal> {
    let started = Instant::now();
    let answer = store(api, caller, name, body).await;
    let status = answer.as_ref().map_or_else(Refusal::status, |()| api.settings.publish_status);
    record::publish_answered(status, started.elapsed());
    answer.map(|()| status)
}

async fn store(api: &Api, caller: &Caller, name: &str, body: &[u8]) -> Result<(), Refusal> {
    let publisher = caller.client()?.clone();
    api.authentication.limits.publish(&publisher)?;
    let topic = api.topic_name(name)?;
    let settings = &api.settings;
    let limits = DataLimits { bytes: settings.max_event_data, depth: settings.max_event_depth };
    let items = parse_publish(body, &topic, api.clock.now_ms(), limits)?;
    match api.publishes.commit(Publication { topic, publisher, items }).await? {
        Published::Stored => Ok(()),
        Published::OwnedByAnother => Err(Refusal::Forbidden(OWNED)),
        Published::TooManyTopics => Err(Refusal::Forbidden(TOO_MANY)),
    }
}
