//! `/api/topics`: message topics, which have a name space of their own.

use axum::Json;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use super::id_in;
use super::page::Page;
use super::refusal::{Body, MessageRefusal};
use super::requester::Requester;
use crate::api::calls::check_url;
use crate::api::openapi::tags::MESSAGES;
use crate::api::state::{Api, Shared};
use crate::bus::message::NewTopic;
use crate::bus::user_info;
use crate::http::query;
use crate::store::{MessageTopic, TopicAdded, TopicRemoved};

/// A topic.
#[derive(Serialize, ToSchema)]
pub struct ShownTopic {
    id: u64,
    name: String,
    /// Where messages can be fetched that got lost on their way here; without user and password.
    origin_host: String,
    recovery_enabled: bool,
    /// When it was made, in milliseconds since the epoch.
    created: u64,
}

#[derive(Serialize, ToSchema)]
pub struct OneTopic {
    data: ShownTopic,
}

/// Some topics.
#[derive(Serialize, ToSchema)]
pub struct TopicList {
    data: Vec<ShownTopic>,
    /// What `after` is to be for the next page; `null` on the last one.
    next: Option<u64>,
}

#[derive(Serialize, ToSchema)]
pub struct AddedTopic {
    data: AddedTopicData,
}

#[derive(Serialize, ToSchema)]
struct AddedTopicData {
    id: u64,
    name: String,
}

impl From<&MessageTopic> for ShownTopic {
    fn from(topic: &MessageTopic) -> Self {
        Self {
            id: topic.id,
            name: topic.name.to_string(),
            origin_host: user_info::taken_out(&topic.origin_host).0,
            recovery_enabled: topic.recovery_enabled,
            created: topic.made_ms,
        }
    }
}

/// Make a topic.
#[utoipa::path(
    post,
    path = "/api/topics",
    operation_id = "add_message_topic",
    tag = MESSAGES,
    request_body(content = serde_json::Value, description = "`name`, `origin_host`, `recovery_enabled`"),
    responses(
        (status = 201, description = "it is there", body = AddedTopic),
        (status = 403, description = "the client has as many as it may", body = Body),
        (status = 409, description = "there is one of this name", body = Body),
        (status = 413, description = "the body is larger than 8 MB", body = Body),
        MessageRefusal,
    ),
)]
pub async fn add(
    State(api): State<Shared>,
    request: Request,
) -> Result<(StatusCode, Json<AddedTopic>), MessageRefusal> {
    let (requester, body) = Requester::of(&api, request).await?;
    let new = NewTopic::parse(&body)?;
    check_url(&api, new.origin_host.as_str())
        .map_err(|reason| MessageRefusal::field("origin_host", reason))?;
    let max = api.settings.max_topics_per_client;
    match api.store.add_message_topic(&new, &requester.client, max).await? {
        TopicAdded::Added(id) => {
            requester.did("made a message topic", &new.name);
            let data = AddedTopicData { id, name: new.name.to_string() };
            Ok((StatusCode::CREATED, Json(AddedTopic { data })))
        }
        TopicAdded::NameTaken => Err(MessageRefusal::taken("name")),
        TopicAdded::TooMany => Err(too_many("topics", max)),
    }
}

pub(super) fn too_many(what: &str, max: u32) -> MessageRefusal {
    let text = format!("the client has {max} {what}, as many as it may");
    MessageRefusal::detail(StatusCode::FORBIDDEN, text)
}

/// List all topics, the oldest first.
#[utoipa::path(
    get,
    path = "/api/topics",
    operation_id = "list_message_topics",
    tag = MESSAGES,
    params(
        ("limit" = Option<u64>, Query, description = "how many, 1 to 1000"),
        ("after" = Option<u64>, Query, description = "`next` of the page before"),
    ),
    responses(
        (status = 200, description = "topics", body = TopicList),
        MessageRefusal,
    ),
)]
pub async fn list(
    State(api): State<Shared>,
    request: Request,
) -> Result<Json<TopicList>, MessageRefusal> {
    let uri = request.uri().clone();
    Requester::of(&api, request).await?;
    let page = Page::of(&uri)?;
    let topics = api.store.message_topics().await?;
    let (data, next) = page.cut(topics.iter(), |topic| topic.id);
    Ok(Json(TopicList { data, next }))
}

/// Show a topic.
#[utoipa::path(
    get,
    path = "/api/topics/{id}",
    operation_id = "show_message_topic",
    tag = MESSAGES,
    params(("id" = String, Path)),
    responses(
        (status = 200, description = "the topic", body = OneTopic),
        (status = 404, description = "there is no such topic", body = Body),
        MessageRefusal,
    ),
)]
pub async fn show(
    State(api): State<Shared>,
    Path(id): Path<String>,
    request: Request,
) -> Result<Json<OneTopic>, MessageRefusal> {
    Requester::of(&api, request).await?;
    let topic = find(&api, &id).await?;
    Ok(Json(OneTopic { data: (&topic).into() }))
}

/// Remove a topic.
#[utoipa::path(
    delete,
    path = "/api/topics/{id}",
    operation_id = "remove_message_topic",
    tag = MESSAGES,
    params(
        ("id" = String, Path),
        ("cascade" = Option<bool>, Query, description = "whether its publishers go with it"),
    ),
    responses(
        (status = 204, description = "it is gone"),
        (status = 403, description = "it is another client's", body = Body),
        (status = 404, description = "there is no such topic", body = Body),
        (status = 409, description = "it has publishers", body = Body),
        MessageRefusal,
    ),
)]
pub async fn remove(
    State(api): State<Shared>,
    Path(id): Path<String>,
    request: Request,
) -> Result<StatusCode, MessageRefusal> {
    let uri = request.uri().clone();
    let (requester, _) = Requester::of(&api, request).await?;
    let cascade = query::flag(&uri, "cascade")?;
    let topic = find(&api, &id).await?;
    if !requester.may_change(&topic.owner) {
        let text = "the topic belongs to another client";
        return Err(MessageRefusal::detail(StatusCode::FORBIDDEN, text));
    }
    match api.store.remove_message_topic(topic.id, cascade).await? {
        TopicRemoved::Gone => {
            requester.did("removed a message topic", &topic.name);
            Ok(StatusCode::NO_CONTENT)
        }
        TopicRemoved::Unknown => Err(not_found()),
        TopicRemoved::HasPublishers => {
            let text = "the topic has publishers: remove them first, or all with `?cascade=true`";
            Err(MessageRefusal::detail(StatusCode::CONFLICT, text))
        }
    }
}

async fn find(api: &Api, id: &str) -> Result<MessageTopic, MessageRefusal> {
    let id = id_in(id).ok_or_else(not_found)?;
    api.store.message_topic(id).await?.ok_or_else(not_found)
}

fn not_found() -> MessageRefusal {
    MessageRefusal::detail(StatusCode::NOT_FOUND, "there is no such topic")
}
