//! The room that is taken, and dropping so that there is some.

use std::time::Duration;

use async_trait::async_trait;
use fred::types::Value;
use tokio::time::Instant;

use super::link::Resend;
use super::messages::{DELIVERY_OVERHEAD, MESSAGE_OVERHEAD};
use super::{RedisStore, server_check};
use crate::store::calls::CALL_OVERHEAD;
use crate::store::{DROP_STEP, Drops, ITEM_OVERHEAD, Lane, Room, StoreResult, Usage};

#[async_trait]
impl Room for RedisStore {
    async fn usage(&self, lane: Lane) -> StoreResult<Usage> {
        let usage = server_check::usage(&self.connection.info(&self.lane(lane).keys).await?)?;
        let mut others = 0;
        for neighbour in self.known_neighbours(lane).await? {
            let overheads = [CALL_OVERHEAD, MESSAGE_OVERHEAD, DELIVERY_OVERHEAD];
            let args = overheads.map(|bytes| (bytes as i64).into()).into();
            others += self.run(&self.scripts.others, neighbour, args).await?.unsigned()?;
        }
        Ok(usage.without(others))
    }

    async fn neighbours(&self, lane: Lane) -> StoreResult<Vec<Lane>> {
        let lanes = self.lane_count().await?;
        if lanes == 1 {
            return Ok(vec![lane]);
        }
        let mut servers = Vec::with_capacity(lanes);
        for other in Lane::first(lanes) {
            let info = self.connection.info(&self.lane(other).keys).await?;
            servers.push((other, server_check::run_id(&info)?.to_owned()));
        }
        let here = servers.iter().find(|(other, _)| *other == lane).map(|(_, id)| id.clone());
        let is_here = |(_, id): &(Lane, String)| Some(id) == here.as_ref();
        Ok(servers.into_iter().filter(is_here).map(|(other, _)| other).collect())
    }

    async fn droppable(&self, lane: Lane) -> StoreResult<Drops> {
        let args = vec![(ITEM_OVERHEAD as i64).into()];
        self.run(&self.scripts.droppable, lane, args).await?.drops()
    }

    async fn drop_oldest(&self, lane: Lane, bytes: u64, shares: &Drops) -> StoreResult<Drops> {
        let number = |bytes: u64| Value::from(i64::try_from(bytes).unwrap_or(i64::MAX));
        let mut args = vec![number(bytes), number(DROP_STEP as u64), number(ITEM_OVERHEAD)];
        for (subscriber, share) in shares.iter() {
            args.push(subscriber.reveal().into());
            args.push(number(share.bytes));
        }
        // Sent again, it would drop as much once more.
        let script = &self.scripts.drop_oldest;
        self.run_with(script, lane, args, Resend::No).await?.drops()
    }

    async fn drop_expired(&self, lane: Lane) -> StoreResult<Drops> {
        let args = vec![(DROP_STEP as i64).into(), (ITEM_OVERHEAD as i64).into()];
        self.run(&self.scripts.drop_expired, lane, args).await?.drops()
    }
}

/// How long is believed which lanes share a server, where that need not be exact.
const NEIGHBOURS_KNOWN: Duration = Duration::from_secs(10);

impl RedisStore {
    /// As [`Room::neighbours`], without asking each time.
    async fn known_neighbours(&self, lane: Lane) -> StoreResult<Vec<Lane>> {
        let mut known = self.lane(lane).neighbours.lock().await;
        if let Some((asked, lanes)) = &*known
            && asked.elapsed() < NEIGHBOURS_KNOWN
        {
            return Ok(lanes.clone());
        }
        let lanes = self.neighbours(lane).await?;
        *known = Some((Instant::now(), lanes.clone()));
        Ok(lanes)
    }
}
