//! What handlers take from a request: who calls, and the body.

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};

use super::auth::Caller;
use super::error::ApiError;
use super::state::Shared;

impl FromRequestParts<Shared> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Shared) -> Result<Self, ApiError> {
        let authorization = parts.headers.get(header::AUTHORIZATION);
        api.tokens.caller(authorization.ok_or(ApiError::Unauthorized)?.as_bytes()).await
    }
}

/// A body that arrived in time and is not larger than `ROUTEMASTER_MAX_BODY`, which the router
/// sets as axum's limit.
pub struct Body(pub Bytes);

impl FromRequest<Shared> for Body {
    type Rejection = ApiError;

    async fn from_request(request: Request, api: &Shared) -> Result<Self, ApiError> {
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
