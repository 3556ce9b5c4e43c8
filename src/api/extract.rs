//! What handlers take from a request: who calls, and the body.

use std::net::{IpAddr, SocketAddr};

use axum::body::Bytes;
use axum::extract::{ConnectInfo, FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};

use super::auth::Caller;
use super::error::ApiError;
use super::state::Shared;

impl FromRequestParts<Shared> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Shared) -> Result<Self, ApiError> {
        let authorization = parts.headers.get(header::AUTHORIZATION);
        let authorization = authorization.ok_or(ApiError::Unauthorized)?.as_bytes();
        if let Some(caller) = api.tokens.known(authorization) {
            return Ok(caller);
        }
        // Counted before the store is asked: guessing must not be work for it.
        if let Some(address) = client_address(parts, api) {
            api.limits.failed_authentication(address)?;
        }
        api.tokens.caller(authorization).await
    }
}

/// Where a request comes from: the other end of its connection or, behind a trusted proxy, of the
/// proxy's, which it adds to `X-Forwarded-For` last.
fn client_address(parts: &Parts, api: &Shared) -> Option<IpAddr> {
    let forwarded = || {
        let addresses = parts.headers.get_all("x-forwarded-for").iter().next_back()?;
        addresses.to_str().ok()?.rsplit(',').next()?.trim().parse().ok()
    };
    let proxied = if api.settings.trust_proxy { forwarded() } else { None };
    let connected =
        || parts.extensions.get().map(|ConnectInfo(peer): &ConnectInfo<SocketAddr>| peer.ip());
    proxied.or_else(connected)
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
