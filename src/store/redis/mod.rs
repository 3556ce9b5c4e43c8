//! The Redis store, for more than one machine.
//!
//! Everything that must change together changes in one Lua script (`scripts/`, where
//! `common.lua` lists the keys). All keys of a lane share one hash tag, so that a Cluster keeps them
//! on one node ([`lanes`]). Time is the Redis server's, so the machines' clocks need not agree.

mod calls;
mod commit_slots;
mod connection;
mod control;
mod dead_events;
mod directory;
mod duties;
mod entity_order;
mod imports;
mod journal;
mod kept_events;
mod lanes;
mod link;
mod message_topics;
mod messages;
mod options;
mod processes;
mod publish;
mod pulls;
mod queues;
mod replicas;
mod reply;
mod room;
mod scripts;
mod server_check;
mod server_time;
pub mod source;
mod tallies;
mod wake;

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use fred::types::Value;
use fred::types::scripts::Script;
use futures_util::future::try_join_all;
use tokio::time::Instant;

use super::{Alarm, Arrivals, Lane, Lanes, Store, StoreError, StoreResult};
use crate::bus::token::{ClientToken, random_hex};
use commit_slots::CommitSlots;
use connection::Connection;
use imports::ImportScripts;
use lanes::{LaneKeys, lane_of};
use link::Resend;
use options::CALL_TIMEOUT;
pub use options::RedisOptions;
use queues::Claims;
use reply::Reply;
use scripts::Scripts;
use server_time::ServerTime;

/// How many lanes a store in a Cluster gets if nothing else is asked for: enough for each of three
/// nodes to have some, and few enough for each group of publications to go to all of them.
const CLUSTER_LANES: usize = 8;
/// In which format everything is kept (`scripts/lanes/lanes.lua`). A process that knows an older one only
/// refuses to work with it.
const FORMAT: i64 = 3;

pub struct RedisStore {
    options: RedisOptions,
    connection: Connection,
    scripts: Scripts,
    import_scripts: ImportScripts,
    slots: CommitSlots,
    /// Names this process in the wake-ups that it sends.
    origin: String,
    /// The largest position that this process has proposed for an event.
    last_proposed: AtomicU64,
    /// Who waits in this process for events.
    arrivals: Arc<Arrivals>,
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
    call_alarm: Arc<Alarm>,
    /// The lanes that share its server, and when that was asked.
    neighbours: tokio::sync::Mutex<Option<(Instant, Vec<Lane>)>>,
    /// Held during a claim, so that this process makes one after the other.
    claims: tokio::sync::Mutex<Claims>,
    call_claims: tokio::sync::Mutex<Claims>,
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
            alarm: Arc::default(),
            call_alarm: Arc::default(),
            neighbours: tokio::sync::Mutex::default(),
            claims: tokio::sync::Mutex::default(),
            call_claims: tokio::sync::Mutex::default(),
        });
        Ok(Self {
            options: options.clone(),
            connection: Connection::open(options)?,
            scripts: Scripts::new(),
            import_scripts: ImportScripts::new(),
            slots: CommitSlots::new()?,
            origin: random_hex()?,
            last_proposed: AtomicU64::new(0),
            arrivals: Arc::default(),
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
        // An old one does not know the scripts that would be next.
        match self.connection.info(&self.lane(Lane::HOME).keys).await {
            Ok(info) => drop(server_check::check(&info)?),
            Err(StoreError::Unavailable(reason)) if reason.contains("NOPERM") => {
                return Err(lacking_rights(&reason));
            }
            Err(error) => return Err(error.into()),
        }
        self.check_rights().await?;
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

    /// Asks whether the user that this process is to Redis may do all that it must.
    async fn check_rights(&self) -> anyhow::Result<()> {
        // A long time from now: whoever is awake stays so, nobody else is woken.
        let message = format!("{}:3600000", self.origin);
        let refused = match self.run(&self.scripts.rights, Lane::HOME, vec![message.into()]).await {
            Ok(refused) => refused.map(Reply::text).collect::<StoreResult<Vec<_>>>()?,
            Err(StoreError::Unavailable(reason)) if reason.contains("NOPERM") => {
                return Err(lacking_rights(&reason));
            }
            Err(error) => return Err(error.into()),
        };
        if !refused.is_empty() {
            return Err(lacking_rights(&refused.join(", ")));
        }
        Ok(())
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
        let args = vec![(in_an_empty_store as i64).into(), decide.into(), FORMAT.into()];
        let mut reply = self.run(&self.scripts.lanes, Lane::HOME, args).await?;
        let (count, is_decided) = (reply.part()?.unsigned()?, reply.part()?.integer()? > 0);
        let count = usize::try_from(count).ok().filter(|count| (1..=Lane::MAX).contains(count));
        let count = count.ok_or_else(|| {
            StoreError::Corrupt(format!("Redis: there must be 1 to {} lanes", Lane::MAX))
        })?;
        if decide > 0 && reply.part()?.integer()? < FORMAT {
            self.migrate(count).await?;
        }
        let is_first = is_decided && self.lane_count.set(count).is_ok();
        if is_first && self.options.lanes.is_some_and(|wanted| wanted != count) {
            tracing::warn!(
                "ROUTEMASTER_REDIS_LANES has no effect: this store has {count} for as long as it \
                 is there"
            );
        }
        Ok(count)
    }

    /// Brings what an older program has written into the format of this one. It may be done twice.
    async fn migrate(&self, lanes: usize) -> StoreResult<()> {
        let script = &self.scripts.format_2;
        try_join_all(Lane::first(lanes).map(|lane| self.run(script, lane, vec![]))).await?;
        self.run(&self.scripts.set_format, Lane::HOME, vec![FORMAT.into()]).await?;
        tracing::info!(format = FORMAT, "brought what is in Redis up to date");
        Ok(())
    }

    async fn all_lanes(&self) -> StoreResult<&[RedisLane]> {
        let count = self.lane_count().await?;
        Ok(&self.lanes[..count.min(self.lanes.len())])
    }

    async fn lane_of(&self, subscriber: &ClientToken) -> StoreResult<Lane> {
        Ok(lane_of(subscriber, self.lane_count().await?).unwrap_or(Lane::HOME))
    }

    /// How many topics one client may have, as scripts take it.
    fn max_topics(&self) -> Value {
        Value::Integer(i64::from(self.options.max_topics.unwrap_or(u32::MAX)))
    }

    fn lane(&self, lane: Lane) -> &RedisLane {
        &self.lanes[lane.index()]
    }

    /// Starts to hear from other processes, once.
    fn listen(&self) {
        self.listening.get_or_init(|| {
            let all = || Lane::first(Lane::MAX).zip(&self.lanes);
            let of_queues = all().map(|(lane, own)| (lanes::wake_channel(lane), &own.alarm));
            let of_calls =
                all().map(|(lane, own)| (lanes::call_wake_channel(lane), &own.call_alarm));
            let alarms = of_queues.chain(of_calls);
            let alarms = alarms.map(|(channel, alarm)| (channel, Arc::downgrade(alarm)));
            let arrivals = Lane::first(Lane::MAX).map(lanes::arrivals_channel).collect();
            let heard = wake::Heard {
                alarms: alarms.collect(),
                arrivals: (arrivals, Arc::downgrade(&self.arrivals)),
            };
            wake::listen(&self.options, &self.origin, self.connection.left(), heard);
        });
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

fn lacking_rights(what: &str) -> anyhow::Error {
    anyhow::anyhow!(
        "the user that the bus is to Redis may not do what it must: {what}; give it all rights on the bus's \
         keys and channels, such as `ACL SETUSER <name> ~rm:* &rm:* +@all -@dangerous +info`"
    )
}

fn ms(duration: Duration) -> Value {
    Value::Integer(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX))
}

#[async_trait]
impl Lanes for RedisStore {
    async fn lanes(&self) -> StoreResult<usize> {
        self.lane_count().await
    }
}

#[async_trait]
impl Store for RedisStore {
    async fn ping(&self) -> StoreResult<()> {
        self.run_everywhere(&self.scripts.ping, &[]).await.map(drop)
    }

    /// Whatever happens, it connects anew.
    async fn broken(&self) -> StoreError {
        std::future::pending().await
    }

    fn describe(&self) -> String {
        self.options.describe()
    }
}
