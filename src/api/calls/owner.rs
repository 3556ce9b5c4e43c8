//! Whose calls, postbacks or messages a request brings (contract §8).

use std::net::SocketAddr;

use axum::extract::ConnectInfo;
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};

use super::hash;
use crate::api::state::Api;
use crate::bus::token::ClientToken;
use crate::config::Interface;
use crate::http::authentication::{Caller, is_basic};
use crate::http::in_flight::{Holder, Requester};
use crate::http::refusal::Refusal;

/// Finds out whose calls a request brings: by a token, by the hash of the original's clients, or nobody's in
/// particular where everybody may.
///
/// # Errors
/// If whoever brings them may not.
pub async fn of_calls(api: &Api, parts: &Parts) -> Result<ClientToken, Refusal> {
    let settings = &api.settings;
    let hash = settings.calls_key().zip(parts.headers.get(&settings.calls_header));
    if let Some(((key, window), value)) = hash
        && !(settings.calls_header == header::AUTHORIZATION && is_basic(value.as_bytes()))
    {
        if hash::is_good(value.as_bytes(), &key, window, api.clock.now_ms()) {
            return Ok(known(parts, "calls-key"));
        }
        if !settings.is_open(Interface::Calls) {
            let refused = api.authentication.refuse(&parts.headers, peer(parts), "wrong hash");
            return refused.map(|_| known(parts, "calls-key"));
        }
    }
    of(api, parts, Interface::Calls).await
}

/// Finds out whose things a request brings: by a token, or nobody's in particular where everybody may.
///
/// # Errors
/// If whoever brings them may not.
pub async fn of(api: &Api, parts: &Parts, interface: Interface) -> Result<ClientToken, Refusal> {
    let caller = match caller(api, &parts.headers, peer(parts), interface).await? {
        Some(Caller::Client(client)) => {
            return Ok(learned(parts, client));
        }
        Some(Caller::Root) => "root",
        None => "open",
    };
    Ok(known(parts, caller))
}

async fn caller(
    api: &Api,
    headers: &HeaderMap,
    peer: Option<SocketAddr>,
    interface: Interface,
) -> Result<Option<Caller>, Refusal> {
    if api.settings.is_open(interface) {
        let authorization = headers.get(header::AUTHORIZATION);
        // What the originals did not look at is no reason to refuse anybody.
        return Ok(
            authorization.and_then(|value| api.authentication.tokens.known(value.as_bytes()))
        );
    }
    api.authentication.caller(headers, peer).await.map(Some)
}

/// One of the pseudo-clients.
fn known(parts: &Parts, pseudo_client: &str) -> ClientToken {
    learned(parts, ClientToken::from_stored(pseudo_client))
}

fn learned(parts: &Parts, client: ClientToken) -> ClientToken {
    if let Some(requester) = parts.extensions.get::<Requester>() {
        requester.learn(Holder::Client(client.clone()));
    }
    client
}

fn peer(parts: &Parts) -> Option<SocketAddr> {
    parts.extensions.get().map(|ConnectInfo(peer): &ConnectInfo<SocketAddr>| *peer)
}
