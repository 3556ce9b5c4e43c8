//! `/api_tokens`: the root key's holder makes and revokes tokens (contract §5).

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::openapi::tags::TOKENS;
use crate::api::state::Shared;
use crate::bus::json::parse_object;
use crate::bus::pause::PausedBy;
use crate::bus::token::{ApiToken, ClientToken, PSEUDO_CLIENTS, ServiceName};
use crate::http::audit::Actor;
use crate::http::authentication::{Caller, Tokens};
use crate::http::body::Body;
use crate::http::query;
use crate::http::refusal::Refusal;

/// A token, with the name of the service it is for.
#[derive(Serialize, ToSchema)]
#[schema(as = Token)]
struct TokenRow {
    #[schema(value_type = ServiceName)]
    name: String,
    #[schema(value_type = ClientToken)]
    token: String,
    /// Until when it is good, in milliseconds since the epoch, if another one has taken its place.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    until: Option<u64>,
}

impl From<ApiToken> for TokenRow {
    fn from(ApiToken { name, token, until_ms, .. }: ApiToken) -> Self {
        Self { name, token: token.reveal().to_owned(), until: until_ms }
    }
}

/// List all tokens: those that were made here, and those of `ROUTEMASTER_CLIENTS`.
#[utoipa::path(
    get,
    path = "/api_tokens",
    operation_id = "list_tokens",
    tag = TOKENS,
    responses(
        (status = 200, description = "all of them", body = [TokenRow]),
        (status = 204, description = "there are none"),
        (status = 403, description = "this is not the root key"),
        Caller,
    ),
)]
pub async fn list(State(api): State<Shared>, caller: Caller) -> Result<Response, Refusal> {
    caller.require_root()?;
    let now_ms = api.clock.now_ms();
    let (over, mut tokens): (Vec<_>, Vec<_>) =
        api.store.api_tokens().await?.into_iter().partition(|token| token.is_over(now_ms));
    // The original keeps both in one place, and its client dies of a 204.
    for token in api.authentication.tokens.configured() {
        if tokens.iter().chain(&over).all(|made| made.token != *token) {
            let name = token.service_name().unwrap_or_else(|| token.reveal()).to_owned();
            tokens.push(ApiToken::new(name, token.clone()));
        }
    }
    tokens.sort_by(|one, other| (&one.name, &one.token).cmp(&(&other.name, &other.token)));
    if tokens.is_empty() {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let rows: Vec<TokenRow> = tokens.into_iter().map(TokenRow::from).collect();
    Ok(Json(rows).into_response())
}

/// How many tokens there may be. They take room that autodrop cannot make free.
const API_TOKENS_MAX: usize = 10_000;

/// A token to be made.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewToken {
    #[schema(value_type = ServiceName)]
    name: String,
    /// Left out: one is made, `<name>--<32 hex digits>`.
    #[schema(value_type = Option<ClientToken>)]
    token: Option<String>,
}

/// Make a token for a service.
#[utoipa::path(
    post,
    path = "/api_tokens",
    operation_id = "create_token",
    tag = TOKENS,
    request_body = NewToken,
    responses(
        (status = 201, description = "it is allowed from now on", body = TokenRow),
        (status = 400, description = "bad JSON, a duplicated or unknown field, a bad value"),
        (status = 403, description = "this is not the root key"),
        Caller,
        Body,
    ),
)]
pub async fn create(
    State(api): State<Shared>,
    actor: Actor,
    body: Body,
) -> Result<Response, Refusal> {
    actor.caller.require_root()?;
    let new: NewToken = parse_object(&body.bytes)?;
    let name = ServiceName::parse(&new.name).map_err(Refusal::bad_request)?;
    let token = match new.token {
        Some(token) => ClientToken::parse(&token).map_err(Refusal::bad_request)?,
        None => ClientToken::generate(&name).map_err(Refusal::bad_request)?,
    };
    if PSEUDO_CLIENTS.contains(&token.reveal()) {
        let reason = "calls that come without a token belong to this name: choose another one";
        return Err(Refusal::bad_request(reason));
    }
    if api.authentication.tokens.is_configured(&token) {
        let reason = "this token stands in the bus's settings: choose another one";
        return Err(Refusal::bad_request(reason));
    }
    if api.store.api_tokens().await?.len() >= API_TOKENS_MAX {
        return Err(Refusal::Forbidden("there are 10,000 tokens: delete those that nobody uses"));
    }
    let token = ApiToken::new(name.as_str().to_owned(), token);
    api.store.add_api_token(&token).await?;
    actor.did("made a token", &token.name);
    let_in(&api.authentication.tokens).await;
    Ok((StatusCode::CREATED, Json(TokenRow::from(token))).into_response())
}

/// Lets a new token in at once.
async fn let_in(tokens: &Tokens) {
    if let Err(error) = tokens.refresh().await {
        // It is valid all the same, and must not be lost; it is looked up when it is first used.
        tracing::debug!(%error, "failed to refresh the tokens");
    }
}

/// Revoke a token.
///
/// Every web process refuses it within 1 s. Its subscription is removed with all that waits in its
/// queue; if `keep` is true, it is paused instead. One of `ROUTEMASTER_CLIENTS` stays, with all that is its own.
#[utoipa::path(
    delete,
    path = "/api_tokens/{token}",
    operation_id = "delete_token",
    tag = TOKENS,
    params(
        ("token" = ClientToken, Path),
        ("keep" = Option<bool>, Query, description = "whether its subscription stays, and is paused"),
    ),
    responses(
        (status = 204, description = "there is no such token any more"),
        (status = 400, description = "the path is not UTF-8, or `keep` is neither true nor false"),
        (status = 403, description = "this is not the root key"),
        Caller,
    ),
)]
pub async fn delete(
    State(api): State<Shared>,
    actor: Actor,
    Path(token): Path<String>,
    uri: Uri,
) -> Result<StatusCode, Refusal> {
    actor.caller.require_root()?;
    let keep = query::flag(&uri, "keep")?;
    // What is no token cannot be in the list either: it is gone already.
    if let Ok(token) = ClientToken::parse(&token) {
        let tokens = &api.authentication.tokens;
        let client = tokens.client_of(&token);
        api.store.delete_api_token(&token).await?;
        actor.did("deleted a token", &token);
        tokens.refresh().await?;
        // Also of one that is gone already: an earlier try may have come no further. A client that has another
        // token goes on.
        if !tokens.lets_in(&client) {
            match keep {
                true => drop(api.store.pause(&client, PausedBy::Revocation).await?),
                false => drop(api.store.unsubscribe(&client).await?),
            }
        }
    }
    Ok(StatusCode::NO_CONTENT)
}

/// What takes the place of a token.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Rotation {
    /// How long the old one is good, in milliseconds: an hour, unless it says so.
    #[schema(maximum = 2592000000u64)]
    grace: Option<u64>,
}

/// The longest grace, and the one that is meant if none is given, in milliseconds.
const GRACE_MAX: u64 = 30 * 24 * 3_600_000;
const GRACE: u64 = 3_600_000;

/// Give a client another token.
///
/// Both are the same client until the grace is over, and topics, subscription and queue stay with it. One of
/// `ROUTEMASTER_CLIENTS` is refused after that, though it stands there.
#[utoipa::path(
    post,
    path = "/api_tokens/{token}/rotate",
    operation_id = "rotate_token",
    tag = TOKENS,
    params(("token" = ClientToken, Path)),
    request_body = Rotation,
    responses(
        (status = 201, description = "the new one is allowed from now on", body = TokenRow),
        (status = 400, description = "bad JSON, an unknown field, a bad value"),
        (status = 403, description = "this is not the root key"),
        (status = 404, description = "there is no such token, or its place is taken already"),
        Caller,
        Body,
    ),
)]
pub async fn rotate(
    State(api): State<Shared>,
    actor: Actor,
    Path(token): Path<String>,
    body: Body,
) -> Result<Response, Refusal> {
    actor.caller.require_root()?;
    let grace = match body.bytes.is_empty() {
        true => None,
        false => parse_object::<Rotation>(&body.bytes)?.grace,
    };
    let grace = grace.unwrap_or(GRACE);
    if grace > GRACE_MAX {
        let reason = format!("`grace` must be 0 to {GRACE_MAX} milliseconds");
        return Err(Refusal::bad_request(reason));
    }
    let unknown =
        || Refusal::NotFound("there is no such token, or its place is taken already".into());
    let token = ClientToken::parse(&token).map_err(|_| unknown())?;
    let tokens = &api.authentication.tokens;
    let known = api.store.api_tokens().await?;
    let old = match known.iter().find(|known| known.token == token) {
        Some(old) => Some(old.clone()),
        None if tokens.configured().contains(&token) => {
            Some(ApiToken::new(token.service_name().unwrap_or(token.reveal()).to_owned(), token))
        }
        None => None,
    };
    let old = old.filter(|old| old.until_ms.is_none()).ok_or_else(unknown)?;
    let service = ServiceName::parse(&old.name).map_err(Refusal::bad_request)?;
    let new = ApiToken {
        name: old.name.clone(),
        token: ClientToken::generate(&service).map_err(Refusal::bad_request)?,
        client: old.client.clone(),
        until_ms: None,
    };
    let now_ms = api.clock.now_ms();
    // The new one first: whatever comes between, the client is let in.
    api.store.add_api_token(&new).await?;
    api.store.add_api_token(&ApiToken { until_ms: Some(now_ms + grace), ..old.clone() }).await?;
    actor.did("rotated a token", &old.token);
    // Those that are over have no more to say, unless they stand in the settings.
    for over in known.iter().filter(|known| known.client == old.client && known.is_over(now_ms)) {
        if !tokens.is_configured(&over.token) {
            api.store.delete_api_token(&over.token).await?;
        }
    }
    let_in(tokens).await;
    Ok((StatusCode::CREATED, Json(TokenRow::from(new))).into_response())
}
