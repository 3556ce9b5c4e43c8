//! `POST /ingest.php`: postbacks are taken, as the original's clients send them.

use std::sync::atomic::{AtomicU64, Ordering};

use axum::Json;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::api::calls::{CallRefusal, check_url, made_id, owner};
use crate::api::openapi::tags::CALLS;
use crate::api::state::Shared;
use crate::bus::call::CallKind;
use crate::bus::json::Rejection;
use crate::bus::postback::{NoPostbacks, Postbacks};
use crate::config::Interface;
use crate::http::body::BodyLimits;
use crate::http::in_flight::Holder;
use crate::http::refusal::Refusal;
use crate::store::{NewCall, StoreError};

/// When a client may try again if too many wait.
const PAUSE_SECONDS: u64 = 10;
/// What the original passes on from its Redis.
const PONG: &str = "+PONG";

/// How the queue stands.
#[derive(Debug, Default, Serialize, ToSchema)]
pub struct PostbackQueue {
    /// `+PONG`, from whichever store; empty if it is not available; left out if it was not asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    redis_is_connected: Option<&'static str>,
    /// Postbacks that wait, these included; left out if nobody knows.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    postback_queue_size: Option<u64>,
    /// What is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    error: Option<String>,
}

/// A request with postbacks that is not done.
#[derive(Debug)]
pub struct PostbackRefusal {
    status: StatusCode,
    headers: Box<HeaderMap>,
    body: PostbackQueue,
}

impl PostbackRefusal {
    pub fn status(status: StatusCode, error: impl Into<String>) -> Self {
        let body = PostbackQueue { error: Some(error.into()), ..PostbackQueue::default() };
        Self { status, headers: Box::default(), body }
    }
}

impl From<Refusal> for PostbackRefusal {
    fn from(refusal: Refusal) -> Self {
        let mut refused = Self::status(refusal.status(), refusal.reason());
        *refused.headers = refusal.headers();
        if matches!(refusal, Refusal::Store(_)) {
            refused.body.redis_is_connected = Some("");
        }
        refused
    }
}

impl From<StoreError> for PostbackRefusal {
    fn from(error: StoreError) -> Self {
        Refusal::from(error).into()
    }
}

impl From<Rejection> for PostbackRefusal {
    fn from(rejection: Rejection) -> Self {
        Self::status(StatusCode::BAD_REQUEST, rejection.to_string())
    }
}

impl IntoResponse for PostbackRefusal {
    fn into_response(self) -> Response {
        (self.status, *self.headers, Json(self.body)).into_response()
    }
}

/// Take postbacks: one call for each object of `data`, all or nothing.
#[utoipa::path(
    post,
    path = "/ingest.php",
    operation_id = "take_postbacks",
    tag = CALLS,
    request_body(
        content = serde_json::Value,
        description = "`{\"endpoint\": {\"method\", \"url\"}, \"data\": [{…}, …]}`",
    ),
    responses(
        (status = 200, description = "stored", body = PostbackQueue),
        (status = 400, description = "what is wrong first", body = PostbackQueue),
        (status = 401, description = "no or wrong authorisation", body = PostbackQueue),
        (status = 403, description = "this key may not do this", body = PostbackQueue),
        (status = 413, description = "larger than `ROUTEMASTER_MAX_POSTBACKS`", body = PostbackQueue),
        (status = 429, description = "more than the client may send", body = PostbackQueue),
        (
            status = 503,
            description = "more would wait than `ROUTEMASTER_POSTBACK_QUEUE_MAX`; or the store is not \
                available or full",
            body = PostbackQueue,
        ),
    ),
)]
pub async fn receive(
    State(api): State<Shared>,
    request: Request,
) -> Result<Json<PostbackQueue>, PostbackRefusal> {
    let (parts, body) = request.into_parts();
    let owner = owner::of(&api, &parts, Interface::Postbacks).await?;
    api.authentication.limits.publish(&owner).map_err(Refusal::from)?;
    let limits = BodyLimits { max: api.settings.max_postbacks, ..api.bodies.clone() };
    let body = limits.read(&parts.headers, body, Holder::Client(owner.clone())).await?;
    let max = api.settings.postback_queue_max;
    let postbacks = match Postbacks::parse(&body.bytes, usize::try_from(max).unwrap_or(usize::MAX))
    {
        Ok(postbacks) => postbacks,
        Err(NoPostbacks::Rejected(rejection)) => return Err(rejection.into()),
        Err(NoPostbacks::TooMany(_)) => {
            return Err(full(api.store.call_counts(CallKind::Postback).await?.waiting, max));
        }
    };
    check_url(&api, &postbacks.endpoint.to_string())
        .map_err(|reason| Rejection::new(format_args!("`endpoint.url`: {reason}")))?;
    let count = postbacks.data.len() as u64;
    let announced = Coming::announce(&api.postbacks_coming, count);
    // Before it is looked at what waits: what is not coming any more by then is seen there.
    let coming = announced.in_all();
    let waiting = api.store.call_counts(CallKind::Postback).await?.waiting;
    if waiting + coming > max && count > 0 {
        return Err(full(waiting, max));
    }
    if count > 0 {
        let calls = NewCall::postbacks(&owner, &postbacks, || made_id().map_err(no_id))?;
        api.calls.commit(calls).await?;
    }
    Ok(Json(PostbackQueue {
        redis_is_connected: Some(PONG),
        postback_queue_size: Some(waiting + count),
        error: None,
    }))
}

/// Postbacks that are on their way into the store, until this is dropped.
struct Coming<'a> {
    all: &'a AtomicU64,
    mine: u64,
}

impl<'a> Coming<'a> {
    fn announce(all: &'a AtomicU64, mine: u64) -> Self {
        all.fetch_add(mine, Ordering::SeqCst);
        Self { all, mine }
    }

    /// With those of other requests.
    fn in_all(&self) -> u64 {
        self.all.load(Ordering::SeqCst)
    }
}

impl Drop for Coming<'_> {
    fn drop(&mut self) {
        self.all.fetch_sub(self.mine, Ordering::SeqCst);
    }
}

fn full(waiting: u64, max: u64) -> PostbackRefusal {
    let mut headers = HeaderMap::new();
    headers.insert(header::RETRY_AFTER, PAUSE_SECONDS.into());
    let body = PostbackQueue {
        redis_is_connected: Some(PONG),
        postback_queue_size: Some(waiting),
        error: Some(format!("MAX_QUEUE_SIZE {max} reached")),
    };
    PostbackRefusal { status: StatusCode::SERVICE_UNAVAILABLE, headers: Box::new(headers), body }
}

fn no_id(_: CallRefusal) -> PostbackRefusal {
    PostbackRefusal::status(StatusCode::INTERNAL_SERVER_ERROR, "no id can be made: see the log")
}
