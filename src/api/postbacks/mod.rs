//! Postbacks (contract §10): many calls made of one endpoint and many objects.

mod receive;

use axum::Router;
use axum::http::StatusCode;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::alias::also_at;
use super::state::Shared;
use receive::PostbackRefusal;

/// The route, as it describes itself.
pub fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::default().routes(also_at("/postbacks", routes!(receive::receive)))
}

/// The route, with the shape that its errors have.
pub fn router() -> Router<Shared> {
    Router::from(routes()).method_not_allowed_fallback(async || {
        PostbackRefusal::status(StatusCode::METHOD_NOT_ALLOWED, "this route takes POST: see Allow")
    })
}
