//! Changes that replicas must have before they are answered for
//! (`ROUTEMASTER_REDIS_WAIT_REPLICAS`).
//!
//! `WAIT` tells how many replicas have what *its connection* has changed, and holds the connection
//! up meanwhile. So these changes have a connection of their own, and `WAIT` is sent right behind
//! the script, in one piece with it. fred must not take the script to another node by itself, with
//! `WAIT` left behind on a connection that has changed nothing: it follows no redirection
//! ([`RedisOptions::builder`]).

use std::time::Duration;

use fred::error::Error;
use fred::prelude::ClientLike;
use fred::types::scripts::Script;
use fred::types::{ClusterHash, CustomCommand, Value};
use tokio::time::Instant;

use super::lanes::LaneKeys;
use super::link::{Link, Resend, unavailable};
use super::options::{CALL_TIMEOUT, RedisOptions};
use super::scripts::is_not_loaded;
use crate::store::StoreResult;

/// What must be left of a call's time for the answer after `WAIT` has waited.
const MARGIN: Duration = Duration::from_millis(300);

pub struct Replicas {
    link: Link,
    count: u32,
}

impl Replicas {
    /// Starts to connect; `None` if no replica is waited for.
    pub fn open(options: &RedisOptions) -> anyhow::Result<Option<Self>> {
        let count = options.wait_replicas;
        if count == 0 {
            return Ok(None);
        }
        let link = Link::open(&options.builder()?, options.describe())?;
        Ok(Some(Self { link, count }))
    }

    /// Runs a script, which must be one that may be done twice.
    ///
    /// # Errors
    /// Also if too few replicas have what it changed: it may be done all the same.
    pub async fn run(
        &self,
        script: &Script,
        lane: &LaneKeys,
        args: Vec<Value>,
        give_up: Instant,
    ) -> StoreResult<Value> {
        let call = || self.run_once(script, lane, args.clone(), give_up);
        let (value, replicas) = self.link.call(lane.slot, give_up, Resend::Yes, call).await?;
        if replicas < self.count {
            let count = self.count;
            return Err(unavailable(&format!("{replicas} of {count} replicas have the change")));
        }
        Ok(value)
    }

    async fn run_once(
        &self,
        script: &Script,
        lane: &LaneKeys,
        args: Vec<Value>,
        give_up: Instant,
    ) -> Result<(Value, u32), Error> {
        let by_name = Value::from(script.sha1().clone());
        match self.send("EVALSHA", by_name, lane, args.clone(), give_up).await {
            Err(error) if is_not_loaded(&error) => {
                let whole = Value::from(script.lua().cloned().unwrap_or_default());
                self.send("EVAL", whole, lane, args, give_up).await
            }
            result => result,
        }
    }

    /// Sends a script and `WAIT`; returns the script's answer and how many replicas have caught up.
    async fn send(
        &self,
        eval: &'static str,
        script: Value,
        lane: &LaneKeys,
        args: Vec<Value>,
        give_up: Instant,
    ) -> Result<(Value, u32), Error> {
        let left = give_up.saturating_duration_since(Instant::now()).min(CALL_TIMEOUT);
        let time = left.saturating_sub(MARGIN);
        // 0 would wait without end.
        let time_ms = i64::try_from(time.as_millis()).unwrap_or(i64::MAX).max(1);
        let of_lane = |name| CustomCommand::new_static(name, ClusterHash::Custom(lane.slot), false);
        let one_key = [script, 1.into(), lane.prefix.as_str().into()];
        let both = self.link.client().pipeline();
        let _queued: Value =
            both.custom(of_lane(eval), one_key.into_iter().chain(args).collect::<Vec<_>>()).await?;
        let _queued: Value =
            both.custom(of_lane("WAIT"), vec![i64::from(self.count), time_ms]).await?;
        let mut results = both.try_all::<Value>().await.into_iter();
        let value = results.next().unwrap_or(Ok(Value::Null))?;
        let replicas = results.next().unwrap_or(Ok(Value::Null))?;
        Ok((value, replicas.as_u64().and_then(|count| u32::try_from(count).ok()).unwrap_or(0)))
    }
}
