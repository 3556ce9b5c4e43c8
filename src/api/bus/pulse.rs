//! `/pulse`: whether the bus works, and whether it needs more workers (contract §5).

use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{AppendHeaders, IntoResponse, Response};

use crate::api::openapi::tags::MONITORING;
use crate::api::state::Shared;
use crate::http::authentication::Caller;
use crate::http::refusal::Refusal;

/// How long `/pulse/scaling` takes when more workers are needed. Autoscalers watch the response
/// time.
const SCALING_DELAY: Duration = Duration::from_secs(1);

/// Whether the bus works.
#[utoipa::path(
    get,
    path = "/pulse",
    tag = MONITORING,
    responses(
        (
            status = 204,
            description = "it does",
            headers(("Routemaster-Workers" = u64, description = "how many processes deliver")),
        ),
        (status = 401, description = "no or malformed `Authorization`, or an unknown token"),
        (status = 429, description = "too many unknown tokens from this address"),
        (status = 500, description = "the store cannot be written to, or not be asked who calls"),
    ),
)]
pub async fn pulse(
    State(api): State<Shared>,
    caller: Result<Caller, Refusal>,
) -> Result<Response, Refusal> {
    let pulse = match caller {
        Ok(_) => match api.store.ping().await {
            Ok(()) => api.store.processes().await,
            Err(error) => Err(error),
        },
        Err(Refusal::Store(error)) => Err(error),
        Err(error) => return Err(error),
    };
    Ok(match pulse {
        Ok(processes) => {
            let workers = processes.iter().filter(|process| process.is_worker()).count();
            let workers = AppendHeaders([("routemaster-workers", workers.to_string())]);
            (StatusCode::NO_CONTENT, workers).into_response()
        }
        Err(error) => {
            tracing::warn!(%error, "no pulse");
            let reason = "the store cannot be written to\n";
            (StatusCode::INTERNAL_SERVER_ERROR, reason).into_response()
        }
    })
}

/// Whether the bus needs more workers, told by how long the answer takes.
///
/// It takes 1 s when `ROUTEMASTER_SCALING_THRESHOLD` batches, calls and messages or more are due within
/// `ROUTEMASTER_SCALING_DEADLINE`.
#[utoipa::path(
    get,
    path = "/pulse/scaling",
    tag = MONITORING,
    responses((status = 204, description = "always, at once or after 1 s"), Caller),
)]
pub async fn scaling(State(api): State<Shared>, _caller: Caller) -> Result<StatusCode, Refusal> {
    let (within, threshold) =
        (api.settings.scaling_deadline, api.settings.scaling_threshold as u64);
    let mut due = api.store.due_batches(within).await?;
    if due < threshold {
        let limits = api.settings.destination_limits();
        due += api.store.due_calls(within, limits, threshold - due).await?;
    }
    if due >= threshold {
        tokio::time::sleep(SCALING_DELAY).await;
    }
    Ok(StatusCode::NO_CONTENT)
}
