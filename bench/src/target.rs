//! The bus that is measured: what the benchmark makes there for itself, and takes away again.
//!
//! With the root key, each subscriber is a client with a token of its own. With another token there
//! is one client, who publishes and subscribes, and so one subscriber at most.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use reqwest::StatusCode;
use serde::Deserialize;
use serde_json::json;

use super::connection::Endpoint;
use super::receivers::Receivers;
use routemaster::bus::token::{ClientToken, random_hex};
use routemaster::cli::connect::{Answer, Bus};
use routemaster::cli::outcome::UsageError;
use routemaster::cli::refusals::{may_pass, refusal};
use routemaster::cli::trouble::Trouble;

/// How many requests of setting up are sent at once.
const AT_ONCE: usize = 16;
/// How long cleaning up may take in all.
const CLEAN_UP: Duration = Duration::from_secs(60);
/// How often a request of setting up or cleaning up is sent before it has failed.
/// How many messages one request sends.
const MESSAGES_AT_ONCE: usize = 500;
const TRIES: u32 = 5;
const PAUSE: Duration = Duration::from_millis(300);

/// What was made on the bus, or may have been.
#[derive(Clone, Default)]
struct Made {
    topics: Vec<String>,
    tokens: Vec<ClientToken>,
    /// Who may have a subscription.
    subscribers: Vec<ClientToken>,
}

/// A running bus. Cheap to clone; clones share what is to be cleaned up.
#[derive(Clone)]
pub struct Target {
    bus: Bus,
    endpoint: Arc<Endpoint>,
    is_root: bool,
    /// What all names of this run contain: letters, since topics allow nothing else.
    name: String,
    publisher: ClientToken,
    made: Arc<Mutex<Made>>,
}

/// What subscribers ask for.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// Events in a batch, at most.
    pub max: u32,
    pub timeout: Duration,
}

/// An entry of `GET /subscriptions`, as far as it matters here.
#[derive(Deserialize)]
struct Subscription {
    subscriber: String,
}

impl Target {
    /// Finds out what may be done there, and makes the client that publishes.
    ///
    /// # Errors
    /// If the bus does not answer or does not let us in.
    pub async fn open(bus: Bus) -> anyhow::Result<Self> {
        let endpoint = Arc::new(Endpoint::of(&bus)?);
        let answer = bus.get("/api_tokens").await?;
        let is_root = match answer.status {
            status if status.is_success() => true,
            StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED | StatusCode::NOT_FOUND => false,
            _ => return Err(refusal(&bus, &answer, None)),
        };
        let letters = (0..8).map(|_| fastrand::lowercase());
        let name = format!("bench_{}", letters.collect::<String>());
        let publisher = if is_root { new_token(&name, 0)? } else { bus.client()?.clone() };
        let target = Self { bus, endpoint, is_root, name, publisher, made: Arc::default() };
        if is_root {
            target.make_token(&target.publisher).await?;
        } else {
            target.check_client().await?;
        }
        Ok(target)
    }

    /// A subscription that the token has must not be replaced by ours.
    async fn check_client(&self) -> anyhow::Result<()> {
        let answer = insist(async || self.bus.get("/subscriptions").await).await?;
        if !answer.status.is_success() {
            return Err(refusal(&self.bus, &answer, None));
        }
        let token = self.bus.user();
        let mut all = answer.json::<Vec<Subscription>>()?.into_iter();
        if all.any(|subscription| subscription.subscriber == token.reveal()) {
            bail!("the token {token} has a subscription: use another one, or the root key");
        }
        Ok(())
    }

    pub fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }

    pub fn publisher(&self) -> &ClientToken {
        &self.publisher
    }

    /// Whether it is on this machine, as far as its address tells.
    pub fn is_local(&self) -> bool {
        self.bus.is_local()
    }

    /// How many subscribers there can be.
    pub fn subscribers_max(&self) -> usize {
        if self.is_root { usize::MAX } else { 1 }
    }

    /// Makes topics that are told apart by their last letters; all names are equally long.
    ///
    /// # Errors
    /// If the bus refuses one.
    pub async fn make_topics(&self, count: usize) -> anyhow::Result<Vec<String>> {
        let letters = [26 * 26, 26, 1];
        let run: String = (0..4).map(|_| fastrand::lowercase()).collect();
        let suffix = |index: usize| {
            letters.map(|place| char::from(b'a' + (index / place % 26) as u8)).iter().collect()
        };
        let suffix: Vec<String> = (0..count).map(suffix).collect();
        let topics: Vec<_> =
            suffix.iter().map(|suffix| format!("{}_{run}{suffix}", self.name)).collect();
        self.made().topics.extend_from_slice(&topics);
        let bus = self.bus.with_token(self.publisher.clone());
        // Nobody has subscribed yet: this event is for nobody.
        let event = Bytes::from_static(br#"{"type":"noop","url":"https://bench.example/"}"#);
        for_each(topics.iter(), async |topic| {
            let path = format!("/topics/{topic}");
            let answer = insist(async || bus.post(&path, event.clone()).await).await?;
            if answer.status.is_success() {
                return Ok(());
            }
            Err(refusal(&bus, &answer, Some(topic)))
        })
        .await?;
        Ok(topics)
    }

    /// Subscribes each of the receivers: to the one topic, or each to its own. `base` is where
    /// they are reached, if not on this machine.
    ///
    /// # Errors
    /// If the bus refuses.
    pub async fn subscribe(
        &self,
        receivers: &Receivers,
        topics: &[String],
        terms: Terms,
        base: Option<&str>,
    ) -> anyhow::Result<()> {
        let count = receivers.subscribers().len();
        if count > self.subscribers_max() {
            return Err(UsageError(format!(
                "{count} subscribers need as many tokens, which the root key can make: set \
                 ROUTEMASTER_ROOT_KEY, or give it with --token"
            ))
            .into());
        }
        let uuid = random_hex()?;
        for_each(0..count, async |index| {
            let token = self.subscriber_token(index).await?;
            self.made().subscribers.push(token.clone());
            let topic = topics.get(index).or(topics.first()).context("there is no topic")?;
            let body = json!({
                "topics": [topic],
                "callback": receivers.callback(base, index),
                "uuid": uuid,
                "timeout": terms.timeout.as_millis() as u64,
                "max": terms.max,
            });
            let body = Bytes::from(body.to_string());
            let bus = self.bus.with_token(token);
            let answer = insist(async || bus.post("/subscription", body.clone()).await).await?;
            if answer.status.is_success() {
                return Ok(());
            }
            Err(refusal(&bus, &answer, None))
        })
        .await
    }

    /// Makes a message topic that each of the receivers has a publisher for.
    ///
    /// # Errors
    /// If the bus refuses.
    pub async fn make_message_topic(&self, receivers: &Receivers) -> anyhow::Result<String> {
        let topic = format!("{}_messages", self.name);
        let made = json!({"name": topic, "origin_host": "https://bench.example"});
        self.post("/api/topics", made).await?;
        for index in 0..receivers.subscribers().len() {
            let target = receivers.callback(None, index);
            let made = json!({"topic": topic, "target": target, "type": "http", "active": true});
            self.post("/api/publishers", made).await?;
        }
        Ok(topic)
    }

    /// The user name that everything is made with.
    pub fn user(&self) -> String {
        self.bus.user().reveal().to_owned()
    }

    /// Sends so many messages to a topic that nobody forwards; one in a thousand says `needle`.
    ///
    /// # Errors
    /// If the bus refuses.
    pub async fn send_messages(&self, count: u64) -> anyhow::Result<()> {
        let topic = format!("{}_messages", self.name);
        let made = json!({"name": topic, "origin_host": "https://bench.example"});
        self.post("/api/topics", made).await?;
        for_each((0..count).step_by(MESSAGES_AT_ONCE), async |first| {
            let last = (first + MESSAGES_AT_ONCE as u64).min(count);
            let payload = (first..last).map(|number| {
                let word = if number.is_multiple_of(1000) { "needle" } else { "straw" };
                json!({"order": number, "word": word, "state": "paid"})
            });
            let payload: Vec<_> = payload.collect();
            self.post("/api/bulk_messages", json!({"topic": topic, "payload": payload})).await
        })
        .await
    }

    /// Asks the bus for something as the client that publishes.
    async fn post(&self, path: &str, body: serde_json::Value) -> anyhow::Result<()> {
        let bus = self.bus.with_token(self.publisher.clone());
        let body = Bytes::from(body.to_string());
        let answer = insist(async || bus.post(path, body.clone()).await).await?;
        if answer.status.is_success() { Ok(()) } else { Err(refusal(&bus, &answer, None)) }
    }

    async fn subscriber_token(&self, index: usize) -> anyhow::Result<ClientToken> {
        if !self.is_root {
            return Ok(self.publisher.clone());
        }
        let token = new_token(&self.name, index + 1)?;
        self.make_token(&token).await?;
        Ok(token)
    }

    async fn make_token(&self, token: &ClientToken) -> anyhow::Result<()> {
        self.made().tokens.push(token.clone());
        let body = json!({"name": token.label(), "token": token.reveal()});
        let body = Bytes::from(body.to_string());
        let answer = insist(async || self.bus.post("/api_tokens", body.clone()).await).await?;
        if answer.status.is_success() {
            return Ok(());
        }
        Err(refusal(&self.bus, &answer, None))
    }

    fn made(&self) -> std::sync::MutexGuard<'_, Made> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes away the subscriptions and topics of the scenario before; tokens too if it is the
    /// `last` one.
    ///
    /// # Errors
    /// If something stays; the error says what its name begins with.
    pub async fn clean_up(&self, last: bool) -> anyhow::Result<()> {
        // Nothing is forgotten before it is gone: this may be broken off, and tried again.
        let Made { topics, tokens, subscribers } = self.made().clone();
        let kept = |token: &ClientToken| !last && *token == self.publisher;
        let tokens: Vec<_> = tokens.into_iter().filter(|token| !kept(token)).collect();
        let work = async {
            let mut paths: Vec<_> = topics.iter().map(|topic| format!("/topics/{topic}")).collect();
            paths.extend(subscribers.iter().map(|token| match self.is_root {
                true => format!("/subscribers/{}", token.reveal()),
                false => "/subscriber".into(),
            }));
            for_each(paths.iter(), async |path| self.delete(path).await).await?;
            // A subscription goes before its client.
            let tokens = tokens.iter().map(|token| format!("/api_tokens/{}", token.reveal()));
            for_each(tokens, async |path| self.delete(&path).await).await
        };
        let done = tokio::time::timeout(CLEAN_UP, work).await;
        let done = done.unwrap_or_else(|_| bail!("it takes longer than {} s", CLEAN_UP.as_secs()));
        done.map_err(|error| error.context(self.left_behind()))?;
        let mut made = self.made();
        made.topics.clear();
        made.subscribers.clear();
        made.tokens.retain(kept);
        Ok(())
    }

    /// What may still be there when it was not cleaned up.
    pub fn left_behind(&self) -> anyhow::Error {
        anyhow!(
            "failed to clean up: topics and tokens that begin with {} stay on {}",
            self.name,
            self.bus.url()
        )
    }

    async fn delete(&self, path: &str) -> anyhow::Result<()> {
        let answer = insist(async || self.bus.delete(path).await).await?;
        if answer.status.is_success() || answer.status == StatusCode::NOT_FOUND {
            return Ok(());
        }
        Err(refusal(&self.bus, &answer, None))
    }
}

/// Does the same with each of them, a few at once.
async fn for_each<T>(
    all: impl IntoIterator<Item = T>,
    work: impl AsyncFn(T) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let work = &work;
    let all = stream::iter(all).map(|one| async move { work(one).await });
    all.buffer_unordered(AT_ONCE).try_collect::<()>().await
}

/// Sends a request until it was accepted or refused, or has failed too often.
async fn insist(send: impl AsyncFn() -> Result<Answer, Trouble>) -> anyhow::Result<Answer> {
    let mut tries = 1;
    loop {
        let result = send().await;
        if !may_pass(&result) || tries == TRIES {
            return Ok(result?);
        }
        tries += 1;
        tokio::time::sleep(PAUSE).await;
    }
}

/// A token for a client of the scenario with this name.
fn new_token(name: &str, number: usize) -> anyhow::Result<ClientToken> {
    Ok(ClientToken::parse(&format!("{name}_{number}--{}", random_hex()?))?)
}
