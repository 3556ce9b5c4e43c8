//! `POST /calls` and, for the original's clients, `POST /`: calls are accepted (contract §9).

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::value::RawValue;
use url::Url;
use utoipa::ToSchema;

use super::owner;
use super::refusal::{self, CallRefusal};
use crate::api::openapi::tags::CALLS;
use crate::api::state::{Api, Shared};
use crate::bus::call::{Call, CallId, Dialect, NoCall};
use crate::bus::token::ClientToken;
use crate::http::body::{Body, BodyLimits};
use crate::http::in_flight::Holder;
use crate::http::refusal::Refusal;
use crate::http::{idempotency, trace};
use crate::store::{Accepted, NewCall};

/// How many calls one request may bring.
const CALLS_MAX: usize = 10_000;
const CONFLICT: &str = "another call has this id: nothing was stored";

/// What was accepted.
#[derive(Serialize, ToSchema)]
pub struct CallAccepted {
    /// Always false.
    error: bool,
    /// `Accepted`.
    message: &'static str,
    /// Of a call.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    id: Option<String>,
    /// Of an array of calls.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    ids: Option<Vec<String>>,
}

/// Accept a call, or several.
///
/// The bus makes each until it is answered with 2xx, as its `requeue` says. Of an array, all are accepted or
/// none. A call with an `id`, or with the header `Idempotency-Key`, is accepted once: bringing the same again
/// within 24 h, or before it is over, changes nothing.
#[utoipa::path(
    post,
    path = "/calls",
    operation_id = "accept_calls",
    tag = CALLS,
    request_body(content = serde_json::Value, description = "a call, or an array of up to 10,000"),
    responses(
        (status = 202, description = "stored", body = CallAccepted),
        (status = 400, description = "a rule is broken; one line a fault", body = refusal::Body),
        (status = 413, description = "larger than `ROUTEMASTER_MAX_CALL`", body = refusal::Body),
        (
            status = 422,
            description = "no JSON object; or the id belongs to a call with another content",
            body = refusal::Body,
        ),
        CallRefusal,
    ),
)]
pub async fn accept(State(api): State<Shared>, request: Request) -> Result<Response, CallRefusal> {
    let Brought { owner, headers, body } = Brought::read(&api, request).await?;
    let key = idempotency::key(&headers)?;
    let is_array = body.bytes.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[');
    let trace = trace::parent(&headers);
    if !is_array {
        let call = parse(&api, &body.bytes, Dialect::Ours)?.in_trace(trace);
        return accept_one(&api, &owner, &call, key).await;
    }
    let calls = parse_all(&api, &body.bytes)?.into_iter().map(|call| call.in_trace(trace));
    let calls: Vec<_> = calls.collect();
    let count = calls.len();
    let calls = calls.iter().enumerate().map(|(index, call)| {
        let made = key.map(|key| CallId::of_key(&owner, key, Some((index, count))));
        new_call(&owner, call, made)
    });
    let calls = calls.collect::<Result<Vec<_>, _>>()?;
    let ids = calls.iter().map(|call| call.key.id.to_string()).collect();
    if !calls.is_empty() {
        keep(&api, calls).await?;
    }
    Ok(answer(None, Some(ids)))
}

/// Accept a call as the original does.
///
/// It reads the five fields that the original knows. With `ROUTEMASTER_CALLS_FAST`, any body that is not empty
/// is answered with `200`.
#[utoipa::path(
    post,
    path = "/",
    operation_id = "accept_call_as_the_original",
    tag = CALLS,
    request_body(content = serde_json::Value, description = "a call"),
    responses(
        (status = 202, description = "stored", body = CallAccepted),
        (status = 200, description = "the same, with `ROUTEMASTER_CALLS_FAST`"),
        (status = 400, description = "a rule is broken; one line a fault", body = refusal::Body),
        (status = 413, description = "larger than `ROUTEMASTER_MAX_CALL`", body = refusal::Body),
        (status = 422, description = "no JSON object", body = refusal::Body),
        CallRefusal,
    ),
)]
pub async fn as_the_original(
    State(api): State<Shared>,
    request: Request,
) -> Result<Response, CallRefusal> {
    let Brought { owner, headers, body } = Brought::read(&api, request).await?;
    if api.settings.calls_fast {
        if !body.bytes.is_empty() {
            api.calls.commit(vec![NewCall::unread(&owner, body.bytes.clone(), made_id()?)]).await?;
        }
        return Ok(StatusCode::OK.into_response());
    }
    let call = parse(&api, &body.bytes, Dialect::Original)?.in_trace(trace::parent(&headers));
    accept_one(&api, &owner, &call, idempotency::key(&headers)?).await
}

async fn accept_one(
    api: &Api,
    owner: &ClientToken,
    call: &Call,
    key: Option<&str>,
) -> Result<Response, CallRefusal> {
    let made = key.map(|key| CallId::of_key(owner, key, None));
    let call = new_call(owner, call, made)?;
    let id = call.key.id.to_string();
    keep(api, vec![call]).await?;
    Ok(answer(Some(id), None))
}

/// Keeps calls, all or none.
async fn keep(api: &Api, calls: Vec<NewCall>) -> Result<(), CallRefusal> {
    if api.calls.commit(calls).await?.contains(&Accepted::Conflict) {
        return Err(CallRefusal::unprocessable(CONFLICT));
    }
    Ok(())
}

fn answer(id: Option<String>, ids: Option<Vec<String>>) -> Response {
    let accepted = CallAccepted { error: false, message: "Accepted", id, ids };
    // Nothing in it can fail to be written.
    let body = serde_json::to_string(&accepted).unwrap_or_default();
    (StatusCode::ACCEPTED, [(header::CONTENT_TYPE, refusal::JSON)], body).into_response()
}

/// A request with calls, read as far as that does not depend on what is in it.
struct Brought {
    owner: ClientToken,
    headers: HeaderMap,
    body: Body,
}

impl Brought {
    async fn read(api: &Api, request: Request) -> Result<Self, Refusal> {
        let (parts, body) = request.into_parts();
        let owner = owner::of_calls(api, &parts).await?;
        api.authentication.limits.publish(&owner)?;
        let limits = BodyLimits { max: api.settings.max_call, ..api.bodies.clone() };
        let body = limits.read(&parts.headers, body, Holder::Client(owner.clone())).await?;
        Ok(Self { owner, headers: parts.headers, body })
    }
}

fn parse_all(api: &Api, body: &[u8]) -> Result<Vec<Call>, CallRefusal> {
    let all: Vec<&RawValue> =
        serde_json::from_slice(body).map_err(|e| CallRefusal::unprocessable(e.to_string()))?;
    if all.len() > CALLS_MAX {
        return Err(CallRefusal::bad_request(format!("an array of more than {CALLS_MAX} calls")));
    }
    let parse_one = |(index, json): (usize, &&RawValue)| {
        parse(api, json.get().as_bytes(), Dialect::Ours).map_err(|none| {
            let faults = match none {
                NoCall::NotAnObject(reason) => vec![reason],
                NoCall::Faulty(faults) => faults,
            };
            let lines = faults.iter().map(|fault| format!("[{index}]: {fault}"));
            CallRefusal::bad_request(lines.collect::<Vec<_>>().join("\n"))
        })
    };
    all.iter().enumerate().map(parse_one).collect()
}

/// Reads a call, and checks whether it may go where it is to go, as far as its URL says.
fn parse(api: &Api, json: &[u8], dialect: Dialect) -> Result<Call, NoCall> {
    let call = Call::parse(json, dialect)?;
    match check_url(api, &call.request.url) {
        Ok(()) => Ok(call),
        Err(reason) => Err(NoCall::Faulty(vec![format!("`url`: {reason}")])),
    }
}

/// Whether the bus may send to a URL, as far as that says so itself.
pub fn check_url(api: &Api, url: &str) -> Result<(), String> {
    let url = Url::parse(url).map_err(|error| error.to_string())?;
    if url.scheme() == "http" && !api.settings.plain_targets {
        return Err("must be https:// (ROUTEMASTER_PLAIN_TARGETS=no)".into());
    }
    api.egress_rules.check(&url).map_err(|denied| denied.to_string())
}

/// The call's own id comes before one that is made from a key.
fn new_call(
    owner: &ClientToken,
    call: &Call,
    of_key: Option<CallId>,
) -> Result<NewCall, CallRefusal> {
    let id = match call.id.clone().or(of_key) {
        Some(id) => id,
        None => made_id()?,
    };
    Ok(NewCall::of(owner, call, id))
}

/// An id for a call that has none.
pub fn made_id() -> Result<CallId, CallRefusal> {
    CallId::made().map_err(|error| {
        tracing::error!(error = format!("{error:#}"), "failed to make an id");
        CallRefusal::status(StatusCode::INTERNAL_SERVER_ERROR, "no id can be made: see the log")
    })
}
