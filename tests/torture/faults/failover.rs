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
/// The same if all replicas are waited for: until the lost server follows the one that took over.
const RESUME_LIMIT_WITH_ALL: Duration = Duration::from_secs(30);
/// How many replicas a master behind Sentinels has, and each master of a Cluster.
const REPLICAS: u32 = 2;
/// How long a master that was replaced by command may still take acknowledgements, which are lost then:
/// a Sentinel tells it at its next look, within 10 s, and some for a busy machine.
const TWO_MASTERS: Duration = Duration::from_secs(12);
/// How far a replica may be behind its master, on a busy machine.
const REPLICA_LAG: Duration = Duration::from_secs(2);
/// How long the load runs before the first loss. What is made at the start is with the replicas then: else its
/// possible loss would excuse all that hangs on it.
const SETTLED: Duration = Duration::from_secs(4);
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
struct Outcome {
    /// How many replicas publishers wait for.
    replicas: u32,
    /// How often there was each, and the longest time until all went on.
    seen: BTreeMap<Loss, (u64, Duration)>,
    /// What is sent then may be lost.
    may_lose: Vec<RangeInclusive<Instant>>,
}

impl Outcome {
    fn new(replicas: u32) -> Self {
        Self { replicas, seen: BTreeMap::new(), may_lose: vec![] }
    }

    /// Waits until everybody gets what is published after this moment, counted from the loss.
    async fn resumed(&mut self, rig: &Rig, loss: Loss, lost: Instant) {
        rig.delivered_since(Instant::now(), RESUME_LIMIT_WITH_ALL * 2).await;
        let (count, slowest) = self.seen.entry(loss).or_default();
        *count += 1;
        if self.replicas == 0 {
            match loss {
                // It took something until it was really gone.
                Loss::Kill | Loss::Hang => {
                    self.may_lose.push(lost - REPLICA_LAG..=lost + REPLICA_LAG);
                }
                Loss::Command => self.may_lose.push(lost - REPLICA_LAG..=lost + TWO_MASTERS),
                Loss::SlotMove => {}
            }
        }
        *slowest = lost.elapsed().max(*slowest);
    }

    /// Brings a server back if it was killed, or hangs.
    fn end(&mut self, loss: Loss, server: &mut RedisServer) {
        match loss {
            Loss::Kill => return tokio::task::block_in_place(|| server.restart()),
            Loss::Hang => server.resume(),
            Loss::Command | Loss::SlotMove => return,
        }
        if self.replicas == 0 {
            // It may take something until it is told that it is master no more.
            let now = Instant::now();
            self.may_lose.push(now - REPLICA_LAG..=now + REPLICA_LAG);
        }
    }

    async fn finish(self, mut rig: Rig, resume_limit: Duration) -> Row {
        rig.row.notes.push(format!("publishers waited for {} replicas", self.replicas));
        let two_masters = TWO_MASTERS.mul_f64(rig.deliveries_per_second()).as_secs();
        for (loss, (count, slowest)) in self.seen {
            let text = format!(
                "after each of {count}, a {loss:?}, all went on within {:.1} s",
                slowest.as_secs_f64()
            );
            if slowest > resume_limit {
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
        rig.terms.may_lose = self.may_lose;
        rig.finish().await
    }
}

pub async fn sentinel(order: Order) -> Row {
    lose_masters(order, 1).await
}

pub async fn sentinel_without_waiting(order: Order) -> Row {
    lose_masters(order, 0).await
}

pub async fn sentinel_waiting_for_all(order: Order) -> Row {
    lose_masters(order, REPLICAS).await
}

/// The master of two replicas is killed, hangs, or is replaced by command.
async fn lose_masters(order: Order, replicas: u32) -> Row {
    let mut redis = RedisSentinels::start(REPLICAS as usize).await;
    let mut rig = start(redis.url(), replicas, order.seed).await;
    rig.load();
    tokio::time::sleep(SETTLED).await;
    let end = Instant::now() + order.time;
    let mut outcome = Outcome::new(replicas);
    let waits_for_all = replicas == REPLICAS;
    while Instant::now() < end {
        rig.sleep_between(500, 2000).await;
        rig.row.cycles += 1;
        let (master, lost) = (redis.master(), Instant::now());
        let loss = [Loss::Kill, Loss::Hang, Loss::Command][rig.dice.usize(..3)];
        if loss == Loss::Command {
            redis.fail_over().await;
            if !waits_for_all {
                // The old master lives, and has a replica yet: that one has what is lost with both.
                redis.has_replica().await;
                outcome.may_lose.push(lost..=Instant::now());
            }
        } else {
            loss.begin(&mut redis.servers[master]);
            redis.master_after(master).await;
        }
        if waits_for_all {
            outcome.end(loss, &mut redis.servers[master]);
            outcome.resumed(&rig, loss, lost).await;
        } else {
            outcome.resumed(&rig, loss, lost).await;
            outcome.end(loss, &mut redis.servers[master]);
        }
        redis.become_whole().await;
    }
    let limit = if waits_for_all { RESUME_LIMIT_WITH_ALL } else { RESUME_LIMIT };
    outcome.finish(rig, limit).await
}

pub async fn cluster(order: Order) -> Row {
    lose_nodes(order, 1).await
}

pub async fn cluster_without_waiting(order: Order) -> Row {
    lose_nodes(order, 0).await
}

/// A master of a Cluster is killed, or hangs, and its replica takes over; slots move between masters.
async fn lose_nodes(order: Order, replicas: u32) -> Row {
    let mut redis = RedisCluster::start_with_replicas(REPLICAS as u16).await;
    let mut rig = start(redis.url(), replicas, order.seed).await;
    // Of the home lane, and of those that have the queues.
    let lanes = rig::SUBSCRIBERS.map(|subscriber| redis.slot_of(subscriber) % LANES);
    let mut slots = vec![redis.slot_of("{0}")];
    slots.extend(lanes.map(|lane| redis.slot_of(&format!("{{{lane}}}"))));
    rig.load();
    tokio::time::sleep(SETTLED).await;
    let end = Instant::now() + order.time;
    let mut outcome = Outcome::new(replicas);
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
    outcome.finish(rig, RESUME_LIMIT).await
}
