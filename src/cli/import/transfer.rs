//! The order of an import: topics, tokens, subscribers, and then what is in their queues.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use super::report::{Report, printable, veiled};
use super::ruby;
use super::target::Target;
use crate::bus::subscription::options::DeliveryOptions;
use crate::bus::subscription::{self, Retention, Subscription, Terms};
use crate::bus::token::{ApiToken, ClientToken};
use crate::bus::topic::{Topic, TopicName};
use crate::config::Settings;
use crate::egress::rules::EgressRules;
use crate::store::redis::source::{Source, SourceError, SourceResult};

/// The longest name of a service that is taken over, in characters.
const SERVICE_NAME_MAX: usize = 100;
/// More events were never received by anything; a counter that says so is garbled.
const EVENTS_MAX: i64 = 1 << 53;

/// An import under way.
pub struct Transfer {
    pub(super) source: Arc<Source>,
    pub(super) target: Target,
    pub(super) report: Report,
    pub(super) stop: CancellationToken,
    pub(super) topic_name_max: usize,
    egress_rules: EgressRules,
    /// Tokens that this bus allows by its settings.
    clients: BTreeSet<ClientToken>,
    topics: BTreeSet<TopicName>,
    /// Those of them that nobody has published to.
    unclaimed: BTreeSet<TopicName>,
    subscribe_creates_topics: bool,
    /// Publishers and subscribers that were met, so that none of them finds itself shut out.
    met: BTreeSet<ClientToken>,
    /// The source's subscribers: whether their batches have a queue to go to.
    pub(super) subscribers: BTreeMap<ClientToken, bool>,
}

impl Transfer {
    pub fn new(
        source: Source,
        target: Target,
        settings: &Settings,
        stop: CancellationToken,
    ) -> Self {
        Self {
            source: Arc::new(source),
            target,
            report: Report::default(),
            stop,
            topic_name_max: settings.topic_name_max,
            egress_rules: settings.egress_rules(),
            clients: settings.clients.iter().cloned().collect(),
            topics: BTreeSet::new(),
            unclaimed: BTreeSet::new(),
            subscribe_creates_topics: settings.subscribe_creates_topics,
            met: BTreeSet::new(),
            subscribers: BTreeMap::new(),
        }
    }

    pub fn report(&self) -> &Report {
        &self.report
    }

    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Brings everything over. Stops early, and without an error, if it is told to.
    ///
    /// # Errors
    /// If the source or the target cannot be used any more. What was done until then is done.
    pub async fn run(&mut self, with_events: bool) -> anyhow::Result<()> {
        self.import_topics().await?;
        self.import_tokens().await?;
        self.import_subscribers().await?;
        self.warn_of_unknown_clients();
        self.warn_of_early_subscribers();
        self.warn_if_empty();
        if with_events {
            self.import_queues().await?;
        }
        Ok(())
    }

    async fn import_topics(&mut self) -> anyhow::Result<()> {
        for name in self.set(ruby::TOPICS).await? {
            if self.stop.is_cancelled() {
                break;
            }
            let parsed = str::from_utf8(&name).ok();
            let parsed = parsed.and_then(|name| TopicName::parse(name, self.topic_name_max).ok());
            let Some(parsed) = parsed else {
                self.report.topics.skipped += 1;
                self.report.note(
                    "topics skipped: their name is not allowed here (a-z and _, up to \
                     ROUTEMASTER_TOPIC_NAME_MAX characters)",
                    || printable(&name),
                );
                continue;
            };
            let topic = self.read_topic(parsed).await?;
            let imported = self.target.topic(&topic).await?;
            self.report.topics.add(imported.created);
            if topic.publisher.is_some() && imported.publisher != topic.publisher {
                self.report.note(
                    "topics have another publisher here, and keep it: the Ruby bus's one cannot \
                     publish to them",
                    || topic.name.to_string(),
                );
            }
            if imported.publisher.is_none() {
                self.unclaimed.insert(topic.name.clone());
            }
            self.met.extend(imported.publisher);
            self.topics.insert(topic.name);
        }
        Ok(())
    }

    async fn read_topic(&mut self, name: TopicName) -> anyhow::Result<Topic> {
        let [publisher, counter] = match ruby::topic(&self.source, name.as_str()).await {
            Err(SourceError::WrongType) => [None, Some(Bytes::new())],
            read => read?,
        };
        let publisher = publisher.filter(|token| !token.is_empty()).and_then(|token| {
            let parsed = str::from_utf8(&token).ok().and_then(|it| ClientToken::parse(it).ok());
            if parsed.is_none() {
                self.report.note(
                    "topics without their publisher, whose token is not allowed here: the first \
                     client to publish to them gets them",
                    || format!("{name} of {}", veiled(&token)),
                );
            }
            parsed
        });
        let events = counter.map_or(Some(0), |counter| {
            ruby::integer(&counter).filter(|events| (0..=EVENTS_MAX).contains(events))
        });
        if events.is_none() {
            self.report
                .note("topics have a garbled counter: they count from 0", || name.to_string());
        }
        let events = events.and_then(|events| u64::try_from(events).ok()).unwrap_or(0);
        Ok(Topic { name, publisher, events, keep: None })
    }

    async fn import_tokens(&mut self) -> anyhow::Result<()> {
        let fields = match self.source.fields(ruby::TOKENS).await {
            Err(SourceError::WrongType) => {
                self.report
                    .note("tokens skipped: the key holds no hash", || printable(ruby::TOKENS));
                return Ok(());
            }
            fields => fields?,
        };
        let tokens: BTreeMap<_, _> = fields.into_iter().collect();
        for (token, name) in tokens {
            if self.stop.is_cancelled() {
                break;
            }
            let parsed = str::from_utf8(&token).ok().and_then(|it| ClientToken::parse(it).ok());
            let Some(parsed) = parsed else {
                self.report.tokens.skipped += 1;
                self.report.note(
                    "tokens skipped: they are not allowed here (1 to 64 of a-z, 0-9, colon, \
                     underscore and hyphen); make new ones through /api_tokens, and let their \
                     services use them before they switch over",
                    || format!("{} of {}", veiled(&token), printable(&name)),
                );
                continue;
            };
            let name = String::from_utf8_lossy(&name);
            let name = name.chars().filter(|c| !c.is_control()).take(SERVICE_NAME_MAX).collect();
            let added = self.target.token(&ApiToken::new(name, parsed)).await?;
            self.report.tokens.add(added);
        }
        Ok(())
    }

    async fn import_subscribers(&mut self) -> anyhow::Result<()> {
        for token in self.set(ruby::SUBSCRIBERS).await? {
            if self.stop.is_cancelled() {
                break;
            }
            let parsed = str::from_utf8(&token).ok().and_then(|it| ClientToken::parse(it).ok());
            let Some(subscriber) = parsed else {
                self.report.subscribers.skipped += 1;
                self.report.note(
                    "subscribers skipped with their batches: their token is not allowed here (1 to \
                     64 of a-z, 0-9, colon, underscore and hyphen); let them subscribe with \
                     another one",
                    || veiled(&token),
                );
                continue;
            };
            let imported = self.import_subscriber(&subscriber).await?;
            self.subscribers.insert(subscriber, imported);
        }
        Ok(())
    }

    /// `false` if its batches have no queue to go to.
    async fn import_subscriber(&mut self, subscriber: &ClientToken) -> anyhow::Result<bool> {
        let settings = match ruby::settings(&self.source, subscriber).await? {
            Ok(settings) => settings,
            Err(reason) => {
                self.report.subscribers.skipped += 1;
                let text = format!(
                    "subscribers skipped with their batches: {reason}; let them subscribe again at \
                     the Ruby bus, and import again"
                );
                self.report.note(&text, || subscriber.label());
                return Ok(false);
            }
        };
        let topics = self.known_topics(subscriber).await?;
        let terms = Terms {
            target: subscription::Target::Callback(settings.callback),
            uuid: settings.uuid,
            timeout: Duration::from_millis(settings.timeout_ms),
            max: settings.max,
        };
        let subscription = Subscription {
            topics,
            terms,
            retention: Retention::default(),
            options: DeliveryOptions::default(),
        };
        let created = self.target.subscriber(subscriber, &subscription, settings.health).await?;
        self.report.subscribers.add(created);
        self.met.insert(subscriber.clone());
        if !created {
            return Ok(true);
        }
        if settings.corrected {
            self.report.note(
                "subscribers have a timeout, a max or a health that is no number, or out of the \
                 bounds of here: the default, or the nearest number, is taken",
                || subscriber.label(),
            );
        }
        if let Some(callback) = subscription.terms.target.callback()
            && let Err(denied) = self.egress_rules.check(callback.as_url())
        {
            self.report.note(
                "subscribers have a callback that is denied here: their events wait until \
                 ROUTEMASTER_CALLBACK_ALLOW allows it",
                || format!("{subscriber}, {denied}"),
            );
        }
        Ok(true)
    }

    /// What a subscriber listens to, of the topics that there are.
    async fn known_topics(
        &mut self,
        subscriber: &ClientToken,
    ) -> anyhow::Result<BTreeSet<TopicName>> {
        let names = match ruby::topics_of(&self.source, subscriber).await {
            Err(SourceError::WrongType) => {
                self.report.note("the topics of subscribers are no set: they have none", || {
                    subscriber.label()
                });
                vec![]
            }
            names => names?,
        };
        let mut topics = BTreeSet::new();
        for name in BTreeSet::from_iter(names) {
            let parsed = str::from_utf8(&name).ok();
            let parsed = parsed.and_then(|name| TopicName::parse(name, self.topic_name_max).ok());
            match parsed.filter(|topic| self.topics.contains(topic)) {
                Some(topic) => {
                    topics.insert(topic);
                }
                None => self.report.note(
                    "topics left out of subscriptions: they were deleted, or are skipped",
                    || format!("{} of {subscriber}", printable(&name)),
                ),
            }
        }
        Ok(topics)
    }

    /// The members of a set, each once, in order.
    async fn set(&mut self, key: &'static [u8]) -> SourceResult<BTreeSet<Bytes>> {
        match self.source.members(key).await {
            Err(SourceError::WrongType) => {
                self.report.note("all of a kind skipped: the key holds no set", || printable(key));
                Ok(BTreeSet::new())
            }
            members => Ok(members?.into_iter().collect()),
        }
    }

    fn warn_of_unknown_clients(&mut self) {
        for client in &self.met {
            if !self.clients.contains(client) && !self.target.has_token(client) {
                self.report.note(
                    "publishers and subscribers have a token that this bus does not know, so it \
                     would answer 401: add them to ROUTEMASTER_CLIENTS, as they are at the Ruby bus",
                    || client.label(),
                );
            }
        }
    }

    /// The Ruby bus makes a topic of each name that somebody subscribes to.
    fn warn_of_early_subscribers(&mut self) {
        if self.subscribe_creates_topics {
            return;
        }
        for topic in &self.unclaimed {
            self.report.note(
                "topics have subscribers but no publisher yet: this bus answers 404 to who subscribes \
                 before the first publish; set ROUTEMASTER_SUBSCRIBE_CREATES_TOPICS=true to take it as \
                 the Ruby bus does",
                || topic.to_string(),
            );
        }
    }

    fn warn_if_empty(&mut self) {
        let Report { topics, tokens, subscribers, .. } = &self.report;
        if topics.found() + tokens.found() + subscribers.found() == 0 && !self.stop.is_cancelled() {
            self.report.note(
                "nothing of a Ruby Routemaster is there: it may be in another database, as in \
                 redis://host:6379/2",
                String::new,
            );
        }
    }
}
