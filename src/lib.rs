//! Routemaster, an HTTPS event bus. The modules stand in the order of the road of an event;
//! `docs/architecture.md` walks it step by step.
//!
//! ```text
//! publisher ─HTTPS─▶ api ─▶ ingest ─▶ store ─▶ worker ─▶ callback ─▶ subscriber
//! ```

pub mod bus;

pub mod api;
pub mod ingest;
pub mod store;
pub mod upkeep;
pub mod worker;

pub mod cli;
pub mod config;
pub mod roles;
mod signals;
pub mod telemetry;
pub mod tls;
