//! The routes.

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{delete, get, post};

use super::error::ApiError;
use super::state::Shared;
use super::{api_tokens, health, metrics, pulse, subscriptions, topics, transport};

/// All routes of the contract. `subscription` and `subscriber` are the same word here.
pub fn router(api: Shared) -> Router {
    let subscription = post(subscriptions::subscribe).delete(subscriptions::unsubscribe);
    let subscription_topic = delete(subscriptions::unsubscribe_topic);
    let subscriptions = get(subscriptions::list);
    let any_subscription = delete(subscriptions::delete);
    let routes = Router::new()
        .route("/topics", get(topics::list))
        .route("/topics/{name}", post(topics::publish).delete(topics::delete))
        .route("/topic/{name}", delete(topics::delete))
        .route("/subscription", subscription.clone())
        .route("/subscriber", subscription)
        .route("/subscription/topics/{topic}", subscription_topic.clone())
        .route("/subscriber/topics/{topic}", subscription_topic)
        .route("/subscriptions", subscriptions.clone())
        .route("/subscribers", subscriptions)
        .route("/subscriptions/{token}", any_subscription.clone())
        .route("/subscribers/{token}", any_subscription)
        .route("/api_tokens", get(api_tokens::list).post(api_tokens::create))
        .route("/api_tokens/{token}", delete(api_tokens::delete))
        .route("/pulse", get(pulse::pulse))
        .route("/pulse/scaling", get(pulse::scaling))
        .route("/metrics", get(metrics::metrics));
    with_health(routes, api)
}

/// What a process without the API answers to.
pub fn metrics_router(api: Shared) -> Router {
    with_health(Router::new().route("/metrics", get(metrics::metrics)), api)
}

/// What every server answers to, and what holds for all routes.
fn with_health(routes: Router<Shared>, api: Shared) -> Router {
    routes
        .route("/health", get(health::health))
        .route("/health/ping", get(health::ping))
        .fallback(async || ApiError::NotFound("there is no such route".into()))
        .layer(DefaultBodyLimit::max(api.settings.max_body))
        .layer(axum::middleware::from_fn_with_state(api.clone(), transport::require_https))
        .with_state(api)
}
