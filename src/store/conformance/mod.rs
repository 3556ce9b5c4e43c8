//! What every store must do, checked on SQLite and on a real redis-server.
//!
//! The rules of [`Store`](super::Store) stand here as tests, a part of the store each: [`queues`],
//! [`directory`], [`room`] with duties, [`imports`]. `parallel` lets many work at once, and `model` compares
//! a store with a simple one on random input. What only one of the two promises is in `sqlite_only` and
//! `redis_only`.

mod calls;
mod calls_model;
mod control;
mod directory;
mod entity_order;
pub(crate) mod fixture;
#[cfg(feature = "postgres")]
mod history;
#[cfg(feature = "postgres")]
mod history_fixture;
mod imports;
mod journal;
mod kept_events;
mod message_topics;
mod messages;
mod model;
mod parallel;
mod processes;
mod pulls;
mod queues;
mod redis_only;
mod room;
mod sequences;
mod sqlite_only;
mod tallies;

#[cfg(feature = "postgres")]
#[path = "../../../tests/support/postgres.rs"]
mod postgres_server;
#[path = "../../../tests/support/property.rs"]
mod property;
#[path = "../../../tests/support/redis_server.rs"]
pub(crate) mod redis_server;
