//! One topic with many subscribers: how many queues a second an event gets into.
//!
//! A bus of our own has no worker while events are published, so that appending is measured alone;
//! a running one delivers meanwhile.

use std::time::Duration;

use super::{Wishes, due};
use crate::latency::Quantiles;
use crate::publishers::{Script, Until};
use crate::receivers::Times;
use crate::report::{FanOutFigures, Run};
use crate::stage::{Cast, Crew};
use routemaster::config::Role;

const SUBSCRIBERS: usize = 1000;
/// Appends after which publishing ends, whatever the time: all of it is delivered afterwards.
const APPENDS: u64 = 2_000_000;

pub async fn play(crew: &Crew, wishes: &Wishes) -> anyhow::Result<Run> {
    crew.progress.subject("fan-out");
    let subscribers = wishes.subscribers.unwrap_or(SUBSCRIBERS);
    let events = APPENDS / subscribers as u64;
    let until = Until { after: wishes.seconds, items: events };
    let script = Script { until, ..wishes.script() };
    let terms = wishes.terms(1000, 500);
    let times = Times::new(Duration::ZERO)?;
    let cast = Cast::of(subscribers, &(0..script.connections as u32), &times, terms);
    crew.play(cast, Role::Web, async |stage| {
        let published = stage.publish(script).await?;
        stage.start_worker().await?;
        stage.drain(due(&published, subscribers)).await;
        let mut run = script.run("fan-out", subscribers, terms).measured(stage, &published);
        run.fan_out = Some(FanOutFigures {
            appends_per_s: published.items_per_s() * subscribers as f64,
            appends_alone: crew.has_fresh_buses(),
        });
        if let Some(received) = &mut run.received {
            // Where deliveries were held back, times would tell of that alone.
            received.latency = match crew.has_fresh_buses() {
                true => None,
                false => Quantiles::of(&times.take()?),
            };
        }
        Ok(run)
    })
    .await
}
