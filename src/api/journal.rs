//! `GET /journal`: every attempt at a batch, a call, a postback or a message (contract §12).

use axum::Json;
use axum::extract::State;
use axum::http::Uri;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::extract::named_client;
use super::openapi::tags::MONITORING;
use super::state::{Api, Shared};
use crate::bus::token::ClientToken;
use crate::http::authentication::Caller;
use crate::http::query;
use crate::http::refusal::Refusal;
use crate::journal::{Entry, EntryKind, JournalError, JournalQuery, Owner};
use crate::store::StoreError;

/// How many entries a page has, unless the query says otherwise, and at most.
const LIMIT: u64 = 50;
const LIMIT_MAX: u64 = 500;

/// The route, as it describes itself.
pub fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::default().routes(routes!(list))
}

/// An attempt.
#[derive(Serialize, ToSchema)]
pub struct Attempt {
    /// When it ended, in milliseconds since the epoch.
    at: u64,
    kind: EntryKind,
    /// Of the call, or of the batch.
    id: String,
    /// Whose it is, by name.
    client: String,
    /// Of a batch: the subscriber, by name.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    subscriber: Option<String>,
    /// Of others: scheme, host and port.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    destination: Option<String>,
    method: String,
    url: String,
    /// From 1.
    attempt: u32,
    failed: bool,
    /// What was answered, if anything was.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    status: Option<u16>,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    error: Option<String>,
    /// Milliseconds.
    took: u64,
    /// Of the body that was sent.
    bytes: u64,
    /// The beginning of the answer.
    answer: String,
    /// When the next attempt is made, in milliseconds since the epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    next_try: Option<u64>,
}

impl From<Entry> for Attempt {
    fn from(entry: Entry) -> Self {
        let is_batch = entry.kind == EntryKind::Batch;
        let (method, url) = entry.title.split_once(' ').unwrap_or_default();
        Self {
            at: entry.at_ms,
            kind: entry.kind,
            id: entry.id,
            client: entry.client,
            method: method.to_owned(),
            url: url.to_owned(),
            subscriber: is_batch.then(|| entry.target.clone()),
            destination: (!is_batch).then_some(entry.target),
            attempt: entry.attempt,
            failed: entry.failed,
            status: entry.status,
            error: Some(entry.error).filter(|error| !error.is_empty()),
            took: entry.took_ms,
            bytes: entry.bytes,
            answer: entry.answer,
            next_try: entry.next_ms,
        }
    }
}

/// Some attempts.
#[derive(Serialize, ToSchema)]
pub struct JournalEntries {
    entries: Vec<Attempt>,
    /// What `after` is to be for the next page; `null` on the last one.
    next: Option<String>,
    /// How far back was looked, in milliseconds since the epoch, where looking took long.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    back_to: Option<u64>,
}

/// List attempts, the newest first.
///
/// A client sees its own, root all. On Redis what matches is looked for up to 1 s: a page may have fewer entries
/// than `limit`, also none, and `next` goes on from there.
#[utoipa::path(
    get,
    path = "/journal",
    operation_id = "list_attempts",
    tag = MONITORING,
    params(
        ("kind" = Option<String>, Query, description = "`batch`, `call` or `postback`"),
        ("subscriber" = Option<String>, Query, description = "of batches: its token or its name"),
        ("destination" = Option<String>, Query, description = "of others: scheme, host and port"),
        ("client" = Option<String>, Query, description = "whose; for root"),
        ("id" = Option<String>, Query, description = "of a call, or of a batch"),
        ("status" = Option<u16>, Query, description = "what was answered"),
        ("failed" = Option<bool>, Query, description = "whether it failed"),
        ("text" = Option<String>, Query, description = "in the error, the answer or the URL"),
        ("since" = Option<u64>, Query, description = "then or later, in ms since the epoch"),
        ("until" = Option<u64>, Query, description = "before then"),
        ("limit" = Option<u64>, Query, description = "how many, 1 to 500"),
        ("after" = Option<String>, Query, description = "`next` of the page before"),
        ("within" = Option<u64>, Query, description = "for how many ms is looked at most, 1 to 1000"),
    ),
    responses(
        (status = 200, description = "attempts", body = JournalEntries),
        (status = 400, description = "a value in the query means nothing"),
        (status = 403, description = "attempts of another client"),
        Caller,
    ),
)]
pub async fn list(
    State(api): State<Shared>,
    caller: Caller,
    uri: Uri,
) -> Result<Json<JournalEntries>, Refusal> {
    let query = read(&api, &uri, &caller)?;
    let limit = query::number(&uri, "limit", 1..=LIMIT_MAX)?.unwrap_or(LIMIT);
    let after = query::text(&uri, "after");
    let page = api.journal.find(&query, after.as_deref(), limit as usize).await?;
    Ok(Json(JournalEntries {
        entries: page.entries.into_iter().map(Attempt::from).collect(),
        next: page.next,
        back_to: page.back_to_ms,
    }))
}

/// The latest attempts at a call, the first one first.
///
/// # Errors
/// If the journal cannot be read.
pub async fn attempts_at(
    api: &Api,
    client: &ClientToken,
    id: &str,
) -> Result<Vec<Attempt>, Refusal> {
    let query = JournalQuery {
        owner: Some(Owner::of(client)),
        id: Some(id.to_owned()),
        ..JournalQuery::default()
    };
    let page = api.journal.find(&query, None, LIMIT_MAX as usize).await?;
    Ok(page.entries.into_iter().rev().map(Attempt::from).collect())
}

/// The latest attempts at a delivery of a message, the first one first.
///
/// # Errors
/// If the journal cannot be read.
pub async fn attempts_at_message(api: &Api, delivery: u64) -> Result<Vec<Attempt>, Refusal> {
    let query = JournalQuery {
        kind: Some(EntryKind::Message),
        id: Some(delivery.to_string()),
        ..JournalQuery::default()
    };
    let page = api.journal.find(&query, None, LIMIT_MAX as usize).await?;
    Ok(page.entries.into_iter().rev().map(Attempt::from).collect())
}

impl From<JournalError> for Refusal {
    fn from(error: JournalError) -> Self {
        match error {
            JournalError::NoPlace => Self::bad_request(error),
            JournalError::Unavailable(reason) => StoreError::Unavailable(reason).into(),
        }
    }
}

fn read(api: &Api, uri: &Uri, caller: &Caller) -> Result<JournalQuery, Refusal> {
    let time = |name| query::number(uri, name, 0..=u64::MAX / 2);
    let kind = query::text(uri, "kind").map(|kind| {
        let kinds = EntryKind::ALL.map(EntryKind::as_str).join(", ");
        let wrong = || Refusal::bad_request(format!("`kind` must be one of {kinds}"));
        EntryKind::parse(&kind).ok_or_else(wrong)
    });
    let (mut kind, mut target) = (kind.transpose()?, query::text(uri, "destination"));
    let mut owner = named_client(api, uri, caller)?.as_ref().map(Owner::of);
    if let Some(subscriber) = query::text(uri, "subscriber") {
        kind = Some(EntryKind::Batch);
        match ClientToken::parse(&subscriber) {
            // A whole token; what is only a name has no secret behind it.
            Ok(token) if token.service_name().is_some() || token.label() != subscriber => {
                let is_its = owner.as_ref().is_none_or(|own| *own == Owner::of(&token));
                owner = if is_its { Some(Owner::of(&token)) } else { Some(Owner::nobody()) };
            }
            _ => target = Some(subscriber),
        }
    }
    let status = query::number(uri, "status", 100..=999)?;
    let failed = query::text(uri, "failed").map(|_| query::flag(uri, "failed")).transpose()?;
    Ok(JournalQuery {
        kind,
        owner,
        target,
        id: query::text(uri, "id"),
        status: status.map(|status| status as u16),
        failed,
        text: query::text(uri, "text").filter(|text| !text.is_empty()),
        since_ms: time("since")?,
        until_ms: time("until")?,
        event: None,
        within: query::within(uri)?,
    })
}
