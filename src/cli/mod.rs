//! The commands for people at work beside a running bus: see events arrive, publish some, look at
//! the bus and manage it.
//!
//! They talk to the bus as any other client does, over its HTTPS API. Only [`autodrop`], [`import`]
//! and [`doctor`] open the store themselves.

pub mod autodrop;
pub mod bench;
pub mod completions;
mod confirm;
pub mod connect;
mod credentials;
pub mod doctor;
pub mod import;
pub mod listen;
mod monitoring;
pub mod outcome;
pub mod publish;
pub mod pulse;
mod secret;
pub mod shell;
pub mod subscribe;
pub mod subscriptions;
mod table;
pub mod token;
pub mod topics;
mod trouble;
pub mod unsubscribe;
mod words;
