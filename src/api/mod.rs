//! HTTP in: one file per resource; around them authentication, errors, bodies and connections.

mod acceptor;
mod api_tokens;
mod auth;
mod error;
mod extract;
mod health;
mod limits;
mod metrics;
mod pulse;
mod router;
mod server;
mod state;
mod subscriptions;
mod topics;
mod transport;

pub use auth::Tokens;
pub use limits::Limits;
pub use server::{Routes, Server};
pub use state::Api;
