//! What the handlers share.

use std::sync::Arc;

use axum::body::Bytes;

use super::auth::Tokens;
use super::error::ApiError;
use super::limits::Limits;
use super::transport::may_be_strict_about;
use crate::bus::callback_rules::CallbackRules;
use crate::bus::clock::Clock;
use crate::bus::topic::TopicName;
use crate::config::Settings;
use crate::ingest::Ingest;
use crate::store::Store;
use crate::telemetry::metrics::Exposition;

/// What handlers work with.
pub struct Api {
    pub settings: Arc<Settings>,
    pub store: Arc<dyn Store>,
    pub ingest: Ingest,
    pub tokens: Arc<Tokens>,
    pub limits: Arc<Limits>,
    pub callback_rules: CallbackRules,
    pub clock: Clock,
    /// What `GET /metrics` answers with; `None` if metrics do not go to Prometheus.
    pub exposition: Option<Exposition>,
    /// What `GET /openapi.json` answers with.
    pub openapi: Bytes,
}

/// The state of all routes.
pub type Shared = Arc<Api>;

impl Api {
    /// Whether answers tell clients to use HTTPS only for all of this host. Never while it shows the
    /// development certificate: nobody has settled yet.
    pub fn is_strict_about(&self, host: Option<&str>) -> bool {
        !self.settings.uses_development_certificate() && host.is_some_and(may_be_strict_about)
    }

    /// Checks a topic's name from a path.
    pub fn topic_name(&self, name: &str) -> Result<TopicName, ApiError> {
        TopicName::parse(name, self.settings.topic_name_max).map_err(ApiError::bad_request)
    }
}
