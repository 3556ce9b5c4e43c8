//! `GET /metrics`: what Prometheus reads (contract §7).

use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;

use crate::api::openapi::tags::MONITORING;
use crate::api::state::Shared;
use crate::http::authentication::Caller;
use crate::http::refusal::Refusal;

/// The version of Prometheus's text format.
const TEXT_FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// All metrics, in Prometheus's text format.
#[utoipa::path(
    get,
    path = "/metrics",
    tag = MONITORING,
    responses(
        (status = 200, description = "the metrics of this process", body = String),
        (status = 404, description = "metrics go elsewhere: see `METRIC_COLLECTION_SERVICE`"),
        Caller,
    ),
)]
pub async fn metrics(
    State(api): State<Shared>,
    _caller: Caller,
) -> Result<impl IntoResponse, Refusal> {
    let Some(exposition) = &api.exposition else {
        let reason = "metrics go elsewhere: set METRIC_COLLECTION_SERVICE=prometheus";
        return Err(Refusal::NotFound(reason.into()));
    };
    Ok(([(header::CONTENT_TYPE, TEXT_FORMAT)], exposition.render()))
}
