//! What monitoring tells (contract §5), as the commands read and show it.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::connect::Bus;
use super::refusals::refusal;
use super::words::{age, size};
use crate::bus::process::Process;

/// A row of `GET /topics`.
#[derive(Debug, Deserialize, Serialize)]
pub struct Topic {
    pub name: String,
    pub publisher: Option<String>,
    pub events: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep: Option<TopicKeep>,
    /// What a newer bus tells beyond that.
    #[serde(flatten)]
    pub more: Map<String, Value>,
}

/// What a topic keeps of its events.
#[derive(Debug, Deserialize, Serialize)]
pub struct TopicKeep {
    pub ms: u64,
    pub bytes: u64,
}

impl TopicKeep {
    pub fn in_words(&self) -> String {
        format!("{}, {}", age(self.ms as i64), size(self.bytes))
    }
}

/// A row of `GET /subscriptions`.
#[derive(Debug, Deserialize, Serialize)]
pub struct Subscription {
    pub subscriber: String,
    /// None if events go elsewhere.
    #[serde(default)]
    pub callback: Option<String>,
    /// The topic on Google Pub/Sub that they go to, if they do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pubsub: Option<String>,
    /// Whether its subscriber asks for its batches.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub pull: bool,
    /// A secret.
    pub uuid: Option<String>,
    /// Events in a batch, at most.
    pub max_events: u32,
    /// Milliseconds.
    pub timeout: u64,
    /// Milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_queued: Option<u64>,
    pub topics: Vec<String>,
    pub events: Events,
    /// Why the batch at the head of the queue waits to be sent again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<LastError>,
    /// Since when nothing is sent to it, and why, if it is paused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<Paused>,
    /// What a newer bus tells beyond that.
    #[serde(flatten)]
    pub more: Map<String, Value>,
}

/// That a subscription is paused.
#[derive(Debug, Deserialize, Serialize)]
pub struct Paused {
    /// Milliseconds since the epoch.
    pub since: u64,
    /// For people.
    pub reason: String,
    /// What a newer bus tells beyond that.
    #[serde(flatten)]
    pub more: Map<String, Value>,
}

/// The last attempt that failed.
#[derive(Debug, Deserialize, Serialize)]
pub struct LastError {
    /// Seconds since the epoch.
    pub at: u64,
    pub attempt: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    pub reason: String,
}

#[derive(Debug, Deserialize, Serialize)]
pub struct Events {
    pub sent: u64,
    pub queued: u64,
    /// Seconds since the epoch.
    pub oldest: Option<u64>,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub autodropped: u64,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub expired: u64,
    #[serde(flatten)]
    pub more: Map<String, Value>,
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// # Errors
/// If the bus cannot be asked, or refuses.
pub async fn topics(bus: &Bus) -> anyhow::Result<Vec<Topic>> {
    list(bus, "/topics").await
}

/// # Errors
/// If the bus cannot be asked, or refuses.
pub async fn subscriptions(bus: &Bus) -> anyhow::Result<Vec<Subscription>> {
    list(bus, "/subscriptions").await
}

/// # Errors
/// If the bus cannot be asked, or refuses.
pub async fn processes(bus: &Bus) -> anyhow::Result<Vec<Process>> {
    list(bus, "/processes").await
}

async fn list<T: DeserializeOwned>(bus: &Bus, path: &str) -> anyhow::Result<Vec<T>> {
    let answer = bus.get(path).await?;
    if !answer.status.is_success() {
        return Err(refusal(bus, &answer, None));
    }
    Ok(answer.json()?)
}

impl Topic {
    /// As it may stand on a screen: the publisher's token ends before its secret part.
    pub fn veiled(mut self) -> Self {
        self.publisher = self.publisher.map(|publisher| veil(&publisher).to_owned());
        self
    }
}

impl Subscription {
    /// Where its events go, for people.
    pub fn target(&self) -> String {
        match (&self.callback, &self.pubsub) {
            (Some(callback), _) => callback.clone(),
            (None, Some(topic)) => format!("pubsub:{topic}"),
            (None, None) if self.pull => "pull:".into(),
            (None, None) => "-".into(),
        }
    }

    /// As it may stand on a screen: without the `uuid`, and the token without its secret part.
    pub fn veiled(mut self) -> Self {
        self.subscriber = veil(&self.subscriber).to_owned();
        self.uuid = None;
        if let Some(secrets) = self.more.get_mut("secret") {
            *secrets = Value::Null;
        }
        self
    }
}

/// A token as monitoring shows it to others: up to `--`, because what follows is a password. One
/// without `--` is a mere name there.
pub fn veil(token: &str) -> &str {
    match token.split_once("--") {
        Some((name, _)) if !name.is_empty() => name,
        _ => token,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_newer_bus_tells_is_passed_on_and_secrets_are_not() {
        let row = r#"{"subscriber":"shop--0123","callback":"https://a.example/","uuid":"s3cr3t",
            "max_events":100,"timeout":500,"topics":["a"],"health":97,
            "events":{"sent":1,"queued":0,"oldest":null,"later":5}}"#;
        let row: Subscription = serde_json::from_str(row).unwrap();
        let shown = serde_json::to_value(row.veiled()).unwrap();
        assert_eq!(shown["subscriber"], "shop");
        assert_eq!(shown["uuid"], Value::Null);
        assert_eq!((&shown["health"], &shown["events"]["later"]), (&97.into(), &5.into()));
        assert!(shown["events"].get("autodropped").is_none());
    }
}
