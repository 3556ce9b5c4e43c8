//! `POST /api/messages`, `/api/bulk_messages` and `/api/schedule_messages`: messages are taken, for all publishers that
//! their topic has.

use axum::Json;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use super::refusal::{Body, MessageRefusal};
use super::requester::Requester;
use crate::api::openapi::tags::MESSAGES;
use crate::api::state::{Api, Shared};
use crate::bus::message::{MessageForm, NewMessages};
use crate::http::trace;
use crate::store::{AcceptedMessage, MessagesAccepted, NewMessageGroup, StoreError};

/// How many messages may wait for how many publishers by one request: [`max_bulk_messages`] for ten of them.
///
/// [`max_bulk_messages`]: crate::config::Settings::max_bulk_messages
const DELIVERIES_MAX: usize = 30_000;
/// So few messages that it is not counted who forwards them.
const CERTAINLY_FEW: usize = 100;

/// A message that was taken.
#[derive(Serialize, ToSchema)]
pub struct TakenMessage {
    /// A number for each publisher that forwards it, the newest first: its `message-id` there.
    id: Vec<u64>,
    /// Its own number.
    message: u64,
}

/// Messages that were taken.
#[derive(Serialize, ToSchema)]
pub struct TakenMessages {
    /// A number for each message and publisher, the newest first.
    result: Vec<u64>,
    /// The messages' own numbers, in their order.
    messages: Vec<u64>,
}

/// Take a message.
#[utoipa::path(
    post,
    path = "/api/messages",
    operation_id = "take_message",
    tag = MESSAGES,
    request_body(
        content = serde_json::Value,
        description = "`topic`, `payload` (an object or an array), `attributes` (an object of strings)",
    ),
    responses(
        (status = 201, description = "it is kept", body = TakenMessage),
        (status = 413, description = "the body is larger than 8 MB", body = Body),
        MessageRefusal,
    ),
)]
pub async fn one(
    State(api): State<Shared>,
    request: Request,
) -> Result<(StatusCode, Json<TakenMessage>), MessageRefusal> {
    take_one(&api, request, MessageForm::One).await
}

/// Take a message that is forwarded later.
#[utoipa::path(
    post,
    path = "/api/schedule_messages",
    operation_id = "schedule_message",
    tag = MESSAGES,
    request_body(
        content = serde_json::Value,
        description = "as for `/api/messages`, and `schedule_at`: a time with its offset; what is past is now",
    ),
    responses(
        (status = 201, description = "it is kept", body = TakenMessage),
        (status = 413, description = "the body is larger than 8 MB", body = Body),
        MessageRefusal,
    ),
)]
pub async fn scheduled(
    State(api): State<Shared>,
    request: Request,
) -> Result<(StatusCode, Json<TakenMessage>), MessageRefusal> {
    take_one(&api, request, MessageForm::Scheduled).await
}

async fn take_one(
    api: &Api,
    request: Request,
    form: MessageForm,
) -> Result<(StatusCode, Json<TakenMessage>), MessageRefusal> {
    let trace = trace::parent(request.headers());
    let (requester, body) = Requester::of(api, request).await?;
    let new = NewMessages::parse(&body, form)?.in_trace(trace);
    let kept = match keep(api, &requester, new).await? {
        MessagesAccepted::Kept(kept) => kept,
        MessagesAccepted::UnknownTopic => {
            return Err(MessageRefusal::field("topic", "is invalid"));
        }
        MessagesAccepted::Known | MessagesAccepted::Full => return Err(full()),
    };
    let Some(AcceptedMessage { number, deliveries }) = kept.into_iter().next() else {
        return Err(MessageRefusal::field("payload", "can't be blank"));
    };
    let id = deliveries.into_iter().rev().collect();
    Ok((StatusCode::CREATED, Json(TakenMessage { id, message: number })))
}

/// Take several messages of one topic, all or none.
#[utoipa::path(
    post,
    path = "/api/bulk_messages",
    operation_id = "take_messages",
    tag = MESSAGES,
    request_body(
        content = serde_json::Value,
        description = "`topic`, `payload`: an array of objects or arrays, `attributes` that all have",
    ),
    responses(
        (status = 201, description = "they are kept", body = TakenMessages),
        (status = 406, description = "more than MAX_BULK_MESSAGES, or an unknown topic", body = Body),
        (status = 413, description = "the body is larger than 8 MB, or what is kept than 16 MB", body = Body),
        MessageRefusal,
    ),
)]
pub async fn bulk(
    State(api): State<Shared>,
    request: Request,
) -> Result<(StatusCode, Json<TakenMessages>), MessageRefusal> {
    let trace = trace::parent(request.headers());
    let (requester, body) = Requester::of(&api, request).await?;
    let form = MessageForm::Bulk(api.settings.max_bulk_messages);
    let new = NewMessages::parse(&body, form)?.in_trace(trace);
    let not_acceptable = |text: &str| MessageRefusal::text(StatusCode::NOT_ACCEPTABLE, text);
    bounded(&api, &new, not_acceptable).await?;
    let kept = match keep(&api, &requester, new).await? {
        MessagesAccepted::Kept(kept) => kept,
        MessagesAccepted::UnknownTopic => return Err(not_acceptable("there is no such topic")),
        MessagesAccepted::Known | MessagesAccepted::Full => return Err(full()),
    };
    let messages = kept.iter().map(|message| message.number).collect();
    let newest_first = kept.iter().rev().flat_map(|message| message.deliveries.iter().rev());
    let result = newest_first.copied().collect();
    Ok((StatusCode::CREATED, Json(TakenMessages { result, messages })))
}

/// Refuses what would be too much for the store at once: each publisher of the topic has each message to forward.
async fn bounded(
    api: &Api,
    new: &NewMessages,
    not_acceptable: impl Fn(&str) -> MessageRefusal,
) -> Result<(), MessageRefusal> {
    let messages = new.contents.len();
    if messages <= CERTAINLY_FEW {
        return Ok(());
    }
    let topics = api.store.message_topics().await?;
    let Some(topic) = topics.into_iter().find(|topic| topic.name == new.topic) else {
        return Ok(());
    };
    let publishers = api.store.message_publishers().await?;
    let publishers = publishers.iter().filter(|publisher| publisher.topic_id == topic.id).count();
    if messages * publishers <= DELIVERIES_MAX {
        return Ok(());
    }
    let text = format!(
        "{messages} messages for {publishers} publishers are too many at once: send at most {}",
        DELIVERIES_MAX / publishers
    );
    Err(not_acceptable(&text))
}

async fn keep(
    api: &Api,
    requester: &Requester,
    new: NewMessages,
) -> Result<MessagesAccepted, MessageRefusal> {
    let group = NewMessageGroup {
        topic: new.topic,
        sender: requester.client.clone(),
        contents: new.contents,
        at_ms: new.at,
        once: None,
        only: None,
    };
    Ok(api.messages.commit(group).await?)
}

fn full() -> MessageRefusal {
    StoreError::Full("messages have no more room (ROUTEMASTER_MESSAGES_MAX_BYTES)".into()).into()
}
