//! The harness: a bus made of real processes ([`Bus`], [`Process`]), clients that talk to it
//! ([`Client`], [`raw`]) and receivers that it delivers to ([`Receiver`]). What the bus answers to a
//! [`Client`] is held against its own [`description`], whatever the test is about.
//!
//! Nothing here sleeps for a fixed time: what is expected is awaited, and every wait is bounded,
//! so that a hang is a failure with a name.

mod bus;
mod client;
pub mod description;
mod google;
mod layer;
mod output;
#[path = "../../support/postgres.rs"]
mod postgres;
mod process;
#[path = "../../support/property.rs"]
pub mod property;
mod pubsub;
mod rabbitmq;
pub mod raw;
mod receiver;
mod redis_cluster;
mod redis_sentinels;
#[path = "../../support/redis_server.rs"]
mod redis_server;
pub mod ruby;
mod run;
mod visitor;

pub use bus::{Bus, CLIENTS, ORDERS, ROOT};
pub use client::{Client, Reply, basic, event, numbered};
pub use google::Google;
pub use layer::Layer;
pub use output::Output;
pub use postgres::Postgres;
pub use process::{Process, Signal};
pub use pubsub::{PROJECT, PubSubServer, Pulled, python};
pub use rabbitmq::RabbitMq;
pub use receiver::{Answer, Attempt, Receiver, first_seen};
pub use redis_cluster::RedisCluster;
pub use redis_sentinels::RedisSentinels;
pub use redis_server::{RedisServer, free_port};
pub use run::{Store, eventually, now_ms, run, soon, within};
pub use visitor::Visitor;

/// Makes a test on SQLite and the same one on Redis: `name::sqlite` and `name::redis`.
macro_rules! on_both_stores {
    ($name:ident, |$store:ident| async move $body:block) => {
        mod $name {
            #[allow(unused_imports)]
            use super::*;

            async fn check($store: $crate::support::Store) {
                $body
            }

            #[test]
            fn sqlite() {
                $crate::support::run(async { check($crate::support::Store::sqlite()).await });
            }

            #[test]
            fn redis() {
                $crate::support::run(async { check($crate::support::Store::redis()).await });
            }
        }
    };
}
