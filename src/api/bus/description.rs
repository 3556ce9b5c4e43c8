//! `GET /openapi.json`: this API, for programs.

use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;

use crate::api::openapi::tags::MONITORING;
use crate::api::state::Shared;

/// This description of the API, in the format OpenAPI 3.1.
#[utoipa::path(
    get,
    path = "/openapi.json",
    operation_id = "openapi",
    tag = MONITORING,
    security(()),
    responses((status = 200, description = "the document", body = serde_json::Value)),
)]
pub async fn openapi(State(api): State<Shared>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], api.openapi.clone())
}
