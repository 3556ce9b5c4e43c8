//! The processes that a bus is made of.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A process, as it says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Process {
    /// It has another one each time it starts.
    pub id: String,
    /// `serve`, `web` or `worker`.
    pub role: String,
    pub host: String,
    pub pid: u32,
    pub version: String,
    /// When it started, in milliseconds since the epoch.
    pub since: u64,
    /// How many deliveries it makes just now, and at most; left out by one that makes none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub deliveries: Option<PlacesInUse>,
    /// How many calls it makes just now, and at most; left out by one that makes none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub calls: Option<PlacesInUse>,
    /// Whether it delivers nothing more, because somebody wants that; left out if not.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    #[schema(required = false)]
    pub draining: bool,
}

/// How many places are in use, of how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PlacesInUse {
    pub used: u64,
    pub max: u64,
}

impl Process {
    /// Whether it delivers.
    pub fn is_worker(&self) -> bool {
        self.deliveries.is_some()
    }
}
