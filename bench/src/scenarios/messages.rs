//! Messages, handed in by plain HTTP as Postoffice's clients do, and forwarded to services: how many are taken, how many
//! arrive, and how long one takes.

use std::time::Duration;

use super::throughput::{below, ceiling_of};
use super::{Wishes, due};
use crate::latency::Quantiles;
use crate::publishers::Script;
use crate::receivers::{Subscriber, Times};
use crate::report::Run;
use crate::request::Kind;
use crate::stage::{Cast, Crew, Play};
use routemaster::config::Role;

/// The publishers of the topic; 0: messages are taken alone.
const PUBLISHERS: [usize; 3] = [0, 1, 3];
/// Messages a second where one is timed.
const CALM: f64 = 50.0;

pub async fn play(crew: &Crew, wishes: &Wishes, runs: &mut Vec<Run>) -> anyhow::Result<()> {
    if !crew.has_fresh_buses() {
        crew.progress.note("note: messages are left out: they are measured on a bus of their own");
        return Ok(());
    }
    let script = wishes.script();
    let mut before = ceiling_of(crew, wishes, Kind::Messages, script).await?;
    for publishers in PUBLISHERS {
        crew.progress.subject(&format!("messages to {publishers}"));
        let run = flood(crew, script, publishers).await?;
        runs.push(below(crew, wishes, Kind::Messages, script, run, &mut before).await?);
    }
    crew.progress.subject("messages, latency");
    let run = flood(crew, wishes.steady(CALM), 1).await?;
    runs.push(Run { scenario: "messages-latency", ..run });
    Ok(())
}

/// As many messages as go to so many publishers; with none, no worker runs.
async fn flood(crew: &Crew, script: Script, publishers: usize) -> anyhow::Result<Run> {
    let times = Times::new(Duration::ZERO)?;
    let streams = 0..script.connections as u32;
    let subscribers = (0..publishers).map(|_| Subscriber::new(&streams, &times)).collect();
    let role = if publishers == 0 { Role::Web } else { Role::Serve };
    crew.play(Cast { subscribers, play: Play::Messages }, role, async |stage| {
        let published = stage.publish(script).await?;
        if publishers > 0 {
            stage.drain(due(&published, publishers)).await;
        }
        let run = Run {
            scenario: "messages",
            subscribers: publishers,
            topics: 1,
            connections: script.connections,
            array: script.array,
            ..Run::default()
        };
        let mut run = run.measured(stage, &published);
        if let Some(received) = &mut run.received {
            received.latency = Quantiles::of(&times.take()?);
            // They have no order.
            received.out_of_order = None;
        }
        Ok(run)
    })
    .await
}
