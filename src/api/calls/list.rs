//! `GET /calls`: which calls there are.

use axum::Json;
use axum::extract::State;
use axum::http::Uri;
use serde::Serialize;
use utoipa::ToSchema;

use super::refusal::{self, CallRefusal};
use super::shown::Shown;
use super::{filter, many};
use crate::api::openapi::tags::CALLS;
use crate::api::state::{Api, Shared};
use crate::bus::call::CallState;
use crate::http::authentication::Caller;
use crate::http::query;
use crate::http::refusal::Refusal;
use crate::store::CallFilter;

/// How many calls a page has, unless the query says otherwise, and at most.
const LIMIT: u64 = 50;
const LIMIT_MAX: u64 = 500;

/// Some calls.
#[derive(Serialize, ToSchema)]
pub struct CallList {
    calls: Vec<Shown>,
    /// What `after` is to be for the next page; `null` on the last one.
    next: Option<String>,
}

/// Calls, or how many there are.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
pub enum Listed {
    Calls(CallList),
    Count(CallCount),
}

/// How many calls match.
#[derive(Serialize, ToSchema)]
pub struct CallCount {
    pub count: u64,
    /// Of those that were accepted before then, in milliseconds since the epoch.
    pub until: u64,
}

/// List calls, the newest first.
///
/// A client sees its own, root those of all. A page may have fewer calls than `limit`, also none, where many
/// do not match: `next` tells whether there are more.
#[utoipa::path(
    get,
    path = "/calls",
    operation_id = "list_calls",
    tag = CALLS,
    params(
        ("state" = Option<String>, Query, description = "`waiting`, `sending`, `failing`, `dead` or `done`"),
        filter::FilterParams,
        ("limit" = Option<u64>, Query, description = "how many, 1 to 500"),
        ("after" = Option<String>, Query, description = "`next` of the page before"),
        ("within" = Option<u64>, Query, description = "for how many ms is looked at most, 1 to 1000"),
        ("count" = Option<bool>, Query, description = "whether to answer with their number only"),
    ),
    responses(
        (status = 200, description = "calls, or how many there are", body = Listed),
        (status = 400, description = "a value in the query means nothing", body = refusal::Body),
        (status = 403, description = "calls of another client", body = refusal::Body),
        CallRefusal,
    ),
)]
pub async fn list(
    State(api): State<Shared>,
    caller: Result<Caller, Refusal>,
    uri: Uri,
) -> Result<Json<Listed>, CallRefusal> {
    let caller = caller?;
    let filter = filter::read(&api, &uri, &caller)?;
    if query::flag(&uri, "count")? {
        let (filter, until) = filter::bounded(filter, &api);
        let count = many::count(&api, &filter, filter::position(&uri)?).await?;
        return Ok(Json(Listed::Count(CallCount { count, until })));
    }
    let (calls, next) = page(&api, &caller, &filter, &uri).await?;
    Ok(Json(Listed::Calls(CallList { calls, next })))
}

/// A page of calls that were given up, before a position.
///
/// # Errors
/// As [`page`].
pub async fn dead_page(
    api: &Api,
    caller: &Caller,
    uri: &Uri,
    before: u64,
    limit: usize,
) -> Result<(Vec<Shown>, Option<String>), CallRefusal> {
    let filter = CallFilter { state: Some(CallState::Dead), ..filter::read(api, uri, caller)? };
    shown_page(api, caller, &filter, uri, before, limit).await
}

/// A page as the query asks for it.
///
/// # Errors
/// If a value in the query means nothing, or the store cannot be asked.
pub async fn page(
    api: &Api,
    caller: &Caller,
    filter: &CallFilter,
    uri: &Uri,
) -> Result<(Vec<Shown>, Option<String>), CallRefusal> {
    let limit = query::number(uri, "limit", 1..=LIMIT_MAX)?.unwrap_or(LIMIT);
    shown_page(api, caller, filter, uri, filter::position(uri)?, limit as usize).await
}

async fn shown_page(
    api: &Api,
    caller: &Caller,
    filter: &CallFilter,
    uri: &Uri,
    before: u64,
    limit: usize,
) -> Result<(Vec<Shown>, Option<String>), CallRefusal> {
    let page = filter::page(api, filter, before, limit, query::within(uri)?).await?;
    let shown = |call| Shown::new(call, caller, &api.authentication);
    Ok((page.calls.iter().map(shown).collect(), page.next.map(|next| next.to_string())))
}
