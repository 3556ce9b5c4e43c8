//! Forgets events that became dead letters long ago or take too much room, and what names publications that were
//! stored once; tells the news of those that were refused.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::portions::Portions;
use crate::bus::clock::Clock;
use crate::bus::news::News;
use crate::commit::NewsDesk;
use crate::store::{
    DEAD_EVENTS_AT_ONCE, DeadBounds, DeadCause, DeadCursor, ForgottenDead, Lane, Store, StoreResult,
};

/// The pause between two looks.
const INTERVAL: Duration = Duration::from_secs(10);

/// How many of those that are new are looked at: of each subscriber, no more is told than a line a minute.
const NEW_MAX: usize = 50;
/// What is older is no news: another process had the duty, or none.
const NEWS_AGE_MS: u64 = 10_000;

pub struct OldDeadEvents {
    store: Arc<dyn Store>,
    bounds: DeadBounds,
    news: NewsDesk,
    rest_until: Instant,
    /// The newest that was seen.
    seen: Option<DeadCursor>,
    /// How many there were.
    count: u64,
}

impl OldDeadEvents {
    pub fn new(store: Arc<dyn Store>, bounds: DeadBounds, news: NewsDesk) -> Self {
        Self { store, bounds, news, rest_until: Instant::now(), seen: None, count: 0 }
    }

    /// Tells the news of those that were refused since the last time.
    pub async fn tell_news(&mut self) {
        if let Err(error) = self.tell_of_new().await {
            tracing::debug!(%error, "failed to look for new dead letters; trying again");
        }
    }

    async fn tell_of_new(&mut self) -> StoreResult<()> {
        // They are looked at only if there are others than before.
        let count = self.store.dead_event_count().await?;
        if std::mem::replace(&mut self.count, count) == count {
            return Ok(());
        }
        let page = self.store.dead_events(None, None, NEW_MAX).await?;
        let since_ms = Clock::system().now_ms().saturating_sub(NEWS_AGE_MS);
        let is_new = |cursor: DeadCursor| self.seen.is_none_or(|seen| cursor > seen);
        let new = page.iter().take_while(|(cursor, _)| is_new(*cursor));
        let new =
            new.filter(|(_, dead)| dead.cause == DeadCause::Refused && dead.dead_ms >= since_ms);
        for (_, dead) in new {
            let status = dead.failure.as_ref().and_then(|failure| failure.status);
            self.news.tell(News::DeadEvent { subscriber: dead.subscriber.label(), status });
        }
        self.seen = page.first().map(|(cursor, _)| *cursor).or(self.seen);
        Ok(())
    }

    pub async fn forget(&mut self) {
        if Instant::now() < self.rest_until {
            return;
        }
        match self.forget_all().await {
            Ok(for_room) if for_room > 0 => tracing::warn!(
                events = for_room,
                "forgot dead letters, the oldest first: they took more than ROUTEMASTER_DEAD_EVENTS_MAX_BYTES"
            ),
            Ok(_) => {}
            Err(error) => tracing::debug!(%error, "failed to forget dead letters; trying again"),
        }
        self.rest_until = Instant::now() + INTERVAL;
    }

    /// How many went for want of room.
    async fn forget_all(&self) -> StoreResult<u64> {
        self.store.forget_publish_keys().await?;
        let lanes = self.store.lanes().await?;
        let bounds = DeadBounds { max_bytes: self.bounds.max_bytes / lanes as u64, ..self.bounds };
        let mut all_for_room = 0;
        for lane in Lane::first(lanes) {
            let mut portions = Portions::begin();
            loop {
                let ForgottenDead { old, for_room } =
                    self.store.forget_dead_events(lane, bounds).await?;
                all_for_room += for_room;
                if old.max(for_room) < DEAD_EVENTS_AT_ONCE as u64 || !portions.another().await {
                    break;
                }
            }
        }
        Ok(all_for_room)
    }
}
