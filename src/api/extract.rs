//! What handlers take from a request: who calls, whose things are meant, and the body.

use std::net::SocketAddr;

use axum::extract::{ConnectInfo, FromRequest, FromRequestParts, Request};
use axum::http::Uri;
use axum::http::request::Parts;

use super::state::{Api, Shared};
use crate::bus::token::{ClientToken, PSEUDO_CLIENTS};
use crate::http::audit::Actor;
use crate::http::authentication::{Caller, MONITOR_ONLY};
use crate::http::body::Body;
use crate::http::in_flight::{Holder, Requester};
use crate::http::query;
use crate::http::refusal::Refusal;

impl FromRequestParts<Shared> for Caller {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, api: &Shared) -> Result<Self, Refusal> {
        let caller = api.authentication.caller(&parts.headers, peer(parts)).await?;
        learn(parts, (&caller).into());
        Ok(caller)
    }
}

impl FromRequestParts<Shared> for Actor {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, api: &Shared) -> Result<Self, Refusal> {
        let caller = Caller::from_request_parts(parts, api).await?;
        let from = api.authentication.client_address(&parts.headers, peer(parts));
        Ok(Self { caller, from })
    }
}

/// Takes note of whom the bytes of a request are held for.
pub fn learn(parts: &Parts, holder: Holder) {
    if let Some(requester) = parts.extensions.get::<Requester>() {
        requester.learn(holder);
    }
}

/// The other end of the connection.
pub fn peer(parts: &Parts) -> Option<SocketAddr> {
    parts.extensions.get().map(|ConnectInfo(peer): &ConnectInfo<SocketAddr>| *peer)
}

impl FromRequest<Shared> for Body {
    type Rejection = Refusal;

    async fn from_request(request: Request, api: &Shared) -> Result<Self, Refusal> {
        let (parts, body) = request.into_parts();
        let requester = parts.extensions.get::<Requester>().cloned().unwrap_or_default();
        api.bodies.read(&parts.headers, body, requester.holder()).await
    }
}

/// Whose things a query asks for: a client's own, and of root's choice.
///
/// # Errors
/// If a client asks for another one's.
pub fn named_client(api: &Api, uri: &Uri, caller: &Caller) -> Result<Option<ClientToken>, Refusal> {
    let asked = query::text(uri, "client");
    let asked = asked.map(|text| {
        let is_pseudo = PSEUDO_CLIENTS.contains(&text.as_str());
        let parsed = if is_pseudo {
            Some(ClientToken::from_stored(&text))
        } else {
            let token = ClientToken::parse(&text).ok();
            token.map(|token| api.authentication.tokens.client_of(&token))
        };
        parsed.ok_or_else(|| Refusal::bad_request("`client` must be a token"))
    });
    let asked = asked.transpose()?;
    match caller {
        Caller::Root => Ok(asked),
        Caller::Client(own) if asked.as_ref().is_none_or(|asked| asked == own) => {
            Ok(Some(own.clone()))
        }
        Caller::Client(_) => Err(Refusal::Forbidden("what is another client's needs the root key")),
        Caller::Monitor => Err(Refusal::Forbidden(MONITOR_ONLY)),
    }
}
