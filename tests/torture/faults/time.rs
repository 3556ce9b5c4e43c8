//! Clocks that jump, forwards and back.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::power::skipped;
use super::redis::Resumed;
use super::{Kind, Order};
use crate::layer::Layer;
use crate::rig::{self, Rig, Row};

/// The clock of whoever the queues' times come from jumps: of the bus with SQLite, else of Redis.
pub async fn jumps(order: Order) -> Row {
    let layer = match Layer::build("clock") {
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
    while Instant::now() < end {
        rig.sleep_between(300, 1500).await;
        rig.row.cycles += 1;
        // An hour, a step as of NTP, a few seconds.
        now_s += [3600, -3600, -2, 5, -30][rig.dice.usize(..5)];
        set(now_s);
        resumed.wait(&rig).await;
        if let Some(violation) = oldest_is_mad(&rig, now_s).await {
            rig.row.violation(violation);
        }
    }
    rig.terms.duplicates_max = rig.row.cycles * rig.in_flight_max();
    resumed.note(&mut rig.row);
    let what = if order.store == Kind::Redis { "Redis" } else { "the bus" };
    rig.row.notes.push(format!("the clock of {what} jumped by up to an hour, both ways"));
    rig.finish().await
}

/// `oldest` must be near what the clock says now, or what it said before it jumped.
async fn oldest_is_mad(rig: &Rig, offset_s: i64) -> Option<String> {
    const TWO_JUMPS: u64 = 2 * 3600 + 60;
    let real = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
    let now = real.saturating_add_signed(offset_s);
    let subscriptions = rig.client("demo").get("/subscriptions").await.json();
    let oldest = subscriptions.as_array().into_iter().flatten();
    let mut oldest = oldest.filter_map(|subscription| subscription["events"]["oldest"].as_u64());
    let mad = oldest.find(|oldest| oldest.abs_diff(now) > TWO_JUMPS)?;
    Some(format!("`oldest` is {mad}, and the clock says {now}"))
}
