//! HTTP in: one file per resource; around them authentication, errors, bodies and connections.

mod acceptor;
mod api_tokens;
mod auth;
mod body;
mod error;
mod health;
mod pulse;
mod router;
mod server;
mod subscriptions;
mod topics;
mod transport;

pub use auth::Tokens;
pub use router::Api;
pub use server::Server;
