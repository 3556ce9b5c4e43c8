//! The bus: topics, subscriptions, monitoring and tokens (contract §1 to §7), one file a resource.

mod api_tokens;
mod description;
mod extract;
mod health;
mod metrics;
mod processes;
mod publish;
mod pulse;
mod router;
mod state;
mod subscriptions;
mod topics;

pub use health::is_asked_for as is_health;
pub use publish::PublishWay;
pub use router::{described_routes, metrics_router, router};
pub use state::Api;
