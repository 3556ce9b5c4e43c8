//! `/subscription/batch` and `/subscription/stream`: a subscriber without a callback asks for its batches
//! (contract §13).

use std::time::Duration;

use axum::body::Body as AnswerBody;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use tokio::time::Instant;

use crate::api::openapi::schemas::DeliveredEvent;
use crate::api::openapi::tags::SUBSCRIBING;
use crate::api::state::{Api, Shared};
use crate::bus::batch::BatchId;
use crate::bus::subscription::BATCH_MAX;
use crate::bus::token::ClientToken;
use crate::egress::batch;
use crate::http::authentication::Caller;
use crate::http::cross_site;
use crate::http::query;
use crate::http::refusal::Refusal;
use crate::store::{Arrival, LeasedBatch, PullRequest, Pulled, PulledBatch};
use crate::telemetry::metrics::record;

/// How long a request may be held at most, in milliseconds.
const WAIT_MAX: u64 = 60_000;
/// How long nobody else gets a batch, in milliseconds: from, to, and unless the request says so.
const LEASE_MIN: u64 = 1_000;
const LEASE_MAX: u64 = 3_600_000;
const LEASE: u64 = 30_000;
/// How late it is noticed at most that something has come, should that not be told.
const LOOK: Duration = Duration::from_secs(10);
/// How often a stream says that it is there.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// Ask for the next batch.
///
/// It is answered as soon as an event waits. The batch is the asker's until its lease is over or it is acknowledged:
/// with `ack` on the request for the next one, or by deleting it. Until then it stays the same.
#[utoipa::path(
    get,
    path = "/subscription/batch",
    operation_id = "pull_batch",
    tag = SUBSCRIBING,
    params(PullParams),
    responses(
        (status = 200, description = "the batch, as it would be delivered", body = Vec<DeliveredEvent>),
        (status = 204, description = "nothing has come while it was waited"),
        (status = 400, description = "a value in the query means nothing"),
        (status = 403, description = "this is the root key; or a page of another site would acknowledge"),
        (status = 404, description = "there is no subscription with `\"pull\": true`"),
        (status = 409, description = "the batch is out already: see `Retry-After`; or the subscription is paused"),
        (status = 410, description = "`ack` is not the batch that was given out; nothing is lost"),
        Caller,
    ),
)]
pub async fn get(
    State(api): State<Shared>,
    caller: Caller,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, Refusal> {
    // To acknowledge is to change something, whatever the method says.
    if query::text(&uri, "ack").is_some() && cross_site::comes_from_elsewhere(&headers, &uri) {
        return Err(Refusal::Forbidden(cross_site::REFUSED));
    }
    next(&api, &caller, &uri).await
}

/// Acknowledge a batch, and ask for the next one.
///
/// As `GET` does.
#[utoipa::path(
    post,
    path = "/subscription/batch",
    operation_id = "pull_next_batch",
    tag = SUBSCRIBING,
    params(PullParams),
    responses(
        (status = 200, description = "the batch, as it would be delivered", body = Vec<DeliveredEvent>),
        (status = 204, description = "nothing has come while it was waited"),
        (status = 400, description = "a value in the query means nothing"),
        (status = 403, description = "this is the root key"),
        (status = 404, description = "there is no subscription with `\"pull\": true`"),
        (status = 409, description = "the batch is out already: see `Retry-After`; or the subscription is paused"),
        (status = 410, description = "`ack` is not the batch that was given out; nothing is lost"),
        Caller,
    ),
)]
pub async fn post(
    State(api): State<Shared>,
    caller: Caller,
    uri: Uri,
) -> Result<Response, Refusal> {
    next(&api, &caller, &uri).await
}

/// What a request for a batch may say.
#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "it is only described: `asked` reads it")]
pub struct PullParams {
    /// How long to wait for an event, in milliseconds, up to 60000; 0, if it is left out.
    wait: Option<u64>,
    /// Events in the batch, at most.
    max: Option<u32>,
    /// How long the batch is the asker's, in milliseconds, from 1000 to 3600000; 30000, if it is left out.
    lease: Option<u64>,
    /// The `Webhook-Id` of a batch that is acknowledged.
    ack: Option<String>,
}

/// What a query asks for beside acknowledging a batch.
fn asked(uri: &Uri) -> Result<PullRequest, Refusal> {
    let max = query::number(uri, "max", 1..=u64::from(BATCH_MAX))?.unwrap_or(BATCH_MAX.into());
    let lease = query::number(uri, "lease", LEASE_MIN..=LEASE_MAX)?.unwrap_or(LEASE);
    Ok(PullRequest {
        acknowledge: None,
        max: u32::try_from(max).unwrap_or(BATCH_MAX),
        lease: Duration::from_millis(lease),
    })
}

async fn next(api: &Api, caller: &Caller, uri: &Uri) -> Result<Response, Refusal> {
    let subscriber = caller.client()?;
    let wait = query::number(uri, "wait", 0..=WAIT_MAX)?.unwrap_or(0);
    let until = Instant::now() + Duration::from_millis(wait);
    let request = asked(uri)?;
    let acknowledge = query::text(uri, "ack").map(|id| given_out(&id)).transpose()?;
    let mut puller = Puller::new(api, subscriber, PullRequest { acknowledge, ..request });
    loop {
        let came = puller.arrival.next();
        match puller.pull(api).await? {
            Pulled::Batch(leased) => {
                let (headers, body) = batch::written(&leased.batch, &leased.options);
                return Ok((headers, body).into_response());
            }
            Pulled::Nothing => {}
            other => return Err(refusal(other)),
        }
        let now = Instant::now();
        if now >= until || api.stop.is_cancelled() {
            return Ok(StatusCode::NO_CONTENT.into_response());
        }
        tokio::select! {
            () = came => {}
            () = tokio::time::sleep_until(until.min(now + LOOK)) => {}
            () = api.stop.cancelled() => {}
        }
    }
}

const STALE: &str =
    "this is not the batch that was given out, or not any more: ask for the next one";

/// The batch that a request names.
fn given_out(id: &str) -> Result<BatchId, Refusal> {
    BatchId::parse(id).ok_or(Refusal::Gone(STALE))
}

fn finished(batch: PulledBatch) -> Result<StatusCode, Refusal> {
    match batch {
        PulledBatch::Done { .. } => Ok(StatusCode::NO_CONTENT),
        PulledBatch::Stale => Err(Refusal::Gone(STALE)),
    }
}

fn refusal(pulled: Pulled) -> Refusal {
    match pulled {
        Pulled::Out(left) => Refusal::Out(left),
        Pulled::Stale => Refusal::Gone(STALE),
        Pulled::Paused => Refusal::Conflict("the subscription is paused: resume it"),
        Pulled::NoPullQueue | Pulled::Batch(_) | Pulled::Nothing => {
            Refusal::NotFound("you have no subscription with `\"pull\": true`".into())
        }
    }
}

/// Somebody who asks for batches, one after the other.
struct Puller {
    subscriber: ClientToken,
    request: PullRequest,
    arrival: Arrival,
}

impl Puller {
    fn new(api: &Api, subscriber: &ClientToken, request: PullRequest) -> Self {
        let arrival = api.store.arrivals().listen(subscriber);
        Self { subscriber: subscriber.clone(), request, arrival }
    }

    async fn pull(&mut self, api: &Api) -> Result<Pulled, Refusal> {
        // Whatever comes of it, it is acknowledged once.
        let request = self.request.clone();
        self.request.acknowledge = None;
        let pulled = api.store.pull(&self.subscriber, &request).await?;
        if let Pulled::Batch(leased) = &pulled {
            api.attempts.of_pull(leased, request.lease);
            record::given_out(leased);
        }
        Ok(pulled)
    }
}

/// Acknowledge a batch.
#[utoipa::path(
    delete,
    path = "/subscription/batch/{id}",
    operation_id = "acknowledge_batch",
    tag = SUBSCRIBING,
    params(("id" = String, Path, description = "its `Webhook-Id`")),
    responses(
        (status = 204, description = "it is off the queue"),
        (status = 403, description = "this is the root key"),
        (status = 410, description = "it is not the batch that was given out; nothing is lost"),
        Caller,
    ),
)]
pub async fn acknowledge(
    State(api): State<Shared>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<StatusCode, Refusal> {
    let subscriber = caller.client()?;
    finished(api.store.acknowledge_pulled(subscriber, &given_out(&id)?).await?)
}

/// Give a batch back: it is due again at once.
#[utoipa::path(
    post,
    path = "/subscription/batch/{id}/release",
    operation_id = "release_batch",
    tag = SUBSCRIBING,
    params(("id" = String, Path, description = "its `Webhook-Id`")),
    responses(
        (status = 204, description = "whoever asks next gets it"),
        (status = 403, description = "this is the root key"),
        (status = 410, description = "it is not the batch that was given out; nothing is lost"),
        Caller,
    ),
)]
pub async fn release(
    State(api): State<Shared>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<StatusCode, Refusal> {
    let subscriber = caller.client()?;
    finished(api.store.release_pulled(subscriber, &given_out(&id)?).await?)
}

/// Receive batches over one held connection.
///
/// Each record is a batch; the next one follows when it is acknowledged on another request. With `Accept:
/// text/event-stream` a record is an event whose `id` is the `Webhook-Id`, else a line of JSON: `{"id", "attempt",
/// "events"}`. What is sent every 15 s when nothing comes is a comment, or an empty line.
#[utoipa::path(
    get,
    path = "/subscription/stream",
    operation_id = "stream_batches",
    tag = SUBSCRIBING,
    params(
        ("max" = Option<u32>, Query, description = "events in a batch, at most"),
        ("lease" = Option<u64>, Query, description = "milliseconds after which a batch that is not acknowledged comes again"),
        (
            "ack" = Option<String>,
            Query,
            description = "`last-event-id`: whoever comes back acknowledges by the header `Last-Event-ID`",
        ),
    ),
    responses(
        (status = 200, description = "batches, without end", content_type = "text/event-stream", body = String),
        (status = 400, description = "a value in the query means nothing"),
        (status = 403, description = "this is the root key; or a page of another site would acknowledge"),
        (status = 404, description = "there is no subscription with `\"pull\": true`"),
        Caller,
    ),
)]
pub async fn stream(
    State(api): State<Shared>,
    caller: Caller,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, Refusal> {
    let subscriber = caller.client()?;
    let last_event = match query::text(&uri, "ack").as_deref() {
        None => None,
        Some("last-event-id") if cross_site::comes_from_elsewhere(&headers, &uri) => {
            return Err(Refusal::Forbidden(cross_site::REFUSED));
        }
        Some("last-event-id") => headers.get("last-event-id").and_then(|id| id.to_str().ok()),
        Some(_) => return Err(Refusal::bad_request("`ack` must be last-event-id")),
    };
    let acknowledge = last_event.and_then(BatchId::parse);
    let request = PullRequest { acknowledge, ..asked(&uri)? };
    let status = api.store.subscription(subscriber).await?;
    if !status.is_some_and(|status| status.subscription.terms.target.is_pull()) {
        return Err(refusal(Pulled::NoPullQueue));
    }
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    let form = match accept.is_some_and(|accept| accept.contains("text/event-stream")) {
        true => Form::EventStream,
        false => Form::Lines,
    };
    let streamed = Streamed { puller: Puller::new(&api, subscriber, request), api, form };
    let body = stream::unfold(streamed, Streamed::next);
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(form.media_type())),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    Ok((headers, AnswerBody::from_stream(body)).into_response())
}

/// How the batches of a stream are written.
#[derive(Clone, Copy)]
enum Form {
    EventStream,
    Lines,
}

impl Form {
    fn media_type(self) -> &'static str {
        match self {
            Self::EventStream => "text/event-stream",
            Self::Lines => "application/x-ndjson",
        }
    }

    fn heartbeat(self) -> Bytes {
        Bytes::from_static(match self {
            Self::EventStream => b":\n\n",
            Self::Lines => b"\n",
        })
    }

    fn record(self, leased: &LeasedBatch) -> Bytes {
        let (_, body) = batch::written(&leased.batch, &leased.options);
        let (id, events) = (leased.batch.id.to_string(), String::from_utf8_lossy(&body));
        // JSON that was written without line breaks may still hold some that its publisher wrote.
        let events = events.replace(['\r', '\n'], " ");
        match self {
            Self::EventStream => format!("id: {id}\nevent: batch\ndata: {events}\n\n").into(),
            Self::Lines => {
                let attempt = leased.batch.attempt;
                format!("{{\"id\":\"{id}\",\"attempt\":{attempt},\"events\":{events}}}\n").into()
            }
        }
    }
}

/// A connection over which batches go.
struct Streamed {
    puller: Puller,
    api: Shared,
    form: Form,
}

impl Streamed {
    /// What is sent next; `None` at the end.
    async fn next(mut self) -> Option<(Result<Bytes, std::convert::Infallible>, Self)> {
        let heartbeat_at = Instant::now() + HEARTBEAT;
        while !self.api.stop.is_cancelled() {
            let came = self.puller.arrival.next();
            let look_at = match self.puller.pull(&self.api).await {
                Ok(Pulled::Batch(leased)) => {
                    let record = self.form.record(&leased);
                    return Some((Ok(record), self));
                }
                Ok(Pulled::Out(left)) => Instant::now() + left,
                Ok(Pulled::NoPullQueue) => return None,
                // A store that is away comes back.
                Ok(_) | Err(_) => Instant::now() + LOOK,
            };
            tokio::select! {
                () = came => {}
                () = tokio::time::sleep_until(look_at.min(heartbeat_at)) => {}
                () = self.api.stop.cancelled() => {}
            }
            if Instant::now() >= heartbeat_at {
                return Some((Ok(self.form.heartbeat()), self));
            }
        }
        None
    }
}
