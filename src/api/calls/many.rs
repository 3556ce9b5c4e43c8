//! `POST /calls/retry` and `DELETE /calls`: something is done to all calls that match, once their number is
//! confirmed.

use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::State;
use axum::http::Uri;
use serde::Serialize;
use utoipa::ToSchema;

use super::filter;
use super::refusal::{self, CallRefusal};
use crate::api::openapi::tags::CALLS;
use crate::api::state::{Api, Shared};
use crate::http::audit::Actor;
use crate::http::authentication::Caller;
use crate::http::query;
use crate::http::refusal::Refusal;
use crate::store::{CALLS_AT_ONCE, CallCancelled, CallFilter, CallKey, StoreResult};

/// What was done to many.
#[derive(Serialize, ToSchema)]
pub struct CallsChanged {
    /// How many it was done to.
    changed: u64,
    /// What `after` is to be to go on, if there was no time for all of them.
    next: Option<String>,
}

/// A request that would take longer ends with what it has done.
const ACT_TIME: Duration = Duration::from_secs(10);

/// Make all calls that match due at once, also dead ones.
#[utoipa::path(
    post,
    path = "/calls/retry",
    operation_id = "retry_calls",
    tag = CALLS,
    params(
        ("confirm" = u64, Query, description = "how many match, as `GET /calls?…&count=true` tells"),
        ("until" = u64, Query, description = "accepted before then, in ms since the epoch"),
        filter::ManyParams,
    ),
    responses(
        (status = 200, description = "done", body = CallsChanged),
        (status = 400, description = "a value in the query means nothing", body = refusal::Body),
        (status = 403, description = "calls of another client", body = refusal::Body),
        (status = 409, description = "another number matches, and nothing was done", body = refusal::Body),
        CallRefusal,
    ),
)]
pub async fn retry(
    State(api): State<Shared>,
    actor: Result<Actor, Refusal>,
    uri: Uri,
) -> Result<Json<CallsChanged>, CallRefusal> {
    change(&api, &actor?, &uri, Act::Retry, "retried calls").await
}

/// End all calls that match: they are never made again.
#[utoipa::path(
    delete,
    path = "/calls",
    operation_id = "cancel_calls",
    tag = CALLS,
    params(
        ("confirm" = u64, Query, description = "how many match, as `GET /calls?…&count=true` tells"),
        ("until" = u64, Query, description = "accepted before then, in ms since the epoch"),
        filter::ManyParams,
    ),
    responses(
        (status = 200, description = "done", body = CallsChanged),
        (status = 400, description = "a value in the query means nothing", body = refusal::Body),
        (status = 403, description = "calls of another client", body = refusal::Body),
        (status = 409, description = "another number matches, and nothing was done", body = refusal::Body),
        CallRefusal,
    ),
)]
pub async fn cancel(
    State(api): State<Shared>,
    actor: Result<Actor, Refusal>,
    uri: Uri,
) -> Result<Json<CallsChanged>, CallRefusal> {
    change(&api, &actor?, &uri, Act::Cancel, "cancelled calls").await
}

/// Does something to all calls that the query confirms, as far as there is time for it.
async fn change(
    api: &Api,
    actor: &Actor,
    uri: &Uri,
    act: Act,
    what: &'static str,
) -> Result<Json<CallsChanged>, CallRefusal> {
    let (filter, from) = confirmed(api, &actor.caller, uri).await?;
    let until = Some(Instant::now() + ACT_TIME);
    let (changed, next) = each(api, &filter, from, act, until).await?;
    actor.did(what, changed);
    Ok(Json(CallsChanged { changed, next: next.map(|next| next.to_string()) }))
}

/// What the query asks for, and from where on, if it confirms how many that are.
async fn confirmed(
    api: &Api,
    caller: &Caller,
    uri: &Uri,
) -> Result<(CallFilter, u64), CallRefusal> {
    let filter = filter::read(api, uri, caller)?;
    let confirmed = query::number(uri, "confirm", 0..=u64::MAX)?;
    let is_bounded = filter.until_ms.is_some();
    let (filter, until) = filter::bounded(filter, api);
    let from = filter::position(uri)?;
    let count = count(api, &filter, from).await?;
    if confirmed != Some(count) || !is_bounded {
        return Err(CallRefusal::count(count, until));
    }
    Ok((filter, from))
}

/// How many calls before a position match.
///
/// # Errors
/// If the store cannot be asked.
pub async fn count(api: &Api, filter: &CallFilter, from: u64) -> StoreResult<u64> {
    Ok(each(api, filter, from, Act::Count, None).await?.0)
}

/// What is done to calls.
#[derive(Clone, Copy)]
enum Act {
    Count,
    Retry,
    Cancel,
}

impl Act {
    /// To how many it was done.
    async fn on(self, api: &Api, keys: &[CallKey]) -> StoreResult<usize> {
        Ok(match self {
            Self::Count => keys.len(),
            Self::Retry => {
                let retried = api.store.retry_calls(keys).await?;
                retried.into_iter().filter(|retried| *retried).count()
            }
            Self::Cancel => {
                let cancelled = api.store.cancel_calls(keys).await?;
                cancelled.into_iter().filter(|end| *end != CallCancelled::Unknown).count()
            }
        })
    }
}

/// Does something to all calls before a position that match, in portions, until a time; to how many, and where
/// to go on.
async fn each(
    api: &Api,
    filter: &CallFilter,
    from: u64,
    act: Act,
    until: Option<Instant>,
) -> StoreResult<(u64, Option<u64>)> {
    let (mut acted, mut before) = (0, Some(from));
    while let Some(position) = before {
        if until.is_some_and(|until| Instant::now() >= until) {
            break;
        }
        let page = filter::page(api, filter, position, CALLS_AT_ONCE, None).await?;
        before = page.next;
        let keys: Vec<CallKey> = page.calls.into_iter().map(|call| call.key).collect();
        if !keys.is_empty() {
            acted += act.on(api, &keys).await? as u64;
        }
    }
    Ok((acted, before))
}
