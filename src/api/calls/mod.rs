//! Calls (contract §9): accepting them, and looking after those that were accepted.

mod accept;
mod destinations;
mod filter;
mod hash;
mod list;
mod many;
mod one;
pub mod owner;
pub mod refusal;
mod shown;

use axum::Router;
use axum::http::StatusCode;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::state::Shared;
pub use accept::{check_url, made_id};
pub use destinations::Destination;
pub use filter::FilterParams;
pub use list::dead_page;
pub use refusal::CallRefusal;
pub use shown::Shown as ShownCall;

/// All routes about calls, as they describe themselves.
pub fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::default()
        .routes(routes!(accept::as_the_original))
        .routes(routes!(accept::accept, list::list, many::cancel))
        .routes(routes!(many::retry))
        .routes(routes!(destinations::list))
        .routes(routes!(one::show, one::cancel))
        .routes(routes!(one::retry))
}

/// The routes that the original's clients use.
pub fn accepting_router() -> Router<Shared> {
    refusing(
        OpenApiRouter::default()
            .routes(routes!(accept::as_the_original))
            .routes(routes!(accept::accept)),
    )
}

/// Routes whose errors have the shape that those of calls have.
pub fn refusing(routes: OpenApiRouter<Shared>) -> Router<Shared> {
    Router::from(routes).method_not_allowed_fallback(async || {
        CallRefusal::status(
            StatusCode::METHOD_NOT_ALLOWED,
            "this route has other methods: see Allow",
        )
    })
}
