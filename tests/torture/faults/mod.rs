//! The faults: what is done to the bus, and what must hold all the same.

mod clients;
mod crowd;
mod failover;
mod power;
mod processes;
mod proxy;
mod redis;
mod time;

use std::pin::Pin;
use std::time::Duration;

use crate::rig::Row;
use crate::support::Store;

/// One fault on one store.
#[derive(Clone, Copy)]
pub struct Fault {
    pub name: &'static str,
    pub store: Kind,
    /// Left out of a short run, unless it is asked for by name.
    pub long: bool,
    pub run: fn(Order) -> Running,
}

pub type Running = Pin<Box<dyn Future<Output = Row>>>;

/// Which store.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Sqlite,
    Redis,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Sqlite => "sqlite",
            Self::Redis => "redis",
        }
    }

    /// A fresh one; a Redis keeps everything on disk.
    pub fn open(self) -> Store {
        match self {
            Self::Sqlite => Store::sqlite(),
            Self::Redis => Store::redis_with_aof(),
        }
    }
}

/// What a fault is to be run with.
#[derive(Clone, Copy)]
pub struct Order {
    pub store: Kind,
    pub seed: u64,
    /// How long the bus is to be hurt.
    pub time: Duration,
}

impl Order {
    /// Whether there is time for the full number of clients and subscribers.
    pub fn is_long(&self) -> bool {
        self.time >= Duration::from_secs(30)
    }
}

/// Lists faults: `name: run, on store, store`; `[long]` behind those that a short run leaves out.
macro_rules! faults {
    (@long) => { false };
    (@long long) => { true };
    ($($name:literal: $run:path, on $($store:ident $([$long:ident])?),+;)+) => {
        vec![$($(Fault {
            name: $name,
            store: Kind::$store,
            long: faults!(@long $($long)?),
            run: |order| Box::pin($run(order)),
        },)+)+]
    };
}

/// All there are, the most important ones first.
pub fn all() -> Vec<Fault> {
    faults! {
        "kill": processes::kill, on Sqlite, Redis;
        "kill-and-drop": processes::kill_and_drop, on Sqlite [long], Redis [long];
        "freeze": processes::freeze, on Sqlite, Redis;
        "rolling": processes::rolling, on Sqlite, Redis;
        "redis-killed-always": redis::killed_always, on Redis;
        "redis-killed-everysec": redis::killed_everysec, on Redis [long];
        "redis-cut-off": redis::cut_off, on Redis;
        "redis-flushed": redis::flushed, on Redis [long];
        "redis-paused": redis::paused, on Redis;
        "network": proxy::network, on Redis;
        "sentinel": failover::sentinel, on Redis [long];
        "sentinel-wait-all": failover::sentinel_waiting_for_all, on Redis [long];
        "sentinel-no-wait": failover::sentinel_without_waiting, on Redis [long];
        "cluster": failover::cluster, on Redis [long];
        "cluster-no-wait": failover::cluster_without_waiting, on Redis [long];
        "power": power::sqlite, on Sqlite;
        "power-always": power::redis_always, on Redis;
        "power-everysec": power::redis_everysec, on Redis [long];
        "disk-full": power::disk_full, on Sqlite;
        "clock": time::jumps, on Sqlite, Redis;
        "hostile": clients::hostile, on Sqlite, Redis [long];
        "crowd": crowd::crowd, on Sqlite, Redis [long];
    }
}
