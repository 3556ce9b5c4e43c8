//! The Redis store, for more than one machine.
//!
//! Everything that must change together changes in one Lua script (`scripts/`, where
//! `common.lua` lists the keys). All keys of a lane share one hash tag, so that a Cluster keeps them
//! on one node ([`lanes`]). Time is the Redis server's, so the machines' clocks need not agree.

mod commit_slots;
mod connection;
mod directory;
mod imports;
mod lanes;
mod link;
mod options;
mod publish;
mod replicas;
mod reply;
mod scripts;
mod server_check;
mod server_time;
pub mod source;
mod wake;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use fred::types::Value;
use fred::types::scripts::Script;
use futures_util::future::try_join_all;
use tokio::time::Instant;

use super::{
    Alarm, CLAIM_MAX_BYTES, CLOCK_STEP, Claim, DROP_STEP, Drops, Duty, ITEM_OVERHEAD,
    ImportedPortion, ImportedTopic, Lane, Lease, Outcome, Portion, Publication, Published, Settled,
    Settlement, Store, StoreError, StoreResult, Subscribed, Taken, TopicDeleted, Usage,
};
use crate::bus::batch::MAX_BATCH_BYTES;
use crate::bus::health::Health;
use crate::bus::subscription::{Subscription, SubscriptionRequest, SubscriptionStatus};
use crate::bus::token::{ApiToken, ClientToken, random_hex};
use crate::bus::topic::{Topic, TopicName};
use commit_slots::CommitSlots;
use connection::Connection;
use imports::ImportScripts;
use lanes::{LaneKeys, lane_of};
use link::Resend;
use options::CALL_TIMEOUT;
pub use options::RedisOptions;
use reply::Reply;
use scripts::Scripts;
use server_time::ServerTime;

/// How many lanes a store in a Cluster gets if nothing else is asked for: enough for each of three
/// nodes to have some, and few enough for each group of publications to go to all of them.
const CLUSTER_LANES: usize = 8;
/// One group of publications is in the server's hands while the next one is on its way to it.
const COMMITS_AT_ONCE: usize = 2;

pub struct RedisStore {
    options: RedisOptions,
    connection: Connection,
    scripts: Scripts,
    import_scripts: ImportScripts,
    slots: CommitSlots,
    /// Names this process in the wake-ups that it sends.
    origin: String,
    /// What belongs to each lane, for all that there can be.
    lanes: Vec<RedisLane>,
    /// How many there are, once Redis has told.
    lane_count: OnceLock<usize>,
    listening: OnceLock<()>,
}

struct RedisLane {
    keys: LaneKeys,
    server_time: ServerTime,
    alarm: Arc<Alarm>,
    /// Held during a claim, so that this process makes one after the other.
    claims: tokio::sync::Mutex<Claims>,
}

/// Numbers this process's claims in a lane, so that Redis knows which of them was never answered.
#[derive(Default)]
struct Claims {
    last: i64,
    last_answered: i64,
}

impl RedisStore {
    /// Prepares the connection and starts to connect in the background, for as long as it takes.
    ///
    /// # Errors
    /// If the URL cannot be understood, or a certificate's file cannot be used.
    pub fn open(options: &RedisOptions) -> anyhow::Result<Self> {
        let lanes = Lane::first(Lane::MAX).map(|lane| RedisLane {
            keys: LaneKeys::of(lane),
            server_time: ServerTime::default(),
            alarm: Arc::new(Alarm::default()),
            claims: tokio::sync::Mutex::default(),
        });
        Ok(Self {
            options: options.clone(),
            connection: Connection::open(options)?,
            scripts: Scripts::new(),
            import_scripts: ImportScripts::new(),
            slots: CommitSlots::new()?,
            origin: random_hex()?,
            lanes: lanes.collect(),
            lane_count: OnceLock::new(),
            listening: OnceLock::new(),
        })
    }

    /// Asks the servers how they are set. Returns what is dangerous about that; see
    /// [`server_check`].
    ///
    /// # Errors
    /// A [`StoreError`] if a server cannot be asked; else why the bus must not use it, and how to
    /// set it.
    pub async fn check_server(&self) -> anyhow::Result<Vec<&'static str>> {
        let mut warnings = Vec::new();
        for lane in self.all_lanes().await? {
            let info = self.connection.info(&lane.keys).await?;
            if let Some(server_ms) = server_check::time_ms(&info) {
                lane.server_time.learn(server_ms);
            }
            // Several lanes may be on one node, and the nodes may be set alike.
            for warning in server_check::check(&info)? {
                if !warnings.contains(&warning) {
                    warnings.push(warning);
                }
            }
        }
        Ok(warnings)
    }

    /// How many lanes there are. It is decided when the store is first used.
    async fn lane_count(&self) -> StoreResult<usize> {
        if let Some(count) = self.lane_count.get() {
            return Ok(*count);
        }
        let in_an_empty_store = self
            .options
            .lanes
            .unwrap_or_else(|| if self.options.is_cluster() { CLUSTER_LANES } else { 1 });
        let decide = i64::from(!self.options.look_only);
        let args = vec![(in_an_empty_store as i64).into(), decide.into()];
        let mut reply = self.run(&self.scripts.lanes, Lane::HOME, args).await?;
        let (count, is_decided) = (reply.part()?.unsigned()?, reply.part()?.integer()? > 0);
        let count = usize::try_from(count).ok().filter(|count| (1..=Lane::MAX).contains(count));
        let count = count.ok_or_else(|| {
            StoreError::Corrupt(format!("Redis: there must be 1 to {} lanes", Lane::MAX))
        })?;
        let is_first = is_decided && self.lane_count.set(count).is_ok();
        if is_first && self.options.lanes.is_some_and(|wanted| wanted != count) {
            tracing::warn!(
                "ROUTEMASTER_REDIS_LANES has no effect: this store has {count} for as long as it \
                 is there"
            );
        }
        Ok(count)
    }

    async fn all_lanes(&self) -> StoreResult<&[RedisLane]> {
        let count = self.lane_count().await?;
        Ok(&self.lanes[..count.min(self.lanes.len())])
    }

    async fn lane_of(&self, subscriber: &ClientToken) -> StoreResult<Lane> {
        Ok(lane_of(subscriber, self.lane_count().await?).unwrap_or(Lane::HOME))
    }

    fn lane(&self, lane: Lane) -> &RedisLane {
        &self.lanes[lane.index()]
    }

    /// Runs a script that may be done twice.
    async fn run(&self, script: &Script, lane: Lane, args: Vec<Value>) -> StoreResult<Reply> {
        self.run_with(script, lane, args, Resend::Yes).await
    }

    async fn run_with(
        &self,
        script: &Script,
        lane: Lane,
        args: Vec<Value>,
        resend: Resend,
    ) -> StoreResult<Reply> {
        let give_up = Instant::now() + CALL_TIMEOUT;
        self.connection.run(script, &self.lane(lane).keys, args, resend, give_up).await
    }

    /// Runs a script that changes what somebody is answered for.
    async fn change(&self, script: &Script, lane: Lane, args: Vec<Value>) -> StoreResult<Reply> {
        let give_up = Instant::now() + CALL_TIMEOUT;
        self.connection.run_replicated(script, &self.lane(lane).keys, args, give_up).await
    }

    /// Runs a script on all lanes at once.
    async fn run_everywhere(&self, script: &Script, args: &[Value]) -> StoreResult<Vec<Reply>> {
        let lanes = Lane::first(self.lane_count().await?);
        try_join_all(lanes.map(|lane| self.run(script, lane, args.to_vec()))).await
    }
}

fn ms(duration: Duration) -> Value {
    Value::Integer(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX))
}

fn drop_args(bytes: u64) -> Vec<Value> {
    let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
    vec![bytes.into(), (DROP_STEP as i64).into(), (ITEM_OVERHEAD as i64).into()]
}

#[async_trait]
impl Store for RedisStore {
    async fn publish(
        &self,
        publications: Vec<Publication>,
        give_up: Instant,
    ) -> StoreResult<Vec<Published>> {
        publish::publish(self, publications, give_up).await
    }

    fn commits_at_once(&self) -> usize {
        COMMITS_AT_ONCE
    }

    async fn subscribe(
        &self,
        subscriber: &ClientToken,
        request: &SubscriptionRequest,
        create_topics: bool,
    ) -> StoreResult<Subscribed> {
        directory::subscribe(self, subscriber, request, create_topics).await
    }

    async fn unsubscribe(&self, subscriber: &ClientToken) -> StoreResult<bool> {
        directory::unsubscribe(self, subscriber).await
    }

    async fn unsubscribe_topic(
        &self,
        subscriber: &ClientToken,
        topic: &TopicName,
    ) -> StoreResult<bool> {
        directory::unsubscribe_topic(self, subscriber, topic).await
    }

    async fn delete_topic(
        &self,
        topic: &TopicName,
        owner: Option<&ClientToken>,
    ) -> StoreResult<TopicDeleted> {
        directory::delete_topic(self, topic, owner).await
    }

    async fn topics(&self) -> StoreResult<Vec<Topic>> {
        directory::topics(self).await
    }

    async fn subscriptions(&self) -> StoreResult<Vec<SubscriptionStatus>> {
        directory::subscriptions(self).await
    }

    async fn subscription(
        &self,
        subscriber: &ClientToken,
    ) -> StoreResult<Option<SubscriptionStatus>> {
        directory::subscription(self, subscriber).await
    }

    async fn due_batches(&self, within: Duration) -> StoreResult<u64> {
        let counts = self.run_everywhere(&self.scripts.due_batches, &[ms(within)]).await?;
        counts.into_iter().map(Reply::unsigned).sum()
    }

    async fn api_tokens(&self) -> StoreResult<Vec<ApiToken>> {
        directory::api_tokens(self).await
    }

    async fn add_api_token(&self, token: &ApiToken) -> StoreResult<()> {
        directory::add_api_token(self, token).await
    }

    async fn delete_api_token(&self, token: &ClientToken) -> StoreResult<()> {
        directory::delete_api_token(self, token).await
    }

    async fn ping(&self) -> StoreResult<()> {
        self.run_everywhere(&self.scripts.ping, &[]).await.map(drop)
    }

    async fn lanes(&self) -> StoreResult<usize> {
        self.lane_count().await
    }

    async fn claim(&self, lane: Lane, limit: usize, lease: Duration) -> StoreResult<Claim> {
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
        Ok(Claim { batches, next_due })
    }

    async fn settle(&self, settlement: Settlement, lease: Duration) -> StoreResult<Settled> {
        let Settlement { lease: Lease { subscriber, queue, fence }, .. } = settlement;
        let lane = self.lane_of(&subscriber).await?;
        let failure = settlement.failure.as_ref();
        let args = vec![
            subscriber.reveal().into(),
            queue.into(),
            fence.to_string().into(),
            match settlement.outcome {
                Outcome::Acknowledged => "acknowledged".into(),
                Outcome::Failed { retry_in } => ms(retry_in),
                Outcome::Returned => 0.into(),
            },
            i64::from(settlement.health.points()).into(),
            i64::from(settlement.take_next).into(),
            ms(lease),
            (MAX_BATCH_BYTES as i64).into(),
            failure
                .and_then(|failure| failure.status)
                .map_or("-".into(), |status| Value::Integer(status.into())),
            failure.map_or("", |failure| &failure.reason).into(),
        ];
        let reply = self.run(&self.scripts.settle, lane, args).await?;
        if reply.is_list() {
            return Ok(Settled::Next(Box::new(reply.leased_batch()?)));
        }
        let released = reply.text()?;
        if released == "stale" {
            return Ok(Settled::Stale);
        }
        if let Ok(delay) = released.parse() {
            self.lane(lane).alarm.ring_in(Duration::from_millis(delay));
        }
        Ok(Settled::Released)
    }

    async fn renew(
        &self,
        lane: Lane,
        leases: &[Lease],
        lease: Duration,
    ) -> StoreResult<Vec<Lease>> {
        let mut args: Vec<Value> = Vec::with_capacity(1 + 3 * leases.len());
        args.push(ms(lease));
        for Lease { subscriber, queue, fence } in leases {
            args.push(subscriber.reveal().into());
            args.push(queue.as_str().into());
            args.push(fence.to_string().into());
        }
        let lost = self.run(&self.scripts.renew, lane, args).await?;
        let lost = lost.map(|position| {
            let position = position.unsigned()? as usize;
            let missing = || StoreError::Corrupt("renew: no such lease".into());
            leases.get(position).cloned().ok_or_else(missing)
        });
        lost.collect()
    }

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

    async fn take_duty(&self, duty: Duty, term: Duration) -> StoreResult<bool> {
        let args = vec![duty.name().into(), self.origin.as_str().into(), ms(term)];
        Ok(self.run(&self.scripts.take_duty, Lane::HOME, args).await?.integer()? > 0)
    }

    async fn import_topic(&self, topic: &Topic) -> StoreResult<ImportedTopic> {
        imports::topic(self, topic).await
    }

    async fn import_subscriber(
        &self,
        subscriber: &ClientToken,
        subscription: &Subscription,
        health: Health,
    ) -> StoreResult<bool> {
        imports::subscriber(self, subscriber, subscription, health).await
    }

    async fn import_batches(
        &self,
        subscriber: &ClientToken,
        portions: Vec<Portion>,
    ) -> StoreResult<Option<Vec<ImportedPortion>>> {
        imports::batches(self, subscriber, portions).await
    }

    async fn imported_batches(
        &self,
        subscriber: &ClientToken,
        batches: &[String],
    ) -> StoreResult<Vec<Taken>> {
        imports::taken(self, subscriber, batches).await
    }

    fn alarm(&self, lane: Lane) -> &Alarm {
        self.listening.get_or_init(|| {
            let alarms = self.lanes.iter().map(|lane| Arc::downgrade(&lane.alarm));
            wake::listen(&self.options, &self.origin, self.connection.left(), alarms.collect());
        });
        &self.lane(lane).alarm
    }

    fn describe(&self) -> String {
        self.options.describe()
    }
}
