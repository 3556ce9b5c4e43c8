//! Waits for the bus and for the topics, subscribes, and unsubscribes in the end.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::bail;
use bytes::Bytes;
use reqwest::StatusCode;
use routemaster_client::{SigningSecret, Subscription};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use tokio_util::sync::CancellationToken;

use crate::bus::subscription::CallbackUrl;
use crate::bus::topic::TopicName;
use crate::cli::connect::{Answer, Bus, BusOptions};
use crate::cli::refusals::{may_pass, refusal};
use crate::cli::trouble::Trouble;
use crate::note;
use crate::shell::program;

/// The pause before a look at whether the bus or the topic is there now.
const RETRY_EVERY: Duration = Duration::from_millis(500);

/// How long unsubscribing may take in the end.
const UNSUBSCRIBE_FOR: Duration = Duration::from_secs(5);

/// How waiting for the bus ended.
pub enum Waited {
    Up(Bus),
    Stopped,
}

/// Waits until a bus answers.
///
/// # Errors
/// If waiting is no use: a bad option, or a certificate that is not trusted.
pub async fn wait_for_bus(
    options: &BusOptions,
    stop: &CancellationToken,
) -> anyhow::Result<Waited> {
    let mut told = false;
    loop {
        // Anew each time: a bus that starts for the first time makes the certificate authority
        // that its client must trust.
        let bus = options.connect()?;
        match bus.get("/health/ping").await {
            Ok(_) => return Ok(Waited::Up(bus)),
            Err(trouble) if !trouble.may_pass() => return Err(trouble.into()),
            Err(trouble) if !told => note!("{trouble}; waiting for it…"),
            Err(_) => {}
        }
        told = true;
        tokio::select! {
            () = tokio::time::sleep(RETRY_EVERY) => {}
            () = stop.cancelled() => return Ok(Waited::Stopped),
        }
    }
}

/// The subscription to make.
pub struct Wish {
    pub topics: Vec<TopicName>,
    /// None if batches are asked for.
    pub callback: Option<CallbackUrl>,
    /// What deliveries must carry; a secret.
    pub uuid: Option<String>,
    /// Events in a batch, at most.
    pub max: u32,
    pub timeout_ms: u64,
    /// What deliveries are signed with, if they are.
    pub secret: Option<SigningSecret>,
    /// The options that reach the same bus, for a command to paste.
    pub options: String,
}

/// An entry of `GET /subscriptions`, as far as it matters here.
#[derive(Debug, Deserialize)]
struct Existing {
    subscriber: String,
    /// None if events go elsewhere.
    callback: Option<String>,
    /// Whether its subscriber asks for its batches.
    #[serde(default)]
    pull: bool,
    /// How its events are written, if not as the original's.
    #[serde(default)]
    format: Option<String>,
    topics: Vec<String>,
    events: Events,
}

impl Existing {
    /// Where its events go, for people.
    fn target(&self) -> &str {
        match (&self.callback, self.pull) {
            (Some(callback), _) => callback,
            (None, true) => "whoever pulls them",
            (None, false) => "Google Pub/Sub",
        }
    }

    /// Whether it is what this command asks for.
    fn is(&self, wish: &Wish) -> bool {
        match &wish.callback {
            Some(callback) => self.callback.as_deref() == Some(callback.as_str()),
            None => self.pull,
        }
    }
}

#[derive(Debug, Deserialize)]
struct Events {
    queued: u64,
}

/// An entry of `GET /topics`, as far as it matters here.
#[derive(Deserialize)]
struct Topic {
    name: String,
}

/// The one subscription of a token, while it is ours.
pub struct Subscriber {
    bus: Bus,
    wish: Wish,
    /// Whether the bus may have heard of the subscription.
    asked: bool,
    /// Whether the token's subscription has its events in another format.
    had_format: bool,
    /// The body that gives back the subscription whose place was taken.
    taken: Option<Bytes>,
}

impl Subscriber {
    pub fn new(bus: Bus, wish: Wish) -> Self {
        Self { bus, wish, asked: false, had_format: false, taken: None }
    }

    /// Subscribes to the topics, to each as soon as it is there. `replace` says that a
    /// subscription of the same token elsewhere may be taken over.
    ///
    /// # Errors
    /// If the bus refuses, or if a subscription elsewhere would be taken over.
    pub async fn subscribe(&mut self, replace: bool) -> anyhow::Result<()> {
        if let Some(existing) = self.existing().await? {
            self.had_format = existing.format.is_some();
            if self.check_existing(&existing, replace)? {
                self.taken = self.body_of_existing().await?;
            }
        }
        let all = self.wish.topics.clone();
        let mut subscribed = Vec::new();
        let mut told = BTreeSet::new();
        while !self.subscribe_to(&all).await? {
            let present = self.present().await?;
            if !present.is_empty() && present != subscribed && self.subscribe_to(&present).await? {
                subscribed = present.clone();
            }
            for topic in all.iter().filter(|topic| !present.contains(topic)) {
                if told.insert(topic) {
                    tell_missing(topic, &self.wish.options);
                }
            }
            tokio::time::sleep(RETRY_EVERY).await;
        }
        Ok(())
    }

    /// Makes these topics the subscription. `false` if one of them does not exist.
    async fn subscribe_to(&mut self, topics: &[TopicName]) -> anyhow::Result<bool> {
        let topics = || topics.iter().map(TopicName::as_str);
        let subscription = match &self.wish.callback {
            Some(callback) => Subscription::to(callback.as_str(), topics()),
            None => Subscription::pull(topics()),
        };
        let subscription = Subscription {
            uuid: self.wish.uuid.clone(),
            timeout: self.wish.callback.as_ref().map(|_| self.wish.timeout_ms),
            max: Some(self.wish.max),
            secret: self.wish.secret.as_ref().map(|secret| vec![secret.reveal()]),
            // What is shown here is the original's.
            format: self.had_format.then(|| "routemaster".to_owned()),
            ..subscription
        };
        let body = Bytes::from(serde_json::to_vec(&subscription)?);
        self.asked = true;
        let answer = insist(async || self.bus.post("/subscription", body.clone()).await).await?;
        if answer.status == StatusCode::NOT_FOUND {
            return Ok(false);
        }
        if !answer.status.is_success() {
            return Err(refusal(&self.bus, &answer, None));
        }
        let (names, who) = (topics().collect::<Vec<_>>().join(", "), self.bus.user());
        match &self.wish.callback {
            Some(callback) => {
                note!("{} is subscribed to {names} as {who}; Ctrl-C ends", callback.as_str());
            }
            None => note!("pulling {names} as {who}; Ctrl-C ends"),
        }
        Ok(true)
    }

    /// Which of the topics exist, once the bus has said that one of them does not.
    async fn present(&self) -> anyhow::Result<Vec<TopicName>> {
        if self.wish.topics.len() == 1 {
            return Ok(vec![]);
        }
        let topics = self.list::<Topic>("/topics").await?;
        let exists = |name: &TopicName| topics.iter().any(|topic| topic.name == name.as_str());
        Ok(self.wish.topics.iter().filter(|name| exists(name)).cloned().collect())
    }

    /// The subscription that the token has now.
    async fn existing(&self) -> anyhow::Result<Option<Existing>> {
        let token = self.bus.user().reveal();
        let all = self.list::<Existing>("/subscriptions").await?;
        let mut own = all.into_iter().filter(|existing| existing.subscriber == token);
        Ok(own.next())
    }

    async fn list<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<Vec<T>> {
        let answer = insist(async || self.bus.get(path).await).await?;
        if !answer.status.is_success() {
            return Err(refusal(&self.bus, &answer, None));
        }
        Ok(answer.json()?)
    }

    /// Refuses to take over what somebody else may need; says what it takes over, and returns whether that is to be
    /// given back.
    fn check_existing(&self, existing: &Existing, replace: bool) -> anyhow::Result<bool> {
        let Existing { topics, events, .. } = existing;
        let callback = existing.target();
        let queued = format!("events waiting: {}", events.queued);
        if existing.is(&self.wish) {
            return Ok(false);
        }
        if !replace && !is_of_a_listener(callback) {
            bail!(
                "the token {} has a subscription already, to {} (topics: {}; {queued}): listen \
                 with another --token, or take its place with --replace",
                self.bus.user(),
                callback,
                topics.join(", ")
            );
        }
        note!("note: this takes the place of {callback} ({queued})");
        Ok(!is_of_a_listener(callback))
    }

    /// What gives back the subscription that the token has now.
    async fn body_of_existing(&self) -> anyhow::Result<Option<Bytes>> {
        let answer = insist(async || self.bus.get("/subscription").await).await?;
        if !answer.status.is_success() {
            return Ok(None);
        }
        let own: Value = answer.json()?;
        let fields = [
            ("topics", "topics"),
            ("callback", "callback"),
            ("pubsub", "pubsub"),
            ("pull", "pull"),
            ("uuid", "uuid"),
            ("timeout", "timeout"),
            ("max_events", "max"),
            ("format", "format"),
            ("secret", "secret"),
            ("order", "order"),
            ("parallel", "parallel"),
        ];
        let kept = fields.into_iter().filter(|(shown, _)| !own[shown].is_null());
        let mut body: Map<_, _> =
            kept.map(|(shown, name)| (name.to_owned(), own[shown].clone())).collect();
        // What it had none of must not keep ours.
        body.entry("secret").or_insert("".into());
        Ok(Some(Value::from(body).to_string().into()))
    }

    async fn give_back(&self, body: &Bytes) -> anyhow::Result<()> {
        let answer = self.bus.post("/subscription", body.clone()).await?;
        match answer.status.is_success() {
            true => Ok(()),
            false => Err(refusal(&self.bus, &answer, None)),
        }
    }

    /// Unsubscribes, unless the subscription is to stay or somebody else has taken it over.
    pub async fn end(&self, keep: bool) {
        if !self.asked {
            return;
        }
        if keep {
            note!("the subscription stays, and events wait for the next `listen`");
            return;
        }
        if let Some(body) = &self.taken {
            match tokio::time::timeout(UNSUBSCRIBE_FOR, self.give_back(body)).await {
                Ok(Ok(())) => note!("the subscription that was there before is back"),
                Ok(Err(error)) => note!("what was there before is not back: {error:#}"),
                Err(_) => note!("what was there before is not back: the bus does not answer"),
            }
            return;
        }
        match tokio::time::timeout(UNSUBSCRIBE_FOR, self.unsubscribe()).await {
            Ok(Ok(())) => note!("unsubscribed"),
            Ok(Err(error)) => note!("the subscription stays: {error:#}"),
            Err(_) => note!("the subscription stays: the bus does not answer"),
        }
    }

    async fn unsubscribe(&self) -> anyhow::Result<()> {
        let Some(existing) = self.existing().await? else { return Ok(()) };
        if !existing.is(&self.wish) {
            bail!("it is another receiver's now ({})", existing.target());
        }
        let answer = self.bus.delete("/subscriber").await?;
        if answer.status.is_success() || answer.status == StatusCode::NOT_FOUND {
            return Ok(());
        }
        Err(refusal(&self.bus, &answer, None))
    }
}

/// Sends a request until the bus has accepted or refused it, however long the bus is away.
async fn insist(send: impl AsyncFn() -> Result<Answer, Trouble>) -> anyhow::Result<Answer> {
    let mut told = false;
    loop {
        let result = send().await;
        if !may_pass(&result) {
            return Ok(result?);
        }
        if !told {
            told = true;
            match result {
                Ok(answer) => {
                    note!("the bus cannot answer now ({}); waiting…", answer.reason())
                }
                Err(trouble) => note!("{trouble}; waiting for it…"),
            }
        }
        tokio::time::sleep(RETRY_EVERY).await;
    }
}

/// Whether a callback has the form that an earlier `listen` gave to its own.
fn is_of_a_listener(callback: &str) -> bool {
    let Ok(callback) = CallbackUrl::parse(callback) else { return false };
    let url = callback.as_url();
    url.host_str() == Some("localhost") && url.path() == "/"
}

/// Tells how the topic comes into being. `options` are those that reach the bus.
fn tell_missing(topic: &TopicName, options: &str) {
    let program = program();
    note!(
        "`{topic}` does not exist yet: waiting for its first event, which creates it and comes \
         too early to be seen here. To publish it:\n\n    \
         {program} publish {topic} create https://example.com/{topic}/1{options}\n"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_callback_like_our_own_is_taken_over_unasked() {
        assert!(is_of_a_listener("https://localhost:41234/"));
        for other in ["https://localhost:3000/events", "https://shop.example/", "nonsense"] {
            assert!(!is_of_a_listener(other), "{other}");
        }
    }
}
