//! Pulling: what a subscriber asks for.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::link::Resend;
use super::{RedisStore, ms};
use crate::bus::batch::{BatchId, MAX_BATCH_BYTES};
use crate::bus::token::ClientToken;
use crate::store::{Arrivals, PullRequest, Pulled, PulledBatch, Pulls, StoreError, StoreResult};

#[async_trait]
impl Pulls for RedisStore {
    async fn pull(&self, subscriber: &ClientToken, request: &PullRequest) -> StoreResult<Pulled> {
        let lane = self.lane_of(subscriber).await?;
        let (queue, number) = match &request.acknowledge {
            Some(BatchId { queue, number }) => (queue.as_str(), number.to_string()),
            None => ("", String::new()),
        };
        let args = vec![
            subscriber.reveal().into(),
            queue.into(),
            number.into(),
            i64::from(request.max).into(),
            ms(request.lease),
            (MAX_BATCH_BYTES as i64).into(),
        ];
        // Sent again, it would find its own acknowledgement stale; its batch comes again after the lease.
        let reply = self.run_with(&self.scripts.pull, lane, args, Resend::No).await?;
        if reply.is_list() {
            return Ok(Pulled::Batch(Box::new(reply.leased_batch()?)));
        }
        Ok(match reply.text()?.as_str() {
            "no queue" => Pulled::NoPullQueue,
            "stale" => Pulled::Stale,
            "paused" => Pulled::Paused,
            "nothing" => Pulled::Nothing,
            left => {
                let left = left
                    .parse()
                    .map_err(|_| StoreError::Corrupt("pull: a number was expected".into()))?;
                Pulled::Out(Duration::from_millis(left))
            }
        })
    }

    async fn acknowledge_pulled(
        &self,
        subscriber: &ClientToken,
        batch: &BatchId,
    ) -> StoreResult<PulledBatch> {
        self.finish_pulled(subscriber, batch, true).await
    }

    async fn release_pulled(
        &self,
        subscriber: &ClientToken,
        batch: &BatchId,
    ) -> StoreResult<PulledBatch> {
        self.finish_pulled(subscriber, batch, false).await
    }

    fn arrivals(&self) -> &Arc<Arrivals> {
        self.listen();
        &self.arrivals
    }
}

impl RedisStore {
    async fn finish_pulled(
        &self,
        subscriber: &ClientToken,
        batch: &BatchId,
        is_done: bool,
    ) -> StoreResult<PulledBatch> {
        let lane = self.lane_of(subscriber).await?;
        let args = vec![
            subscriber.reveal().into(),
            batch.queue.as_str().into(),
            batch.number.to_string().into(),
            i64::from(is_done).into(),
            self.origin.as_str().into(),
        ];
        let mut reply = self.change(&self.scripts.finish_pulled, lane, args).await?;
        self.arrivals.tell([subscriber]);
        if !reply.is_list() {
            return Ok(PulledBatch::Stale);
        }
        let events = reply.part()?.unsigned()?;
        let attempt = u32::try_from(reply.part()?.unsigned()?).unwrap_or(u32::MAX);
        Ok(PulledBatch::Done { events, attempt })
    }
}
