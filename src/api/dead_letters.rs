//! `/dead_letters`: what was given up, of events and of calls (contract §12).

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{StatusCode, Uri};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::calls::refusal::{self, CallRefusal};
use super::calls::{self, ShownCall};
use super::extract::named_client;
use super::openapi::tags::CONTROL;
use super::state::{Api, Shared};
use crate::bus::item::ItemParts;
use crate::bus::position::EventPosition;
use crate::bus::token::ClientToken;
use crate::http::audit::Actor;
use crate::http::authentication::Caller;
use crate::http::query;
use crate::http::refusal::Refusal;
use crate::store::{DeadCursor, DeadEvent, Lane};

/// How many a page has, unless the query says otherwise, and at most.
const LIMIT: u64 = 50;
const LIMIT_MAX: u64 = 500;

/// The routes, as they describe themselves.
pub fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::default().routes(routes!(list)).routes(routes!(delete)).routes(routes!(retry))
}

/// An event that its subscriber did not get.
#[derive(Serialize, ToSchema)]
#[schema(as = DeadEvent)]
struct EventRow {
    /// With the subscriber, it names it.
    id: String,
    /// `event`.
    kind: &'static str,
    /// The subscriber; for others than itself and root by name.
    client: String,
    /// `dead`.
    state: &'static str,
    /// `skipped`, or `refused` as often as its subscriber wanted.
    cause: &'static str,
    /// When it became a dead letter, in milliseconds since the epoch.
    since: u64,
    /// What the last attempt was answered, if it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    status: Option<u16>,
    /// Why the last attempt failed, if one did.
    #[serde(skip_serializing_if = "String::is_empty")]
    #[schema(required = false)]
    error: String,
    /// As it would have been delivered.
    #[schema(value_type = Object)]
    event: serde_json::Value,
}

impl EventRow {
    fn new(api: &Api, caller: &Caller, dead: &DeadEvent) -> Self {
        let failure = dead.failure.as_ref();
        Self {
            id: dead.position.to_string(),
            kind: EVENT,
            client: api.authentication.view_of(&dead.subscriber, caller),
            state: "dead",
            cause: dead.cause.as_str(),
            since: dead.dead_ms,
            status: failure.and_then(|failure| failure.status),
            error: failure.map(|failure| failure.reason.clone()).unwrap_or_default(),
            event: serde_json::from_slice(ItemParts::of(&dead.item).json).unwrap_or_default(),
        }
    }
}

/// Something that was given up.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
enum DeadLetter {
    Event(EventRow),
    Call(ShownCall),
}

/// Some of what was given up.
#[derive(Serialize, ToSchema)]
pub struct DeadLetters {
    dead_letters: Vec<DeadLetter>,
    /// What `after` is to be for the next page; `null` on the last one.
    next: Option<String>,
}

const EVENT: &str = "event";

/// List what was given up, each with its last error: events first, then calls, of either the newest first.
///
/// It is kept for `ROUTEMASTER_DEAD_LETTER_RETENTION`. Messages that were given up are at `GET /api/messages?state=dead`.
#[utoipa::path(
    get,
    path = "/dead_letters",
    operation_id = "list_dead_letters",
    tag = CONTROL,
    params(
        ("kind" = Option<String>, Query, description = "`event` or `call`; both, if it is left out"),
        calls::FilterParams,
        ("limit" = Option<u64>, Query, description = "how many, 1 to 500"),
        ("after" = Option<String>, Query, description = "`next` of the page before"),
        ("within" = Option<u64>, Query, description = "for how many ms is looked at most, 1 to 1000"),
    ),
    responses(
        (status = 200, description = "what was given up", body = DeadLetters),
        (status = 400, description = "a value in the query means nothing", body = refusal::Body),
        (status = 403, description = "what is another client's", body = refusal::Body),
        CallRefusal,
    ),
)]
pub async fn list(
    State(api): State<Shared>,
    caller: Result<Caller, Refusal>,
    uri: Uri,
) -> Result<Json<DeadLetters>, CallRefusal> {
    let caller = caller?;
    let (events, of_calls) = match query::text(&uri, "kind").as_deref() {
        None => (true, true),
        Some(EVENT) => (true, false),
        Some("call") => (false, true),
        Some(_) => return Err(CallRefusal::bad_request("`kind` must be event or call")),
    };
    let limit = query::number(&uri, "limit", 1..=LIMIT_MAX)?.unwrap_or(LIMIT) as usize;
    let after = query::text(&uri, "after").unwrap_or_default();
    let (mut dead_letters, mut next) = (Vec::new(), None);
    // What calls can be asked for by destination has no meaning for events.
    if events && !after.starts_with(IN_CALLS) && query::text(&uri, "destination").is_none() {
        (dead_letters, next) = events_page(&api, &caller, &uri, &after, limit).await?;
        if next.is_none() && of_calls && dead_letters.len() == limit {
            next = Some(IN_CALLS.to_owned());
        }
    }
    if of_calls && next.is_none() && dead_letters.len() < limit {
        let position = match after.strip_prefix(IN_CALLS) {
            None | Some("") => u64::MAX,
            Some(position) => position.parse().map_err(|_| CallRefusal::bad_request(NOT_NEXT))?,
        };
        let left = limit - dead_letters.len();
        let (page, more) = calls::dead_page(&api, &caller, &uri, position, left).await?;
        dead_letters.extend(page.into_iter().map(DeadLetter::Call));
        next = more.map(|more| format!("{IN_CALLS}{more}"));
    }
    Ok(Json(DeadLetters { dead_letters, next }))
}

const NOT_NEXT: &str = "`after` must be `next` of the page before";
/// What stands before the place of a page that begins in the calls.
const IN_CALLS: &str = "call:";

async fn events_page(
    api: &Api,
    caller: &Caller,
    uri: &Uri,
    after: &str,
    limit: usize,
) -> Result<(Vec<DeadLetter>, Option<String>), CallRefusal> {
    let before = match after {
        "" => None,
        text => Some(cursor(text).ok_or_else(|| CallRefusal::bad_request(NOT_NEXT))?),
    };
    let subscriber = named_client(api, uri, caller)?;
    let page = api.store.dead_events(subscriber.as_ref(), before, limit).await?;
    let time = |name| query::number(uri, name, 0..=u64::MAX / 2);
    let (since, until) = (time("since")?, time("until")?);
    let next = page.last().filter(|_| page.len() == limit).map(|(cursor, _)| text(*cursor));
    let fits = |dead: &DeadEvent| {
        since.is_none_or(|since| dead.dead_ms >= since)
            && until.is_none_or(|until| dead.dead_ms < until)
    };
    let events = page.iter().filter(|(_, dead)| fits(dead));
    let rows = events.map(|(_, dead)| DeadLetter::Event(EventRow::new(api, caller, dead)));
    Ok((rows.collect(), next))
}

fn text(DeadCursor { dead_ms, number, lane }: DeadCursor) -> String {
    format!("{dead_ms}.{number}.{}", lane.index())
}

fn cursor(text: &str) -> Option<DeadCursor> {
    let mut parts = text.split('.').map(str::parse::<u64>);
    let mut part = || parts.next()?.ok();
    let (dead_ms, number, lane) = (part()?, part()?, part()?);
    let lane = Lane::first(Lane::MAX).nth(usize::try_from(lane).ok()?)?;
    Some(DeadCursor { dead_ms, number, lane })
}

/// Put an event that was given up at the end of its subscriber's queue; its batch is marked as a replay.
///
/// A call is retried at `POST /calls/{id}/retry`.
#[utoipa::path(
    post,
    path = "/dead_letters/{id}/retry",
    operation_id = "retry_dead_letter",
    tag = CONTROL,
    params(
        ("id" = String, Path),
        ("client" = Option<String>, Query, description = "whose: the subscriber's token; root needs it"),
    ),
    responses(
        (status = 204, description = "it is in the queue"),
        (status = 400, description = "root does not say whose it is", body = refusal::Body),
        (status = 403, description = "what is another client's", body = refusal::Body),
        (status = 404, description = "there is no such dead letter, or its subscriber is gone", body = refusal::Body),
        CallRefusal,
    ),
)]
pub async fn retry(
    State(api): State<Shared>,
    actor: Result<Actor, Refusal>,
    Path(id): Path<String>,
    uri: Uri,
) -> Result<StatusCode, CallRefusal> {
    let actor = actor?;
    let (subscriber, position) = named(&api, &actor.caller, &id, &uri)?;
    if !api.store.retry_dead_event(&subscriber, position).await? {
        return Err(CallRefusal::not_found());
    }
    actor.did("retried a dead letter", format_args!("{position} of {subscriber}"));
    Ok(StatusCode::NO_CONTENT)
}

/// Forget an event that was given up.
///
/// A call is forgotten at `DELETE /calls/{id}`.
#[utoipa::path(
    delete,
    path = "/dead_letters/{id}",
    operation_id = "delete_dead_letter",
    tag = CONTROL,
    params(
        ("id" = String, Path),
        ("client" = Option<String>, Query, description = "whose: the subscriber's token; root needs it"),
    ),
    responses(
        (status = 204, description = "it is gone"),
        (status = 400, description = "root does not say whose it is", body = refusal::Body),
        (status = 403, description = "what is another client's", body = refusal::Body),
        (status = 404, description = "there is no such dead letter", body = refusal::Body),
        CallRefusal,
    ),
)]
pub async fn delete(
    State(api): State<Shared>,
    actor: Result<Actor, Refusal>,
    Path(id): Path<String>,
    uri: Uri,
) -> Result<StatusCode, CallRefusal> {
    let actor = actor?;
    let (subscriber, position) = named(&api, &actor.caller, &id, &uri)?;
    if !api.store.delete_dead_event(&subscriber, position).await? {
        return Err(CallRefusal::not_found());
    }
    actor.did("deleted a dead letter", format_args!("{position} of {subscriber}"));
    Ok(StatusCode::NO_CONTENT)
}

/// Whose event a path and its query name, and where it stood.
fn named(
    api: &Api,
    caller: &Caller,
    id: &str,
    uri: &Uri,
) -> Result<(ClientToken, EventPosition), CallRefusal> {
    let position = id.parse().map_err(|_| CallRefusal::not_found())?;
    let missing = || CallRefusal::bad_request("say whose it is with `?client=`");
    Ok((named_client(api, uri, caller)?.ok_or_else(missing)?, position))
}
