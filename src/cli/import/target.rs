//! The store that an import fills, or looks at only.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::time::Instant;

use crate::bus::health::Health;
use crate::bus::subscription::Subscription;
use crate::bus::token::{ApiToken, ClientToken};
use crate::bus::topic::{Topic, TopicName};
use crate::config::Settings;
use crate::roles::{Access, open_and_check_store};
use crate::store::Budget;
use crate::store::sqlite::SqliteStore;
use crate::store::{
    ImportedPortion, ImportedTopic, NewCall, Portion, Store, StoreError, StoreResult, Taken,
    fullest_usage,
};

/// How long a store may take to keep a portion of calls.
const CALLS_PATIENCE: Duration = Duration::from_secs(20);

pub struct Target {
    /// None if it would have to be made, which a dry run does not do.
    store: Option<Arc<dyn Store>>,
    dry_run: bool,
    budget: Budget,
    /// What is there: at the start, and with what has come since or would have.
    topics: BTreeMap<TopicName, Option<ClientToken>>,
    subscribers: BTreeSet<ClientToken>,
    tokens: BTreeSet<ClientToken>,
    name: String,
}

/// How much a store holds, and when autodrop begins, in bytes.
pub struct Room {
    pub used: u64,
    pub high_mark: u64,
}

impl Target {
    /// Opens the store of the settings. A dry run changes nothing of it, and does not make it.
    ///
    /// # Errors
    /// If the store cannot be used, or a dry run would change it.
    pub async fn open(settings: &Settings, dry_run: bool) -> anyhow::Result<Self> {
        let mut target = Self {
            store: None,
            dry_run,
            budget: settings.budget(),
            topics: BTreeMap::new(),
            subscribers: BTreeSet::new(),
            tokens: BTreeSet::new(),
            name: format!("SQLite, a new file in {}", settings.data_dir.display()),
        };
        if dry_run && settings.redis_url.is_none() {
            if !SqliteStore::exists_in(&settings.data_dir) {
                return Ok(target);
            }
            let current = SqliteStore::is_current_in(&settings.data_dir);
            if !current.context("failed to look at the store")? {
                bail!(
                    "the store is of another version: a dry run would change it; start the bus once"
                );
            }
        }
        let access = if dry_run { Access::Look } else { Access::Use };
        let (store, checked) = open_and_check_store(settings, access).await?;
        for warning in checked? {
            tracing::warn!("{warning}");
        }
        target.look(&*store).await.context("failed to look at the store")?;
        target.name = store.describe();
        target.store = Some(store);
        Ok(target)
    }

    async fn look(&mut self, store: &dyn Store) -> StoreResult<()> {
        let topics = store.topics().await?.into_iter();
        self.topics = topics.map(|topic| (topic.name, topic.publisher)).collect();
        let subscriptions = store.subscriptions().await?.into_iter();
        self.subscribers = subscriptions.map(|status| status.subscriber).collect();
        self.tokens = store.api_tokens().await?.into_iter().map(|token| token.token).collect();
        Ok(())
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn dry_run(&self) -> bool {
        self.dry_run
    }

    /// Whether this bus made a token through its API, or took it over.
    pub fn has_token(&self, token: &ClientToken) -> bool {
        self.tokens.contains(token)
    }

    pub async fn topic(&mut self, topic: &Topic) -> StoreResult<ImportedTopic> {
        let imported = match self.to_write() {
            Some(store) => store.import_topic(topic).await?,
            None => {
                let known = self.topics.get(&topic.name);
                let publisher = known.cloned().flatten().or_else(|| topic.publisher.clone());
                ImportedTopic { created: known.is_none(), publisher }
            }
        };
        self.topics.insert(topic.name.clone(), imported.publisher.clone());
        Ok(imported)
    }

    /// `false` if the token is there already; it then keeps its name.
    pub async fn token(&mut self, token: &ApiToken) -> StoreResult<bool> {
        if self.tokens.contains(&token.token) {
            return Ok(false);
        }
        if let Some(store) = self.to_write() {
            store.add_api_token(token).await?;
        }
        Ok(self.tokens.insert(token.token.clone()))
    }

    /// `false` if the subscriber is there already.
    pub async fn subscriber(
        &mut self,
        subscriber: &ClientToken,
        subscription: &Subscription,
        health: Health,
    ) -> StoreResult<bool> {
        let imported = match self.to_write() {
            Some(store) => store.import_subscriber(subscriber, subscription, health).await?,
            None => !self.subscribers.contains(subscriber),
        };
        self.subscribers.insert(subscriber.clone());
        Ok(imported)
    }

    /// What earlier runs took of each of these batches.
    pub async fn taken(
        &self,
        subscriber: &ClientToken,
        batches: &[String],
    ) -> StoreResult<Vec<Taken>> {
        match &self.store {
            Some(store) => store.imported_batches(subscriber, batches).await,
            None => Ok(vec![Taken::default(); batches.len()]),
        }
    }

    /// See [`Imports::import_batches`](crate::store::Imports::import_batches); a dry run says what would become of them.
    pub async fn batches(
        &self,
        subscriber: &ClientToken,
        portions: Vec<Portion>,
    ) -> StoreResult<Option<Vec<ImportedPortion>>> {
        match self.to_write() {
            Some(store) => store.import_batches(subscriber, portions).await,
            None => Ok(Some(vec![ImportedPortion::Appended; portions.len()])),
        }
    }

    /// Keeps calls, within what all calls may take. A dry run keeps nothing.
    pub async fn calls(&self, calls: Vec<NewCall>, max_bytes: u64) -> StoreResult<()> {
        let Some(store) = self.to_write() else { return Ok(()) };
        let groups = calls.into_iter().map(|call| vec![call]).collect();
        store.accept_calls(groups, max_bytes, Instant::now() + CALLS_PATIENCE).await.map(drop)
    }

    /// How much room there is. What autodrop would drop need not be imported.
    pub async fn room(&self) -> Result<Room, StoreError> {
        let Some(store) = &self.store else {
            return Ok(Room { used: 0, high_mark: self.budget.high_mark() });
        };
        let usage = fullest_usage(store.as_ref()).await?;
        Ok(Room { used: usage.used, high_mark: self.budget.limited_by(&usage).high_mark() })
    }

    /// The store, if there is one to look at.
    pub fn store(&self) -> Option<Arc<dyn Store>> {
        self.store.clone()
    }

    /// The store, if it may be written to.
    pub fn to_write(&self) -> Option<&Arc<dyn Store>> {
        self.store.as_ref().filter(|_| !self.dry_run)
    }
}
