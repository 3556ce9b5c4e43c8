//! `/pulse`: whether the bus works, and whether it needs more workers (contract §5).

use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;

use super::auth::Caller;
use super::error::ApiError;
use super::state::Shared;

/// How long `/pulse/scaling` takes when more workers are needed. Autoscalers watch the response
/// time.
const SCALING_DELAY: Duration = Duration::from_secs(1);

/// `204`, or `500` if the store cannot be written to, or not even be asked who calls.
pub async fn pulse(
    State(api): State<Shared>,
    caller: Result<Caller, ApiError>,
) -> Result<StatusCode, ApiError> {
    let pulse = match caller {
        Ok(_) => api.store.ping().await,
        Err(ApiError::Store(error)) => Err(error),
        Err(error) => return Err(error),
    };
    Ok(match pulse {
        Ok(()) => StatusCode::NO_CONTENT,
        Err(error) => {
            tracing::warn!(%error, "no pulse");
            StatusCode::INTERNAL_SERVER_ERROR
        }
    })
}

pub async fn scaling(State(api): State<Shared>, _caller: Caller) -> Result<StatusCode, ApiError> {
    let due = api.store.due_batches(api.settings.scaling_deadline).await?;
    if due > api.settings.scaling_threshold as u64 {
        tokio::time::sleep(SCALING_DELAY).await;
    }
    Ok(StatusCode::NO_CONTENT)
}
