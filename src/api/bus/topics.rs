//! `/topics`: listing and deleting (contract §3, §5).

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use crate::api::openapi::tags::{MONITORING, PUBLISHING};
use crate::api::state::Shared;
use crate::bus::topic::TopicName;
use crate::http::audit::Actor;
use crate::http::authentication::Caller;
use crate::http::refusal::Refusal;
use crate::store::TopicDeleted;

pub const OWNED: &str = "this topic belongs to another publisher";
pub const TOO_MANY: &str = "you have as many topics as one client may: delete one that is not needed, or \
    ask the operator to raise ROUTEMASTER_MAX_TOPICS_PER_CLIENT";

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
    actor: Actor,
    Path(name): Path<String>,
) -> Result<StatusCode, Refusal> {
    let topic = api.topic_name(&name)?;
    let owner = match &actor.caller {
        Caller::Client(token) => Some(token),
        Caller::Root => None,
    };
    match api.store.delete_topic(&topic, owner).await? {
        TopicDeleted::Done => {
            actor.did("deleted a topic", &topic);
            Ok(StatusCode::NO_CONTENT)
        }
        TopicDeleted::Unknown => Err(unknown_topic(&topic)),
        TopicDeleted::OwnedByAnother => Err(Refusal::Forbidden(OWNED)),
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
) -> Result<Json<Vec<TopicRow>>, Refusal> {
    let rows = api.store.topics().await?.into_iter().map(|topic| TopicRow {
        name: topic.name.to_string(),
        publisher: topic.publisher.map(|publisher| api.authentication.view_of(&publisher, &caller)),
        events: topic.events,
    });
    Ok(Json(rows.collect()))
}

pub fn unknown_topic(topic: &TopicName) -> Refusal {
    Refusal::NotFound(format!("nobody has published to the topic `{topic}`"))
}
