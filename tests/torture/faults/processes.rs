//! Processes of the bus that are killed, frozen, or replaced while events flow.

use std::time::{Duration, Instant};

use super::{Kind, Order};
use crate::rig::{Rig, Row, TAKEOVER_LIMIT};
use crate::support::Signal;

/// `kill -9` of a worker, of a web process, of all, at random moments.
pub async fn kill(order: Order) -> Row {
    kill_processes(Rig::start(order.store.open(), order.seed).await, order).await
}

/// How many events may wait for a subscriber that would rather not have more.
const MAX_QUEUED: u64 = 40;

/// The same, while events are dropped.
pub async fn kill_and_drop(order: Order) -> Row {
    let mut rig = Rig::start(order.store.open(), order.seed).await;
    rig.max_queued = Some(MAX_QUEUED);
    rig.subscribe_all().await;
    let mut row = kill_processes(rig, order).await;
    row.notes.push(format!("{} events were dropped, and counted", row.verdict.dropped));
    if row.verdict.dropped == 0 {
        row.violation("nothing was dropped: this proves nothing");
    }
    row
}

async fn kill_processes(mut rig: Rig, order: Order) -> Row {
    rig.load();
    let end = Instant::now() + order.time;
    let (mut killed_workers, mut takeovers) = (0, vec![]);
    while Instant::now() < end {
        rig.sleep_between(50, 900).await;
        rig.row.cycles += 1;
        match rig.dice.u8(..10) {
            0..5 => {
                let index = rig.dice.usize(..rig.workers.len());
                rig.kill_worker(index).await;
                killed_workers += 1;
                // Now and then the other worker must take over by itself.
                if rig.dice.u8(..4) == 0 {
                    let took = rig.delivered_since(Instant::now(), TAKEOVER_LIMIT * 2).await;
                    takeovers.push(took.unwrap_or(TAKEOVER_LIMIT * 2));
                } else {
                    rig.sleep_between(0, 300).await;
                }
                rig.restart_worker(index).await;
            }
            5..8 => {
                let index = rig.dice.usize(..rig.webs.len());
                rig.kill_web(index).await;
                rig.sleep_between(0, 300).await;
                rig.restart_web(index).await;
            }
            _ => {
                for index in 0..2 {
                    rig.kill_worker(index).await;
                    rig.kill_web(index).await;
                }
                killed_workers += 2;
                for index in 0..2 {
                    rig.restart_web(index).await;
                    rig.restart_worker(index).await;
                }
            }
        }
    }
    rig.terms.may_not_answer = true;
    // Each subscriber has one batch in flight, whoever delivers it.
    rig.terms.duplicates_max = killed_workers * rig.in_flight_max();
    if let Some(slowest) = takeovers.iter().max() {
        rig.row.notes.push(format!(
            "another worker took over {} times, within {:.1} s",
            takeovers.len(),
            slowest.as_secs_f64()
        ));
        if *slowest > TAKEOVER_LIMIT {
            rig.row.violation(format!("a killed worker was replaced after {slowest:?}"));
        }
    }
    let mut row = rig.finish().await;
    row.verdict.violations.dedup();
    row
}

/// A worker without which everybody is served for so long has no queue.
const NOT_MISSED: Duration = Duration::from_millis(1500);

/// A worker hangs for longer than its leases last, then goes on as if nothing had happened.
pub async fn freeze(order: Order) -> Row {
    let mut rig = Rig::start(order.store.open(), order.seed).await;
    rig.load();
    let end = Instant::now() + order.time;
    let (mut takeover, mut locked) = (Duration::ZERO, 0);
    while Instant::now() < end {
        rig.sleep_between(100, 900).await;
        rig.row.cycles += 1;
        let mut index = rig.dice.usize(..rig.workers.len());
        let mut frozen = Instant::now();
        rig.workers[index].signal(Signal::Stop);
        // One that has no queue in its hands is not missed; then the other one has them all.
        if rig.delivered_since(frozen, NOT_MISSED).await.is_some() {
            rig.workers[index].signal(Signal::Continue);
            index = 1 - index;
            frozen = Instant::now();
            rig.workers[index].signal(Signal::Stop);
        }
        match rig.delivered_since(frozen, TAKEOVER_LIMIT).await {
            Some(took) => takeover = takeover.max(took),
            // It was stopped while it wrote, and SQLite's file is its own until it goes on.
            None if order.store == Kind::Sqlite && refuses(&rig).await => locked += 1,
            None => rig.row.violation("a frozen worker was not replaced"),
        }
        // The other one delivers on before this one wakes up with what it had in its hands.
        let rest = Duration::from_secs(7) + rig.between(0, 1500);
        tokio::time::sleep(rest.saturating_sub(frozen.elapsed())).await;
        rig.workers[index].signal(Signal::Continue);
    }
    rig.sleep_between(500, 1000).await;
    rig.terms.duplicates_max = rig.row.cycles * rig.in_flight_max();
    let logs = rig.all_logs();
    let late = logs.matches("a delivery ended after its lease was lost").count();
    let broken_off = logs.matches("broke off a delivery: its lease was lost").count();
    rig.row.notes.push(format!(
        "{late} late settlements refused, {broken_off} deliveries broken off; the other worker \
         took over within {:.1} s",
        takeover.as_secs_f64()
    ));
    if locked > 0 {
        rig.row
            .notes
            .push(format!("{locked} times it was stopped while it wrote to SQLite's file"));
    }
    rig.finish().await
}

/// Whether publishers hear 503 now.
async fn refuses(rig: &Rig) -> bool {
    let event = serde_json::json!({"type": "noop", "url": "https://a.example/"});
    rig.client("demo").publish("probes", &event).await.status == 503
}

/// SIGTERM under load: each process is replaced by a new one that was started before.
pub async fn rolling(order: Order) -> Row {
    let mut rig = Rig::start(order.store.open(), order.seed).await;
    rig.load();
    let end = Instant::now() + order.time;
    while Instant::now() < end {
        rig.sleep_between(50, 500).await;
        rig.row.cycles += 1;
        let index = rig.dice.usize(..2);
        match rig.dice.bool() {
            true => rig.roll_web(index).await,
            false => rig.roll_worker(index).await,
        }
    }
    rig.terms.duplicates_max = 0;
    let mut row = rig.finish().await;
    let refused = row.verdict.unavailable + row.verdict.unanswered;
    if refused > 0 {
        row.violation(format!("{refused} events were refused or got no answer"));
    }
    row
}
