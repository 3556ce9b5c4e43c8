//! `/topics`: publishing, listing and deleting (contract §2, §3, §5).

use std::time::Instant;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::Serialize;

use super::auth::Caller;
use super::error::ApiError;
use super::extract::Body;
use super::state::{Api, Shared};
use crate::bus::event::parse_publish;
use crate::bus::topic::TopicName;
use crate::store::{Publication, Published, TopicDeleted};
use crate::telemetry::metrics::record;

const OWNED: &str = "this topic belongs to another publisher";

pub async fn publish(
    State(api): State<Shared>,
    caller: Caller,
    Path(name): Path<String>,
    Body(body): Body,
) -> Result<StatusCode, ApiError> {
    let started = Instant::now();
    let answer = accept(&api, caller, &name, &body).await;
    let status = answer.as_ref().map_or_else(ApiError::status, |status| *status);
    record::publish_answered(status, started.elapsed());
    answer
}

async fn accept(
    api: &Api,
    caller: Caller,
    name: &str,
    body: &[u8],
) -> Result<StatusCode, ApiError> {
    let publisher = caller.into_client()?;
    api.limits.publish(&publisher)?;
    let topic = api.topic_name(name)?;
    let items = parse_publish(body, &topic, api.clock.now_ms(), api.settings.max_event_data)?;
    match api.ingest.publish(Publication { topic, publisher, items }).await? {
        Published::Stored => Ok(StatusCode::NO_CONTENT),
        Published::OwnedByAnother => Err(ApiError::Forbidden(OWNED)),
    }
}

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
#[derive(Serialize)]
pub struct TopicRow {
    name: String,
    publisher: Option<String>,
    events: u64,
}

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
