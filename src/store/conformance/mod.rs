//! What every store must do, checked on SQLite and on a real redis-server.
//!
//! The rules of [`Store`](super::Store) stand here as tests, by subject: what a publication does
//! (`publishing`), when a batch leaves (`schedule`), who may deliver it (`leases`), what is dropped (`dropping`), who is known
//! to the bus (`directory`), what another bus brings (`importing`). `parallel` lets many work at once, and `model` compares a store with
//! a simple one on random input. What only one of the two promises is in `sqlite_only` and
//! `redis_only`.

mod directory;
mod dropping;
pub(crate) mod fixture;
mod importing;
mod leases;
mod model;
mod parallel;
mod publishing;
mod redis_only;
mod schedule;
mod settling;
mod sqlite_only;

#[path = "../../../tests/support/property.rs"]
mod property;
#[path = "../../../tests/support/redis_server.rs"]
pub(crate) mod redis_server;
