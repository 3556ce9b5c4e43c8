//! Routemaster, an HTTPS event bus. The modules stand on floors: each uses those above it in this list.
//! `docs/architecture.md` walks the road of an event through them, step by step.
//!
//! ```text
//! publisher ─HTTPS─▶ http ─▶ api ─▶ commit ─▶ store ─▶ worker ─▶ egress ─▶ subscriber
//! ```

// They panic if nobody reads: `cli::table::print` and `note!` do not.
#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]

pub mod bus;
pub mod causes;
pub mod files;
pub mod tls;

pub mod egress;
pub mod journal;
pub mod store;

pub mod history;

pub mod config;

pub mod telemetry;

pub mod commit;
pub mod http;
pub mod upkeep;
pub mod worker;

pub mod api;

pub mod roles;
pub mod shell;
pub mod signals;

pub mod cli;
