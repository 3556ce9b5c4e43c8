//! The room that is taken, and dropping so that there is some.

use async_trait::async_trait;

use super::{SqliteStore, call_acceptance, dead_events, housekeeping, kept_events, trim};
use crate::store::{Drops, Lane, Messages, Room, StoreResult, Usage};

/// How many portions of removed subscribers' items go with one look for expired ones.
const REMOVED_PORTIONS: usize = 10;

#[async_trait]
impl Room for SqliteStore {
    async fn usage(&self, _lane: Lane) -> StoreResult<Usage> {
        let usage = self.reader.run(housekeeping::usage).await?;
        let calls = self.reader.run(call_acceptance::taken).await?;
        let dead_events = self.reader.run(dead_events::taken).await?;
        let kept = self.reader.run(kept_events::taken).await?;
        Ok(usage.without(calls + dead_events + kept + self.message_counts().await?.bytes))
    }

    async fn neighbours(&self, lane: Lane) -> StoreResult<Vec<Lane>> {
        Ok(vec![lane])
    }

    async fn droppable(&self, _lane: Lane) -> StoreResult<Drops> {
        let mut droppable = Drops::default();
        let mut after = Some(0);
        // In portions, so that nobody waits long behind it for who is let in.
        while let Some(id) = after {
            let (portion, last) = self.reader.run(move |db| trim::droppable(db, id)).await?;
            droppable.add_all(&portion);
            after = last;
        }
        Ok(droppable)
    }

    async fn drop_oldest(&self, _lane: Lane, bytes: u64, shares: &Drops) -> StoreResult<Drops> {
        let now_ms = self.clock.now_ms();
        let shares = shares.clone();
        self.write_lazily(move |db| trim::drop_oldest(db, bytes, &shares, now_ms)).await
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
