//! Whose calls, postbacks or messages a request brings (contract §8).

use std::net::SocketAddr;

use axum::http::request::Parts;
use axum::http::{HeaderMap, header};

use super::hash;
use crate::api::extract::{learn, peer};
use crate::api::state::Api;
use crate::bus::token::ClientToken;
use crate::config::Interface;
use crate::http::authentication::{Caller, MONITOR_ONLY, is_basic};
use crate::http::in_flight::Holder;
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
            return Ok(learned(parts, ClientToken::from_stored("calls-key")));
        }
        if !settings.is_open(Interface::Calls) {
            return Err(api.authentication.refuse(&parts.headers, peer(parts), "wrong hash"));
        }
    }
    of(api, parts, Interface::Calls).await
}

/// Finds out whose things a request brings: by a token, or nobody's in particular where everybody may.
///
/// # Errors
/// If whoever brings them may not.
pub async fn of(api: &Api, parts: &Parts, interface: Interface) -> Result<ClientToken, Refusal> {
    let owner = match caller(api, &parts.headers, peer(parts), interface).await? {
        Some(Caller::Client(client)) => client,
        Some(Caller::Root) => ClientToken::from_stored("root"),
        Some(Caller::Monitor) => return Err(Refusal::Forbidden(MONITOR_ONLY)),
        None => ClientToken::from_stored("open"),
    };
    Ok(learned(parts, owner))
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

/// Takes note of whom the bytes of a request are held for.
fn learned(parts: &Parts, client: ClientToken) -> ClientToken {
    learn(parts, Holder::Client(client.clone()));
    client
}
