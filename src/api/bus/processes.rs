//! `/processes`: who runs, and letting a worker finish.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;

use crate::api::openapi::tags::{CONTROL, MONITORING};
use crate::api::state::{Api, Shared};
use crate::bus::process::Process;
use crate::http::audit::Actor;
use crate::http::authentication::Caller;
use crate::http::refusal::Refusal;

/// List the processes of the bus.
///
/// Each says every 5 s that it is there; one that has not for 15 s is gone.
#[utoipa::path(
    get,
    path = "/processes",
    operation_id = "list_processes",
    tag = MONITORING,
    responses((status = 200, description = "all processes", body = [Process]), Caller),
)]
pub async fn list(
    State(api): State<Shared>,
    _caller: Caller,
) -> Result<Json<Vec<Process>>, Refusal> {
    Ok(Json(api.store.processes().await?))
}

/// Let a worker finish: it begins nothing more, and goes on running.
///
/// It hears of it within 5 s, and has `draining` from then on; when nothing is in its `deliveries` and `calls` any more, it
/// can be stopped without anything coming twice. Others deliver meanwhile.
#[utoipa::path(
    post,
    path = "/processes/{process}/drain",
    operation_id = "drain_process",
    tag = CONTROL,
    params(("process" = String, Path, description = "its id")),
    responses(
        (status = 204, description = "it is asked to"),
        (status = 403, description = "this is not root"),
        (status = 404, description = "there is no such process, or it delivers nothing"),
        Caller,
    ),
)]
pub async fn drain(
    State(api): State<Shared>,
    actor: Actor,
    Path(process): Path<String>,
) -> Result<StatusCode, Refusal> {
    ask(&api, &actor, &process, true).await
}

/// Let a worker deliver again that was drained.
#[utoipa::path(
    post,
    path = "/processes/{process}/resume",
    operation_id = "resume_process",
    tag = CONTROL,
    params(("process" = String, Path, description = "its id")),
    responses(
        (status = 204, description = "it is asked to"),
        (status = 403, description = "this is not root"),
        (status = 404, description = "there is no such process, or it delivers nothing"),
        Caller,
    ),
)]
pub async fn resume(
    State(api): State<Shared>,
    actor: Actor,
    Path(process): Path<String>,
) -> Result<StatusCode, Refusal> {
    ask(&api, &actor, &process, false).await
}

async fn ask(
    api: &Api,
    actor: &Actor,
    process: &str,
    is_draining: bool,
) -> Result<StatusCode, Refusal> {
    actor.caller.require_root()?;
    let all = api.store.processes().await?;
    let delivers = all.iter().any(|one| one.id == process && one.is_worker());
    if !delivers || !api.store.drain(process, is_draining).await? {
        return Err(Refusal::NotFound("there is no such process, or it delivers nothing".into()));
    }
    actor.did(if is_draining { "drained a process" } else { "resumed a process" }, process);
    Ok(StatusCode::NO_CONTENT)
}
