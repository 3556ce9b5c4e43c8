//! The routes. Each is made of handlers that describe themselves for the OpenAPI document: one
//! that does not cannot be added.

use axum::Router;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouter};
use utoipa_axum::routes;

use super::state::Shared;
use super::{
    api_tokens, description, health, metrics, processes, publish, pulse, subscriptions, topics,
};
use crate::http::refusal::Refusal;

/// What a process with the API answers to.
pub fn router(api: Shared) -> Router {
    for_all_routes(routes(), api)
}

/// What a process without the API answers to.
pub fn metrics_router(api: Shared) -> Router {
    for_all_routes(health_routes().routes(routes!(metrics::metrics)), api)
}

/// The routes as they describe themselves.
pub fn described_routes() -> OpenApi {
    routes().into_openapi()
}

/// All routes of the contract. `subscription` and `subscriber` are the same word here.
fn routes() -> OpenApiRouter<Shared> {
    let subscription =
        routes!(subscriptions::own, subscriptions::subscribe, subscriptions::unsubscribe);
    let subscription_topic = routes!(subscriptions::unsubscribe_topic);
    health_routes()
        .routes(routes!(topics::list))
        .routes(routes!(publish::publish))
        .routes(also_at("/topic/{name}", routes!(topics::delete)))
        .routes(also_at("/subscriber", subscription))
        .routes(also_at("/subscriber/topics/{topic}", subscription_topic))
        .routes(also_at("/subscribers", routes!(subscriptions::list)))
        .routes(also_at("/subscribers/{token}", routes!(subscriptions::delete)))
        .routes(routes!(api_tokens::list, api_tokens::create))
        .routes(routes!(api_tokens::delete))
        .routes(routes!(processes::list))
        .routes(routes!(pulse::pulse))
        .routes(routes!(pulse::scaling))
        .routes(routes!(metrics::metrics))
        .routes(routes!(description::openapi))
}

/// What every server answers to.
fn health_routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::default()
        .routes(routes!(health::health))
        .routes(also_at("/health/ping.json", routes!(health::ping)))
}

/// Gives a route a second path, which is described as the same.
fn also_at(
    alias: &str,
    (schemas, mut paths, methods): UtoipaMethodRouter<Shared>,
) -> UtoipaMethodRouter<Shared> {
    if let Some((path, item)) = paths.paths.first_key_value() {
        let mut item = item.clone();
        let all = [("GET", &mut item.get), ("POST", &mut item.post), ("DELETE", &mut item.delete)];
        for (method, operation) in all {
            if let Some(operation) = operation {
                operation.summary = Some(format!("The same as `{method} {path}`."));
                operation.description = None;
                operation.operation_id.get_or_insert_default().push_str("_alias");
            }
        }
        paths.paths.insert(alias.to_owned(), item);
    }
    (schemas, paths, methods)
}

fn for_all_routes(routes: OpenApiRouter<Shared>, api: Shared) -> Router {
    Router::from(routes)
        .fallback(async || Refusal::NotFound("there is no such route".into()))
        .method_not_allowed_fallback(async || {
            Refusal::MethodNotAllowed("this route has other methods: see Allow")
        })
        .with_state(api)
}
