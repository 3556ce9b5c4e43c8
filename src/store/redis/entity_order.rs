//! Queues in the order of entities.

use std::time::Duration;

use async_trait::async_trait;
use fred::types::Value;

use super::queues::{reason_arg, status_arg};
use super::reply::Reply;
use super::{RedisStore, ms};
use crate::bus::batch::MAX_BATCH_BYTES;
use crate::bus::entity::Entity;
use crate::bus::item::QueuedItem;
use crate::store::{AsideEntity, EntityOrder, Lane, QueueLease, StoreResult, Window, WindowStep};

#[async_trait]
impl EntityOrder for RedisStore {
    async fn step_window(
        &self,
        lane: Lane,
        step: WindowStep,
        lease: Duration,
    ) -> StoreResult<Option<Window>> {
        let mut args = lease_args(&step.lease).to_vec();
        args.extend([
            i64::from(step.health.points()).into(),
            status_arg(step.failure.as_ref()),
            reason_arg(step.failure.as_ref()),
            (step.more as i64).into(),
            (MAX_BATCH_BYTES as i64).into(),
            ms(lease),
            i64::from(step.has_recovered).into(),
            (step.done.len() as i64).into(),
        ]);
        args.extend(step.done.iter().map(|place| Value::from(*place as i64)));
        args.push((step.aside.len() as i64).into());
        for (place, entity) in &step.aside {
            args.extend([Value::from(*place as i64), entity.as_str().into()]);
        }
        for progress in &step.entities {
            args.extend([
                progress.entity.as_str().into(),
                (progress.done as i64).into(),
                i64::from(progress.dead.is_some()).into(),
                status_arg(progress.dead.as_ref()),
                reason_arg(progress.dead.as_ref()),
                i64::from(progress.attempts).into(),
                ms(progress.due_in),
            ]);
        }
        let mut reply = self.run(&self.scripts.step_window, lane, args).await?;
        if !reply.is_list() {
            return Ok(None);
        }
        let fence = reply.part()?.unsigned()?;
        let is_paused = reply.part()?.unsigned()? > 0;
        let items = reply.part()?.map(Reply::queued_item).collect::<StoreResult<_>>()?;
        Ok(Some(Window { lease: QueueLease { fence, ..step.lease }, items, is_paused }))
    }

    async fn close_window(&self, lane: Lane, lease: &QueueLease) -> StoreResult<()> {
        let args = lease_args(lease).to_vec();
        let due_in = self.run(&self.scripts.close_window, lane, args).await?.integer()?;
        if let Ok(due_in) = u64::try_from(due_in) {
            self.lane(lane).alarm.ring_in(Duration::from_millis(due_in));
        }
        Ok(())
    }

    async fn is_behind_window(&self, lane: Lane, lease: &QueueLease) -> StoreResult<bool> {
        let args = vec![lease.subscriber.reveal().into()];
        Ok(self.run(&self.scripts.behind_window, lane, args).await?.integer()? > 0)
    }

    async fn entities_aside(
        &self,
        lane: Lane,
        lease: &QueueLease,
    ) -> StoreResult<Vec<AsideEntity>> {
        let args = vec![lease.subscriber.reveal().into()];
        let entities = self.run(&self.scripts.entities_aside, lane, args).await?;
        let entity = |mut row: Reply| {
            Ok(AsideEntity {
                entity: Entity::from_stored(row.part()?.text()?),
                events: row.part()?.unsigned()? as usize,
                bytes: row.part()?.unsigned()? as usize,
                attempts: row.part()?.unsigned()? as u32,
                due_in: row.part()?.millis()?,
            })
        };
        entities.map(entity).collect()
    }

    async fn events_aside(
        &self,
        lane: Lane,
        lease: &QueueLease,
        entity: &Entity,
        limit: usize,
    ) -> StoreResult<Vec<QueuedItem>> {
        let args =
            vec![lease.subscriber.reveal().into(), entity.as_str().into(), (limit as i64).into()];
        let events = self.run(&self.scripts.events_aside, lane, args).await?;
        events.map(Reply::queued_item).collect()
    }
}

fn lease_args(lease: &QueueLease) -> [Value; 3] {
    [lease.subscriber.reveal().into(), lease.queue.as_str().into(), lease.fence.to_string().into()]
}
