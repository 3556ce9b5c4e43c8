//! The bus: topics, subscriptions, monitoring and tokens (contract §1 to §7), one file a resource.

mod api_tokens;
mod client_secret;
mod control;
mod description;
mod health;
mod keep;
mod metrics;
mod processes;
mod profile;
mod publish;
mod pull;
mod pulse;
mod router;
mod subscription_view;
mod subscriptions;
mod topics;
mod trace;

pub use health::is_asked_for as is_health;
pub use publish::PublishWay;
pub use router::{health_routes, metrics_routes, routes};
pub use subscription_view::DeliveryState;
