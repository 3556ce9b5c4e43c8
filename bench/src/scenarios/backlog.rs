//! A long queue, filled and then drained: how fast, and whether its length matters.
//!
//! A bus of our own has no worker while the queue is filled. On a running one the subscriber leaves its
//! deliveries unanswered until then.

use std::time::Duration;

use super::{Wishes, due};
use crate::publishers::{Script, Until};
use crate::receivers::{Conduct, Subscriber, Times, Totals};
use crate::report::{BacklogFigures, Run, StoredFigures};
use crate::stage::{Cast, Crew};
use routemaster::config::Role;

/// Events in a request.
const ARRAY: usize = 100;
/// Publishing ends then, however few events there are.
const FILLING: Duration = Duration::from_secs(300);
/// How finely the speed is told.
const PARTS: u64 = 100;

pub async fn play(crew: &Crew, wishes: &Wishes) -> anyhow::Result<Run> {
    crew.progress.subject("backlog");
    let until = Until { after: FILLING, events: wishes.events };
    let array = ARRAY.min(wishes.events as usize);
    let script = Script { array, until, ..wishes.script() };
    let terms = wishes.terms(1000, 0);
    let times = Times::new(Duration::ZERO)?;
    let subscriber = Subscriber::new(&(0..script.connections as u32), &times);
    let cast = Cast { subscribers: vec![subscriber.clone()], topics: 1, terms };
    if !crew.can_hold_back() {
        subscriber.set_conduct(Conduct::Hangs);
    }
    crew.play(cast, Role::Web, async |stage| {
        let before = stage.stored_bytes().await?;
        let published = stage.publish(script).await?;
        let full = stage.stored_bytes().await?;
        let events = due(&published, 1);
        stage.receivers().totals().note_every(events / PARTS);
        let released = crew.clock.micros();
        subscriber.set_conduct(Conduct::Takes);
        stage.start_worker().await?;
        stage.drain(events).await;
        let mut run = script.run("backlog", 1, terms).measured(stage, &published);
        let drained = stage.stored_bytes().await?;
        let mut figures = figures(stage.receivers().totals(), events, released);
        if let (Some(before), Some(full), Some(drained)) = (before, full, drained) {
            let per_event = full.saturating_sub(before) as f64 / events.max(1) as f64;
            figures.stored = Some(StoredFigures { before, full, drained, per_event });
        }
        run.backlog = Some(figures);
        Ok(run)
    })
    .await
}

fn figures(totals: &Totals, events: u64, released: u64) -> BacklogFigures {
    let curve = totals.curve();
    let tenth = events / 10;
    let first = curve.first().copied().unwrap_or_default();
    let last = curve.last().copied().unwrap_or_default();
    let reached = |events: u64| curve.iter().find(|(there, _)| *there >= events).copied();
    let rate = |(from, start): (u64, u64), (to, end): (u64, u64)| {
        let seconds = end.saturating_sub(start) as f64 / 1e6;
        if seconds > 0.0 { to.saturating_sub(from) as f64 / seconds } else { 0.0 }
    };
    BacklogFigures {
        events: totals.events(),
        drained_per_s: rate(first, last),
        first_tenth_per_s: rate(first, reached(tenth).unwrap_or(last)),
        last_tenth_per_s: rate(reached(events - tenth).unwrap_or(first), last),
        first_delivery_after_s: first.1.saturating_sub(released) as f64 / 1e6,
        stored: None,
    }
}
