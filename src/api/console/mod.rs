//! The console (contract §15): the bus in a browser.
//!
//! Its pages are a client of the API inside the same process: what somebody may see and do is decided there, and
//! nowhere else. They are whole without JavaScript; with it, parts of them follow what happens.

mod assets;
mod board;
mod chart;
mod document;
mod fields;
mod inside;
mod live;
mod notice;
mod page;
mod pages;
mod parts;
mod problem;
mod session;
mod sign_in;
mod text;
mod visit;

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, Request};
use axum::response::{IntoResponse, Redirect};
use axum::routing::{any, get, post};
use tokio::sync::Semaphore;

use super::state::Shared;
use assets::Asset;
use board::Board;
use live::Followers;
use problem::Problem;
use session::Sessions;
pub use sign_in::SignInLinks;

/// Where it is.
pub const PATH: &str = "/console";

/// What the pages work with.
pub struct Console {
    api: Shared,
    /// The API, as it answers inside this process.
    inside: Router,
    board: Arc<Board>,
    sessions: Sessions,
    links: Arc<SignInLinks>,
    followers: Arc<Followers>,
    asking: Arc<Semaphore>,
}

/// The console's routes. `inside` answers as the API does.
pub fn router(api: Shared, inside: Router, links: Arc<SignInLinks>) -> Router {
    let console = Arc::new(Console {
        board: Arc::new(Board::new(api.clone())),
        api,
        inside,
        sessions: Sessions::default(),
        links,
        followers: Arc::default(),
        asking: Arc::new(Semaphore::new(inside::AT_ONCE)),
    });
    routes(console)
}

/// The routes by themselves, which a page that is followed asks again and again.
fn routes(console: Arc<Console>) -> Router {
    Router::new()
        .route("/console/sign-in", get(sign_in::form).post(sign_in::sign_in))
        .route("/console/sign-out", post(sign_in::sign_out))
        .route("/console/changes", get(live::changes))
        .route("/console/assets/{file}", get(asset))
        .merge(pages::routes())
        .route("/console/{*other}", any(problem::no_such_page))
        .with_state(console)
}

/// A file that pages need; it needs no session, and says nothing about anybody.
async fn asset(Path(file): Path<String>) -> Result<&'static Asset, Problem> {
    match Asset::find(&file) {
        Some(asset) => Ok(asset),
        None => Err(problem::no_such_page().await),
    }
}

/// `GET /`: people find the console there, programs nothing that can be read.
pub async fn at_the_root(request: Request) -> impl IntoResponse {
    let accept = request.headers().get("accept").and_then(|accept| accept.to_str().ok());
    match accept.is_some_and(|accept| accept.contains("text/html")) {
        true => Redirect::to(PATH).into_response(),
        false => problem::only_posted().into_response(),
    }
}
