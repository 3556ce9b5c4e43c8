//! `GET /profile`: where this process spends its processor time.

use std::time::Duration;

use axum::extract::State;
use axum::http::{Uri, header};
use axum::response::IntoResponse;

use crate::api::openapi::tags::MONITORING;
use crate::api::state::Shared;
use crate::http::audit::Actor;
use crate::http::authentication::Caller;
use crate::http::query;
use crate::http::refusal::Refusal;
use crate::telemetry::profile::{BUSY, NoProfile, SECONDS_MAX, flame_graph};

/// How long it is looked if nothing is said, in seconds.
const SECONDS: u64 = 5;

/// Look where this process spends its processor time: a flame graph.
///
/// It costs a few percent of a core meanwhile. One is made at a time.
#[utoipa::path(
    get,
    path = "/profile",
    operation_id = "profile",
    tag = MONITORING,
    params(("seconds" = Option<u64>, Query, description = "how long to look, 1 to 20 [default: 5]")),
    responses(
        (status = 200, description = "an SVG document", content_type = "image/svg+xml", body = String),
        (status = 400, description = "a bad number of seconds"),
        (status = 403, description = "this is not root"),
        (status = 404, description = "this process cannot be looked at"),
        (status = 409, description = "one is being made already"),
        Caller,
    ),
)]
pub async fn profile(
    State(api): State<Shared>,
    actor: Actor,
    uri: Uri,
) -> Result<impl IntoResponse, Refusal> {
    actor.caller.require_root()?;
    let seconds = query::number(&uri, "seconds", 1..=SECONDS_MAX)?.unwrap_or(SECONDS);
    actor.did("profiled a process", "");
    let made = tokio::select! {
        made = flame_graph(Duration::from_secs(seconds)) => made,
        () = api.stop.cancelled() => Err(NoProfile::Failed("it is stopping".into())),
    };
    match made {
        Ok(svg) => Ok(([(header::CONTENT_TYPE, "image/svg+xml")], svg)),
        Err(NoProfile::Busy) => Err(Refusal::Conflict(BUSY)),
        Err(error) => Err(Refusal::NotFound(error.to_string())),
    }
}
