//! What a process answers to: the routes of all contracts, each with its own way of refusing.

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::routing::get;
use utoipa::openapi::OpenApi;

use super::console::{self, SignInLinks};
use super::state::Shared;
use super::{bus, calls, dead_letters, journal, messages, postbacks};
use crate::http::redirect_to_port;
use crate::http::refusal::Refusal;

/// What a process with the API answers to.
///
/// With `links`, it has the console, which may be signed in to by them.
pub fn router(api: Shared, links: Option<Arc<SignInLinks>>) -> Router {
    let bus = refusing(bus::routes().merge(journal::routes()).into());
    let calls = calls::refusing(calls::routes().merge(dead_letters::routes()));
    let all = bus.merge(calls).merge(postbacks::router()).merge(messages::router());
    let all: Router = all.with_state(api.clone());
    let Some(links) = links else { return all };
    let console = console::router(api, all.clone(), links);
    all.route("/", get(console::at_the_root)).merge(console)
}

/// What a listener without TLS answers to: what the originals' clients send, and health.
pub fn plain_router(api: Shared) -> Router {
    let health = refusing(bus::health_routes().into());
    let taking = calls::accepting_router().merge(postbacks::router());
    let all = health.merge(taking).merge(messages::accepting_router());
    all.with_state(api)
}

/// What a process without the API answers to.
pub fn metrics_router(api: Shared) -> Router {
    refusing(bus::metrics_routes().into()).with_state(api)
}

/// What a listener answers to that sends everybody to the HTTPS port.
pub fn redirecting_router(api: Shared, tls_port: u16) -> Router {
    let health = Router::from(bus::health_routes());
    let all = health.fallback(async move |request: Request| redirect_to_port(&request, tls_port));
    all.with_state(api)
}

/// The routes as they describe themselves.
pub fn described_routes() -> OpenApi {
    let routes = bus::routes().merge(journal::routes());
    let routes =
        routes.merge(calls::routes()).merge(dead_letters::routes()).merge(postbacks::routes());
    routes.merge(messages::routes()).into_openapi()
}

/// Whether a trailing slash of this path does not matter (contract §8).
pub fn ignores_slash(path: &str) -> bool {
    ["/calls", "/dead_letters", "/journal", "/ingest.php", "/postbacks", "/api"]
        .iter()
        .any(|prefix| path.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('/')))
}

fn refusing(routes: Router<Shared>) -> Router<Shared> {
    routes
        .fallback(async || Refusal::NotFound("there is no such route".into()))
        .method_not_allowed_fallback(async || {
            Refusal::MethodNotAllowed("this route has other methods: see Allow")
        })
}
