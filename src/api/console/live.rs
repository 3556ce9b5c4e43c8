//! Following a page: server-sent events with those of its parts that have changed.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
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
use super::session::Session;
use super::visit::PARTS;
use super::{Console, PATH};
use crate::api::extract::peer;
use crate::http::authentication::Caller;
use crate::http::query;

/// How many times longer than making a page takes it is waited until it is made again: less than 1 % of a core.
const SPARING: u32 = 150;
/// How long that may be: most of what takes long is waiting for the store.
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// How often it is looked whether the session still is one.
const CHECK: Duration = Duration::from_millis(500);
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
    /// Not a part of the console: what holds itself would not end with the process.
    pages: Router,
    address: String,
    headers: HeaderMap,
    peer: Option<ConnectInfo<std::net::SocketAddr>>,
    session: Session,
    /// The parts as they were last sent.
    seen: Map<String, Value>,
    /// Whether the page could not be made the last time, and that was told.
    is_stale: bool,
    /// When the page is made next.
    next: Instant,
    told: Instant,
    until: Instant,
    _following: Following,
}

/// Follows the page at `of`.
pub async fn changes(State(console): State<Arc<Console>>, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    let address = query::text(&parts.uri, "of").unwrap_or_default();
    let session = match console.sessions.of(&console.api, &parts.headers, peer(&parts)).await {
        Ok(Some(session)) => session,
        // The page is loaded again, and leads to where one signs in.
        Ok(None) => return (EVENT_STREAM, OVER).into_response(),
        Err(refusal) => return Problem::from(refusal).into_response(),
    };
    if !address.starts_with(PATH) || address.starts_with("/console/changes") {
        return Problem::bad_request("this is no page of the console").into_response();
    }
    let Some(following) = console.followers.begin(session.caller.clone()) else {
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
        pages: super::routes(console.clone()),
        console,
        address,
        headers,
        session,
        seen: Map::new(),
        is_stale: false,
        next: now,
        told: now,
        until: now + TERM,
        _following: following,
    };
    let events = stream::unfold(Some(followed), async |followed| {
        let mut followed = followed?;
        let event = followed.next_event().await?;
        // Nothing comes behind the end of the session.
        let followed = (event != OVER).then_some(followed);
        Some((Ok::<_, Infallible>(Bytes::from(event)), followed))
    });
    (EVENT_STREAM, Body::from_stream(events)).into_response()
}

const EVENT_STREAM: [(HeaderName, &str); 2] =
    [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-store")];
/// The session is over.
const OVER: &str = "event: over\ndata:\n\n";
/// The page cannot be made just now.
const STALE: &str = "event: stale\ndata:\n\n";

impl Followed {
    /// What is to be sent next; `None` at the end.
    async fn next_event(&mut self) -> Option<String> {
        let stop = self.console.api.stop.clone();
        loop {
            let now = Instant::now();
            tokio::select! {
                () = tokio::time::sleep_until(self.next.min(now + CHECK)) => {}
                () = stop.cancelled() => return None,
            }
            // Whoever is signed out, or whose token was revoked, sees nothing more.
            if !self.session.is_good(&self.console.api) {
                return Some(OVER.to_owned());
            }
            let now = Instant::now();
            if now >= self.until {
                return None;
            }
            if now >= self.next
                && let Some(event) = self.look().await
            {
                self.told = now;
                return Some(event);
            }
            if now - self.told >= HEARTBEAT {
                self.told = now;
                return Some(": still here\n\n".to_owned());
            }
        }
    }

    /// Makes the page again; what there is to tell.
    async fn look(&mut self) -> Option<String> {
        let began = Instant::now();
        let made = self.make().await;
        let took = began.elapsed();
        let Some((every, parts)) = made else {
            self.next = Instant::now() + PAUSE_MAX;
            let was_stale = std::mem::replace(&mut self.is_stale, true);
            return (!was_stale).then(|| STALE.to_owned());
        };
        self.next = Instant::now() + (took * SPARING).clamp(every, PAUSE_MAX.max(every));
        let is_new = |(name, markup): &(String, Value)| self.seen.get(name) != Some(markup);
        let changed: Map<_, _> = parts.into_iter().filter(is_new).collect();
        self.seen.extend(changed.clone());
        let was_stale = std::mem::replace(&mut self.is_stale, false);
        (was_stale || !changed.is_empty())
            .then(|| format!("event: parts\ndata: {}\n\n", Value::from(changed)))
    }

    /// How often the page is to be looked at, and its parts as they are now; `None` if it cannot be made.
    async fn make(&self) -> Option<(Duration, Map<String, Value>)> {
        let mut request = NewRequest::get(&*self.address).body(Body::empty()).ok()?;
        *request.headers_mut() = self.headers.clone();
        if let Some(peer) = self.peer {
            request.extensions_mut().insert(peer);
        }
        let answer = match self.pages.clone().oneshot(request).await {
            Ok(answer) => answer,
            Err(never) => match never {},
        };
        let every = answer.headers().get(EVERY_HEADER)?.to_str().ok()?.parse().ok()?;
        let body = to_bytes(answer.into_body(), PAGE_MAX).await.ok()?;
        Some((Duration::from_millis(every), serde_json::from_slice(&body).ok()?))
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
