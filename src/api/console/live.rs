//! Following a page: server-sent events with those of its parts that have changed.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Request as NewRequest, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use serde_json::{Map, Value};
use tokio::time::Instant;
use tower::ServiceExt;

use super::page::EVERY_HEADER;
use super::problem::Problem;
use super::visit::PARTS;
use super::{Console, PATH};
use crate::api::extract::peer;
use crate::http::authentication::Caller;
use crate::http::query;

/// How many times longer than making a page takes it is waited until it is made again: less than 1 % of a core.
const SPARING: u32 = 150;
/// After how long without a change a stream says that it is there.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// How long a page may be followed; the browser then comes back.
const TERM: Duration = Duration::from_secs(3600);
const PAGE_MAX: usize = 4 * 1024 * 1024;

/// How many pages are followed at once at most, in all and by one visitor; others are as they were when they were opened.
const FOLLOWED_MAX: usize = 200;
const FOLLOWED_BY_ONE: usize = 20;

/// Who follows how many pages.
#[derive(Default)]
pub struct Followers(Mutex<HashMap<Caller, usize>>);

/// That somebody follows a page; it ends when it is dropped.
struct Following {
    followers: Arc<Followers>,
    caller: Caller,
}

impl Followers {
    fn begin(self: &Arc<Self>, caller: Caller) -> Option<Following> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_full = all.values().sum::<usize>() >= FOLLOWED_MAX;
        let own = all.get(&caller).copied().unwrap_or(0);
        if is_full || own >= FOLLOWED_BY_ONE {
            return None;
        }
        all.insert(caller.clone(), own + 1);
        Some(Following { followers: self.clone(), caller })
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        let mut all = self.followers.0.lock().unwrap_or_else(PoisonError::into_inner);
        match all.get_mut(&self.caller) {
            Some(own) if *own > 1 => *own -= 1,
            _ => drop(all.remove(&self.caller)),
        }
    }
}

/// A page that somebody follows.
struct Followed {
    console: Arc<Console>,
    address: String,
    headers: HeaderMap,
    peer: Option<ConnectInfo<std::net::SocketAddr>>,
    /// The parts as they were last sent.
    seen: Map<String, Value>,
    /// When the page is made next.
    next: Instant,
    told: Instant,
    until: Instant,
    /// Whether the end of the session has been told.
    is_over: bool,
    _following: Following,
}

/// Follows the page at `of`.
pub async fn changes(State(console): State<Arc<Console>>, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    let address = query::text(&parts.uri, "of").unwrap_or_default();
    let Some(session) = console.sessions.of(&console.api, &parts.headers) else {
        return Problem::forbidden("sign in first").into_response();
    };
    if !address.starts_with(PATH) || address.starts_with("/console/changes") {
        return Problem::bad_request("this is no page of the console").into_response();
    }
    let Some(following) = console.followers.begin(session.caller) else {
        let text = "too many pages are followed: this one stays as it is";
        return Problem::new(StatusCode::SERVICE_UNAVAILABLE, text).into_response();
    };
    let mut headers = HeaderMap::new();
    for name in [header::COOKIE, HeaderName::from_static("x-forwarded-for")] {
        for value in parts.headers.get_all(&name) {
            headers.append(&name, value.clone());
        }
    }
    headers.insert(PARTS, HeaderValue::from_static("1"));
    let now = Instant::now();
    let followed = Followed {
        peer: peer(&parts).map(ConnectInfo),
        console,
        address,
        headers,
        seen: Map::new(),
        next: now,
        told: now,
        until: now + TERM,
        is_over: false,
        _following: following,
    };
    let events = stream::unfold(followed, async |mut followed| {
        let event = followed.next_event().await?;
        Some((Ok::<_, Infallible>(event), followed))
    });
    let headers =
        [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-store")];
    (headers, Body::from_stream(events)).into_response()
}

impl Followed {
    /// What is to be sent next; `None` at the end.
    async fn next_event(&mut self) -> Option<Bytes> {
        loop {
            let stop = self.console.api.stop.clone();
            tokio::select! {
                () = tokio::time::sleep_until(self.next) => {}
                () = stop.cancelled() => return None,
            }
            // Whoever is signed out, or whose token was revoked, sees nothing more.
            let session = self.console.sessions.of(&self.console.api, &self.headers);
            if session.is_none() {
                let first = !std::mem::replace(&mut self.is_over, true);
                return first.then(|| Bytes::from_static(b"event: over\ndata:\n\n"));
            }
            let now = Instant::now();
            if now >= self.until {
                return None;
            }
            let (every, parts) = self.make().await;
            let took = now.elapsed();
            self.next = Instant::now() + every.max(took * SPARING);
            let changed = self.changed(parts);
            if !changed.is_empty() {
                self.told = now;
                let data = Value::from(changed).to_string();
                return Some(format!("event: parts\ndata: {data}\n\n").into());
            }
            if now - self.told >= HEARTBEAT {
                self.told = now;
                return Some(Bytes::from_static(b": still here\n\n"));
            }
        }
    }

    /// The parts of the page as they are now, and how often they are to be looked at. What is wrong just now changes
    /// nothing on the page.
    async fn make(&self) -> (Duration, Map<String, Value>) {
        let nothing = || (Duration::from_secs(5), Map::new());
        let Some(own) = self.console.own.get() else { return nothing() };
        let Ok(mut request) = NewRequest::get(&*self.address).body(Body::empty()) else {
            return nothing();
        };
        *request.headers_mut() = self.headers.clone();
        if let Some(peer) = self.peer {
            request.extensions_mut().insert(peer);
        }
        let answer = match own.clone().oneshot(request).await {
            Ok(answer) => answer,
            Err(never) => match never {},
        };
        let every =
            answer.headers().get(EVERY_HEADER).and_then(|every| every.to_str().ok()?.parse().ok());
        let Some(every) = every.map(Duration::from_millis) else { return nothing() };
        let body = to_bytes(answer.into_body(), PAGE_MAX).await.unwrap_or_default();
        (every, serde_json::from_slice(&body).unwrap_or_default())
    }

    /// Those that are not as they were.
    fn changed(&mut self, parts: Map<String, Value>) -> Map<String, Value> {
        let is_new = |(name, markup): &(String, Value)| self.seen.get(name) != Some(markup);
        let changed: Map<_, _> = parts.into_iter().filter(is_new).collect();
        self.seen.extend(changed.clone());
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::token::ClientToken;

    #[test]
    fn nobody_follows_so_many_pages_that_others_cannot() {
        let followers = Arc::<Followers>::default();
        let client = |name: &str| Caller::Client(ClientToken::parse(name).unwrap());
        let mut own: Vec<_> =
            (0..FOLLOWED_BY_ONE).map(|_| followers.begin(client("a")).unwrap()).collect();
        assert!(followers.begin(client("a")).is_none());
        assert!(followers.begin(client("b")).is_some());
        own.pop();
        assert!(followers.begin(client("a")).is_some());
        drop(own);
        assert!(followers.0.lock().unwrap().is_empty(), "nothing is kept of who is gone");
        let many = (0..FOLLOWED_MAX).map(|number| followers.begin(client(&format!("c{number}"))));
        let many: Vec<_> = many.collect();
        assert!(many.iter().all(Option::is_some));
        assert!(followers.begin(Caller::Root).is_none());
    }
}
