//! The commands for people at work beside a running bus: see events arrive, publish some, look at
//! the bus and manage it.
//!
//! They talk to the bus as any other client does, over its HTTPS API. Only [`autodrop`], [`import`]
//! and [`doctor`] open the store themselves.

pub mod autodrop;
mod bar;
pub mod call;
pub mod calls;
pub mod completions;
pub mod confirm;
pub mod connect;
pub mod control;
pub mod credentials;
pub mod dead_letters;
pub mod doctor;
pub mod drain;
pub mod import;
pub mod journal;
pub mod listen;
pub mod message_publishers;
pub mod message_topics;
pub mod messages;
mod monitoring;
pub mod note;
pub mod outcome;
mod pages;
pub mod profile;
pub mod ps;
pub mod publish;
pub mod pulse;
pub mod queue;
pub mod refusals;
pub mod replay;
pub mod secret;
pub mod subscribe;
mod subscriber;
pub mod subscriptions;
pub mod table;
pub mod token;
pub mod topics;
pub mod trace;
pub mod trouble;
pub mod unsubscribe;
pub mod words;
