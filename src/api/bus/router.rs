//! The routes. Each is made of handlers that describe themselves for the OpenAPI document: one
//! that does not cannot be added.

use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{
    api_tokens, client_secret, control, description, health, keep, metrics, processes, profile,
    publish, pull, pulse, subscriptions, topics, trace,
};
use crate::api::alias::also_at;
use crate::api::state::Shared;

/// What a process without the API answers to.
pub fn metrics_routes() -> OpenApiRouter<Shared> {
    health_routes().routes(routes!(metrics::metrics))
}

/// All routes of the bus. `subscription` and `subscriber` are the same word here.
pub fn routes() -> OpenApiRouter<Shared> {
    let subscription =
        routes!(subscriptions::own, subscriptions::subscribe, subscriptions::unsubscribe);
    let subscription_topic = routes!(subscriptions::unsubscribe_topic);
    health_routes()
        .routes(routes!(topics::list))
        .routes(routes!(publish::publish))
        .routes(also_at("/topic/{name}", routes!(topics::delete)))
        .routes(also_at("/subscriber", subscription))
        .routes(also_at("/subscriber/topics/{topic}", subscription_topic))
        .routes(also_at("/subscriber/batch", routes!(pull::get, pull::post)))
        .routes(also_at("/subscriber/batch/{id}", routes!(pull::acknowledge)))
        .routes(also_at("/subscriber/batch/{id}/release", routes!(pull::release)))
        .routes(also_at("/subscriber/stream", routes!(pull::stream)))
        .routes(also_at("/subscribers", routes!(subscriptions::list)))
        .routes(also_at("/subscribers/{subscriber}", routes!(control::show, subscriptions::delete)))
        .routes(also_at("/subscribers/{subscriber}/queue", routes!(control::queue)))
        .routes(also_at("/subscribers/{subscriber}/pause", routes!(control::pause)))
        .routes(also_at("/subscribers/{subscriber}/resume", routes!(control::resume)))
        .routes(also_at("/subscribers/{subscriber}/retry", routes!(control::retry)))
        .routes(also_at("/subscribers/{subscriber}/skip", routes!(control::skip)))
        .routes(routes!(api_tokens::list, api_tokens::create))
        .routes(routes!(api_tokens::delete))
        .routes(routes!(api_tokens::rotate))
        .routes(routes!(topics::set_publisher))
        .routes(routes!(keep::set))
        .routes(also_at("/subscriber/replay", routes!(keep::replay)))
        .routes(also_at("/subscribers/{subscriber}/replay", routes!(keep::replay_to)))
        .routes(also_at("/subscribers/{subscriber}/test", routes!(control::test)))
        .routes(routes!(trace::show))
        .routes(routes!(client_secret::show, client_secret::set))
        .routes(routes!(processes::list))
        .routes(routes!(processes::drain))
        .routes(routes!(processes::resume))
        .routes(routes!(pulse::pulse))
        .routes(routes!(pulse::scaling))
        .routes(routes!(metrics::metrics))
        .routes(routes!(profile::profile))
        .routes(routes!(description::openapi))
}

/// What every server answers to.
pub fn health_routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::default()
        .routes(routes!(health::health))
        .routes(also_at("/health/ping.json", routes!(health::ping)))
}
