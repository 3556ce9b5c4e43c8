//! `/api/publishers`: who forwards a topic's messages, and where to.

use axum::Json;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use super::id_in;
use super::page::Page;
use super::refusal::{Body, MessageRefusal};
use super::requester::Requester;
use super::topics::too_many;
use crate::api::calls::check_url;
use crate::api::openapi::tags::MESSAGES;
use crate::api::state::{Api, Shared};
use crate::bus::message::{NewPublisher, PublisherChange, PublisherTarget, TargetKind};
use crate::bus::user_info;
use crate::http::query;
use crate::store::{MessagePublisher, PublisherAdded, PublisherChanged, PublisherRemoved};

/// A publisher.
#[derive(Serialize, ToSchema)]
pub struct ShownPublisher {
    id: u64,
    /// The id of its topic.
    topic: u64,
    /// `http` or `pubsub`.
    r#type: &'static str,
    /// Without user and password.
    target: String,
    active: bool,
    from_now: bool,
    seconds_timeout: u64,
    seconds_retry: u64,
    chunk_size: u32,
    /// `null`: as many as the settings say.
    max_attempts: Option<u32>,
    /// When it was made, in milliseconds since the epoch.
    created: u64,
    /// What is sent is signed with; left out without, and for others than its maker and root.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    secret: Vec<String>,
}

#[derive(Serialize, ToSchema)]
pub struct OnePublisher {
    data: ShownPublisher,
}

/// Some publishers.
#[derive(Serialize, ToSchema)]
pub struct PublisherList {
    data: Vec<ShownPublisher>,
    /// What `after` is to be for the next page; `null` on the last one.
    next: Option<u64>,
}

#[derive(Serialize, ToSchema)]
pub struct AddedPublisher {
    data: AddedPublisherData,
}

#[derive(Serialize, ToSchema)]
struct AddedPublisherData {
    id: u64,
}

impl From<&MessagePublisher> for ShownPublisher {
    fn from(publisher: &MessagePublisher) -> Self {
        let terms = &publisher.terms;
        Self {
            id: publisher.id,
            topic: publisher.topic_id,
            r#type: publisher.kind.as_str(),
            target: user_info::taken_out(&publisher.target).0,
            active: terms.active,
            from_now: publisher.from_now,
            seconds_timeout: terms.timeout.as_secs(),
            seconds_retry: terms.retry.as_secs(),
            chunk_size: terms.chunk_size,
            max_attempts: terms.max_attempts,
            created: publisher.made_ms,
            secret: terms.secrets.reveal(),
        }
    }
}

/// Make a publisher.
#[utoipa::path(
    post,
    path = "/api/publishers",
    operation_id = "add_message_publisher",
    tag = MESSAGES,
    request_body(
        content = serde_json::Value,
        description = "`topic`, `target`, `type`, and `active`, `from_now`, `seconds_timeout`, `seconds_retry`, \
            `chunk_size`, `max_attempts`, `secret`",
    ),
    responses(
        (status = 201, description = "it is there", body = AddedPublisher),
        (status = 403, description = "the client has as many as it may", body = Body),
        (status = 409, description = "the topic has one of this type and target", body = Body),
        (status = 413, description = "the body is larger than 8 MB", body = Body),
        MessageRefusal,
    ),
)]
pub async fn add(
    State(api): State<Shared>,
    request: Request,
) -> Result<(StatusCode, Json<AddedPublisher>), MessageRefusal> {
    let (requester, body) = Requester::of(&api, request).await?;
    let new = NewPublisher::parse(&body)?;
    if let PublisherTarget::Http(url) = &new.target {
        check_target(&api, url.as_str())?;
    }
    let max = api.settings.max_topics_per_client;
    match api.store.add_message_publisher(&new, &requester.client, max).await? {
        PublisherAdded::Added(id) => {
            requester.did("made a publisher", id);
            let data = AddedPublisherData { id };
            Ok((StatusCode::CREATED, Json(AddedPublisher { data })))
        }
        PublisherAdded::UnknownTopic => Err(MessageRefusal::field("topic", "is invalid")),
        PublisherAdded::Taken => Err(MessageRefusal::taken("target")),
        PublisherAdded::TooMany => Err(too_many("publishers", max)),
    }
}

fn check_target(api: &Api, url: &str) -> Result<(), MessageRefusal> {
    check_url(api, url).map_err(|reason| MessageRefusal::field("target", reason))
}

/// List publishers, the oldest first: a client's own, for root all.
#[utoipa::path(
    get,
    path = "/api/publishers",
    operation_id = "list_message_publishers",
    tag = MESSAGES,
    params(
        ("topic" = Option<u64>, Query, description = "the id of their topic"),
        ("limit" = Option<u64>, Query, description = "how many, 1 to 1000"),
        ("after" = Option<u64>, Query, description = "`next` of the page before"),
    ),
    responses(
        (status = 200, description = "publishers", body = PublisherList),
        MessageRefusal,
    ),
)]
pub async fn list(
    State(api): State<Shared>,
    request: Request,
) -> Result<Json<PublisherList>, MessageRefusal> {
    let uri = request.uri().clone();
    let (requester, _) = Requester::of(&api, request).await?;
    let page = Page::of(&uri)?;
    let topic = query::number(&uri, "topic", 0..=u64::MAX)?;
    let publishers = api.store.message_publishers().await?;
    let seen = publishers.iter().filter(|publisher| {
        requester.may_change(&publisher.owner)
            && topic.is_none_or(|topic| topic == publisher.topic_id)
    });
    let (data, next) = page.cut(seen, |publisher| publisher.id);
    Ok(Json(PublisherList { data, next }))
}

/// Show a publisher.
#[utoipa::path(
    get,
    path = "/api/publishers/{id}",
    operation_id = "show_message_publisher",
    tag = MESSAGES,
    params(("id" = String, Path)),
    responses(
        (status = 200, description = "the publisher", body = OnePublisher),
        (status = 403, description = "it is another client's", body = Body),
        (status = 404, description = "there is no such publisher", body = Body),
        MessageRefusal,
    ),
)]
pub async fn show(
    State(api): State<Shared>,
    Path(id): Path<String>,
    request: Request,
) -> Result<Json<OnePublisher>, MessageRefusal> {
    let (requester, _) = Requester::of(&api, request).await?;
    let publisher = find(&api, &requester, &id).await?;
    let publisher = publisher.ok_or_else(not_found)?;
    Ok(Json(OnePublisher { data: (&publisher).into() }))
}

/// Change a publisher: what is named, and nothing else. It holds for what waits already.
#[utoipa::path(
    patch,
    path = "/api/publishers/{id}",
    operation_id = "change_message_publisher",
    tag = MESSAGES,
    params(("id" = String, Path)),
    request_body(
        content = serde_json::Value,
        description = "`target`, `active`, `seconds_timeout`, `seconds_retry`, `chunk_size`, `max_attempts`, `secret`",
    ),
    responses(
        (status = 200, description = "the publisher as it is now", body = OnePublisher),
        (status = 403, description = "it is another client's", body = Body),
        (status = 404, description = "there is no such publisher", body = Body),
        (status = 409, description = "the topic has another one of this target", body = Body),
        (status = 413, description = "the body is larger than 8 MB", body = Body),
        MessageRefusal,
    ),
)]
pub async fn change(
    State(api): State<Shared>,
    Path(id): Path<String>,
    request: Request,
) -> Result<Json<OnePublisher>, MessageRefusal> {
    let (requester, body) = Requester::of(&api, request).await?;
    let before = find(&api, &requester, &id).await?.ok_or_else(not_found)?;
    let change = PublisherChange::parse(&body, before.kind)?;
    if let Some(target) = change.target.as_deref().filter(|_| before.kind == TargetKind::Http) {
        check_target(&api, target)?;
    }
    match api.store.change_message_publisher(before.id, &change).await? {
        PublisherChanged::Changed => requester.did("changed a publisher", before.id),
        PublisherChanged::Unknown => return Err(not_found()),
        PublisherChanged::Taken => return Err(MessageRefusal::taken("target")),
    }
    let after = find(&api, &requester, &id).await?.ok_or_else(not_found)?;
    Ok(Json(OnePublisher { data: (&after).into() }))
}

/// Remove a publisher; what waits for it is discarded.
#[utoipa::path(
    delete,
    path = "/api/publishers/{id}",
    operation_id = "remove_message_publisher",
    tag = MESSAGES,
    params(("id" = String, Path)),
    responses(
        (status = 204, description = "it is gone, or was already"),
        (status = 403, description = "it is another client's", body = Body),
        MessageRefusal,
    ),
)]
pub async fn remove(
    State(api): State<Shared>,
    Path(id): Path<String>,
    request: Request,
) -> Result<StatusCode, MessageRefusal> {
    let (requester, _) = Requester::of(&api, request).await?;
    let found = find(&api, &requester, &id).await?;
    let unknown = || MessageRefusal::text(StatusCode::BAD_REQUEST, "Publisher not found");
    let number = id_in(&id).ok_or_else(unknown)?;
    match api.store.remove_message_publisher(number).await? {
        PublisherRemoved::Unknown => Err(unknown()),
        PublisherRemoved::WasGone => Ok(StatusCode::NO_CONTENT),
        PublisherRemoved::Gone => {
            if let Some(publisher) = found {
                requester.did("removed a publisher", publisher.id);
            }
            Ok(StatusCode::NO_CONTENT)
        }
    }
}

/// The publisher of this id, if there is one.
async fn find(
    api: &Api,
    requester: &Requester,
    id: &str,
) -> Result<Option<MessagePublisher>, MessageRefusal> {
    let Some(id) = id_in(id) else { return Ok(None) };
    let Some(publisher) = api.store.message_publisher(id).await? else { return Ok(None) };
    if !requester.may_change(&publisher.owner) {
        let text = "the publisher belongs to another client";
        return Err(MessageRefusal::detail(StatusCode::FORBIDDEN, text));
    }
    Ok(Some(publisher))
}

fn not_found() -> MessageRefusal {
    MessageRefusal::detail(StatusCode::NOT_FOUND, "there is no such publisher")
}
