//! `/health`: whether the process answers at all, for load balancers; no authentication.

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use super::state::Shared;

pub async fn health() -> Json<Value> {
    Json(json!({}))
}

/// `pong` is the time, in milliseconds since the epoch.
pub async fn ping(State(api): State<Shared>) -> Json<Value> {
    Json(json!({ "pong": api.clock.now_ms() }))
}
