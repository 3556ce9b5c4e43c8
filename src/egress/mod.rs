//! Everything that leaves the process over HTTP: to whom it may go, and how a connection is made.
//!
//! [`rules`] say which hosts and addresses are allowed; [`client`] builds the clients, whose
//! [`resolver`] holds each address against the rules when a connection is made; [`reuse`] sends again
//! what met a connection that was just being closed; [`causes`] finds what a failure came from.

mod address_forms;
pub mod client;
pub mod host_pattern;
pub mod pools;
pub mod resolver;
pub mod reuse;
pub mod rules;
