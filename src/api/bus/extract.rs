//! What handlers take from a request: who calls, and the body.

use std::net::SocketAddr;

use axum::extract::{ConnectInfo, FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;

use super::state::Shared;
use crate::http::authentication::Caller;
use crate::http::body::Body;
use crate::http::refusal::Refusal;

impl FromRequestParts<Shared> for Caller {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, api: &Shared) -> Result<Self, Refusal> {
        let peer = parts.extensions.get().map(|ConnectInfo(peer): &ConnectInfo<SocketAddr>| *peer);
        api.authentication.caller(&parts.headers, peer).await
    }
}

impl FromRequest<Shared> for Body {
    type Rejection = Refusal;

    async fn from_request(request: Request, api: &Shared) -> Result<Self, Refusal> {
        let (parts, body) = request.into_parts();
        api.bodies.read(&parts.headers, body).await
    }
}
