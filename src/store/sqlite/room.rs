//! The room that is taken, and dropping so that there is some.

use async_trait::async_trait;

use super::{SqliteStore, housekeeping, trim};
use crate::store::{Drops, Lane, Room, StoreResult, Usage};

/// How many portions of removed subscribers' items go with one look for expired ones.
const REMOVED_PORTIONS: usize = 10;

#[async_trait]
impl Room for SqliteStore {
    async fn usage(&self, _lane: Lane) -> StoreResult<Usage> {
        self.reader.run(housekeeping::usage).await
    }

    async fn drop_oldest(&self, _lane: Lane, bytes: u64) -> StoreResult<Drops> {
        let now_ms = self.clock.now_ms();
        self.write_lazily(move |db| trim::drop_oldest(db, bytes, now_ms)).await
    }

    async fn preview_drop(&self, _lane: Lane, bytes: u64, before: &Drops) -> StoreResult<Drops> {
        let before = before.clone();
        self.reader.run(move |db| trim::preview_drop(db, bytes, &before)).await
    }

    async fn drop_expired(&self, _lane: Lane) -> StoreResult<Drops> {
        // Where no worker looks for work, nobody else takes away what removed subscribers have left.
        for _ in 0..REMOVED_PORTIONS {
            if !self.write_lazily(housekeeping::drop_removed_items).await? {
                break;
            }
        }
        let now_ms = self.clock.now_ms();
        self.write_lazily(move |db| trim::drop_expired(db, now_ms)).await
    }
}
