//! Many subscriptions with little to do each: how late deliveries are.
//!
//! Each subscriber has a topic of its own, which gets one event a second. Lateness is the time from
//! sending the publish, or from when it should have been sent, to receipt, minus the subscriber's
//! `timeout`, after which the batch is due.

use super::Wishes;
use crate::latency::Quantiles;
use crate::receivers::{Subscriber, Times};
use crate::report::Run;
use crate::stage::{Cast, Crew, Play};
use routemaster::config::Role;

const SUBSCRIBERS: usize = 2000;

pub async fn play(crew: &Crew, wishes: &Wishes) -> anyhow::Result<Run> {
    crew.progress.subject("many");
    let subscribers = wishes.subscribers.unwrap_or(SUBSCRIBERS);
    let script = wishes.steady(subscribers as f64);
    let terms = wishes.terms(100, 500);
    let times = Times::new(terms.timeout)?;
    let each = (0..subscribers as u32).map(|stream| Subscriber::new(&(stream..stream + 1), &times));
    let cast =
        Cast { subscribers: each.collect(), play: Play::Events { topics: subscribers, terms } };
    crew.play(cast, Role::Serve, async |stage| {
        let published = stage.publish(script).await?;
        stage.drain(published.items()).await;
        let mut run = script.run("many", subscribers, terms);
        run.topics = subscribers;
        run = run.measured(stage, &published);
        if let Some(received) = &mut run.received {
            received.lateness = Quantiles::of(&times.take()?);
        }
        Ok(run)
    })
    .await
}
