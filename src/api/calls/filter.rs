//! Which calls a query asks for, and a walk through them.

use std::time::{Duration, Instant};

use axum::http::Uri;
use utoipa::IntoParams;

use crate::api::extract::named_client;
use crate::api::state::Api;
use crate::bus::call::CallState;
use crate::http::authentication::Caller;
use crate::http::query;
use crate::http::refusal::Refusal;
use crate::store::{CALLS_AT_ONCE, CallFilter, CallStatus, StoreResult};

/// A page that would take longer ends with what it has.
const PAGE_TIME: Duration = Duration::from_secs(1);

/// Reads what all requests about many calls have in their query. A client sees its own.
///
/// # Errors
/// If a value means nothing.
pub fn read(api: &Api, uri: &Uri, caller: &Caller) -> Result<CallFilter, Refusal> {
    let time = |name| query::number(uri, name, 0..=u64::MAX / 2);
    let state = query::text(uri, "state").map(|state| {
        let wrong = || {
            let states = CallState::ALL.map(CallState::as_str).join(", ");
            Refusal::bad_request(format!("`state` must be one of {states}"))
        };
        CallState::parse(&state).ok_or_else(wrong)
    });
    Ok(CallFilter {
        state: state.transpose()?,
        destination: query::text(uri, "destination"),
        client: named_client(api, uri, caller)?,
        since_ms: time("since")?,
        until_ms: time("until")?,
    })
}

/// The part of a query that says which calls are meant.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "it is only described: `read` reads it")]
pub struct FilterParams {
    /// Scheme, host and port.
    destination: Option<String>,
    /// Whose; for root.
    client: Option<String>,
    /// Accepted then or later, in milliseconds since the epoch.
    since: Option<u64>,
    /// Accepted before then.
    until: Option<u64>,
}

/// The same of a request that does something to them, beside what it confirms.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "it is only described: `read` reads it")]
pub struct ManyParams {
    /// `waiting`, `sending`, `failing`, `dead` or `done`.
    state: Option<String>,
    /// Scheme, host and port.
    destination: Option<String>,
    /// Whose; for root.
    client: Option<String>,
    /// Accepted then or later, in milliseconds since the epoch.
    since: Option<u64>,
    /// `next` of what was done before.
    after: Option<String>,
}

/// Where a page begins: behind the one before, or at the newest.
///
/// # Errors
/// If the query says where, and it is no position.
pub fn position(uri: &Uri) -> Result<u64, Refusal> {
    Ok(query::number(uri, "after", 0..=u64::MAX)?.unwrap_or(u64::MAX))
}

/// The same filter without what is accepted from now on, and until when that is.
pub fn bounded(filter: CallFilter, api: &Api) -> (CallFilter, u64) {
    let until = filter.until_ms.unwrap_or_else(|| api.clock.now_ms() + 1);
    (CallFilter { until_ms: Some(until), ..filter }, until)
}

/// Some of the calls that match, the newest first.
pub struct Page {
    pub calls: Vec<CallStatus>,
    /// Where the next page begins, if there may be more.
    pub next: Option<u64>,
}

/// Up to `limit` calls before a position that match; fewer also if looking for them takes long.
///
/// # Errors
/// If the store cannot be asked.
pub async fn page(
    api: &Api,
    filter: &CallFilter,
    before: u64,
    limit: usize,
    within: Option<Duration>,
) -> StoreResult<Page> {
    let (started, mut before) = (Instant::now(), before);
    let mut calls: Vec<CallStatus> = Vec::new();
    loop {
        let looked_at = api.store.calls_before(before, CALLS_AT_ONCE).await?;
        let is_end = looked_at.len() < CALLS_AT_ONCE;
        for call in looked_at {
            // All newer ones were accepted later.
            before = call.position;
            if filter.matches(&call) {
                calls.push(call);
            }
            if calls.len() == limit {
                return Ok(Page { calls, next: Some(before) });
            }
        }
        if is_end {
            return Ok(Page { calls, next: None });
        }
        if started.elapsed() >= within.unwrap_or(PAGE_TIME) {
            return Ok(Page { calls, next: Some(before) });
        }
    }
}
