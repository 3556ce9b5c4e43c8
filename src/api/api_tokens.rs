//! `/api_tokens`: the root key's holder makes and revokes tokens (contract §5).

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

use super::auth::Caller;
use super::error::ApiError;
use super::extract::Body;
use super::state::Shared;
use crate::bus::json::parse_object;
use crate::bus::token::{ApiToken, ClientToken, ServiceName};

#[derive(Serialize)]
struct TokenRow {
    name: String,
    token: String,
}

impl From<ApiToken> for TokenRow {
    fn from(token: ApiToken) -> Self {
        Self { name: token.name, token: token.token.reveal().to_owned() }
    }
}

pub async fn list(State(api): State<Shared>, caller: Caller) -> Result<Response, ApiError> {
    caller.require_root()?;
    let tokens = api.store.api_tokens().await?;
    if tokens.is_empty() {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let rows: Vec<TokenRow> = tokens.into_iter().map(TokenRow::from).collect();
    Ok(Json(rows).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewToken {
    name: String,
    token: Option<String>,
}

pub async fn create(
    State(api): State<Shared>,
    caller: Caller,
    Body(body): Body,
) -> Result<Response, ApiError> {
    caller.require_root()?;
    let new: NewToken = parse_object(&body)?;
    let name = ServiceName::parse(&new.name).map_err(ApiError::bad_request)?;
    let token = match new.token {
        Some(token) => ClientToken::parse(&token).map_err(ApiError::bad_request)?,
        None => ClientToken::generate(&name).map_err(ApiError::bad_request)?,
    };
    if api.tokens.is_configured(&token) {
        let reason = "this token stands in the bus's settings: choose another one";
        return Err(ApiError::bad_request(reason));
    }
    let token = ApiToken { name: name.as_str().to_owned(), token };
    api.store.add_api_token(&token).await?;
    if let Err(error) = api.tokens.refresh().await {
        // It is valid all the same, and must not be lost; it is looked up when it is first used.
        tracing::debug!(%error, "failed to refresh the tokens");
    }
    Ok((StatusCode::CREATED, Json(TokenRow::from(token))).into_response())
}

pub async fn delete(
    State(api): State<Shared>,
    caller: Caller,
    Path(token): Path<String>,
) -> Result<StatusCode, ApiError> {
    caller.require_root()?;
    // What is no token cannot be in the list either: it is gone already.
    if let Ok(token) = ClientToken::parse(&token) {
        api.store.delete_api_token(&token).await?;
        api.tokens.refresh().await?;
    }
    Ok(StatusCode::NO_CONTENT)
}
