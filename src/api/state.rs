//! What the handlers share.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use axum::body::Bytes;
use tokio_util::sync::CancellationToken;

use crate::bus::clock::Clock;
use crate::bus::topic::TopicName;
use crate::commit::{CallAcceptance, MessageIntake, Publishes};
use crate::config::Settings;
use crate::egress::rules::EgressRules;
use crate::history::MessageHistory;
use crate::http::authentication::Authentication;
use crate::http::body::BodyLimits;
use crate::http::refusal::Refusal;
use crate::journal::Journal;
use crate::store::Store;
use crate::telemetry::metrics::Exposition;
use crate::worker::Attempts;

/// What handlers work with.
pub struct Api {
    pub settings: Arc<Settings>,
    pub store: Arc<dyn Store>,
    pub journal: Arc<dyn Journal>,
    /// Of messages, if they are not kept in the store.
    pub history: Option<Arc<dyn MessageHistory>>,
    pub publishes: Publishes,
    pub calls: CallAcceptance,
    pub messages: MessageIntake,
    /// Postbacks on their way into the store, which nobody sees there yet.
    pub postbacks_coming: AtomicU64,
    pub authentication: Arc<Authentication>,
    pub bodies: BodyLimits,
    pub egress_rules: EgressRules,
    pub clock: Clock,
    /// Tells the journal of what is pulled.
    pub attempts: Attempts,
    /// When the process is to stop: requests that are held end then.
    pub stop: CancellationToken,
    /// What `GET /metrics` answers with; `None` if metrics do not go to Prometheus.
    pub exposition: Option<Exposition>,
    /// What `GET /openapi.json` answers with.
    pub openapi: Bytes,
}

/// The state of all routes.
pub type Shared = Arc<Api>;

impl Api {
    /// Checks a topic's name from a path.
    pub fn topic_name(&self, name: &str) -> Result<TopicName, Refusal> {
        TopicName::parse(name, self.settings.topic_name_max).map_err(Refusal::bad_request)
    }
}
