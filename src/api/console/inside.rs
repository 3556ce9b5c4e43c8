//! The API, asked from inside the process in a visitor's name.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::ConnectInfo;
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, Request, StatusCode, header};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::Semaphore;
use tower::ServiceExt;

use super::Console;
use super::problem::Problem;
use super::session::Session;
use crate::api::extract::peer;
use crate::http::in_flight::Requester;

/// Longer than any answer that a page is made of.
const ANSWER_MAX: usize = 32 * 1024 * 1024;
/// Tells where a request comes from, behind a proxy.
const FORWARDED_FOR: &str = "x-forwarded-for";

/// Asks the API as the visitor would, so that it decides what they may.
#[derive(Clone)]
pub struct Inside {
    router: Router,
    authorization: HeaderValue,
    forwarded_for: Option<HeaderValue>,
    peer: Option<SocketAddr>,
    from: Option<IpAddr>,
    /// Whose the bytes are that its requests hold.
    requester: Requester,
    /// Only so many requests are answered at once: what they answer stands in memory until it is a page.
    places: Arc<Semaphore>,
}

/// How many requests of the console are answered at once.
pub const AT_ONCE: usize = 32;

/// An answer that is none of those that say no.
pub struct Answer(bytes::Bytes);

impl Inside {
    pub fn new(console: &Console, session: &Session, parts: &Parts) -> Self {
        let requester = Requester::default();
        requester.learn((&session.caller).into());
        let authentication = &console.api.authentication;
        Self {
            requester,
            places: console.asking.clone(),
            from: authentication.client_address(&parts.headers, peer(parts)),
            router: console.inside.clone(),
            authorization: session.authorization.clone(),
            forwarded_for: parts.headers.get_all(FORWARDED_FOR).iter().next_back().cloned(),
            peer: peer(parts),
        }
    }

    /// Where the visitor is.
    pub fn from(&self) -> Option<IpAddr> {
        self.from
    }

    /// Reads something.
    ///
    /// # Errors
    /// With the API's own words, if it refuses.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Problem> {
        self.send(Method::GET, path, None).await?.read()
    }

    /// As [`get`](Self::get); `None` if there is no such thing.
    pub async fn find<T: DeserializeOwned>(&self, path: &str) -> Result<Option<T>, Problem> {
        match self.get(path).await {
            Ok(found) => Ok(Some(found)),
            Err(problem) if problem.status == StatusCode::NOT_FOUND => Ok(None),
            Err(problem) => Err(problem),
        }
    }

    /// Changes something.
    ///
    /// # Errors
    /// With the API's own words, if it refuses.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<Answer, Problem> {
        let mut request = Request::builder().method(method).uri(path);
        request = request.header(header::AUTHORIZATION, self.authorization.clone());
        if let Some(forwarded_for) = &self.forwarded_for {
            request = request.header(FORWARDED_FOR, forwarded_for.clone());
        }
        let body = body.map(|body| body.to_string());
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let request = request.body(body.map_or_else(Body::empty, Body::from));
        let mut request = request.map_err(|_| Problem::bad_request("this is no address"))?;
        if let Some(peer) = self.peer {
            request.extensions_mut().insert(ConnectInfo(peer));
        }
        request.extensions_mut().insert(self.requester.clone());
        // It is never closed.
        let _place = self.places.acquire().await;
        let answer = match self.router.clone().oneshot(request).await {
            Ok(answer) => answer,
            Err(never) => match never {},
        };
        let (head, body) = answer.into_parts();
        let body = to_bytes(body, ANSWER_MAX).await.map_err(|_| Problem::too_long())?;
        if !head.status.is_success() {
            return Err(Problem::of_answer(head.status, &body));
        }
        Ok(Answer(body))
    }
}

impl Answer {
    /// # Errors
    /// If it is not what the API's description says, which would be a fault of the bus.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        serde_json::from_slice(&self.0).map_err(|error| {
            tracing::error!(%error, "the console does not understand the API");
            Problem::not_understood()
        })
    }
}
