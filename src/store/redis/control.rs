//! Looking into queues, and holding them.

use std::time::Duration;

use async_trait::async_trait;

use super::reply::Reply;
use super::{RedisStore, ms};
use crate::bus::pause::PausedBy;
use crate::bus::position::EventPosition;
use crate::bus::token::ClientToken;
use crate::store::{
    BROKEN_OFF_AFTER, Control, Retried, SKIP_STEP, Skip, Skipped, StoreResult, WaitingEvent,
};

#[async_trait]
impl Control for RedisStore {
    async fn pause(&self, subscriber: &ClientToken, by: PausedBy) -> StoreResult<bool> {
        let lane = self.lane_of(subscriber).await?;
        let args = vec![subscriber.reveal().into(), by.as_str().into()];
        Ok(self.change(&self.scripts.pause, lane, args).await?.integer()? > 0)
    }

    async fn resume(&self, subscriber: &ClientToken) -> StoreResult<bool> {
        let lane = self.lane_of(subscriber).await?;
        let args = vec![subscriber.reveal().into(), self.origin.as_str().into()];
        let resumed = self.change(&self.scripts.resume, lane, args).await?.integer()? > 0;
        self.lane(lane).alarm.ring_in(Duration::ZERO);
        self.arrivals.tell([subscriber]);
        Ok(resumed)
    }

    async fn retry_now(&self, subscriber: &ClientToken) -> StoreResult<Retried> {
        let lane = self.lane_of(subscriber).await?;
        let args = vec![subscriber.reveal().into(), self.origin.as_str().into()];
        let retried = self.change(&self.scripts.retry_now, lane, args).await?.text()?;
        self.lane(lane).alarm.ring_in(Duration::ZERO);
        Ok(match retried.as_str() {
            "due" => Retried::Due,
            "nothing" => Retried::Nothing,
            "paused" => Retried::Paused,
            _ => Retried::Unknown,
        })
    }

    async fn peek(
        &self,
        subscriber: &ClientToken,
        after: EventPosition,
        limit: usize,
    ) -> StoreResult<Option<Vec<WaitingEvent>>> {
        self.peek_from("behind", subscriber, after, limit).await
    }

    async fn waiting_event(
        &self,
        subscriber: &ClientToken,
        position: EventPosition,
    ) -> StoreResult<Option<WaitingEvent>> {
        let found = self.peek_from("at", subscriber, position, 1).await?;
        let first = found.and_then(|mut found| found.pop());
        Ok(first.filter(|event| event.position == position))
    }

    async fn skip(&self, subscriber: &ClientToken, skip: Skip) -> StoreResult<Skipped> {
        let lane = self.lane_of(subscriber).await?;
        let (what, number) = match skip {
            Skip::Through(position) => ("through", position.number()),
            Skip::Batch(number) => ("batch", number),
        };
        let args = vec![
            subscriber.reveal().into(),
            what.into(),
            number.to_string().into(),
            (SKIP_STEP as i64).into(),
            ms(BROKEN_OFF_AFTER),
            self.origin.as_str().into(),
        ];
        let mut reply = self.change(&self.scripts.skip, lane, args).await?;
        self.lane(lane).alarm.ring_in(Duration::ZERO);
        Ok(match reply.part()?.text()?.as_str() {
            "done" => {
                let events = reply.part()?.unsigned()?;
                let has_more = reply.part().and_then(Reply::integer)? > 0;
                Skipped::Done { events, has_more }
            }
            "unknown" => Skipped::Unknown,
            _ => Skipped::NotThisBatch,
        })
    }
}

impl RedisStore {
    /// What waits `behind` a position, or `at` it and behind.
    async fn peek_from(
        &self,
        from: &str,
        subscriber: &ClientToken,
        position: EventPosition,
        limit: usize,
    ) -> StoreResult<Option<Vec<WaitingEvent>>> {
        let lane = self.lane_of(subscriber).await?;
        let args = vec![
            subscriber.reveal().into(),
            position.to_string().into(),
            (limit as i64).into(),
            from.into(),
        ];
        let mut reply = self.run(&self.scripts.peek, lane, args).await?;
        if !reply.is_list() {
            return Ok(None);
        }
        let in_batch = reply.part()?.unsigned()?;
        let waiting = reply.zip(0..).map(|(entry, index)| {
            let queued = entry.queued_item()?;
            Ok(WaitingEvent {
                position: queued.position,
                since_ms: queued.position.at_ms(),
                is_in_batch: index < in_batch,
                item: queued.item,
            })
        });
        waiting.collect::<StoreResult<_>>().map(Some)
    }
}
