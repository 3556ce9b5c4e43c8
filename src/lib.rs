//! Routemaster, an HTTPS event bus. The modules stand in the order of the road of an event;
//! `docs/architecture.md` walks it step by step.
//!
//! ```text
//! publisher ─HTTPS─▶ api ─▶ ingest ─▶ store ─▶ worker ─▶ callback ─▶ subscriber
//! ```

pub mod bus;

pub mod store;

pub mod config;
pub mod tls;
