//! The Redis store, for more than one machine.
//!
//! Everything that must change together changes in one Lua script (`scripts/`, where
//! `common.lua` lists the keys). All keys share one hash tag, so that a Cluster keeps them on one
//! node. Time is the Redis server's, so the machines' clocks need not agree.

mod commit_slots;
mod connection;
mod imports;
mod reply;
mod server_check;
mod server_time;
pub mod source;
mod wake;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use fred::types::Value;
use fred::types::scripts::Script;
use tokio::time::Instant;

use super::{
    Alarm, BROKEN_OFF_AFTER, CLAIM_MAX_BYTES, CLOCK_STEP, Claim, DROP_STEP, Drops, Duty,
    ITEM_OVERHEAD, ImportedPortion, ImportedTopic, Lease, Outcome, Portion, Publication, Published,
    Settled, Settlement, Store, StoreError, StoreResult, Subscribed, Taken, TopicDeleted, Usage,
};
use crate::bus::batch::MAX_BATCH_BYTES;
use crate::bus::health::Health;
use crate::bus::subscription::{Subscription, SubscriptionStatus};
use crate::bus::token::{ApiToken, ClientToken, random_hex};
use crate::bus::topic::{Topic, TopicName};
use commit_slots::{CommitSlot, CommitSlots};
use connection::{CALL_TIMEOUT, Connection, Resend};
use imports::ImportScripts;
use reply::Reply;
use server_time::ServerTime;

/// Prefix of all keys; the braces are the hash tag.
const LANE: &str = "rm:{0}:";
const API_TOKENS: &str = "rm:{0}:api_tokens";
const WAKE_CHANNEL: &str = "rm:{0}:wake";
/// What `publish.lua` answers when nobody waits for it any more.
const LATE: &str = "late";

pub struct RedisStore {
    url: String,
    connection: Connection,
    scripts: Scripts,
    import_scripts: ImportScripts,
    slots: CommitSlots,
    server_time: ServerTime,
    /// Names this process in the wake-ups that it sends.
    origin: String,
    alarm: Arc<Alarm>,
    listening: OnceLock<()>,
}

struct Scripts {
    publish: Script,
    claim: Script,
    settle: Script,
    renew: Script,
    subscribe: Script,
    unsubscribe: Script,
    unsubscribe_topic: Script,
    delete_topic: Script,
    topics: Script,
    subscriptions: Script,
    due_batches: Script,
    ping: Script,
    drop_oldest: Script,
    preview_drop: Script,
    drop_expired: Script,
    take_duty: Script,
}

/// Puts a script together. `allow-oom` is for scripts that free memory: they must work when
/// Redis has none left. The others are refused as a whole then, before they change anything.
macro_rules! script {
    ($flags:literal, $($file:literal),+) => {
        Script::from_lua(concat!(
            "#!lua", $flags, "\n",
            include_str!("scripts/common.lua"),
            $(include_str!(concat!("scripts/", $file, ".lua"))),+
        ))
    };
}
use script;

impl Scripts {
    fn new() -> Self {
        Self {
            publish: script!("", "publish"),
            claim: script!(" flags=allow-oom", "queue", "claim"),
            settle: script!(" flags=allow-oom", "due", "queue", "settle"),
            renew: script!(" flags=allow-oom", "renew"),
            subscribe: script!("", "due", "subscribe"),
            unsubscribe: script!(" flags=allow-oom", "unsubscribe"),
            unsubscribe_topic: script!(" flags=allow-oom", "unsubscribe_topic"),
            delete_topic: script!(" flags=allow-oom", "delete_topic"),
            topics: script!(" flags=no-writes", "topics"),
            subscriptions: script!(" flags=no-writes", "subscriptions"),
            due_batches: script!(" flags=no-writes", "due_batches"),
            ping: script!("", "ping"),
            drop_oldest: script!(" flags=allow-oom", "due", "trim", "oldest", "drop_oldest"),
            preview_drop: script!(" flags=no-writes", "due", "trim", "oldest", "preview_drop"),
            drop_expired: script!(" flags=allow-oom", "due", "trim", "drop_expired"),
            take_duty: script!(" flags=allow-oom", "take_duty"),
        }
    }
}

impl RedisStore {
    /// Prepares the connection and starts to connect in the background, for as long as it takes.
    ///
    /// # Errors
    /// If the URL cannot be understood.
    pub fn open(url: &str) -> anyhow::Result<Self> {
        Ok(Self {
            url: url.to_owned(),
            connection: Connection::open(url)?,
            scripts: Scripts::new(),
            import_scripts: ImportScripts::new(),
            slots: CommitSlots::new()?,
            server_time: ServerTime::default(),
            origin: random_hex()?,
            alarm: Arc::new(Alarm::default()),
            listening: OnceLock::new(),
        })
    }

    /// Asks the server how it is set. Returns what is dangerous about that; see [`server_check`].
    ///
    /// # Errors
    /// A [`StoreError`] if the server cannot be asked; else why the bus must not use it, and how
    /// to set it.
    pub async fn check_server(&self) -> anyhow::Result<Vec<&'static str>> {
        let info = self.connection.info().await?;
        if let Some(server_ms) = server_check::time_ms(&info) {
            self.server_time.learn(server_ms);
        }
        server_check::check(&info)
    }

    fn publish_args(
        &self,
        slot: &CommitSlot,
        publications: &[Publication],
        give_up: Instant,
    ) -> Vec<Value> {
        let items: usize = publications.iter().map(|publication| publication.items.len()).sum();
        let mut args: Vec<Value> = Vec::with_capacity(4 + 3 * publications.len() + items);
        args.push(slot.name.as_str().into());
        args.push(slot.number.to_string().into());
        args.push(self.origin.as_str().into());
        args.push(self.server_time.at(give_up).map_or(String::new(), |ms| ms.to_string()).into());
        for publication in publications {
            args.push(publication.topic.as_str().into());
            args.push(publication.publisher.reveal().into());
            args.push((publication.items.len() as i64).into());
            args.extend(publication.items.iter().cloned().map(Value::Bytes));
        }
        args
    }

    async fn run(&self, script: &Script, args: Vec<Value>) -> StoreResult<Reply> {
        let give_up = Instant::now() + CALL_TIMEOUT;
        self.connection.run(script, LANE, args, Resend::Yes, give_up).await
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
        let slot = self.slots.take();
        let outcomes = loop {
            let args = self.publish_args(&slot, &publications, give_up);
            let script = &self.scripts.publish;
            let mut reply = self.connection.run(script, LANE, args, Resend::Yes, give_up).await?;
            let outcomes = reply.part()?.text()?;
            let due_in = reply.part()?.integer()?;
            self.server_time.learn(reply.part()?.unsigned()?);
            if let Ok(delay) = u64::try_from(due_in) {
                self.alarm.ring_in(Duration::from_millis(delay));
            }
            if outcomes != LATE {
                break outcomes;
            }
            // Late by a clock that has jumped, or really late.
            if Instant::now() >= give_up {
                return Err(StoreError::Unavailable("Redis: too late".into()));
            }
        };
        self.slots.give_back(slot);
        let published = outcomes.bytes().map(|outcome| match outcome {
            b'1' => Published::Stored,
            _ => Published::OwnedByAnother,
        });
        Ok(published.collect())
    }

    async fn subscribe(
        &self,
        subscriber: &ClientToken,
        subscription: &Subscription,
        create_topics: bool,
    ) -> StoreResult<Subscribed> {
        let queue = random_hex().map_err(|error| StoreError::Unavailable(error.to_string()))?;
        let Subscription { delivery, retention, .. } = subscription;
        let mut args: Vec<Value> = vec![
            subscriber.reveal().into(),
            queue.into(),
            i64::from(create_topics).into(),
            delivery.callback.as_str().into(),
            delivery.uuid.as_deref().unwrap_or_default().into(),
            i64::from(delivery.uuid.is_some()).into(),
            ms(delivery.timeout),
            i64::from(delivery.max).into(),
            retention.age.map_or("".into(), ms),
            retention.count.map_or("".into(), |count| (count as i64).into()),
            self.origin.as_str().into(),
            ms(BROKEN_OFF_AFTER),
        ];
        args.extend(subscription.topics.iter().map(|topic| Value::from(topic.as_str())));
        let mut reply = self.run(&self.scripts.subscribe, args).await?;
        self.alarm.ring_in(Duration::ZERO);
        if reply.is_list() {
            let topic = reply.part()?.text()?;
            return Ok(Subscribed::UnknownTopic(TopicName::from_stored(&topic)));
        }
        Ok(Subscribed::Done)
    }

    async fn unsubscribe(&self, subscriber: &ClientToken) -> StoreResult<bool> {
        let args = vec![subscriber.reveal().into()];
        Ok(self.run(&self.scripts.unsubscribe, args).await?.integer()? > 0)
    }

    async fn unsubscribe_topic(
        &self,
        subscriber: &ClientToken,
        topic: &TopicName,
    ) -> StoreResult<bool> {
        let args = vec![subscriber.reveal().into(), topic.as_str().into()];
        Ok(self.run(&self.scripts.unsubscribe_topic, args).await?.integer()? > 0)
    }

    async fn delete_topic(
        &self,
        topic: &TopicName,
        owner: Option<&ClientToken>,
    ) -> StoreResult<TopicDeleted> {
        let owner = owner.map(ClientToken::reveal).unwrap_or_default();
        let args = vec![topic.as_str().into(), owner.into()];
        match self.run(&self.scripts.delete_topic, args).await?.text()?.as_str() {
            "done" => Ok(TopicDeleted::Done),
            "unknown" => Ok(TopicDeleted::Unknown),
            _ => Ok(TopicDeleted::OwnedByAnother),
        }
    }

    async fn topics(&self) -> StoreResult<Vec<Topic>> {
        let rows = self.run(&self.scripts.topics, vec![]).await?;
        let topics = rows.map(Reply::topic).collect::<StoreResult<Vec<_>>>();
        topics.map(|mut topics| {
            topics.sort_by(|one, other| one.name.cmp(&other.name));
            topics
        })
    }

    async fn subscriptions(&self) -> StoreResult<Vec<SubscriptionStatus>> {
        let rows = self.run(&self.scripts.subscriptions, vec![]).await?;
        let subscriptions = rows.map(Reply::subscription).collect::<StoreResult<Vec<_>>>();
        subscriptions.map(|mut subscriptions| {
            subscriptions.sort_by(|one, other| one.subscriber.cmp(&other.subscriber));
            subscriptions
        })
    }

    async fn due_batches(&self, within: Duration) -> StoreResult<u64> {
        self.run(&self.scripts.due_batches, vec![ms(within)]).await?.unsigned()
    }

    async fn api_tokens(&self) -> StoreResult<Vec<ApiToken>> {
        let tokens = self.connection.hash(API_TOKENS).await?;
        let mut tokens: Vec<ApiToken> = tokens
            .into_iter()
            .map(|(token, name)| ApiToken { name, token: ClientToken::from_stored(&token) })
            .collect();
        tokens.sort_by(|one, other| (&one.name, &one.token).cmp(&(&other.name, &other.token)));
        Ok(tokens)
    }

    async fn add_api_token(&self, token: &ApiToken) -> StoreResult<()> {
        self.connection.hash_set(API_TOKENS, token.token.reveal(), &token.name).await
    }

    async fn delete_api_token(&self, token: &ClientToken) -> StoreResult<()> {
        self.connection.hash_delete(API_TOKENS, token.reveal()).await
    }

    async fn ping(&self) -> StoreResult<()> {
        self.run(&self.scripts.ping, vec![]).await.map(drop)
    }

    async fn claim(&self, limit: usize, lease: Duration) -> StoreResult<Claim> {
        let args = vec![
            (limit as i64).into(),
            ms(lease),
            (MAX_BATCH_BYTES as i64).into(),
            (CLAIM_MAX_BYTES as i64).into(),
            ms(CLOCK_STEP),
        ];
        // Sent again, it would lease more queues; those of a lost answer wait for their leases
        // to run out.
        let give_up = Instant::now() + CALL_TIMEOUT;
        let script = &self.scripts.claim;
        let mut reply = self.connection.run(script, LANE, args, Resend::No, give_up).await?;
        let next_due = u64::try_from(reply.part()?.integer()?).ok().map(Duration::from_millis);
        let batches = reply.map(Reply::leased_batch).collect::<StoreResult<_>>()?;
        Ok(Claim { batches, next_due })
    }

    async fn settle(&self, settlement: Settlement, lease: Duration) -> StoreResult<Settled> {
        let Settlement { lease: Lease { subscriber, queue, fence }, .. } = settlement;
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
        ];
        let reply = self.run(&self.scripts.settle, args).await?;
        if reply.is_list() {
            return Ok(Settled::Next(Box::new(reply.leased_batch()?)));
        }
        let released = reply.text()?;
        if released == "stale" {
            return Ok(Settled::Stale);
        }
        if let Ok(delay) = released.parse() {
            self.alarm.ring_in(Duration::from_millis(delay));
        }
        Ok(Settled::Released)
    }

    async fn renew(&self, leases: &[Lease], lease: Duration) -> StoreResult<Vec<Lease>> {
        let mut args: Vec<Value> = Vec::with_capacity(1 + 3 * leases.len());
        args.push(ms(lease));
        for Lease { subscriber, queue, fence } in leases {
            args.push(subscriber.reveal().into());
            args.push(queue.as_str().into());
            args.push(fence.to_string().into());
        }
        let lost = self.run(&self.scripts.renew, args).await?;
        let lost = lost.map(|position| {
            let position = position.unsigned()? as usize;
            let missing = || StoreError::Corrupt("renew: no such lease".into());
            leases.get(position).cloned().ok_or_else(missing)
        });
        lost.collect()
    }

    async fn usage(&self) -> StoreResult<Usage> {
        server_check::usage(&self.connection.info().await?)
    }

    async fn drop_oldest(&self, bytes: u64) -> StoreResult<Drops> {
        // Sent again, it would drop as much once more.
        let give_up = Instant::now() + CALL_TIMEOUT;
        let script = &self.scripts.drop_oldest;
        self.connection.run(script, LANE, drop_args(bytes), Resend::No, give_up).await?.drops()
    }

    async fn preview_drop(&self, bytes: u64, before: &Drops) -> StoreResult<Drops> {
        let mut args = drop_args(bytes);
        for (subscriber, dropped) in before.iter() {
            args.push(subscriber.reveal().into());
            args.push((dropped.items as i64).into());
        }
        self.run(&self.scripts.preview_drop, args).await?.drops()
    }

    async fn drop_expired(&self) -> StoreResult<Drops> {
        let args = vec![(DROP_STEP as i64).into(), (ITEM_OVERHEAD as i64).into()];
        self.run(&self.scripts.drop_expired, args).await?.drops()
    }

    async fn take_duty(&self, duty: Duty, term: Duration) -> StoreResult<bool> {
        let args = vec![duty.name().into(), self.origin.as_str().into(), ms(term)];
        Ok(self.run(&self.scripts.take_duty, args).await?.integer()? > 0)
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

    fn alarm(&self) -> &Alarm {
        self.listening.get_or_init(|| wake::listen(&self.url, &self.origin, &self.alarm));
        &self.alarm
    }

    fn describe(&self) -> String {
        connection::describe(&self.url)
    }
}
