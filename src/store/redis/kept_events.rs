//! Events that their topics keep, in the home lane.

use std::time::Duration;

use async_trait::async_trait;
use fred::types::Value;

use super::reply::Reply;
use super::{RedisStore, ms};
use crate::bus::item::{Item, QueuedItem};
use crate::bus::position::EventPosition;
use crate::bus::token::ClientToken;
use crate::bus::topic::{Keep, TopicName};
use crate::store::{Caught, KEPT_AT_ONCE, KeepSet, KeptEvents, Lane, StoreError, StoreResult};

/// How many events of a topic are forgotten at once.
const FORGOTTEN_AT_ONCE: i64 = 2_000;

#[async_trait]
impl KeptEvents for RedisStore {
    async fn keep(
        &self,
        topic: &TopicName,
        keep: Option<Keep>,
        owner: Option<&ClientToken>,
        max_bytes: u64,
    ) -> StoreResult<KeepSet> {
        let args = vec![
            topic.as_str().into(),
            keep.map_or("".into(), |keep| ms(keep.age)),
            keep.map_or(String::new(), |keep| keep.bytes.to_string()).into(),
            owner.map(ClientToken::reveal).unwrap_or_default().into(),
            max_bytes.to_string().into(),
        ];
        let set = self.change(&self.scripts.set_keep, Lane::HOME, args).await?.text()?;
        Ok(match set.as_str() {
            "done" => KeepSet::Done,
            "unknown" => KeepSet::UnknownTopic,
            "owned" => KeepSet::OwnedByAnother,
            _ => KeepSet::NoRoom,
        })
    }

    async fn kept_events(
        &self,
        topics: &[TopicName],
        after: EventPosition,
    ) -> StoreResult<Vec<QueuedItem>> {
        let mut args = vec![after.to_string().into(), (KEPT_AT_ONCE as i64).into()];
        args.extend(topics.iter().map(|topic| Value::from(topic.as_str())));
        let entries = self.run(&self.scripts.kept_events, Lane::HOME, args).await?;
        entries.map(Reply::queued_item).collect()
    }

    async fn replay(&self, subscriber: &ClientToken, items: Vec<Item>) -> StoreResult<bool> {
        let lane = self.lane_of(subscriber).await?;
        let mut args = vec![subscriber.reveal().into(), self.origin.as_str().into()];
        args.extend(items.into_iter().map(Value::Bytes));
        let replayed = self.change(&self.scripts.replay, lane, args).await?.integer()? > 0;
        self.lane(lane).alarm.ring_in(Duration::ZERO);
        self.arrivals.tell([subscriber]);
        Ok(replayed)
    }

    async fn subscribe_from(
        &self,
        subscriber: &ClientToken,
        topics: &[TopicName],
        after: EventPosition,
    ) -> StoreResult<Caught> {
        if self.lane_count().await? > 1 {
            let reason = "a subscription cannot begin in the past in a store of several lanes";
            return Err(StoreError::Unavailable(reason.into()));
        }
        let mut args = vec![
            subscriber.reveal().into(),
            after.to_string().into(),
            (KEPT_AT_ONCE as i64).into(),
            self.origin.as_str().into(),
        ];
        args.extend(topics.iter().map(|topic| Value::from(topic.as_str())));
        let caught = self.change(&self.scripts.subscribe_from, Lane::HOME, args).await?;
        self.lane(Lane::HOME).alarm.ring_in(Duration::ZERO);
        self.arrivals.tell([subscriber]);
        let Some(position) = caught.optional_text()? else { return Ok(Caught::Gone) };
        let position: EventPosition = position
            .parse()
            .map_err(|_| StoreError::Corrupt("subscribe_from: a position was expected".into()))?;
        Ok(if position == EventPosition::BEFORE_ALL { Caught::Up } else { Caught::UpTo(position) })
    }

    async fn forget_kept(&self) -> StoreResult<bool> {
        let args = vec![FORGOTTEN_AT_ONCE.into()];
        Ok(self.run(&self.scripts.forget_kept, Lane::HOME, args).await?.integer()? > 0)
    }
}
