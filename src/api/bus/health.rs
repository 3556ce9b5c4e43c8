//! `/health`: whether the process answers at all, for load balancers; no authentication.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use crate::api::openapi::tags::MONITORING;
use crate::api::state::Shared;

/// Whether a path asks for the health of the process, which is answered over plain HTTP too: load
/// balancers and kubelets ask so.
pub fn is_asked_for(path: &str) -> bool {
    matches!(path, "/health" | "/health/ping" | "/health/ping.json")
}

/// Nothing: that it came is the answer.
#[derive(Serialize, ToSchema)]
pub struct Health {}

/// Whether the process answers at all.
#[utoipa::path(
    get,
    path = "/health",
    tag = MONITORING,
    security(()),
    responses((status = 200, description = "it does", body = Health)),
)]
pub async fn health() -> Json<Health> {
    Json(Health {})
}

#[derive(Serialize, ToSchema)]
pub struct Pong {
    /// The time, in milliseconds since the epoch.
    pong: u64,
}

/// Whether the process answers at all, and what its clock says.
#[utoipa::path(
    get,
    path = "/health/ping",
    tag = MONITORING,
    security(()),
    responses((status = 200, description = "it does", body = Pong)),
)]
pub async fn ping(State(api): State<Shared>) -> Json<Pong> {
    Json(Pong { pong: api.clock.now_ms() })
}
