//! Message topics and publishers, all in the home lane. A hash has what is kept of each by its id: its owner, for a
//! publisher the id of its topic with kind and target, when it was made, and the rest as JSON, a line each.

use std::time::Duration;

use async_trait::async_trait;
use fred::types::Value;
use serde::{Deserialize, Serialize};

use super::RedisStore;
use crate::bus::message::{
    MessageTopicName, NewPublisher, NewTopic, PublisherChange, TargetKind, Terms,
};
use crate::bus::signature::SigningSecrets;
use crate::bus::token::ClientToken;
use crate::store::{
    Lane, MessagePublisher, MessageTopic, MessageTopics, PublisherAdded, PublisherChanged,
    PublisherRemoved, StoreError, StoreResult, TopicAdded, TopicRemoved,
};

/// How often a change is tried that meets another one.
const TRIES: u32 = 10;

#[derive(Serialize, Deserialize)]
struct KeptTopic {
    name: String,
    origin_host: String,
    recovery_enabled: bool,
}

#[derive(Serialize, Deserialize)]
struct KeptPublisher {
    from_now: bool,
    active: bool,
    timeout_ms: u64,
    retry_ms: u64,
    chunk_size: u32,
    max_attempts: Option<u32>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    secrets: String,
}

#[async_trait]
impl MessageTopics for RedisStore {
    async fn add_message_topic(
        &self,
        new: &NewTopic,
        owner: &ClientToken,
        max: u32,
    ) -> StoreResult<TopicAdded> {
        let kept = KeptTopic {
            name: new.name.as_str().into(),
            origin_host: new.origin_host.as_str().into(),
            recovery_enabled: new.recovery_enabled,
        };
        let args: Vec<Value> = vec![
            new.name.as_str().into(),
            owner.reveal().into(),
            i64::from(max).into(),
            json(&kept).into(),
        ];
        let reply = self.change(&self.scripts.add_message_topic, Lane::HOME, args).await?.text()?;
        Ok(match reply.as_str() {
            "taken" => TopicAdded::NameTaken,
            "too many" => TopicAdded::TooMany,
            id => TopicAdded::Added(number(id)?),
        })
    }

    async fn message_topics(&self) -> StoreResult<Vec<MessageTopic>> {
        let all = self.connection.hash(&self.lane(Lane::HOME).keys, "message_topics").await?;
        let mut topics =
            all.iter().map(|(id, kept)| topic(id, kept)).collect::<StoreResult<Vec<_>>>()?;
        topics.sort_by_key(|topic| topic.id);
        Ok(topics)
    }

    async fn message_topic(&self, id: u64) -> StoreResult<Option<MessageTopic>> {
        let id = id.to_string();
        let kept =
            self.connection.field(&self.lane(Lane::HOME).keys, "message_topics", &id).await?;
        kept.map(|kept| topic(&id, &kept)).transpose()
    }

    async fn remove_message_topic(&self, id: u64, cascade: bool) -> StoreResult<TopicRemoved> {
        let Some(topic) = self.message_topic(id).await? else { return Ok(TopicRemoved::Unknown) };
        let args: Vec<Value> =
            vec![id.to_string().into(), topic.name.as_str().into(), i64::from(cascade).into()];
        let script = &self.scripts.remove_message_topic;
        Ok(match self.change(script, Lane::HOME, args).await?.text()?.as_str() {
            "gone" => TopicRemoved::Gone,
            "publishers" => TopicRemoved::HasPublishers,
            _ => TopicRemoved::Unknown,
        })
    }

    async fn add_message_publisher(
        &self,
        new: &NewPublisher,
        owner: &ClientToken,
        max: u32,
    ) -> StoreResult<PublisherAdded> {
        let args: Vec<Value> = vec![
            new.topic.as_str().into(),
            format!("{} {}", new.target.kind().as_str(), new.target.as_str()).into(),
            owner.reveal().into(),
            i64::from(max).into(),
            json(&KeptPublisher::of(new.from_now, &new.terms)).into(),
            i64::from(new.from_now).into(),
        ];
        let script = &self.scripts.add_message_publisher;
        let reply = self.change(script, Lane::HOME, args).await?.text()?;
        Ok(match reply.as_str() {
            "unknown" => PublisherAdded::UnknownTopic,
            "taken" => PublisherAdded::Taken,
            "too many" => PublisherAdded::TooMany,
            id => PublisherAdded::Added(number(id)?),
        })
    }

    async fn message_publishers(&self) -> StoreResult<Vec<MessagePublisher>> {
        let all = self.connection.hash(&self.lane(Lane::HOME).keys, "message_publishers").await?;
        let mut publishers =
            all.iter().map(|(id, kept)| publisher(id, kept)).collect::<StoreResult<Vec<_>>>()?;
        publishers.sort_by_key(|publisher| publisher.id);
        Ok(publishers)
    }

    async fn message_publisher(&self, id: u64) -> StoreResult<Option<MessagePublisher>> {
        let id = id.to_string();
        let kept = self.kept_publisher(&id).await?;
        kept.map(|kept| publisher(&id, &kept)).transpose()
    }

    async fn change_message_publisher(
        &self,
        id: u64,
        change: &PublisherChange,
    ) -> StoreResult<PublisherChanged> {
        let id = id.to_string();
        for _ in 0..TRIES {
            let Some(kept) = self.kept_publisher(&id).await? else {
                return Ok(PublisherChanged::Unknown);
            };
            let before = publisher(&id, &kept)?;
            let target = change.target.as_deref().unwrap_or(&before.target);
            let terms = change.applied_to(before.terms);
            let rest = json(&KeptPublisher::of(before.from_now, &terms));
            let args: Vec<Value> = vec![
                id.as_str().into(),
                kept.as_str().into(),
                before.owner.reveal().into(),
                format!("{} {} {target}", before.topic_id, before.kind.as_str()).into(),
                format!("{}\n{rest}", before.made_ms).into(),
                self.origin.as_str().into(),
            ];
            let script = &self.scripts.change_message_publisher;
            match self.change(script, Lane::HOME, args).await?.text()?.as_str() {
                "changed" => {
                    self.lane(Lane::HOME).call_alarm.ring_in(Duration::ZERO);
                    return Ok(PublisherChanged::Changed);
                }
                "taken" => return Ok(PublisherChanged::Taken),
                _ => {}
            }
        }
        Err(StoreError::Unavailable("a publisher changes all the time".into()))
    }

    async fn remove_message_publisher(&self, id: u64) -> StoreResult<PublisherRemoved> {
        let script = &self.scripts.remove_message_publisher;
        let args: Vec<Value> = vec![id.to_string().into()];
        Ok(match self.change(script, Lane::HOME, args).await?.text()?.as_str() {
            "gone" => PublisherRemoved::Gone,
            "was gone" => PublisherRemoved::WasGone,
            _ => PublisherRemoved::Unknown,
        })
    }
}

impl RedisStore {
    async fn kept_publisher(&self, id: &str) -> StoreResult<Option<String>> {
        self.connection.field(&self.lane(Lane::HOME).keys, "message_publishers", id).await
    }
}

impl KeptPublisher {
    fn of(from_now: bool, terms: &Terms) -> Self {
        let &Terms { active, timeout, retry, chunk_size, max_attempts, ref secrets } = terms;
        let (timeout_ms, retry_ms) = (timeout.as_millis() as u64, retry.as_millis() as u64);
        let secrets = secrets.to_stored();
        Self { from_now, active, timeout_ms, retry_ms, chunk_size, max_attempts, secrets }
    }
}

fn json(kept: &impl Serialize) -> String {
    // Nothing in it can fail to be written.
    serde_json::to_string(kept).unwrap_or_default()
}

fn corrupt(what: &str, id: &str) -> StoreError {
    StoreError::Corrupt(format!("what is kept of the message {what} {id} cannot be read"))
}

fn number(text: &str) -> StoreResult<u64> {
    text.parse().map_err(|_| corrupt("id", text))
}

fn topic(id: &str, kept: &str) -> StoreResult<MessageTopic> {
    let mut lines = kept.splitn(3, '\n');
    let mut read = || {
        let (owner, made, rest) = (lines.next()?, lines.next()?, lines.next()?);
        let KeptTopic { name, origin_host, recovery_enabled } = serde_json::from_str(rest).ok()?;
        Some(MessageTopic {
            id: id.parse().ok()?,
            name: MessageTopicName::from_checked(&name),
            origin_host,
            recovery_enabled,
            owner: ClientToken::from_stored(owner),
            made_ms: made.parse().ok()?,
        })
    };
    read().ok_or_else(|| corrupt("topic", id))
}

pub(super) fn publisher(id: &str, kept: &str) -> StoreResult<MessagePublisher> {
    let mut lines = kept.splitn(4, '\n');
    let mut read = || {
        let (owner, to, made, rest) = (lines.next()?, lines.next()?, lines.next()?, lines.next()?);
        let mut to = to.splitn(3, ' ');
        let (topic_id, kind, target) = (to.next()?, to.next()?, to.next()?);
        let rest: KeptPublisher = serde_json::from_str(rest).ok()?;
        Some(MessagePublisher {
            id: id.parse().ok()?,
            topic_id: topic_id.parse().ok()?,
            kind: TargetKind::parse(kind)?,
            target: target.to_owned(),
            from_now: rest.from_now,
            terms: Terms {
                active: rest.active,
                timeout: Duration::from_millis(rest.timeout_ms),
                retry: Duration::from_millis(rest.retry_ms),
                chunk_size: rest.chunk_size,
                max_attempts: rest.max_attempts,
                secrets: SigningSecrets::from_stored(&rest.secrets),
            },
            owner: ClientToken::from_stored(owner),
            made_ms: made.parse().ok()?,
        })
    };
    read().ok_or_else(|| corrupt("publisher", id))
}
