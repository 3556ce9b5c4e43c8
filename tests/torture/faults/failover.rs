//! Redis servers that are lost, or hang, and are replaced: by Sentinels, or within a Cluster.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use super::Order;
use crate::oracle::Counters;
use crate::rig::{self, Rig, Row};
use crate::support::{RedisCluster, RedisSentinels, RedisServer, Store};

/// How soon events must flow again after a server was lost.
const RESUME_LIMIT: Duration = Duration::from_secs(15);
/// How long a master that was replaced by command may still take acknowledgements, which are lost then:
/// a Sentinel tells it at its next look, within 10 s, and some for a busy machine.
const TWO_MASTERS: Duration = Duration::from_secs(12);
/// How far a replica may be behind its master, on a busy machine.
const REPLICA_LAG: Duration = Duration::from_secs(2);
/// How many lanes the bus makes in a Cluster.
const LANES: u16 = 8;
/// How long each of two nodes has a part of a slot's keys, at most.
const HALF_WAY_MS: u64 = 700;

/// A bus whose publishers wait for so many replicas.
async fn start(url: String, replicas: u32, seed: u64) -> Rig {
    // The servers are looked after here.
    let store = Store::Sqlite;
    let bus = rig::bus(&store)
        .set("ROUTEMASTER_REDIS_URL", &url)
        .set("ROUTEMASTER_REDIS_WAIT_REPLICAS", &replicas.to_string());
    Rig::start_with(store, bus, seed).await
}

/// What is done to a server, or a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Loss {
    Kill,
    Hang,
    /// Another server is made the master.
    Command,
    SlotMove,
}

impl Loss {
    fn begin(self, server: &mut RedisServer) {
        match self {
            Self::Kill => server.kill(),
            _ => server.pause(),
        }
    }
}

/// What became of the losses.
#[derive(Default)]
struct Outcome {
    /// How often there was each, and the longest time until all went on.
    seen: BTreeMap<Loss, (u64, Duration)>,
    /// What publishers send then may be lost if no replica is waited for.
    may_lose: Vec<RangeInclusive<Instant>>,
}

impl Outcome {
    /// Waits until everybody gets what is published after this moment, counted from the loss.
    async fn resumed(&mut self, rig: &Rig, loss: Loss, lost: Instant) {
        rig.delivered_since(Instant::now(), RESUME_LIMIT * 2).await;
        let (count, slowest) = self.seen.entry(loss).or_default();
        *count += 1;
        match loss {
            // It took something until it was really gone.
            Loss::Kill | Loss::Hang => self.may_lose.push(lost - REPLICA_LAG..=lost + REPLICA_LAG),
            Loss::Command => self.may_lose.push(lost - REPLICA_LAG..=lost + TWO_MASTERS),
            Loss::SlotMove => {}
        }
        *slowest = lost.elapsed().max(*slowest);
    }

    /// Brings a server back after a kill or a hang.
    fn end(&mut self, loss: Loss, server: &mut RedisServer) {
        if loss == Loss::Kill {
            return tokio::task::block_in_place(|| server.restart());
        }
        server.resume();
        // It may take something until it is told that it is master no more.
        let now = Instant::now();
        self.may_lose.push(now - REPLICA_LAG..=now + REPLICA_LAG);
    }

    async fn finish(self, mut rig: Rig, replicas: u32) -> Row {
        rig.row.notes.push(format!("publishers waited for {replicas} replicas"));
        let two_masters = TWO_MASTERS.mul_f64(rig.deliveries_per_second()).as_secs();
        for (loss, (count, slowest)) in self.seen {
            let text = format!(
                "after each of {count}, a {loss:?}, all went on within {:.1} s",
                slowest.as_secs_f64()
            );
            if slowest > RESUME_LIMIT {
                rig.row.violation(text.clone());
            }
            rig.row.notes.push(text);
            // The last acknowledgements may not have come to the server that took over.
            rig.terms.duplicates_max += count * 2 * rig.in_flight_max();
            if loss == Loss::Command {
                rig.terms.duplicates_max += count * two_masters;
            }
        }
        // What a lost server alone had may have been delivered, but is counted nowhere.
        rig.terms.counters = Counters::NoMore;
        if replicas == 0 {
            rig.terms.may_lose = self.may_lose;
        }
        rig.finish().await
    }
}

pub async fn sentinel(order: Order) -> Row {
    lose_masters(order, 1).await
}

pub async fn sentinel_without_waiting(order: Order) -> Row {
    lose_masters(order, 0).await
}

/// The master of two replicas is killed, hangs, or is replaced by command.
async fn lose_masters(order: Order, replicas: u32) -> Row {
    let mut redis = RedisSentinels::start(2).await;
    let mut rig = start(redis.url(), replicas, order.seed).await;
    rig.load();
    let end = Instant::now() + order.time;
    let mut outcome = Outcome::default();
    while Instant::now() < end {
        rig.sleep_between(500, 2000).await;
        rig.row.cycles += 1;
        let (master, lost) = (redis.master(), Instant::now());
        let loss = [Loss::Kill, Loss::Hang, Loss::Command][rig.dice.usize(..3)];
        if loss == Loss::Command {
            redis.fail_over().await;
            outcome.resumed(&rig, loss, lost).await;
        } else {
            loss.begin(&mut redis.servers[master]);
            redis.master_after(master).await;
            outcome.resumed(&rig, loss, lost).await;
            outcome.end(loss, &mut redis.servers[master]);
        }
        redis.become_whole().await;
    }
    outcome.finish(rig, replicas).await
}

pub async fn cluster(order: Order) -> Row {
    lose_nodes(order, 1).await
}

pub async fn cluster_without_waiting(order: Order) -> Row {
    lose_nodes(order, 0).await
}

/// A master of a Cluster is killed, or hangs, and its replica takes over; slots move between masters.
async fn lose_nodes(order: Order, replicas: u32) -> Row {
    let mut redis = RedisCluster::start_with_replicas(2).await;
    let mut rig = start(redis.url(), replicas, order.seed).await;
    // Of the home lane, and of those that have the queues.
    let lanes = rig::SUBSCRIBERS.map(|subscriber| redis.slot_of(subscriber) % LANES);
    let mut slots = vec![redis.slot_of("{0}")];
    slots.extend(lanes.map(|lane| redis.slot_of(&format!("{{{lane}}}"))));
    rig.load();
    let end = Instant::now() + order.time;
    let mut outcome = Outcome::default();
    while Instant::now() < end {
        rig.sleep_between(500, 2000).await;
        rig.row.cycles += 1;
        let mut masters = redis.masters();
        rig.dice.shuffle(&mut masters);
        let node = masters[0];
        let lost = Instant::now();
        let losses = [Loss::Kill, Loss::Hang, Loss::SlotMove, Loss::SlotMove];
        let loss = losses[rig.dice.usize(..losses.len())];
        if loss == Loss::SlotMove {
            let slot = slots[rig.dice.usize(..slots.len())];
            let owner = redis.owner_of(slot);
            let to = masters.iter().copied().find(|master| *master != owner).unwrap();
            let half_way = rig.between(0, HALF_WAY_MS);
            redis.move_slot(slot, to, tokio::time::sleep(half_way)).await;
            outcome.resumed(&rig, loss, lost).await;
        } else {
            loss.begin(redis.server(node));
            redis.has_masters_without(node).await;
            outcome.resumed(&rig, loss, lost).await;
            outcome.end(loss, redis.server(node));
        }
        redis.become_whole().await;
    }
    outcome.finish(rig, replicas).await
}
