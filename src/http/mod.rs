//! Serving over HTTP, without a route: sockets and TLS, limits, authentication, bodies and refusals.
//!
//! What is served is handed in as values ([`Site`]), put together where a process starts.

mod acceptor;
pub mod audit;
pub mod authentication;
pub mod body;
mod connection;
mod course;
pub mod cross_site;
mod fronts;
pub mod idempotency;
pub mod in_flight;
pub mod limits;
pub mod places;
pub mod query;
pub mod refusal;
mod server;
mod service;
pub mod trace;
mod transport;
mod unread;

pub use fronts::Fronts;
pub use server::{Server, ServerOptions, UnusableCertificate};
pub use service::{ShortWay, Site};
pub use transport::{TransportRules, host_in, redirect_to_port};
pub use unread::RequestBody;
