//! `GET /api/messages`: which messages there are, and what became of them; some are erased, or tried again.

use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::{Path, Request, State};
use axum::http::{StatusCode, Uri};
use serde::Serialize;
use utoipa::ToSchema;

use super::filter::{self, MessageFilter, MessageFilterParams};
use super::id_in;
use super::refusal::{Body, MessageRefusal};
use super::requester::Requester;
use super::view::{ShownMessage, Viewer};
use crate::api::journal;
use crate::api::openapi::tags::MESSAGES;
use crate::api::state::{Api, Shared};
use crate::bus::call::CallState;
use crate::http::query;
use crate::store::{MESSAGES_AT_ONCE, MessageRecord, StoreError};

/// How many messages a page has, unless the query says otherwise, and at most.
const LIMIT: u64 = 50;
const LIMIT_MAX: u64 = 200;
/// A request that would take longer ends with what it has done.
const ACT_TIME: Duration = Duration::from_secs(10);

/// Some messages.
#[derive(Serialize, ToSchema)]
pub struct MessageList {
    data: Vec<ShownMessage>,
    /// What `after` is to be for the next page; `null` on the last one.
    next: Option<u64>,
    /// How far back was looked, in milliseconds since the epoch, where looking took long.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    back_to: Option<u64>,
}

/// Messages, or how many there are.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
pub enum ListedMessages {
    Messages(MessageList),
    Count(MessageCount),
}

/// How many messages match.
#[derive(Serialize, ToSchema)]
pub struct MessageCount {
    count: u64,
    /// Of those that were received before then, in milliseconds since the epoch.
    until: u64,
}

/// A message.
#[derive(Serialize, ToSchema)]
pub struct OneMessage {
    data: ShownMessage,
}

/// What was erased.
#[derive(Serialize, ToSchema)]
pub struct MessagesErased {
    erased: u64,
    /// What `after` is to be to go on, if there was no time for all of them.
    next: Option<u64>,
}

/// List messages, the newest first.
///
/// A client sees what it has sent, what came to its topics, and what its publishers forward; root sees all. A page may
/// have fewer messages than `limit`, also none, where many do not match: `next` tells whether there are more.
#[utoipa::path(
    get,
    path = "/api/messages",
    operation_id = "list_messages",
    tag = MESSAGES,
    params(
        MessageFilterParams,
        ("limit" = Option<u64>, Query, description = "how many, 1 to 200"),
        ("after" = Option<u64>, Query, description = "`next` of the page before"),
        ("within" = Option<u64>, Query, description = "for how many ms is looked at most, 1 to 1000"),
        ("count" = Option<bool>, Query, description = "whether to answer with their number only"),
    ),
    responses(
        (status = 200, description = "messages, or how many there are", body = ListedMessages),
        MessageRefusal,
    ),
)]
pub async fn list(
    State(api): State<Shared>,
    request: Request,
) -> Result<Json<ListedMessages>, MessageRefusal> {
    let uri = request.uri().clone();
    let (requester, _) = Requester::of(&api, request).await?;
    let viewer = Viewer::new(&api, &requester).await?;
    let filter = MessageFilter::read(&uri, &viewer)?;
    if query::flag(&uri, "count")? {
        let (filter, until) = bounded(filter, &api);
        let count = each(&api, &viewer, &filter, &uri, None).await?.0;
        return Ok(Json(ListedMessages::Count(MessageCount { count, until })));
    }
    let limit = query::number(&uri, "limit", 1..=LIMIT_MAX)?.unwrap_or(LIMIT) as usize;
    let (before, within) = (filter::position(&uri)?, query::within(&uri)?);
    let page = filter::page(&api, &viewer, &filter, before, limit, within).await?;
    Ok(Json(ListedMessages::Messages(MessageList {
        data: page.messages.iter().map(|message| viewer.shown(message)).collect(),
        next: page.next,
        back_to: page.back_to_ms,
    })))
}

/// The same filter without what comes from now on, and until when that is.
fn bounded(filter: MessageFilter, api: &Api) -> (MessageFilter, u64) {
    let until = filter.until_ms.unwrap_or_else(|| api.clock.now_ms() + 1);
    (MessageFilter { until_ms: Some(until), ..filter }, until)
}

/// Erase all messages that match, with what is known of them; what waits is not forwarded any more.
#[utoipa::path(
    delete,
    path = "/api/messages",
    operation_id = "erase_messages",
    tag = MESSAGES,
    params(
        ("confirm" = u64, Query, description = "how many match, as `GET /api/messages?…&count=true` tells"),
        MessageFilterParams,
        ("after" = Option<u64>, Query, description = "`next` of what was done before"),
    ),
    responses(
        (status = 200, description = "done", body = MessagesErased),
        (status = 403, description = "some of them are another client's", body = Body),
        (status = 409, description = "another number matches, and nothing was done", body = Body),
        MessageRefusal,
    ),
)]
pub async fn erase_many(
    State(api): State<Shared>,
    request: Request,
) -> Result<Json<MessagesErased>, MessageRefusal> {
    let uri = request.uri().clone();
    let (requester, _) = Requester::of(&api, request).await?;
    let viewer = Viewer::new(&api, &requester).await?;
    let filter = MessageFilter::read(&uri, &viewer)?;
    let is_bounded = filter.until_ms.is_some();
    let (filter, until) = bounded(filter, &api);
    let confirmed = query::number(&uri, "confirm", 0..=u64::MAX)?;
    let (count, _) = each(&api, &viewer, &filter, &uri, None).await?;
    if confirmed != Some(count) || !is_bounded {
        let text = format!(
            "{count} messages match: confirm it with `confirm={count}&until={until}` in the query"
        );
        return Err(MessageRefusal::detail(StatusCode::CONFLICT, text));
    }
    let until = Instant::now() + ACT_TIME;
    let (erased, next) = each(&api, &viewer, &filter, &uri, Some(until)).await?;
    requester.did("erased messages", erased);
    Ok(Json(MessagesErased { erased, next }))
}

/// Counts the messages that match, or erases them until a time; how many, and where to go on.
async fn each(
    api: &Api,
    viewer: &Viewer<'_>,
    filter: &MessageFilter,
    uri: &Uri,
    erase_until: Option<Instant>,
) -> Result<(u64, Option<u64>), MessageRefusal> {
    let (mut acted, mut before) = (0, Some(filter::position(uri)?));
    while let Some(position) = before {
        if erase_until.is_some_and(|until| Instant::now() >= until) {
            break;
        }
        let page = filter::page(api, viewer, filter, position, MESSAGES_AT_ONCE, None).await?;
        before = page.next;
        if erase_until.is_some() {
            acted += erase(api, viewer, &page.messages).await?;
        } else {
            acted += page.messages.len() as u64;
        }
    }
    Ok((acted, before))
}

/// Erases messages, and what the journal has of them.
async fn erase(
    api: &Api,
    viewer: &Viewer<'_>,
    messages: &[MessageRecord],
) -> Result<u64, MessageRefusal> {
    if messages.iter().any(|message| !viewer.may_erase(message)) {
        let text = "a message is erased by whom its topic belongs to, or who has sent it";
        return Err(MessageRefusal::detail(StatusCode::FORBIDDEN, text));
    }
    let numbers: Vec<u64> = messages.iter().map(|message| message.number).collect();
    let mut erased = api.store.erase_messages(&numbers).await?;
    if let Some(history) = &api.history {
        let of_history = history.erase(&numbers).await.map_err(StoreError::from)?;
        erased.iter_mut().zip(of_history).for_each(|(one, other)| *one |= other);
    }
    let deliveries = messages.iter().flat_map(|message| &message.deliveries);
    let ids: Vec<String> = deliveries.map(|delivery| delivery.number.to_string()).collect();
    if !ids.is_empty() {
        let attempts = api.journal.erase_messages(ids).await;
        attempts.map_err(|error| StoreError::Unavailable(error.to_string()))?;
    }
    Ok(erased.into_iter().filter(|erased| *erased).count() as u64)
}

/// Show a message, by its number or that of one of its deliveries.
#[utoipa::path(
    get,
    path = "/api/messages/{id}",
    operation_id = "show_message",
    tag = MESSAGES,
    params(("id" = String, Path)),
    responses(
        (status = 200, description = "the message, with each attempt to forward it", body = OneMessage),
        (status = 404, description = "there is no such message", body = Body),
        MessageRefusal,
    ),
)]
pub async fn show(
    State(api): State<Shared>,
    Path(id): Path<String>,
    request: Request,
) -> Result<Json<OneMessage>, MessageRefusal> {
    let (requester, _) = Requester::of(&api, request).await?;
    let viewer = Viewer::new(&api, &requester).await?;
    let message = find(&api, &viewer, &id).await?;
    let mut attempts = Vec::with_capacity(message.deliveries.len());
    for delivery in &message.deliveries {
        attempts.push(journal::attempts_at_message(&api, delivery.number).await?);
    }
    Ok(Json(OneMessage { data: viewer.shown(&message).with_journal(attempts) }))
}

/// Erase a message with all that is known of it; what waits is not forwarded any more.
#[utoipa::path(
    delete,
    path = "/api/messages/{id}",
    operation_id = "erase_message",
    tag = MESSAGES,
    params(("id" = String, Path)),
    responses(
        (status = 204, description = "it is gone; what is on its way is not repeated"),
        (status = 403, description = "it is another client's", body = Body),
        (status = 404, description = "there is no such message", body = Body),
        MessageRefusal,
    ),
)]
pub async fn erase_one(
    State(api): State<Shared>,
    Path(id): Path<String>,
    request: Request,
) -> Result<StatusCode, MessageRefusal> {
    let (requester, _) = Requester::of(&api, request).await?;
    let viewer = Viewer::new(&api, &requester).await?;
    let message = find(&api, &viewer, &id).await?;
    erase(&api, &viewer, std::slice::from_ref(&message)).await?;
    requester.did("erased a message", message.number);
    Ok(StatusCode::NO_CONTENT)
}

/// Try to forward a message at once, also where it was given up: to all of its publishers that do not have it, or by the
/// number of a delivery to that one.
#[utoipa::path(
    post,
    path = "/api/messages/{id}/retry",
    operation_id = "retry_message",
    tag = MESSAGES,
    params(("id" = String, Path)),
    responses(
        (status = 204, description = "it is due"),
        (status = 403, description = "its publishers are another client's", body = Body),
        (status = 404, description = "there is no such message", body = Body),
        (status = 409, description = "it is forwarded, on its way, or its publisher is gone", body = Body),
        MessageRefusal,
    ),
)]
pub async fn retry(
    State(api): State<Shared>,
    Path(id): Path<String>,
    request: Request,
) -> Result<StatusCode, MessageRefusal> {
    let (requester, _) = Requester::of(&api, request).await?;
    let viewer = Viewer::new(&api, &requester).await?;
    let message = find(&api, &viewer, &id).await?;
    let asked = id_in(&id).filter(|id| *id != message.number);
    let meant = message.deliveries.iter().filter(|delivery| {
        asked.is_none_or(|asked| asked == delivery.number) && delivery.state != CallState::Done
    });
    let (mine, others): (Vec<_>, Vec<_>) =
        meant.partition(|delivery| viewer.owns_publisher(delivery.publisher_id));
    if mine.is_empty() && !others.is_empty() {
        let text = "the publishers of this message belong to another client";
        return Err(MessageRefusal::detail(StatusCode::FORBIDDEN, text));
    }
    let keys: Vec<_> = mine.into_iter().map(|delivery| delivery.key()).collect();
    if keys.is_empty() || !api.store.retry_calls(&keys).await?.contains(&true) {
        let text = "it is forwarded, on its way, or its publisher is gone";
        return Err(MessageRefusal::detail(StatusCode::CONFLICT, text));
    }
    requester.did("retried a message", message.number);
    Ok(StatusCode::NO_CONTENT)
}

async fn find(api: &Api, viewer: &Viewer<'_>, id: &str) -> Result<MessageRecord, MessageRefusal> {
    let unknown = || MessageRefusal::detail(StatusCode::NOT_FOUND, "there is no such message");
    let number = id_in(id).ok_or_else(unknown)?;
    let mut found = api.store.message(number).await?;
    if let Some(history) = &api.history {
        // By the number of a delivery, each knows its own.
        let number = found.as_ref().map_or(number, |message| message.number);
        let old = history.message(number).await.map_err(StoreError::from)?;
        if let (None, Some(old)) = (&found, &old) {
            found = api.store.message(old.number).await?;
        }
        found = match (found, old) {
            (Some(mut message), Some(old)) => {
                message.add_deliveries_of(old);
                Some(message)
            }
            (found, old) => found.or(old),
        };
    }
    found.and_then(|message| viewer.seen(message)).ok_or_else(unknown)
}
