//! `GET /api/health`: whether messages can be taken.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use crate::api::openapi::tags::MESSAGES;
use crate::api::state::Shared;

#[derive(Serialize, ToSchema)]
pub struct MessageHealth {
    /// `ok` or `ko`.
    status: &'static str,
}

/// Whether the store can be written to; no authentication.
#[utoipa::path(
    get,
    path = "/api/health",
    operation_id = "message_health",
    tag = MESSAGES,
    security(()),
    responses(
        (status = 200, description = "it can", body = MessageHealth),
        (status = 503, description = "it cannot", body = MessageHealth),
    ),
)]
pub async fn health(State(api): State<Shared>) -> (StatusCode, Json<MessageHealth>) {
    let (status, word) = match api.store.ping().await {
        Ok(()) => (StatusCode::OK, "ok"),
        Err(error) => {
            tracing::debug!(%error, "the store cannot be written to");
            (StatusCode::SERVICE_UNAVAILABLE, "ko")
        }
    };
    (status, Json(MessageHealth { status: word }))
}
