//! Queues: publishing into them, and delivering from them.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use fred::types::Value;
use tokio::time::Instant;

use super::connection::Connection;
use super::link::Resend;
use super::reply::Reply;
use super::{RedisStore, ms, publish};
use crate::bus::attempt::{Failure, is_refusal};
use crate::bus::batch::MAX_BATCH_BYTES;
use crate::store::{
    Alarm, BatchOutcome, BatchSettled, BatchSettlement, CLAIM_MAX_BYTES, CLOCK_STEP, Lane,
    Publication, Published, Publisher, QueueClaim, QueueLease, Queues, StoreError, StoreResult,
};

/// One group of publications is in the server's hands while the next one is on its way to it.
const COMMITS_AT_ONCE: usize = 2;

/// Numbers this process's claims in a lane, so that Redis knows which of them was never answered.
#[derive(Default)]
pub struct Claims {
    pub last: i64,
    pub last_answered: i64,
}

#[async_trait]
impl Publisher for RedisStore {
    async fn publish(
        &self,
        publications: Vec<Publication>,
        give_up: Instant,
    ) -> StoreResult<Vec<Published>> {
        publish::publish(self, &self.connection, publications, give_up).await
    }

    fn commits_at_once(&self) -> usize {
        COMMITS_AT_ONCE
    }
}

/// Publishes over a connection of its own.
struct RedisPublisher {
    store: Arc<RedisStore>,
    connection: Connection,
}

#[async_trait]
impl Publisher for RedisPublisher {
    async fn publish(
        &self,
        publications: Vec<Publication>,
        give_up: Instant,
    ) -> StoreResult<Vec<Published>> {
        publish::publish(&self.store, &self.connection, publications, give_up).await
    }

    fn commits_at_once(&self) -> usize {
        1
    }
}

#[async_trait]
impl Queues for RedisStore {
    fn publisher(self: Arc<Self>) -> anyhow::Result<Arc<dyn Publisher>> {
        let connection = Connection::open(&self.options)?;
        Ok(Arc::new(RedisPublisher { store: self, connection }))
    }

    /// They expire, or are pushed out, where they are kept.
    async fn forget_publish_keys(&self) -> StoreResult<()> {
        Ok(())
    }

    async fn due_batches(&self, within: Duration) -> StoreResult<u64> {
        let counts = self.run_everywhere(&self.scripts.due_batches, &[ms(within)]).await?;
        counts.into_iter().map(Reply::unsigned).sum()
    }

    async fn claim_queues(
        &self,
        lane: Lane,
        limit: usize,
        lease: Duration,
    ) -> StoreResult<QueueClaim> {
        let mut claims = self.lane(lane).claims.lock().await;
        claims.last += 1;
        let args = vec![
            (limit as i64).into(),
            ms(lease),
            (MAX_BATCH_BYTES as i64).into(),
            (CLAIM_MAX_BYTES as i64).into(),
            ms(CLOCK_STEP),
            self.origin.as_str().into(),
            claims.last.into(),
            claims.last_answered.into(),
        ];
        // Sent again, it would be taken for an old copy: the next one ends what a lost one has leased.
        let mut reply = self.run_with(&self.scripts.claim, lane, args, Resend::No).await?;
        claims.last_answered = claims.last;
        let next_due = u64::try_from(reply.part()?.integer()?).ok().map(Duration::from_millis);
        let batches = reply.map(Reply::leased_batch).collect::<StoreResult<_>>()?;
        Ok(QueueClaim { batches, next_due })
    }

    async fn settle_batches(
        &self,
        lane: Lane,
        settlements: Vec<BatchSettlement>,
        lease: Duration,
    ) -> StoreResult<Vec<BatchSettled>> {
        let count = settlements.len();
        let mut args: Vec<Value> = Vec::with_capacity(3 + 9 * count);
        args.push(ms(lease));
        args.push((MAX_BATCH_BYTES as i64).into());
        args.push((CLAIM_MAX_BYTES as i64).into());
        for settlement in settlements {
            let QueueLease { subscriber, queue, fence } = settlement.lease;
            let failure = settlement.failure.as_ref();
            let is_refused = failure.is_some_and(|failure| failure.status.is_some_and(is_refusal));
            args.extend::<[Value; 9]>([
                subscriber.reveal().into(),
                queue.into(),
                fence.to_string().into(),
                match settlement.outcome {
                    BatchOutcome::Acknowledged => "acknowledged".into(),
                    BatchOutcome::Failed { retry_in } => ms(retry_in),
                    BatchOutcome::Gone => "gone".into(),
                    BatchOutcome::Returned => 0.into(),
                },
                i64::from(settlement.health.points()).into(),
                i64::from(settlement.take_next).into(),
                status_arg(failure),
                reason_arg(failure),
                i64::from(is_refused).into(),
            ]);
        }
        let reply = self.run(&self.scripts.settle, lane, args).await?;
        let settled =
            reply.map(|reply| self.settled(lane, reply)).collect::<StoreResult<Vec<_>>>()?;
        if settled.len() != count {
            return Err(StoreError::Corrupt("settle: not one answer for each".into()));
        }
        Ok(settled)
    }

    async fn renew_queues(
        &self,
        lane: Lane,
        leases: &[QueueLease],
        lease: Duration,
    ) -> StoreResult<Vec<QueueLease>> {
        let mut args: Vec<Value> = Vec::with_capacity(1 + 3 * leases.len());
        args.push(ms(lease));
        for QueueLease { subscriber, queue, fence } in leases {
            args.push(subscriber.reveal().into());
            args.push(queue.as_str().into());
            args.push(fence.to_string().into());
        }
        self.run(&self.scripts.renew, lane, args).await?.pick(leases)
    }

    fn alarm(&self, lane: Lane) -> &Alarm {
        self.listen();
        &self.lane(lane).alarm
    }
}

impl RedisStore {
    /// What became of a settlement, as `settle.lua` tells it.
    fn settled(&self, lane: Lane, reply: Reply) -> StoreResult<BatchSettled> {
        if reply.is_list() {
            return Ok(BatchSettled::Next(Box::new(reply.leased_batch()?)));
        }
        let released = reply.text()?;
        if released == "stale" {
            return Ok(BatchSettled::Stale);
        }
        if let Ok(delay) = released.parse() {
            self.lane(lane).alarm.ring_in(Duration::from_millis(delay));
        }
        Ok(BatchSettled::Released)
    }
}

/// What was answered, as scripts take it: `-` without a failure, or an answer.
pub fn status_arg(failure: Option<&Failure>) -> Value {
    let status = failure.and_then(|failure| failure.status);
    status.map_or("-".into(), |status| Value::Integer(status.into()))
}

/// Why something failed, as scripts take it: empty if it did not.
pub fn reason_arg(failure: Option<&Failure>) -> Value {
    failure.map_or("", |failure| &failure.reason).into()
}
