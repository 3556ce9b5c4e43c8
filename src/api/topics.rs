//! `/topics`: publishing, listing and deleting (contract §2, §3, §5).

use std::net::SocketAddr;
use std::time::Instant;

use axum::Json;
use axum::body::{Bytes, HttpBody};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use serde::Serialize;
use utoipa::ToSchema;

use super::auth::Caller;
use super::error::ApiError;
use super::extract::Body;
use super::openapi::{MONITORING, PUBLISHING};
use super::state::{Api, Shared};
use crate::bus::event::parse_publish;
use crate::bus::schema::Publish;
use crate::bus::topic::TopicName;
use crate::store::{Publication, Published, TopicDeleted};
use crate::telemetry::metrics::record;

const OWNED: &str = "this topic belongs to another publisher";

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
        (status = 403, description = "the topic belongs to another client; or this is the root key"),
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
    Body(body): Body,
) -> Result<StatusCode, ApiError> {
    accept(&api, caller, &name, &body).await
}

/// What [`publish`] does with a request that did not come through the router, which says who calls
/// by its headers and where it comes from.
pub async fn publish_to<B>(
    api: &Api,
    name: &str,
    (headers, peer): (&HeaderMap, Option<SocketAddr>),
    body: B,
) -> Result<StatusCode, ApiError>
where
    B: HttpBody<Data = Bytes>,
{
    let caller = Caller::authenticate(headers, peer, api).await?;
    let Body(body) = Body::read(headers, body, api).await?;
    accept(api, caller, name, &body).await
}

async fn accept(
    api: &Api,
    caller: Caller,
    name: &str,
    body: &[u8],
) -> Result<StatusCode, ApiError> {
    let started = Instant::now();
    let answer = store(api, caller, name, body).await;
    let status = answer.as_ref().map_or_else(ApiError::status, |()| api.settings.publish_status);
    record::publish_answered(status, started.elapsed());
    answer.map(|()| status)
}

async fn store(api: &Api, caller: Caller, name: &str, body: &[u8]) -> Result<(), ApiError> {
    let publisher = caller.into_client()?;
    api.limits.publish(&publisher)?;
    let topic = api.topic_name(name)?;
    let items = parse_publish(body, &topic, api.clock.now_ms(), api.settings.max_event_data)?;
    match api.ingest.publish(Publication { topic, publisher, items }).await? {
        Published::Stored => Ok(()),
        Published::OwnedByAnother => Err(ApiError::Forbidden(OWNED)),
    }
}

/// Delete a topic.
///
/// Nobody is subscribed to it any more; events in queues stay.
#[utoipa::path(
    delete,
    path = "/topics/{name}",
    operation_id = "delete_topic",
    tag = PUBLISHING,
    params(("name" = TopicName, Path)),
    responses(
        (status = 204, description = "it is gone"),
        (status = 400, description = "a bad topic name"),
        (status = 403, description = "the topic belongs to another client"),
        (status = 404, description = "there is no such topic"),
        Caller,
    ),
)]
pub async fn delete(
    State(api): State<Shared>,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<StatusCode, ApiError> {
    let topic = api.topic_name(&name)?;
    let owner = match &caller {
        Caller::Client(token) => Some(token),
        Caller::Root => None,
    };
    match api.store.delete_topic(&topic, owner).await? {
        TopicDeleted::Done => Ok(StatusCode::NO_CONTENT),
        TopicDeleted::Unknown => Err(unknown_topic(&topic)),
        TopicDeleted::OwnedByAnother => Err(ApiError::Forbidden(OWNED)),
    }
}

/// A row of `GET /topics`.
#[derive(Serialize, ToSchema)]
#[schema(as = Topic)]
pub struct TopicRow {
    #[schema(value_type = TopicName)]
    name: String,
    /// `null` if nobody has published. Of a token `<name>--<secret>`, others than root and its
    /// holder see the name only.
    #[schema(required)]
    publisher: Option<String>,
    /// Events ever received.
    events: u64,
}

/// List all topics.
#[utoipa::path(
    get,
    path = "/topics",
    operation_id = "list_topics",
    tag = MONITORING,
    responses((status = 200, description = "all topics", body = [TopicRow]), Caller),
)]
pub async fn list(
    State(api): State<Shared>,
    caller: Caller,
) -> Result<Json<Vec<TopicRow>>, ApiError> {
    let rows = api.store.topics().await?.into_iter().map(|topic| TopicRow {
        name: topic.name.to_string(),
        publisher: topic.publisher.map(|publisher| caller.view_of(&publisher)),
        events: topic.events,
    });
    Ok(Json(rows.collect()))
}

pub fn unknown_topic(topic: &TopicName) -> ApiError {
    ApiError::NotFound(format!("nobody has published to the topic `{topic}`"))
}
