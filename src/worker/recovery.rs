//! Fetches messages that got lost on their way here: where a topic comes from, its clients keep what they could not send.
//! One process does it for all. What was taken once is not taken again, also if its origin keeps it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{Method, Request};
use http_body_util::Full;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use url::Url;

use super::calls::{CallCourier, CallError};
use super::pause::until_stopped;
use super::receivers::Receivers;
use crate::bus::message::{MessageForm, NewMessages};
use crate::bus::token::ClientToken;
use crate::bus::user_info;
use crate::config::Settings;
use crate::store::{
    Duty, HeldDuty, MessageTopic, MessagesAccepted, NewMessageGroup, Store, StoreResult,
};
use crate::telemetry::metrics::record;

/// How often origins are asked.
const INTERVAL: Duration = Duration::from_secs(30);
/// How often is looked whether this process does it.
const LOOK: Duration = Duration::from_secs(1);
/// The longest answer of an origin, in bytes.
const ANSWER_MAX: usize = 8_000_000;
/// How many messages one element may have.
const BULK_MAX: usize = 3_000;
/// How many origins are asked at once.
const AT_ONCE: usize = 8;
/// The longest id of an element, in characters.
const ID_MAX: usize = 255;
/// How long the store may take to keep an element.
const KEEP_TIMEOUT: Duration = Duration::from_millis(4500);

/// Fetches lost messages until it is stopped.
pub struct Recovery {
    store: Arc<dyn Store>,
    courier: CallCourier,
    timeout: Duration,
    max_bytes: u64,
    stop: CancellationToken,
}

/// What an origin has.
#[derive(Deserialize)]
struct Element<'a> {
    #[serde(borrow)]
    id: &'a RawValue,
    #[serde(default)]
    bulk: Option<bool>,
    #[serde(borrow, default)]
    payload: Option<&'a RawValue>,
}

/// Why an origin has nothing for us.
#[derive(Debug, thiserror::Error)]
enum NoElements {
    #[error("{0}")]
    Unanswered(#[from] CallError),
    #[error("it answered {0}")]
    Status(http::StatusCode),
    #[error("its answer is no JSON array of messages")]
    NoArray,
}

impl Recovery {
    pub fn new(
        settings: &Settings,
        receivers: Receivers,
        store: Arc<dyn Store>,
        stop: CancellationToken,
    ) -> Self {
        Self {
            store,
            courier: CallCourier::new(receivers, settings.plain_targets, 0),
            timeout: settings.timeout,
            max_bytes: settings.messages_room(),
            stop,
        }
    }

    pub async fn run(self: Arc<Self>) {
        let mut duty = HeldDuty::new(self.store.clone(), Duty::Recovery);
        let mut due = Instant::now();
        while !self.stop.is_cancelled() {
            if Instant::now() >= due && duty.is_mine().await {
                due = Instant::now() + INTERVAL;
                if until_stopped(&self.stop, self.ask_all()).await.is_none() {
                    break;
                }
            }
            until_stopped(&self.stop, tokio::time::sleep(LOOK)).await;
        }
        duty.give_back().await;
    }

    async fn ask_all(&self) {
        let topics = match self.store.message_topics().await {
            Ok(topics) => topics,
            Err(error) => return tracing::debug!(%error, "failed to look for topics to recover"),
        };
        let recovered = topics.iter().filter(|topic| topic.recovery_enabled);
        // Whatever it brings is sent by whom the first of its topics belongs to.
        let mut origins: BTreeMap<&str, &ClientToken> = BTreeMap::new();
        for topic in recovered {
            origins.entry(&topic.origin_host).or_insert(&topic.owner);
        }
        let topics = &topics;
        stream::iter(origins)
            .for_each_concurrent(AT_ONCE, |(origin, owner)| self.recover(origin, owner, topics))
            .await;
    }

    async fn recover(&self, origin: &str, owner: &ClientToken, topics: &[MessageTopic]) {
        let shown = user_info::taken_out(origin).0;
        let elements = match self.elements(origin).await {
            Ok(elements) => elements,
            Err(error) => {
                return tracing::warn!(origin = shown, %error, "failed to fetch lost messages");
            }
        };
        let mut recovered = 0;
        for json in &elements {
            match self.take(origin, owner, json, topics).await {
                Ok(Some(taken)) => recovered += taken,
                // It stays where it is, and will be there again.
                Ok(None) => {
                    tracing::warn!(
                        origin = shown,
                        "left a lost message: it is none, or its topic is not known"
                    );
                }
                Err(error) => {
                    tracing::warn!(origin = shown, %error, "failed to keep lost messages; trying again later");
                    break;
                }
            }
        }
        if recovered > 0 {
            tracing::info!(origin = shown, messages = recovered, "fetched lost messages");
        }
    }

    async fn elements(&self, origin: &str) -> Result<Vec<Box<RawValue>>, NoElements> {
        let (request, url) = request(Method::GET, origin)?;
        let (status, body) = self.courier.fetch(request, &url, self.timeout, ANSWER_MAX).await?;
        if !status.is_success() {
            return Err(NoElements::Status(status));
        }
        serde_json::from_slice(&body).map_err(|_| NoElements::NoArray)
    }

    /// Keeps what is in an element, and has it removed at its origin; how many messages, or `None` if there are none
    /// that could be kept.
    async fn take(
        &self,
        origin: &str,
        owner: &ClientToken,
        json: &RawValue,
        topics: &[MessageTopic],
    ) -> StoreResult<Option<u64>> {
        let Some((id, all)) = read(json.get()) else { return Ok(None) };
        let mut groups = Vec::with_capacity(all.len());
        for (index, new) in all.into_iter().enumerate() {
            if !topics.iter().any(|topic| topic.name == new.topic) {
                return Ok(None);
            }
            groups.push(group(new, owner.clone(), format!("{origin}\n{id}\n{index}")));
        }
        let mut recovered = 0;
        for group in &groups {
            let give_up = Instant::now() + KEEP_TIMEOUT;
            let kept = self.store.accept_messages(vec![group.clone()], self.max_bytes, give_up);
            match kept.await?.groups.first() {
                Some(MessagesAccepted::Kept(messages)) => {
                    record::messages_accepted(&group.topic, messages.len() as u64);
                    recovered += messages.len() as u64;
                }
                Some(MessagesAccepted::Known) => {}
                _ => return Ok(None),
            }
        }
        if self.remove(origin, &id).await {
            let names: Vec<String> = groups.into_iter().filter_map(|group| group.once).collect();
            self.store.forget_once(&names).await?;
        }
        Ok(Some(recovered))
    }

    /// Has an element removed at its origin; whether it is.
    async fn remove(&self, origin: &str, id: &str) -> bool {
        let url = format!("{}/{id}/", origin.trim_end_matches('/'));
        let removed = match request(Method::DELETE, &url) {
            Ok((request, url)) => self.courier.send(request, &url, self.timeout).await,
            Err(error) => Err(error),
        };
        match removed {
            // It may have been removed by an answer that never came here.
            Ok(answer) if answer.status.is_success() || answer.status == 404 => true,
            Ok(answer) => {
                tracing::warn!(
                    id,
                    status = answer.status.as_u16(),
                    "a message that was fetched stays at its origin"
                );
                false
            }
            Err(error) => {
                tracing::warn!(id, %error, "a message that was fetched stays at its origin");
                false
            }
        }
    }
}

fn group(new: NewMessages, sender: ClientToken, once: String) -> NewMessageGroup {
    NewMessageGroup {
        topic: new.topic,
        sender,
        contents: new.contents,
        at_ms: None,
        once: Some(once),
        only: None,
    }
}

/// The id of an element, and the messages in it.
fn read(json: &str) -> Option<(String, Vec<NewMessages>)> {
    let element: Element<'_> = serde_json::from_str(json).ok()?;
    let id = match serde_json::from_str::<String>(element.id.get()) {
        Ok(text) => text,
        Err(_) => element.id.get().to_owned(),
    };
    let is_id = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if id.is_empty() || id.len() > ID_MAX || !id.chars().all(is_id) {
        return None;
    }
    let one = |json: &str, form| NewMessages::parse(json.as_bytes(), form).ok();
    if element.bulk != Some(true) {
        return Some((id, vec![one(json, MessageForm::One)?]));
    }
    // Each is a message with its topic, as Postoffice's client keeps them; or all have the element's.
    let payloads: Vec<&RawValue> = serde_json::from_str(element.payload?.get()).ok()?;
    let each: Option<Vec<_>> =
        payloads.iter().map(|payload| one(payload.get(), MessageForm::One)).collect();
    let all = match each {
        Some(each) => each,
        None => vec![one(json, MessageForm::Bulk(BULK_MAX))?],
    };
    Some((id, all))
}

fn request(method: Method, url: &str) -> Result<(Request<Full<Bytes>>, Url), CallError> {
    let (plain, user) = user_info::taken_out(url);
    let url = Url::parse(&plain).map_err(|_| CallError::Unsendable)?;
    let mut request = Request::builder().method(method).uri(url.as_str());
    if let Some(user) = user {
        let (user, password) = user.split_once(':').unwrap_or((user, ""));
        request = request.header("authorization", user_info::authorization(user, password));
    }
    let request = request.header("user-agent", crate::egress::client::USER_AGENT);
    let request = request.body(Full::default()).map_err(|_| CallError::Unsendable)?;
    Ok((request, url))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topics(json: &str) -> Option<(String, Vec<(String, usize)>)> {
        let (id, all) = read(json)?;
        Some((id, all.iter().map(|new| (new.topic.to_string(), new.contents.len())).collect()))
    }

    #[test]
    fn elements_are_read_as_the_django_client_keeps_them() {
        let one = |topic: &str, n| (topic.to_owned(), n);
        for (json, expected) in [
            (
                r#"{"id":7,"topic":"t","payload":{"a":1},"attributes":null,"bulk":false}"#,
                ("7", vec![one("t", 1)]),
            ),
            (
                r#"{"id":"x-1","topic":"t","attributes":{},"bulk":true,"payload":[
                    {"topic":"t","attributes":{"a":"b"},"payload":{}},{"topic":"u","payload":[1]}]}"#,
                ("x-1", vec![one("t", 1), one("u", 1)]),
            ),
            (
                r#"{"id":8,"topic":"t","attributes":{},"bulk":true,"payload":[{"a":1},{"a":2}]}"#,
                ("8", vec![one("t", 2)]),
            ),
        ] {
            let (id, all) = expected;
            assert_eq!(topics(json), Some((id.to_owned(), all)), "{json}");
        }
        for wrong in [
            r#"{"topic":"t","payload":{}}"#,
            r#"{"id":"../../other","topic":"t","payload":{}}"#,
            r#"{"id":{},"topic":"t","payload":{}}"#,
            r#"{"id":1,"topic":"t","payload":"text"}"#,
            r#"{"id":1,"bulk":true}"#,
            "7",
        ] {
            assert_eq!(topics(wrong), None, "{wrong}");
        }
    }
}
