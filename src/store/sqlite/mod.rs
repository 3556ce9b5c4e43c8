//! The embedded store: one SQLite file, which several processes on one machine may share.
//!
//! All writing goes through one thread that commits what waits as one transaction ([`writer`]);
//! monitoring reads beside it ([`reader`]). What a queue does is in [`publish`] and
//! [`queue`], dropping in [`trim`], what an import brings in [`imports`], who is known to the bus is in [`directory`], chores are in
//! [`housekeeping`].

mod directory;
mod housekeeping;
mod imports;
mod publish;
mod queue;
mod reader;
mod schema;
mod trim;
mod watcher;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use rusqlite::Connection;
use tokio::time::Instant;

use super::{
    Alarm, Claim, Drops, Duty, ImportedPortion, ImportedTopic, Lane, Lease, Portion, Publication,
    Published, Settled, Settlement, Store, StoreError, StoreResult, Subscribed, Taken,
    TopicDeleted, Usage,
};
use crate::bus::clock::Clock;
use crate::bus::health::Health;
use crate::bus::subscription::{Subscription, SubscriptionRequest, SubscriptionStatus};
use crate::bus::token::{ApiToken, ClientToken, random_hex};
use crate::bus::topic::{Topic, TopicName};
use reader::Reader;
use watcher::Watcher;
use writer::{Durability, SyncLog, Writer};

/// Longest time any call takes before it gives [`StoreError::Unavailable`].
const CALL_TIMEOUT: Duration = Duration::from_secs(4);

pub struct SqliteStore {
    path: PathBuf,
    clock: Clock,
    writer: Writer,
    reader: Reader,
    alarm: Arc<Alarm>,
    /// Whether a worker of this process waits for the alarm.
    is_watched: Arc<AtomicBool>,
    /// Names this process in the duties that it takes.
    process: String,
}

/// How many portions of removed subscribers' items go with one look for expired ones.
const REMOVED_PORTIONS: usize = 10;
/// One group of publications runs while another one is synced, and a third one is answered.
const COMMITS_AT_ONCE: usize = 3;
/// The file's name in its directory.
const FILE: &str = "routemaster.db";

impl SqliteStore {
    /// Whether there is a store in `directory`.
    pub fn exists_in(directory: &Path) -> bool {
        directory.join(FILE).exists()
    }

    /// As [`SqliteStore::exists_in`].
    ///
    /// # Errors
    /// If it cannot be told, for want of permission.
    pub fn find_in(directory: &Path) -> std::io::Result<bool> {
        directory.join(FILE).try_exists()
    }

    /// Whether the store in `directory` was made or used by this version, so that opening it
    /// changes nothing.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn is_current_in(directory: &Path) -> anyhow::Result<bool> {
        schema::is_current(&directory.join(FILE))
    }

    /// Looks how much room the store in `directory` takes up. Changes nothing, and leaves nothing
    /// behind; waits for the disk.
    ///
    /// # Errors
    /// If there is no store, or it cannot be used.
    pub fn usage_in(directory: &Path) -> anyhow::Result<Usage> {
        let path = directory.join(FILE);
        let connection = schema::connect_to_existing(&path)?;
        let usage = housekeeping::usage(&connection)?;
        connection.close().map_err(|(_, error)| error)?;
        Ok(usage)
    }

    /// Opens `routemaster.db` in `directory`, and makes both if they are not there.
    ///
    /// # Errors
    /// If the directory cannot be used, the file is damaged or comes from a newer version.
    pub fn open(directory: &Path, clock: Clock) -> anyhow::Result<Self> {
        use anyhow::Context;
        let path = directory.join(FILE);
        schema::create_private(directory, &path)
            .with_context(|| format!("failed to create {}", path.display()))?;
        let open = || -> anyhow::Result<(Connection, Connection, SyncLog)> {
            let connection = schema::connect(&path)?;
            schema::migrate(&connection)?;
            let log = schema::open_log(&path)?;
            Ok((connection, schema::connect(&path)?, Box::new(move || log.sync_data())))
        };
        let (connection, reader, sync_log) = open()
            .map_err(|error| match error.downcast_ref().is_some_and(is_damage) {
                true => error.context(DAMAGED),
                false => error,
            })
            .with_context(|| format!("failed to open the store {}", path.display()))?;
        let alarm = Arc::new(Alarm::default());
        let watcher = Watcher::new(&alarm);
        Ok(Self {
            path,
            clock,
            is_watched: watcher.switch(),
            writer: Writer::start(connection, sync_log, watcher)?,
            reader: Reader::start(reader)?,
            alarm,
            process: random_hex()?,
        })
    }

    /// Runs a change that must be on disk before it is answered for.
    async fn write<T, F>(&self, change: F) -> StoreResult<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        self.writer.run(Durability::OnDisk, Instant::now() + CALL_TIMEOUT, change).await
    }

    /// Runs a change that a power loss may undo: what it costs then is that events are sent
    /// twice, in batches with other names.
    async fn write_lazily<T, F>(&self, change: F) -> StoreResult<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        self.writer.run(Durability::Eventually, Instant::now() + CALL_TIMEOUT, change).await
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn publish(
        &self,
        publications: Vec<Publication>,
        give_up: Instant,
    ) -> StoreResult<Vec<Published>> {
        let clock = self.clock.clone();
        let append = move |db: &Connection| publish::publish(db, &publications, clock.now_ms());
        let (published, due_in) = self.writer.run(Durability::OnDisk, give_up, append).await?;
        if let Some(delay) = due_in {
            self.alarm.ring_in(delay);
        }
        Ok(published)
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
        let (subscriber, request) = (subscriber.clone(), request.clone());
        let queue = random_hex().map_err(|error| StoreError::Unavailable(error.to_string()))?;
        let clock = self.clock.clone();
        let subscribed = self
            .write(move |db| {
                let now_ms = clock.now_ms();
                directory::subscribe(db, &subscriber, &request, create_topics, &queue, now_ms)
            })
            .await?;
        self.alarm.ring_in(Duration::ZERO);
        Ok(subscribed)
    }

    async fn unsubscribe(&self, subscriber: &ClientToken) -> StoreResult<bool> {
        let subscriber = subscriber.clone();
        self.write(move |db| directory::unsubscribe(db, &subscriber)).await
    }

    async fn unsubscribe_topic(
        &self,
        subscriber: &ClientToken,
        topic: &TopicName,
    ) -> StoreResult<bool> {
        let (subscriber, topic) = (subscriber.clone(), topic.clone());
        self.write(move |db| directory::unsubscribe_topic(db, &subscriber, &topic)).await
    }

    async fn delete_topic(
        &self,
        topic: &TopicName,
        owner: Option<&ClientToken>,
    ) -> StoreResult<TopicDeleted> {
        let (topic, owner) = (topic.clone(), owner.cloned());
        self.write(move |db| directory::delete_topic(db, &topic, owner.as_ref())).await
    }

    async fn topics(&self) -> StoreResult<Vec<Topic>> {
        self.reader.run(directory::topics).await
    }

    async fn subscriptions(&self) -> StoreResult<Vec<SubscriptionStatus>> {
        self.reader.run(directory::subscriptions).await
    }

    async fn subscription(
        &self,
        subscriber: &ClientToken,
    ) -> StoreResult<Option<SubscriptionStatus>> {
        let subscriber = subscriber.clone();
        self.reader.run(move |db| directory::subscription(db, &subscriber)).await
    }

    async fn due_batches(&self, within: Duration) -> StoreResult<u64> {
        let until_ms = self.clock.now_ms() + within.as_millis() as u64;
        self.reader.run(move |db| queue::due_batches(db, until_ms)).await
    }

    async fn api_tokens(&self) -> StoreResult<Vec<ApiToken>> {
        self.reader.run(directory::api_tokens).await
    }

    async fn add_api_token(&self, token: &ApiToken) -> StoreResult<()> {
        let token = token.clone();
        self.write(move |db| directory::add_api_token(db, &token)).await
    }

    async fn delete_api_token(&self, token: &ClientToken) -> StoreResult<()> {
        let token = token.clone();
        self.write(move |db| directory::delete_api_token(db, &token)).await
    }

    async fn ping(&self) -> StoreResult<()> {
        let now_ms = self.clock.now_ms();
        let touch = "INSERT OR REPLACE INTO times (name, at_ms) VALUES ('pulse', ?1)";
        self.write_lazily(move |db| db.execute(touch, [now_ms]).map(drop)).await
    }

    async fn lanes(&self) -> StoreResult<usize> {
        Ok(1)
    }

    async fn claim(&self, _lane: Lane, limit: usize, lease: Duration) -> StoreResult<Claim> {
        let clock = self.clock.clone();
        let claim = move |db: &Connection| {
            let now_ms = clock.now_ms();
            let claim = queue::claim(db, limit, lease, now_ms)?;
            let more_to_tidy = claim.batches.is_empty() && housekeeping::tidy(db, now_ms)?;
            Ok((claim, more_to_tidy))
        };
        let (claim, more_to_tidy) = self.write_lazily(claim).await?;
        if more_to_tidy {
            self.alarm.ring_in(housekeeping::PAUSE);
        }
        Ok(claim)
    }

    async fn settle(&self, settlement: Settlement, lease: Duration) -> StoreResult<Settled> {
        let clock = self.clock.clone();
        let settle = move |db: &Connection| queue::settle(db, &settlement, lease, clock.now_ms());
        let (settled, due_in) = self.write_lazily(settle).await?;
        if let Some(delay) = due_in {
            self.alarm.ring_in(delay);
        }
        Ok(settled)
    }

    async fn renew(
        &self,
        _lane: Lane,
        leases: &[Lease],
        lease: Duration,
    ) -> StoreResult<Vec<Lease>> {
        let (leases, clock) = (leases.to_vec(), self.clock.clone());
        self.write_lazily(move |db| queue::renew(db, leases, lease, clock.now_ms())).await
    }

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

    async fn take_duty(&self, duty: Duty, term: Duration) -> StoreResult<bool> {
        let (process, now_ms) = (self.process.clone(), self.clock.now_ms());
        self.write_lazily(move |db| directory::take_duty(db, duty, &process, term, now_ms)).await
    }

    async fn import_topic(&self, topic: &Topic) -> StoreResult<ImportedTopic> {
        let topic = topic.clone();
        self.write(move |db| imports::topic(db, &topic)).await
    }

    async fn import_subscriber(
        &self,
        subscriber: &ClientToken,
        subscription: &Subscription,
        health: Health,
    ) -> StoreResult<bool> {
        let (subscriber, subscription) = (subscriber.clone(), subscription.clone());
        let queue = random_hex().map_err(|error| StoreError::Unavailable(error.to_string()))?;
        self.write(move |db| imports::subscriber(db, &subscriber, &subscription, health, &queue))
            .await
    }

    async fn import_batches(
        &self,
        subscriber: &ClientToken,
        portions: Vec<Portion>,
    ) -> StoreResult<Option<Vec<ImportedPortion>>> {
        let (subscriber, now_ms) = (subscriber.clone(), self.clock.now_ms());
        let take = move |db: &Connection| imports::batches(db, &subscriber, &portions, now_ms);
        let imported = self.write(take).await?;
        self.alarm.ring_in(Duration::ZERO);
        Ok(imported)
    }

    async fn imported_batches(
        &self,
        subscriber: &ClientToken,
        batches: &[String],
    ) -> StoreResult<Vec<Taken>> {
        let (subscriber, batches) = (subscriber.clone(), batches.to_vec());
        self.reader.run(move |db| imports::taken(db, &subscriber, &batches)).await
    }

    fn alarm(&self, _lane: Lane) -> &Alarm {
        self.is_watched.store(true, Ordering::Relaxed);
        &self.alarm
    }

    fn describe(&self) -> String {
        format!("SQLite, {} (every event is on disk before its 204)", self.path.display())
    }
}

/// What an operator can do about a file that is not as it was written.
const DAMAGED: &str = "the file is damaged, or another program's: stop the bus and restore a backup, \
                       or move the file away to begin with an empty store";

fn is_damage(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
    match error {
        rusqlite::Error::SqliteFailure(failure, _) => {
            matches!(failure.code, DatabaseCorrupt | NotADatabase)
        }
        rusqlite::Error::FromSqlConversionFailure(..)
        | rusqlite::Error::IntegralValueOutOfRange(..)
        | rusqlite::Error::InvalidColumnType(..) => true,
        _ => false,
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        match &error {
            rusqlite::Error::SqliteFailure(failure, _)
                if failure.code == rusqlite::ErrorCode::DiskFull =>
            {
                StoreError::Full(error.to_string())
            }
            damage if is_damage(damage) => StoreError::Corrupt(format!("{DAMAGED} ({error})")),
            _ => StoreError::Unavailable(error.to_string()),
        }
    }
}
