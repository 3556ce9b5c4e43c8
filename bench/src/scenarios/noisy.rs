//! Many subscribers of one topic at a steady rate, of which one hangs: what do the others notice?

use std::time::Duration;

use super::{Wishes, due};
use crate::latency::Quantiles;
use crate::publishers::Script;
use crate::receivers::{Conduct, Subscriber, Times};
use crate::report::{NoisyFigures, Run};
use crate::stage::{Cast, Crew};
use routemaster::config::Role;

const SUBSCRIBERS: usize = 100;
/// Publishes a second; each is delivered to all.
const RATE: f64 = 10.0;

pub async fn play(crew: &Crew, wishes: &Wishes) -> anyhow::Result<Run> {
    crew.progress.subject("noisy");
    let subscribers = wishes.subscribers.unwrap_or(SUBSCRIBERS).max(2);
    let script = wishes.steady(RATE);
    let terms = wishes.terms(100, 0);
    // Each of the two phases has its own streams.
    let connections = script.connections as u32;
    let streams = 0..2 * connections;
    let (others, noisy) = (Times::new(Duration::ZERO)?, Times::new(Duration::ZERO)?);
    let neighbour = Subscriber::new(&streams, &noisy);
    let mut cast = Cast::of(subscribers - 1, &streams, &others, terms);
    cast.subscribers.push(neighbour.clone());
    crew.play(cast, Role::Serve, async |stage| {
        let mut published = stage.publish(script).await?;
        stage.drain(due(&published, subscribers)).await;
        let without = Quantiles::of(&others.take()?);
        neighbour.set_conduct(Conduct::Hangs);
        let warm_up = Duration::ZERO;
        let script = Script { first_stream: connections, warm_up, ..script };
        let hanging = stage.publish(script).await?;
        stage.drain(due(&published, subscribers) + due(&hanging, subscribers - 1)).await;
        let with = Quantiles::of(&others.take()?);
        neighbour.set_conduct(Conduct::Takes);
        published.add(&hanging)?;
        stage.drain(due(&published, subscribers)).await;
        let mut run = script.run("noisy", subscribers, terms).measured(stage, &published);
        run.noisy = Some(NoisyFigures::of(without, with));
        Ok(run)
    })
    .await
}
