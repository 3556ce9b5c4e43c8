//! `/calls/:id`: one call is shown, retried or cancelled.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{StatusCode, Uri};
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};

use super::refusal::{self, CallRefusal};
use super::shown::Shown;
use crate::api::extract::named_client;
use crate::api::journal;
use crate::api::openapi::tags::CALLS;
use crate::api::state::{Api, Shared};
use crate::bus::call::{CallId, CallKind, CallState, Order};
use crate::bus::token::{ClientToken, PSEUDO_CLIENTS};
use crate::http::audit::Actor;
use crate::http::authentication::Caller;
use crate::http::refusal::Refusal;
use crate::store::{CallCancelled, CallKey, CallStatus};

/// Of how many clients root's look for an id asks at once.
const LOOKED_AT_ONCE: usize = 16;

/// Show a call.
#[utoipa::path(
    get,
    path = "/calls/{id}",
    operation_id = "show_call",
    tag = CALLS,
    params(
        ("id" = String, Path),
        ("client" = Option<String>, Query, description = "whose; for root, who needs it where several clients have one of this id"),
    ),
    responses(
        (status = 200, description = "the call", body = Shown),
        (status = 403, description = "a call of another client", body = refusal::Body),
        (status = 404, description = "there is no such call", body = refusal::Body),
        (status = 409, description = "several clients have one of this id", body = refusal::Body),
        CallRefusal,
    ),
)]
pub async fn show(
    State(api): State<Shared>,
    caller: Result<Caller, Refusal>,
    Path(id): Path<String>,
    uri: Uri,
) -> Result<Json<Shown>, CallRefusal> {
    let caller = caller?;
    let (call, content) = find(&api, &caller, &id, &uri).await?;
    let (postbacks, default) =
        (api.settings.postback_persistence(), &api.settings.postback_default);
    let order = Order::read(call.kind, &call.title, &content, (postbacks, default));
    let shown = Shown::new(&call, &caller, &api.authentication);
    let attempts = journal::attempts_at(&api, &call.key.client, call.key.id.as_str()).await?;
    Ok(Json(shown.with_request(order, &content, attempts)))
}

/// Make a call due at once; a dead one lives again.
#[utoipa::path(
    post,
    path = "/calls/{id}/retry",
    operation_id = "retry_call",
    tag = CALLS,
    params(
        ("id" = String, Path),
        ("client" = Option<String>, Query, description = "whose; for root, who needs it where several clients have one of this id"),
    ),
    responses(
        (status = 204, description = "it is due"),
        (status = 403, description = "a call of another client", body = refusal::Body),
        (status = 404, description = "there is no such call", body = refusal::Body),
        (status = 409, description = "it is done, or on its way; or several clients have one of this id", body = refusal::Body),
        CallRefusal,
    ),
)]
pub async fn retry(
    State(api): State<Shared>,
    actor: Result<Actor, Refusal>,
    Path(id): Path<String>,
    uri: Uri,
) -> Result<StatusCode, CallRefusal> {
    let actor = actor?;
    let (call, _) = find(&api, &actor.caller, &id, &uri).await?;
    if api.store.retry_calls(std::slice::from_ref(&call.key)).await?.contains(&true) {
        actor.did("retried a call", &call.key.id);
        return Ok(StatusCode::NO_CONTENT);
    }
    let reason = match call.state {
        CallState::Done => "it is done: it is not made again",
        _ => "it is on its way",
    };
    Err(CallRefusal::status(StatusCode::CONFLICT, reason))
}

/// End a call: it is never made again.
#[utoipa::path(
    delete,
    path = "/calls/{id}",
    operation_id = "cancel_call",
    tag = CALLS,
    params(
        ("id" = String, Path),
        ("client" = Option<String>, Query, description = "whose; for root, who needs it where several clients have one of this id"),
    ),
    responses(
        (status = 204, description = "it is gone"),
        (status = 202, description = "it is on its way, and is not repeated"),
        (status = 403, description = "a call of another client", body = refusal::Body),
        (status = 404, description = "there is no such call", body = refusal::Body),
        (status = 409, description = "several clients have one of this id", body = refusal::Body),
        CallRefusal,
    ),
)]
pub async fn cancel(
    State(api): State<Shared>,
    actor: Result<Actor, Refusal>,
    Path(id): Path<String>,
    uri: Uri,
) -> Result<StatusCode, CallRefusal> {
    let actor = actor?;
    let (call, _) = find(&api, &actor.caller, &id, &uri).await?;
    let cancelled = api.store.cancel_calls(std::slice::from_ref(&call.key)).await?;
    let status = match cancelled.first() {
        Some(CallCancelled::Gone) => StatusCode::NO_CONTENT,
        Some(CallCancelled::OnItsWay) => StatusCode::ACCEPTED,
        Some(CallCancelled::Unknown) | None => return Err(CallRefusal::not_found()),
    };
    actor.did("cancelled a call", &call.key.id);
    Ok(status)
}

/// The call of this id: a client's own; for root that of whoever has one.
async fn find(
    api: &Api,
    caller: &Caller,
    id: &str,
    uri: &Uri,
) -> Result<(CallStatus, Bytes), CallRefusal> {
    let id = CallId::parse(id).ok_or_else(CallRefusal::not_found)?;
    let clients = match named_client(api, uri, caller)? {
        Some(client) => vec![client],
        None => all_clients(api).await?,
    };
    let keys = clients.into_iter().map(|client| CallKey { client, id: id.clone() });
    let looks = stream::iter(keys).map(|key| async move { api.store.call(&key).await });
    // What forwards messages is shown with them.
    let is_call = |(call, _): &(CallStatus, Bytes)| call.kind != CallKind::Message;
    let found =
        looks.buffered(LOOKED_AT_ONCE).try_filter_map(async |found| Ok(found.filter(is_call)));
    let mut found: Vec<_> = found.take(2).try_collect().await?;
    let call = found.pop().ok_or_else(CallRefusal::not_found)?;
    if found.is_empty() {
        return Ok(call);
    }
    let reason = "several clients have a call of this id: say whose it is with `?client=`";
    Err(CallRefusal::status(StatusCode::CONFLICT, reason))
}

/// Everybody who may have calls.
async fn all_clients(api: &Api) -> Result<Vec<ClientToken>, Refusal> {
    let mut clients = PSEUDO_CLIENTS.map(ClientToken::from_stored).to_vec();
    clients.extend(api.settings.clients.iter().cloned());
    clients.extend(api.store.api_tokens().await?.into_iter().map(|token| token.token));
    clients.sort();
    clients.dedup();
    Ok(clients)
}
