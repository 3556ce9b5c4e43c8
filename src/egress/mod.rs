//! Everything that leaves the process over HTTP: to whom it may go, and how a connection is made.
//!
//! [`rules`] say which hosts and addresses are allowed; [`outbound`] is the client for what goes to
//! receivers, whose [`resolver`] holds each address against the rules when a connection is made; [`reuse`]
//! sends again what met a connection that was just being closed; [`pools`] follow hosts that move;
//! [`proxy`] is the way out where there is no other one. [`client`] is for the services and the bus's own API.

mod address_forms;
pub mod batch;
pub mod client;
pub mod google;
pub mod host_pattern;
mod names;
pub mod outbound;
pub mod pools;
#[cfg(feature = "postgres")]
pub mod postgres;
pub mod proxy;
pub mod resolver;
pub mod retry_after;
mod reuse;
pub mod rules;
pub mod signing;
