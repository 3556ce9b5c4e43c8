//! A Redis that is killed, cut off from its clients, emptied, or that hangs, while events flow.

use std::time::{Duration, Instant};

use super::Order;
use crate::oracle::Counters;
use crate::rig::{Rig, Row};
use crate::support::{RedisServer, Store};

/// How soon events must flow again when Redis is back: a lease may have to run out first.
pub const RESUME_LIMIT: Duration = Duration::from_secs(12);

/// A Redis with an append-only file that is synced so often.
fn appending(fsync: &str) -> Store {
    let options = ["--save", "", "--appendonly", "yes", "--appendfsync", fsync];
    Store::Redis(RedisServer::start_with(&options))
}

pub async fn killed_always(order: Order) -> Row {
    killed(order, "always").await
}

pub async fn killed_everysec(order: Order) -> Row {
    killed(order, "everysec").await
}

/// `kill -9` of Redis, which comes back with its append-only file.
async fn killed(order: Order, fsync: &str) -> Row {
    let mut rig = Rig::start(appending(fsync), order.seed).await;
    rig.load();
    let end = Instant::now() + order.time;
    let mut resumed = Resumed::default();
    while Instant::now() < end {
        rig.sleep_between(200, 1500).await;
        rig.row.cycles += 1;
        tokio::task::block_in_place(|| rig.store.server().kill());
        rig.sleep_between(0, 1500).await;
        tokio::task::block_in_place(|| rig.store.server().restart());
        resumed.wait(&rig).await;
    }
    rig.terms.duplicates_max = rig.row.cycles * rig.in_flight_max();
    resumed.note(&mut rig.row);
    rig.finish().await
}

/// All connections are closed at once (`CLIENT KILL`), and all scripts forgotten (`SCRIPT FLUSH`).
pub async fn cut_off(order: Order) -> Row {
    let mut rig = Rig::start(order.store.open(), order.seed).await;
    rig.load();
    let end = Instant::now() + order.time;
    while Instant::now() < end {
        rig.sleep_between(20, 600).await;
        rig.row.cycles += 1;
        let which = rig.dice.u8(..3);
        let server = rig.store.server();
        if which != 0 {
            server.command(&["SCRIPT", "FLUSH"]).unwrap();
        }
        if which != 1 {
            for kind in ["normal", "pubsub"] {
                server.command(&["CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes"]).unwrap();
            }
        }
    }
    rig.finish().await
}

/// `FLUSHALL`: what was there is lost, by order; the bus goes on with who subscribes again.
pub async fn flushed(order: Order) -> Row {
    let mut rig = Rig::start(order.store.open(), order.seed).await;
    rig.load();
    let end = Instant::now() + order.time;
    let mut resumed = Resumed::default();
    while Instant::now() < end {
        rig.sleep_between(300, 1500).await;
        rig.row.cycles += 1;
        rig.store.server().command(&["FLUSHALL"]).unwrap();
        rig.subscribe_all().await;
        rig.terms.forgotten_before = Some(Instant::now());
        resumed.wait(&rig).await;
    }
    // Everything began anew: counters, and who has got what.
    rig.terms.counters = Counters::Unknown;
    resumed.note(&mut rig.row);
    rig.row.notes.push("what was stored before FLUSHALL does not count as lost".into());
    rig.finish().await
}

/// Redis hangs (SIGSTOP): its connections stay, nothing is answered.
pub async fn paused(order: Order) -> Row {
    let mut rig = Rig::start(order.store.open(), order.seed).await;
    rig.load();
    let end = Instant::now() + order.time;
    let mut resumed = Resumed::default();
    // The first one is the longest: 30 s in a run of a minute.
    let mut time = (order.time / 2).clamp(Duration::from_secs(6), Duration::from_secs(30));
    rig.row.notes.push(format!("the first time for {} s", time.as_secs()));
    while Instant::now() < end {
        rig.sleep_between(300, 1000).await;
        rig.row.cycles += 1;
        rig.store.server().pause();
        tokio::time::sleep(time).await;
        time = rig.between(2_000, 8_000);
        rig.store.server().resume();
        resumed.wait(&rig).await;
    }
    rig.terms.duplicates_max = rig.row.cycles * rig.in_flight_max();
    resumed.note(&mut rig.row);
    rig.finish().await
}

/// How soon everybody got something again after a trouble.
#[derive(Default)]
pub struct Resumed {
    slowest: Duration,
}

impl Resumed {
    /// Waits until everybody gets something, from now on.
    pub async fn wait(&mut self, rig: &Rig) {
        let took = rig.delivered_since(Instant::now(), RESUME_LIMIT * 2).await;
        self.slowest = self.slowest.max(took.unwrap_or(RESUME_LIMIT * 2));
    }

    pub fn note(&self, row: &mut Row) {
        let slowest = self.slowest.as_secs_f64();
        row.notes.push(format!("all subscribers were served again within {slowest:.1} s"));
        if self.slowest > RESUME_LIMIT {
            row.violation(format!("it went on only {slowest:.1} s after the trouble was over"));
        }
    }
}
