//! `GET /processes`: who runs.

use axum::Json;
use axum::extract::State;

use crate::api::openapi::tags::MONITORING;
use crate::api::state::Shared;
use crate::bus::process::Process;
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
