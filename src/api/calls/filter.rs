//! Which calls a query asks for, and a walk through them.

use std::time::{Duration, Instant};

use axum::http::Uri;

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
pub fn read(uri: &Uri, caller: &Caller) -> Result<CallFilter, Refusal> {
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
        client: named_client(uri, caller)?,
        since_ms: time("since")?,
        until_ms: time("until")?,
    })
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
pub async fn page(api: &Api, filter: &CallFilter, before: u64, limit: usize) -> StoreResult<Page> {
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
        if started.elapsed() >= PAGE_TIME {
            return Ok(Page { calls, next: Some(before) });
        }
    }
}
