//! Message topics and their publishers, in Postoffice's words (contract §11).

mod accept;
mod filter;
mod health;
mod history;
mod page;
mod publishers;
mod refusal;
mod requester;
mod topics;
mod view;

use axum::Router;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::map_response;
use axum::response::Response;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::state::Shared;
use refusal::MessageRefusal;

/// All routes about messages, as they describe themselves.
pub fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::default()
        .routes(routes!(topics::add, topics::list))
        .routes(routes!(topics::show, topics::remove))
        .routes(routes!(publishers::add, publishers::list))
        .routes(routes!(publishers::show, publishers::change, publishers::remove))
        .routes(routes!(accept::one, history::list, history::erase_many))
        .routes(routes!(history::show, history::erase_one))
        .routes(routes!(history::retry))
        .routes(routes!(accept::bulk))
        .routes(routes!(accept::scheduled))
        .routes(routes!(health::health))
}

/// All routes about messages, with the shape that their errors have.
pub fn router() -> Router<Shared> {
    shaped(routes())
}

/// The routes that Postoffice's clients use.
pub fn accepting_router() -> Router<Shared> {
    shaped(
        OpenApiRouter::default()
            .routes(routes!(topics::add))
            .routes(routes!(publishers::add))
            .routes(routes!(publishers::remove))
            .routes(routes!(accept::one))
            .routes(routes!(accept::bulk))
            .routes(routes!(accept::scheduled))
            .routes(routes!(health::health)),
    )
}

/// The id in a path; no larger one is ever given (contract §11).
fn id_in(path: &str) -> Option<u64> {
    path.parse().ok().filter(|id| *id < 1 << 53)
}

fn shaped(routes: OpenApiRouter<Shared>) -> Router<Shared> {
    let routes = Router::from(routes).method_not_allowed_fallback(async || {
        MessageRefusal::detail(
            StatusCode::METHOD_NOT_ALLOWED,
            "this route has other methods: see Allow",
        )
    });
    routes.layer(map_response(with_charset))
}

/// As the original wrote it.
async fn with_charset(mut response: Response) -> Response {
    let json = HeaderValue::from_static("application/json; charset=utf-8");
    if let Some(kind) = response.headers_mut().get_mut(header::CONTENT_TYPE) {
        *kind = json;
    }
    response
}
