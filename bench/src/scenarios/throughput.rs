//! How much goes through, and how long one event takes: one topic, few subscribers.

use std::time::Duration;

use super::{Wishes, due};
use crate::ceiling;
use crate::cost::Cost;
use crate::latency::Quantiles;
use crate::publishers::{Pace, Published, Script};
use crate::receivers::Times;
use crate::report::{CeilingFigures, PublishedFigures, Run};
use crate::request::Kind;
use crate::stage::{Cast, Crew, Site};
use crate::target::Terms;
use crate::usage;
use routemaster::cli::words::counted;
use routemaster::config::Role;

/// The subscribers of the measurements of `publish`.
const SUBSCRIBERS: [usize; 3] = [0, 1, 5];
/// Events in a request of `bulk`.
const ARRAY: usize = 100;
/// Requests a second in `latency`.
const CALM: f64 = 50.0;
/// The ceiling is steady: more time does not show more.
const CEILING_MAX: Duration = Duration::from_secs(3);

pub async fn publish(crew: &Crew, wishes: &Wishes, runs: &mut Vec<Run>) -> anyhow::Result<()> {
    let script = wishes.script();
    let mut before = ceiling_of(crew, wishes, Kind::Events, script).await?;
    for subscribers in SUBSCRIBERS {
        if subscribers > crew.subscribers_max() {
            crew.progress.note(&format!(
                "note: {subscribers} subscribers are left out: their tokens need the root key"
            ));
            continue;
        }
        crew.progress.subject(&format!(
            "publish, {}",
            counted(subscribers as u64, "subscriber", "subscribers")
        ));
        let run = one_topic(crew, script, "publish", subscribers, wishes.terms(1000, 500)).await?;
        runs.push(below(crew, wishes, Kind::Events, script, run, &mut before).await?);
    }
    Ok(())
}

pub async fn bulk(crew: &Crew, wishes: &Wishes, runs: &mut Vec<Run>) -> anyhow::Result<()> {
    let script = Script { array: ARRAY, ..wishes.script() };
    let mut before = ceiling_of(crew, wishes, Kind::Events, script).await?;
    crew.progress.subject("bulk");
    let run = one_topic(crew, script, "bulk", 1, wishes.terms(1000, 500)).await?;
    runs.push(below(crew, wishes, Kind::Events, script, run, &mut before).await?);
    Ok(())
}

pub async fn latency(crew: &Crew, wishes: &Wishes) -> anyhow::Result<Run> {
    crew.progress.subject("latency");
    one_topic(crew, wishes.steady(CALM), "latency", 1, wishes.terms(100, 0)).await
}

/// The ceiling as a measurement of its own.
pub async fn ceiling(crew: &Crew, wishes: &Wishes) -> anyhow::Result<Run> {
    let script = Script { pace: Pace::Closed, ..wishes.script() };
    crew.progress.subject("ceiling");
    crew.progress.step("sending to a bare server");
    let before = usage::of_this_process();
    let (published, bare) = measure_ceiling(crew, Kind::Events, script, wishes.seconds).await?;
    let mut run = script.run("ceiling", 0, Terms { max: 0, timeout: Duration::ZERO });
    run.published = Some(PublishedFigures::of(&published));
    let bench = usage::of_this_process() - before;
    run.cost = Some(Cost { bus: Some(bare), redis: None, bench });
    Ok(run)
}

/// Publishes to one topic and waits until everybody has received everything.
async fn one_topic(
    crew: &Crew,
    script: Script,
    scenario: &'static str,
    subscribers: usize,
    terms: Terms,
) -> anyhow::Result<Run> {
    let times = Times::new(Duration::ZERO)?;
    let streams = 0..script.connections as u32;
    let cast = Cast::of(subscribers, &streams, &times, terms);
    crew.play(cast, Role::Serve, async |stage| {
        let published = stage.publish(script).await?;
        stage.drain(due(&published, subscribers)).await;
        let mut run = script.run(scenario, subscribers, terms).measured(stage, &published);
        if let Some(received) = &mut run.received {
            received.latency = Quantiles::of(&times.take()?);
        }
        Ok(run)
    })
    .await
}

/// Measures the ceiling after a run as well, and says what share of it the run reached.
pub async fn below(
    crew: &Crew,
    wishes: &Wishes,
    kind: Kind,
    script: Script,
    mut run: Run,
    before: &mut Option<f64>,
) -> anyhow::Result<Run> {
    let after = ceiling_of(crew, wishes, kind, script).await?;
    if let (Some(before), Some(after), Some(published)) = (*before, after, &run.published) {
        run.ceiling = Some(CeilingFigures::of(before, after, published.requests_per_s));
    }
    *before = after;
    Ok(run)
}

/// Requests a second. None for a bus on another machine, or where a rate was asked for: no share of
/// it would say anything.
pub async fn ceiling_of(
    crew: &Crew,
    wishes: &Wishes,
    kind: Kind,
    script: Script,
) -> anyhow::Result<Option<f64>> {
    let elsewhere = match &crew.site {
        Site::Fresh(_) => false,
        Site::Running(running) => !running.target.is_local(),
    };
    if elsewhere || wishes.rate.is_some() {
        return Ok(None);
    }
    crew.progress.subject("ceiling");
    crew.progress.step("sending to a bare server");
    let (published, _) =
        measure_ceiling(crew, kind, script, wishes.seconds.min(CEILING_MAX)).await?;
    Ok(Some(published.requests_per_s()))
}

async fn measure_ceiling(
    crew: &Crew,
    kind: Kind,
    script: Script,
    seconds: Duration,
) -> anyhow::Result<(Published, usage::Usage)> {
    ceiling::measure(kind, script.connections, script.array, seconds, crew.clock).await
}
