//! Clocks that jump, forwards and back.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::power::skipped;
use super::redis::Resumed;
use super::{Kind, Order};
use crate::rig::{self, Rig, Row};
use crate::support::Layer;

/// The clock of whoever the queues' times come from jumps: of the bus with SQLite, else of Redis.
pub async fn jumps(order: Order) -> Row {
    let layer = match Layer::build("torture/clock") {
        Ok(layer) => layer,
        Err(reason) => return skipped(&reason),
    };
    let clock = layer.path("clock");
    let set = |offset_s: i64| {
        use std::io::Write;
        // In place: the processes have the file in their memory.
        let mut options = std::fs::OpenOptions::new();
        let file = options.write(true).create(true).truncate(false).open(&clock);
        file.unwrap().write_all(&(offset_s * 1_000_000_000).to_ne_bytes()).unwrap();
    };
    set(0);
    let environment = [layer.preload(), ("TORTURE_CLOCK".into(), clock.display().to_string())];
    let mut store = order.store.open();
    let mut bus = rig::bus(&store);
    match order.store {
        Kind::Redis => store.server().restart_in_environment(&environment),
        Kind::Sqlite => {
            bus = environment.iter().fold(bus, |bus, (name, value)| bus.set(name, value));
        }
    }
    let mut rig = Rig::start_with(store, bus, order.seed).await;
    rig.load();
    let end = Instant::now() + order.time;
    let (mut resumed, mut now_s) = (Resumed::default(), 0);
    let mut jumps = vec![(Instant::now(), now_s)];
    while Instant::now() < end {
        rig.sleep_between(300, 1500).await;
        rig.row.cycles += 1;
        // An hour, a step as of NTP, a few seconds.
        now_s += [3600, -3600, -2, 5, -30][rig.dice.usize(..5)];
        set(now_s);
        jumps.push((Instant::now(), now_s));
        resumed.wait(&rig).await;
        if let Some(violation) = oldest_is_mad(&rig, &jumps).await {
            rig.row.violation(violation);
        }
    }
    rig.terms.duplicates_max = rig.row.cycles * rig.in_flight_max();
    resumed.note(&mut rig.row);
    let what = if order.store == Kind::Redis { "Redis" } else { "the bus" };
    rig.row.notes.push(format!("the clock of {what} jumped by up to an hour, both ways"));
    rig.finish().await
}

/// How long an event waits at most: as many as the load lets wait, at the pace of the slow subscriber.
const WAITS: Duration = Duration::from_secs(25);

/// `oldest` must be what the clock said at some time in which an event that waits now can have come, or the highest
/// that it had said until then: positions, which are times, never go back.
/// It is never in a time to come. `jumps` are the clock's offsets in seconds, each with when it began.
async fn oldest_is_mad(rig: &Rig, jumps: &[(Instant, i64)]) -> Option<String> {
    let real = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
    let ends = jumps.iter().skip(1).map(|(began, _)| began.elapsed()).chain([Duration::ZERO]);
    let (mut said, mut now, mut highest) = (vec![], 0, 0);
    for ((_, offset), ended_ago) in jumps.iter().zip(ends) {
        // The last one is what it says now.
        now = real.saturating_add_signed(*offset);
        highest = highest.max(now - ended_ago.as_secs());
        if ended_ago < WAITS {
            said.extend([now, highest]);
        }
    }
    let subscriptions = rig.client("demo").get("/subscriptions").await.json();
    let oldest = subscriptions.as_array().into_iter().flatten();
    let mut oldest = oldest.filter_map(|subscription| subscription["events"]["oldest"].as_u64());
    let can_be = |oldest: u64| {
        oldest <= now + 5
            && said.iter().any(|clock| (clock - WAITS.as_secs()..=clock + 5).contains(&oldest))
    };
    let mad = oldest.find(|&oldest| !can_be(oldest))?;
    Some(format!("`oldest` is {mad}, and the clock has said {said:?}"))
}
