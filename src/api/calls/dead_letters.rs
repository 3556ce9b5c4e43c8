//! `GET /dead_letters`: what was given up (contract §12).

use axum::Json;
use axum::extract::State;
use axum::http::Uri;
use serde::Serialize;
use utoipa::ToSchema;

use super::refusal::{self, CallRefusal};
use super::shown::Shown;
use super::{filter, list};
use crate::api::openapi::tags::CALLS;
use crate::api::state::Shared;
use crate::bus::call::CallState;
use crate::http::authentication::Caller;
use crate::http::refusal::Refusal;
use crate::store::CallFilter;

/// Some of what was given up.
#[derive(Serialize, ToSchema)]
pub struct DeadLetters {
    dead_letters: Vec<Shown>,
    /// What `after` is to be for the next page; `null` on the last one.
    next: Option<String>,
}

/// List what was given up, the newest first, each with its last error.
///
/// It is retried and deleted as any call. It is kept for `ROUTEMASTER_DEAD_LETTER_RETENTION`.
#[utoipa::path(
    get,
    path = "/dead_letters",
    operation_id = "list_dead_letters",
    tag = CALLS,
    params(
        filter::FilterParams,
        ("limit" = Option<u64>, Query, description = "how many, 1 to 500"),
        ("after" = Option<String>, Query, description = "`next` of the page before"),
    ),
    responses(
        (status = 200, description = "calls that were given up", body = DeadLetters),
        (status = 400, description = "a value in the query means nothing", body = refusal::Body),
        (status = 403, description = "calls of another client", body = refusal::Body),
        CallRefusal,
    ),
)]
pub async fn list(
    State(api): State<Shared>,
    caller: Result<Caller, Refusal>,
    uri: Uri,
) -> Result<Json<DeadLetters>, CallRefusal> {
    let caller = caller?;
    let filter = CallFilter { state: Some(CallState::Dead), ..filter::read(&uri, &caller)? };
    let (dead_letters, next) = list::page(&api, &caller, &filter, &uri).await?;
    Ok(Json(DeadLetters { dead_letters, next }))
}
