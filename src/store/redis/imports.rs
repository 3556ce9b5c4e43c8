//! Importing from another bus: topics in one call, what concerns one subscriber in another, so that
//! a call's keys are all of one kind.

use std::time::Duration;

use async_trait::async_trait;
use fred::types::Value;
use fred::types::scripts::Script;

use super::scripts::script;
use super::{RedisStore, directory, ms};
use crate::bus::health::Health;
use crate::bus::subscription::Subscription;
use crate::bus::token::{ClientToken, random_hex};
use crate::bus::topic::Topic;
use crate::store::{
    IMPORT_MEMORY, ImportedPortion, ImportedTopic, Imports, Lane, Portion, StoreError, StoreResult,
    Taken,
};

pub struct ImportScripts {
    topic: Script,
    subscriber: Script,
    batches: Script,
    taken: Script,
}

impl ImportScripts {
    pub fn new() -> Self {
        Self {
            topic: script!("", "directory/births", "imports/import_topic"),
            subscriber: script!("", "directory/subscribed", "imports/import_subscriber"),
            batches: script!("", "queues/due", "imports/import_batches"),
            taken: script!(" flags=no-writes", "imports/imported_batches"),
        }
    }
}

#[async_trait]
impl Imports for RedisStore {
    async fn import_topic(&self, topic: &Topic) -> StoreResult<ImportedTopic> {
        import_topic(self, topic).await
    }

    async fn import_subscriber(
        &self,
        subscriber: &ClientToken,
        subscription: &Subscription,
        health: Health,
    ) -> StoreResult<bool> {
        import_subscriber(self, subscriber, subscription, health).await
    }

    async fn import_batches(
        &self,
        subscriber: &ClientToken,
        portions: Vec<Portion>,
    ) -> StoreResult<Option<Vec<ImportedPortion>>> {
        import_batches(self, subscriber, portions).await
    }

    async fn imported_batches(
        &self,
        subscriber: &ClientToken,
        batches: &[String],
    ) -> StoreResult<Vec<Taken>> {
        taken(self, subscriber, batches).await
    }
}

async fn import_topic(store: &RedisStore, topic: &Topic) -> StoreResult<ImportedTopic> {
    let publisher = topic.publisher.as_ref().map(ClientToken::reveal).unwrap_or_default();
    let args = vec![topic.name.as_str().into(), publisher.into(), topic.events.to_string().into()];
    let mut reply = store.change(&store.import_scripts.topic, Lane::HOME, args).await?;
    let created = reply.part()?.integer()? > 0;
    let publisher = reply.part()?.text()?;
    let publisher = (!publisher.is_empty()).then(|| ClientToken::from_stored(&publisher));
    Ok(ImportedTopic { created, publisher })
}

async fn import_subscriber(
    store: &RedisStore,
    subscriber: &ClientToken,
    subscription: &Subscription,
    health: Health,
) -> StoreResult<bool> {
    let queue = random_hex().map_err(|error| StoreError::Unavailable(error.to_string()))?;
    let Subscription { topics, terms, .. } = subscription;
    let mut args: Vec<Value> = vec![subscriber.reveal().into(), queue.into()];
    args.extend(directory::terms_args(terms));
    args.push(i64::from(health.points()).into());
    let lane = store.lane_of(subscriber).await?;
    let births = match lane {
        Lane::HOME => vec![String::new(); topics.len()],
        _ => directory::topic_births(store, topics).await?,
    };
    for (topic, birth) in topics.iter().zip(births) {
        args.push(topic.as_str().into());
        args.push(birth.into());
    }
    Ok(store.change(&store.import_scripts.subscriber, lane, args).await?.integer()? > 0)
}

async fn import_batches(
    store: &RedisStore,
    subscriber: &ClientToken,
    portions: Vec<Portion>,
) -> StoreResult<Option<Vec<ImportedPortion>>> {
    let count = portions.len();
    let mut args: Vec<Value> =
        vec![subscriber.reveal().into(), store.origin.as_str().into(), ms(IMPORT_MEMORY)];
    for portion in portions {
        args.push(portion.batch.into());
        args.push(portion.from.to_string().into());
        args.push(portion.entries.to_string().into());
        args.push(portion.created_ms.to_string().into());
        args.push((portion.items.len() as i64).into());
        args.extend(portion.items.into_iter().map(Value::Bytes));
    }
    let lane = store.lane_of(subscriber).await?;
    let mut reply = store.change(&store.import_scripts.batches, lane, args).await?;
    if !reply.is_list() {
        return Ok(None);
    }
    let outcomes = (0..count).map(|_| {
        Ok(match reply.part()?.integer()? {
            1 => ImportedPortion::Appended,
            0 => ImportedPortion::TakenBefore,
            _ => ImportedPortion::OutOfStep,
        })
    });
    let outcomes = outcomes.collect::<StoreResult<_>>()?;
    if let Ok(delay) = u64::try_from(reply.part()?.integer()?) {
        store.lane(lane).alarm.ring_in(Duration::from_millis(delay));
    }
    Ok(Some(outcomes))
}

async fn taken(
    store: &RedisStore,
    subscriber: &ClientToken,
    batches: &[String],
) -> StoreResult<Vec<Taken>> {
    let mut args: Vec<Value> = vec![subscriber.reveal().into()];
    args.extend(batches.iter().map(|batch| Value::from(batch.as_str())));
    let lane = store.lane_of(subscriber).await?;
    let reply = store.run(&store.import_scripts.taken, lane, args).await?;
    let parse = |text: String| {
        let (entries, items) = text.split_once(':')?;
        Some(Taken { entries: entries.parse().ok()?, items: items.parse().ok()? })
    };
    let bad = || StoreError::Corrupt("imported_batches: what was taken is not two numbers".into());
    reply.map(|part| parse(part.text()?).ok_or_else(bad)).collect()
}
