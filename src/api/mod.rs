//! HTTP in: one file per resource; around them authentication, errors, bodies and connections.

mod acceptor;
mod api_tokens;
mod auth;
mod connection;
mod entrance;
mod error;
mod extract;
mod health;
mod limits;
mod metrics;
mod openapi;
mod pulse;
mod router;
mod server;
mod state;
mod subscriptions;
mod topics;
mod transport;
mod webhook;

pub use auth::Tokens;
#[cfg(fuzzing)]
pub use auth::{basic_credentials, user_names};
pub use limits::Limits;
pub use openapi::document as openapi_document;
pub use server::{Routes, Server};
pub use state::Api;
