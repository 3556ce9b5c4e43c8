//! `/client/secret`: what a client's calls are signed with (contract §14).

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::openapi::schemas;
use crate::api::openapi::tags::CALLS;
use crate::api::state::Shared;
use crate::bus::json::{Rejection, parse_object};
use crate::bus::signature::SigningSecrets;
use crate::bus::subscription::Change;
use crate::bus::subscription::options::secret_change;
use crate::http::audit::Actor;
use crate::http::authentication::Caller;
use crate::http::body::Body;
use crate::http::refusal::Refusal;

/// What calls are signed with.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewSecret {
    #[schema(schema_with = schemas::secret)]
    secret: Option<serde_json::Value>,
}

/// What calls are signed with.
#[derive(Serialize, ToSchema)]
pub struct ClientSecret {
    /// None, one, or two while one takes the place of another.
    secret: Vec<String>,
}

/// Say what the caller's calls are signed with, after Standard Webhooks.
///
/// It holds within 1 s, for calls that wait already too.
#[utoipa::path(
    put,
    path = "/client/secret",
    operation_id = "set_client_secret",
    tag = CALLS,
    request_body = NewSecret,
    responses(
        (status = 204, description = "calls are signed with it; with none, they are not"),
        (status = 400, description = "bad JSON, an unknown field, what is no secret"),
        (status = 403, description = "this is the root key"),
        Caller,
        Body,
    ),
)]
pub async fn set(
    State(api): State<Shared>,
    actor: Actor,
    body: Body,
) -> Result<StatusCode, Refusal> {
    let client = actor.caller.client()?;
    let NewSecret { secret } = parse_object(&body.bytes)?;
    let secrets = match secret_change(secret)? {
        Change::Set(secrets) => secrets,
        Change::Clear => SigningSecrets::default(),
        Change::Keep => return Err(Rejection::new("missing field `secret`").into()),
    };
    api.store.set_client_secrets(client, &secrets).await?;
    actor.did("set what its calls are signed with", client);
    Ok(StatusCode::NO_CONTENT)
}

/// Show what the caller's calls are signed with.
#[utoipa::path(
    get,
    path = "/client/secret",
    operation_id = "client_secret",
    tag = CALLS,
    responses(
        (status = 200, description = "the secrets", body = ClientSecret),
        (status = 403, description = "this is the root key"),
        Caller,
    ),
)]
pub async fn show(
    State(api): State<Shared>,
    caller: Caller,
) -> Result<Json<ClientSecret>, Refusal> {
    let client = caller.client()?;
    let all = api.store.client_secrets().await?;
    let own = all.into_iter().find(|(known, _)| known == client);
    Ok(Json(ClientSecret { secret: own.map(|(_, secrets)| secrets.reveal()).unwrap_or_default() }))
}
