//! The body of a request: read whole, within a size and a time.

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::StatusCode;

use super::error::ApiError;
use super::router::State;

/// A body that arrived in time and is not larger than `ROUTEMASTER_MAX_BODY`, which the router
/// sets as axum's limit.
pub struct Body(pub Bytes);

impl FromRequest<State> for Body {
    type Rejection = ApiError;

    async fn from_request(request: Request, api: &State) -> Result<Self, ApiError> {
        let read = Bytes::from_request(request, api);
        match tokio::time::timeout(api.settings.body_timeout, read).await {
            Err(_) => Err(ApiError::BodyTimeout),
            Ok(Ok(bytes)) => Ok(Self(bytes)),
            Ok(Err(error)) if error.status() == StatusCode::PAYLOAD_TOO_LARGE => {
                Err(ApiError::BodyTooLarge { max: api.settings.max_body })
            }
            Ok(Err(_)) => Err(ApiError::bad_request("the body ended early or is not well-formed")),
        }
    }
}
