//! The room that is taken, and dropping so that there is some.

use async_trait::async_trait;
use fred::types::Value;

use super::link::Resend;
use super::{RedisStore, server_check};
use crate::store::{DROP_STEP, Drops, ITEM_OVERHEAD, Lane, Room, StoreResult, Usage};

fn drop_args(bytes: u64) -> Vec<Value> {
    let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
    vec![bytes.into(), (DROP_STEP as i64).into(), (ITEM_OVERHEAD as i64).into()]
}

#[async_trait]
impl Room for RedisStore {
    async fn usage(&self, lane: Lane) -> StoreResult<Usage> {
        server_check::usage(&self.connection.info(&self.lane(lane).keys).await?)
    }

    async fn drop_oldest(&self, lane: Lane, bytes: u64) -> StoreResult<Drops> {
        // Sent again, it would drop as much once more.
        let script = &self.scripts.drop_oldest;
        self.run_with(script, lane, drop_args(bytes), Resend::No).await?.drops()
    }

    async fn preview_drop(&self, lane: Lane, bytes: u64, before: &Drops) -> StoreResult<Drops> {
        let mut args = drop_args(bytes);
        for (subscriber, dropped) in before.iter() {
            args.push(subscriber.reveal().into());
            args.push((dropped.items as i64).into());
        }
        self.run(&self.scripts.preview_drop, lane, args).await?.drops()
    }

    async fn drop_expired(&self, lane: Lane) -> StoreResult<Drops> {
        let args = vec![(DROP_STEP as i64).into(), (ITEM_OVERHEAD as i64).into()];
        self.run(&self.scripts.drop_expired, lane, args).await?.drops()
    }
}
