//! A long queue, filled and then drained: how fast, and whether its length matters.
//!
//! A bus of our own has no worker while the queue is filled. On a running one the subscriber leaves its
//! deliveries unanswered until then.

use std::time::Duration;

use super::{EVENTS, Wishes, due};
use crate::publishers::{Script, Until};
use crate::receivers::{Conduct, Subscriber, Times, Totals};
use crate::report::{BacklogFigures, Run, StoredFigures};
use crate::stage::{Cast, Crew, Play, Stage};
use routemaster::config::Role;

/// Events in a request.
const ARRAY: usize = 100;
/// Publishing ends then, however few events there are.
const FILLING: Duration = Duration::from_secs(300);
/// How finely the speed is told.
const PARTS: u64 = 100;

pub async fn play(crew: &Crew, wishes: &Wishes) -> anyhow::Result<Run> {
    crew.progress.subject("backlog");
    let script = filling(wishes, EVENTS);
    let terms = wishes.terms(1000, 0);
    let times = Times::new(Duration::ZERO)?;
    let subscriber = Subscriber::new(&(0..script.connections as u32), &times);
    let cast =
        Cast { subscribers: vec![subscriber.clone()], play: Play::Events { topics: 1, terms } };
    if !crew.has_fresh_buses() {
        subscriber.set_conduct(Conduct::Hangs);
    }
    crew.play(cast, Role::Web, async |stage| {
        let run = script.run("backlog", 1, terms);
        fill_and_drain(crew, stage, script, run, || subscriber.set_conduct(Conduct::Takes)).await
    })
    .await
}

/// Requests that fill a queue, with as many items as were asked for, else so many.
pub fn filling(wishes: &Wishes, items: u64) -> Script {
    let items = wishes.events.unwrap_or(items);
    let until = Until { after: FILLING, items };
    Script { array: ARRAY.min(items as usize), until, ..wishes.script() }
}

/// Fills a queue, then lets deliveries go with `release` and by starting the worker of a bus that has
/// none.
pub async fn fill_and_drain(
    crew: &Crew,
    stage: &mut Stage<'_>,
    script: Script,
    run: Run,
    release: impl FnOnce(),
) -> anyhow::Result<Run> {
    let before = stage.stored_bytes().await?;
    let published = stage.publish(script).await?;
    let full = stage.stored_bytes().await?;
    let items = due(&published, 1);
    stage.receivers().totals().note_every(items / PARTS);
    let released = crew.clock.micros();
    release();
    stage.start_worker().await?;
    stage.drain(items).await;
    let mut run = run.measured(stage, &published);
    let drained = stage.stored_bytes().await?;
    let file_after = stage.file_bytes_after_drain().await?;
    let mut figures = figures(stage.receivers().totals(), items, released);
    if let (Some(before), Some(full), Some(drained)) = (before, full, drained) {
        let per_event = full.saturating_sub(before) as f64 / items.max(1) as f64;
        figures.stored = Some(StoredFigures { before, full, drained, per_event, file_after });
    }
    run.backlog = Some(figures);
    Ok(run)
}

fn figures(totals: &Totals, items: u64, released: u64) -> BacklogFigures {
    let curve = totals.curve();
    let tenth = items / 10;
    let first = curve.first().copied().unwrap_or_default();
    let last = curve.last().copied().unwrap_or_default();
    let reached = |items: u64| curve.iter().find(|(there, _)| *there >= items).copied();
    let rate = |(from, start): (u64, u64), (to, end): (u64, u64)| {
        let seconds = end.saturating_sub(start) as f64 / 1e6;
        if seconds > 0.0 { to.saturating_sub(from) as f64 / seconds } else { 0.0 }
    };
    BacklogFigures {
        events: totals.items(),
        drained_per_s: rate(first, last),
        first_tenth_per_s: rate(first, reached(tenth).unwrap_or(last)),
        last_tenth_per_s: rate(reached(items - tenth).unwrap_or(first), last),
        first_delivery_after_s: first.1.saturating_sub(released) as f64 / 1e6,
        stored: None,
    }
}
