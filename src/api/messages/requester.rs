//! Who asks for something about messages, and what it brings.

use std::net::IpAddr;

use axum::body::Bytes;
use axum::extract::Request;
use axum::http::Method;

use super::refusal::MessageRefusal;
use crate::api::calls::owner;
use crate::api::extract::peer;
use crate::api::state::Api;
use crate::bus::token::ClientToken;
use crate::config::Interface;
use crate::http::audit::Actor;
use crate::http::authentication::Caller;
use crate::http::body::BodyLimits;
use crate::http::in_flight::Holder;
use crate::http::refusal::Refusal;

/// The largest body, in bytes, as Postoffice had it.
const BODY_MAX: usize = 8_000_000;

/// Who asks: a client, or one of those that stand for callers without a token.
pub struct Requester {
    pub client: ClientToken,
    from: Option<IpAddr>,
}

impl Requester {
    /// Finds out who asks, and reads the body.
    ///
    /// # Errors
    /// If it may not, or the body cannot be read.
    pub async fn of(api: &Api, request: Request) -> Result<(Self, Bytes), MessageRefusal> {
        let (parts, body) = request.into_parts();
        let client = owner::of(api, &parts, Interface::Messages).await?;
        let from = api.authentication.client_address(&parts.headers, peer(&parts));
        if parts.method != Method::GET {
            api.authentication.limits.publish(&client).map_err(Refusal::from)?;
        }
        let limits = BodyLimits { max: BODY_MAX, ..api.bodies.clone() };
        let body = limits.read(&parts.headers, body, Holder::Client(client.clone())).await?;
        Ok((Self { client, from }, body.bytes.clone()))
    }

    pub fn is_root(&self) -> bool {
        self.client.reveal() == "root"
    }

    /// Whether it may change what belongs to this client.
    pub fn may_change(&self, owner: &ClientToken) -> bool {
        self.is_root() || self.client == *owner
    }

    /// Tells that it was done: what, and of what.
    pub fn did(&self, what: &'static str, of: impl std::fmt::Display) {
        let client = || Caller::Client(self.client.clone());
        let caller = if self.is_root() { Caller::Root } else { client() };
        Actor { caller, from: self.from }.did(what, of);
    }
}
