//! `GET /destinations`: how it goes with calls, by where they go.

use axum::Json;
use axum::extract::State;
use axum::http::Uri;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::refusal::{self, CallRefusal};
use crate::api::openapi::tags::CALLS;
use crate::api::state::Shared;
use crate::http::authentication::Caller;
use crate::http::query;
use crate::http::refusal::Refusal;
use crate::store::DestinationStatus;

/// How many are listed, unless the query says otherwise, and at most.
const LIMIT: u64 = 50;
const LIMIT_MAX: u64 = 500;

/// How it goes with the calls to a destination.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct Destination {
    /// Scheme, host and port; of messages `publisher:` and its id.
    pub destination: String,
    /// How many calls wait, counted up to 1000.
    pub waiting: u64,
    /// How many are on their way.
    pub in_flight: u64,
    /// How many attempts have failed since one did not.
    pub failures: u64,
    /// When the next call is due, in milliseconds since the epoch.
    pub due: u64,
}

impl From<DestinationStatus> for Destination {
    fn from(status: DestinationStatus) -> Self {
        let DestinationStatus { destination, waiting, in_flight, failures, due_ms } = status;
        Self { destination, waiting, in_flight, failures, due: due_ms }
    }
}

/// List destinations that something waits for: those that fail first.
///
/// Where there are very many, those that do not fail and are due last are left out.
#[utoipa::path(
    get,
    path = "/destinations",
    operation_id = "list_destinations",
    tag = CALLS,
    params(("limit" = Option<u64>, Query, description = "how many, 1 to 500")),
    responses(
        (status = 200, description = "destinations", body = [Destination]),
        (status = 400, description = "a value in the query means nothing", body = refusal::Body),
        (status = 403, description = "this is not the root key", body = refusal::Body),
        CallRefusal,
    ),
)]
pub async fn list(
    State(api): State<Shared>,
    caller: Result<Caller, Refusal>,
    uri: Uri,
) -> Result<Json<Vec<Destination>>, CallRefusal> {
    caller?.require_root()?;
    let limit = query::number(&uri, "limit", 1..=LIMIT_MAX)?.unwrap_or(LIMIT) as usize;
    let destinations = api.store.destinations(limit).await?;
    Ok(Json(destinations.into_iter().map(Destination::from).collect()))
}
