//! What users of the bus may rely on, checked from outside: every test starts the real binary,
//! talks to it over real TLS, and does so on both stores unless no store takes part in it.
//!
//! The modules stand in the order of the contract: running it, transport and authentication,
//! publishing, subscribing, delivery, monitoring, calls and postbacks, exceptions; then the API's description, the commands,
//! clients in use, trouble, backup, crashes, order and races.

// A harness fails by panicking: that is how a test says what went wrong.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[macro_use]
mod support;

/// What judges the torture must itself be right.
#[path = "../torture/oracle.rs"]
mod oracle;

mod redis_shapes;
mod secrets;
mod settings;
mod stopping;

mod authentication;
mod certificates;
mod connections;
mod transport;

mod limits;
mod processes;
mod publishing;
mod publishing_refused;

mod subscribing;
mod subscription_pubsub;
mod unsubscribing;

mod bad_receivers;
mod batches;
mod callback_safety;
mod control;
mod control_under_fire;
mod delivery;
mod draining;
mod entity_order;
mod failures;
mod outbound_proxy;
mod pulling;
mod replay;
mod trace;
mod trust;

mod autodrop;
mod retention;

mod calls;
mod journal;
mod message_clients;
mod message_commands;
mod message_delivery;
mod message_pubsub;
mod messages;
mod plain_listeners;
mod postbacks;

mod log_lines;
mod metrics;
mod monitoring;
mod tokens;

mod exceptions;

mod openapi;

mod console;

mod bench;
mod call_commands;
mod commands;
mod doctor;
mod history;
mod hostile_connections;
mod import;
mod import_calls;
mod import_postoffice;
mod operator;

mod bad_requests;
mod client_library;
mod clients;
mod trouble;

mod backup;
mod crashes;
mod order;
mod races;
mod shipping;
