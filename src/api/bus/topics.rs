//! `/topics`: listing and deleting (contract §3, §5).

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::openapi::tags::{MONITORING, PUBLISHING};
use crate::api::state::Shared;
use crate::bus::json::parse_object;
use crate::bus::token::ClientToken;
use crate::bus::topic::{NEWS_TOPIC, TopicName};
use crate::http::audit::Actor;
use crate::http::authentication::Caller;
use crate::http::body::Body;
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
    match api.store.delete_topic(&topic, actor.caller.owner()?).await? {
        TopicDeleted::Done => {
            actor.did("deleted a topic", &topic);
            Ok(StatusCode::NO_CONTENT)
        }
        TopicDeleted::Unknown => Err(unknown_topic(&topic)),
        TopicDeleted::OwnedByAnother => Err(Refusal::Forbidden(OWNED)),
    }
}

/// Who publishes to a topic from now on.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewPublisher {
    #[schema(value_type = ClientToken)]
    publisher: String,
}

/// Give a topic to another publisher.
#[utoipa::path(
    put,
    path = "/topics/{name}/publisher",
    operation_id = "set_publisher",
    tag = PUBLISHING,
    params(("name" = TopicName, Path)),
    request_body = NewPublisher,
    responses(
        (status = 204, description = "it publishes, and nobody else"),
        (status = 400, description = "a bad topic name, bad JSON, a token that is not allowed"),
        (status = 403, description = "this is not the root key"),
        (status = 404, description = "there is no such topic"),
        Caller,
        Body,
    ),
)]
pub async fn set_publisher(
    State(api): State<Shared>,
    actor: Actor,
    Path(name): Path<String>,
    body: Body,
) -> Result<StatusCode, Refusal> {
    actor.caller.require_root()?;
    let topic = api.topic_name(&name)?;
    let NewPublisher { publisher } = parse_object(&body.bytes)?;
    let token = ClientToken::parse(&publisher).map_err(Refusal::bad_request)?;
    let tokens = &api.authentication.tokens;
    tokens.refresh().await?;
    let client = tokens.client_of(&token);
    if topic.as_str() == NEWS_TOPIC || !tokens.lets_in(&client) {
        let reason = "`publisher` must be an allowed token, and not of the bus's own topic";
        return Err(Refusal::bad_request(reason));
    }
    if !api.store.set_publisher(&topic, &client).await? {
        return Err(unknown_topic(&topic));
    }
    actor.did("gave a topic to another publisher", format_args!("{topic} to {client}"));
    Ok(StatusCode::NO_CONTENT)
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
    /// What it keeps of them; left out if that is nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    keep: Option<KeepRow>,
}

/// What a topic keeps.
#[derive(Serialize, ToSchema)]
struct KeepRow {
    ms: u64,
    bytes: u64,
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
        keep: topic.keep.map(|keep| KeepRow { ms: keep.age.as_millis() as u64, bytes: keep.bytes }),
    });
    Ok(Json(rows.collect()))
}

pub fn unknown_topic(topic: &TopicName) -> Refusal {
    Refusal::NotFound(format!("nobody has published to the topic `{topic}`"))
}
