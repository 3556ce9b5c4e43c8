//! Calls and postbacks, handed in by plain HTTP as the originals' clients do: how many are taken, how
//! many arrive, how long one takes, and what those to other destinations notice of one that hangs.

use std::time::Duration;

use super::backlog::{fill_and_drain, filling};
use super::throughput::{below, ceiling_of};
use super::{Wishes, due};
use crate::latency::Quantiles;
use crate::publishers::Script;
use crate::receivers::{Conduct, Subscriber, Times};
use crate::report::{NoisyFigures, Run};
use crate::request::Kind;
use crate::stage::{Cast, Crew, Play};
use routemaster::config::Role;

/// The destinations of what is made as fast as it goes; 0: nothing is made, calls are taken alone.
const DESTINATIONS: [usize; 3] = [0, 1, 100];
/// Calls a second where one is timed.
const CALM: f64 = 50.0;
/// Destinations of which one hangs, and calls a second to all of them.
const NEIGHBOURS: usize = 10;
const NEIGHBOURS_RATE: f64 = 200.0;
/// The calls, and the postbacks, of a backlog.
const BACKLOG: u64 = 200_000;

pub async fn play(crew: &Crew, wishes: &Wishes, runs: &mut Vec<Run>) -> anyhow::Result<()> {
    if !crew.has_fresh_buses() {
        crew.progress.note("note: calls are left out: they are measured on a bus of their own");
        return Ok(());
    }
    throughput(crew, wishes, runs).await?;
    crew.progress.subject("calls, latency");
    runs.push(latency(crew, wishes).await?);
    crew.progress.subject("calls, one hangs");
    runs.push(noisy(crew, wishes).await?);
    crew.progress.subject("calls, backlog");
    runs.push(backlog(crew, wishes, Play::Calls, "calls-backlog").await?);
    crew.progress.subject("postbacks, backlog");
    runs.push(backlog(crew, wishes, Play::Postbacks, "postbacks").await?);
    Ok(())
}

async fn throughput(crew: &Crew, wishes: &Wishes, runs: &mut Vec<Run>) -> anyhow::Result<()> {
    let script = wishes.script();
    let mut before = ceiling_of(crew, wishes, Kind::Calls, script).await?;
    for destinations in DESTINATIONS {
        crew.progress.subject(&format!("calls to {destinations}"));
        let run = flood(crew, script, destinations).await?;
        runs.push(below(crew, wishes, Kind::Calls, script, run, &mut before).await?);
    }
    Ok(())
}

/// As many calls as go; with no destination, no worker runs.
async fn flood(crew: &Crew, script: Script, destinations: usize) -> anyhow::Result<Run> {
    let times = Times::new(Duration::ZERO)?;
    let cast = cast(destinations.max(1), script, &times);
    let role = if destinations == 0 { Role::Web } else { Role::Serve };
    crew.play(cast, role, async |stage| {
        let published = stage.publish(script).await?;
        if destinations > 0 {
            stage.drain(due(&published, 1)).await;
        }
        let mut run = script.calls("calls", destinations).measured(stage, &published);
        if let Some(received) = &mut run.received {
            received.latency = Quantiles::of(&times.take()?);
        }
        Ok(run)
    })
    .await
}

async fn latency(crew: &Crew, wishes: &Wishes) -> anyhow::Result<Run> {
    let run = flood(crew, wishes.steady(CALM), 1).await?;
    Ok(Run { scenario: "calls-latency", ..run })
}

async fn noisy(crew: &Crew, wishes: &Wishes) -> anyhow::Result<Run> {
    let script = wishes.steady(NEIGHBOURS_RATE);
    let (_, without) = neighbours(crew, script, Conduct::Takes).await?;
    let (mut run, with) = neighbours(crew, script, Conduct::Hangs).await?;
    run.noisy = Some(NoisyFigures::of(without, with));
    Ok(run)
}

/// Calls to several destinations, of which the last one behaves like this until all of the others'
/// have arrived. How long the others' took.
async fn neighbours(
    crew: &Crew,
    script: Script,
    conduct: Conduct,
) -> anyhow::Result<(Run, Option<Quantiles>)> {
    let (others, last) = (Times::new(Duration::ZERO)?, Times::new(Duration::ZERO)?);
    let mut cast = cast(NEIGHBOURS - 1, script, &others);
    let neighbour = Subscriber::new(&stream(NEIGHBOURS - 1), &last);
    neighbour.set_conduct(conduct);
    cast.subscribers.push(neighbour.clone());
    crew.play(cast, Role::Serve, async |stage| {
        let published = stage.publish(script).await?;
        let all = published.items();
        let held = published.accepted.get(NEIGHBOURS - 1).copied().unwrap_or(0);
        stage.drain(if conduct == Conduct::Hangs { all - held } else { all }).await;
        let quantiles = Quantiles::of(&others.take()?);
        neighbour.set_conduct(Conduct::Takes);
        stage.drain(all).await;
        Ok((script.calls("calls-noisy", NEIGHBOURS).measured(stage, &published), quantiles))
    })
    .await
}

async fn backlog(
    crew: &Crew,
    wishes: &Wishes,
    play: Play,
    scenario: &'static str,
) -> anyhow::Result<Run> {
    let script = filling(wishes, BACKLOG);
    let cast = Cast { play, ..cast(1, script, &Times::new(Duration::ZERO)?) };
    crew.play(cast, Role::Web, async |stage| {
        fill_and_drain(crew, stage, script, script.calls(scenario, 1), || {}).await
    })
    .await
}

/// Calls to so many destinations.
fn cast(destinations: usize, script: Script, times: &std::sync::Arc<Times>) -> Cast {
    let subscribers = match destinations {
        1 => vec![Subscriber::new(&(0..script.connections as u32), times)],
        _ => (0..destinations).map(|index| Subscriber::new(&stream(index), times)).collect(),
    };
    Cast { subscribers, play: Play::Calls }
}

/// Where there are several destinations, each one is a stream.
fn stream(destination: usize) -> std::ops::Range<u32> {
    destination as u32..destination as u32 + 1
}

impl Script {
    /// A run with calls that is about to be played like this.
    fn calls(&self, scenario: &'static str, destinations: usize) -> Run {
        Run {
            scenario,
            destinations,
            connections: self.connections,
            array: self.array,
            ..Run::default()
        }
    }
}
