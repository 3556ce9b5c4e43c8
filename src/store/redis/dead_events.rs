//! Dead letters: events that were taken out of queues, each in its subscriber's lane.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use super::reply::Reply;
use super::{RedisStore, ms};
use crate::bus::attempt::Failure;
use crate::bus::item::{QueuedItem, replayed};
use crate::bus::position::EventPosition;
use crate::bus::token::ClientToken;
use crate::store::{
    DEAD_EVENTS_AT_ONCE, DeadBounds, DeadCause, DeadCursor, DeadEvent, DeadEvents, DeadEventsPage,
    ForgottenDead, Lane, StoreResult,
};

#[async_trait]
impl DeadEvents for RedisStore {
    async fn dead_events(
        &self,
        subscriber: Option<&ClientToken>,
        before: Option<DeadCursor>,
        limit: usize,
    ) -> StoreResult<DeadEventsPage> {
        let lanes = match subscriber {
            Some(subscriber) => vec![self.lane_of(subscriber).await?],
            None => Lane::first(self.lane_count().await?).collect(),
        };
        let mut page = Vec::new();
        for lane in lanes {
            page.extend(self.dead_events_in(lane, subscriber, before, limit).await?);
        }
        page.sort_by_key(|(cursor, _)| std::cmp::Reverse(*cursor));
        page.truncate(limit);
        Ok(page)
    }

    async fn dead_event(
        &self,
        subscriber: &ClientToken,
        position: EventPosition,
    ) -> StoreResult<Option<DeadEvent>> {
        let lane = self.lane_of(subscriber).await?;
        let args = vec![subscriber.reveal().into(), position.to_string().into()];
        let mut found = self.run(&self.scripts.dead_event, lane, args).await?;
        let row = found.next().map(|row| dead_event(row, lane)).transpose()?;
        Ok(row.map(|(_, event)| event))
    }

    async fn retry_dead_event(
        &self,
        subscriber: &ClientToken,
        position: EventPosition,
    ) -> StoreResult<bool> {
        let mark = replayed(&QueuedItem { position, item: Bytes::new() });
        self.take_dead_event(subscriber, position, Some(mark)).await
    }

    async fn delete_dead_event(
        &self,
        subscriber: &ClientToken,
        position: EventPosition,
    ) -> StoreResult<bool> {
        self.take_dead_event(subscriber, position, None).await
    }

    async fn forget_dead_events(
        &self,
        lane: Lane,
        bounds: DeadBounds,
    ) -> StoreResult<ForgottenDead> {
        let max_bytes = i64::try_from(bounds.max_bytes).unwrap_or(i64::MAX);
        let args =
            vec![ms(bounds.retention), max_bytes.into(), (DEAD_EVENTS_AT_ONCE as i64).into()];
        let mut reply = self.run(&self.scripts.forget_dead, lane, args).await?;
        let old = reply.part()?.unsigned()?;
        Ok(ForgottenDead { old, for_room: reply.part()?.unsigned()? })
    }

    async fn dead_event_count(&self) -> StoreResult<u64> {
        let mut count = 0;
        for lane in self.all_lanes().await? {
            let room = self.connection.hash(&lane.keys, "dead_room").await?;
            count += room.get("events").and_then(|events| events.parse::<u64>().ok()).unwrap_or(0);
        }
        Ok(count)
    }
}

impl RedisStore {
    async fn dead_events_in(
        &self,
        lane: Lane,
        subscriber: Option<&ClientToken>,
        before: Option<DeadCursor>,
        limit: usize,
    ) -> StoreResult<DeadEventsPage> {
        // Numbers are a lane's own: another lane's begin with what was dead at the same moment.
        let number = match before {
            Some(cursor) if cursor.lane == lane => cursor.number.to_string(),
            _ => String::new(),
        };
        let args = vec![
            subscriber.map(ClientToken::reveal).unwrap_or_default().into(),
            number.into(),
            (limit as i64).into(),
            before.map_or(String::new(), |cursor| cursor.dead_ms.to_string()).into(),
        ];
        let rows = self.run(&self.scripts.list_dead, lane, args).await?;
        let rows = rows.map(|row| dead_event(row, lane)).collect::<StoreResult<Vec<_>>>()?;
        let is_older = |cursor: DeadCursor| before.is_none_or(|before| cursor < before);
        Ok(rows.into_iter().filter(|(cursor, _)| is_older(*cursor)).collect())
    }

    async fn take_dead_event(
        &self,
        subscriber: &ClientToken,
        position: EventPosition,
        replay_mark: Option<Bytes>,
    ) -> StoreResult<bool> {
        let lane = self.lane_of(subscriber).await?;
        let args = vec![
            subscriber.reveal().into(),
            position.to_string().into(),
            i64::from(replay_mark.is_some()).into(),
            self.origin.as_str().into(),
            replay_mark.unwrap_or_default().into(),
        ];
        let taken = self.change(&self.scripts.take_dead, lane, args).await?.integer()? > 0;
        self.lane(lane).alarm.ring_in(Duration::ZERO);
        self.arrivals.tell([subscriber]);
        Ok(taken)
    }
}

/// A row of `list_dead.lua`.
fn dead_event(mut row: Reply, lane: Lane) -> StoreResult<(DeadCursor, DeadEvent)> {
    let number = row.part()?.unsigned()?;
    let subscriber = row.part()?.token()?;
    let position = EventPosition::new(row.part()?.unsigned()?);
    let dead_ms = row.part()?.unsigned()?;
    let cause = DeadCause::from_stored(&row.part()?.text()?);
    let status = row.part()?.text()?.parse().ok();
    let reason = row.part()?.text()?;
    let item = row.part()?.bytes()?;
    let failure = (!reason.is_empty()).then_some(Failure { status, reason });
    let event = DeadEvent { subscriber, position, dead_ms, cause, failure, item };
    Ok((DeadCursor { dead_ms, number, lane }, event))
}
