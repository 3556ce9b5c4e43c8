//! Who and what the bus knows: topics, subscriptions, tokens. Each function that writes runs inside one
//! transaction.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::SqliteStore;
use super::batches::{options_from_row, terms_from_row};
use super::due::{AFTER_SUBSCRIBING, broken_off_ms, let_go, reschedule};
use super::entity_order;
use super::publish::topic_count;
use crate::bus::attempt::{FailedAttempt, Failure};
use crate::bus::batch::BatchId;
use crate::bus::health::Health;
use crate::bus::pause::{Pause, PausedBy};
use crate::bus::signature::SigningSecrets;
use crate::bus::subscription::options::{BatchFormat, DeliveryOptions};
use crate::bus::subscription::{
    OpenBatch, Progress, Retention, Subscription, SubscriptionRequest, SubscriptionStatus,
};
use crate::bus::token::{ApiToken, ClientToken, random_hex};
use crate::bus::topic::{Keep, Topic, TopicName};
use crate::store::{Directory, NEW_UUID_PAUSE, StoreError, StoreResult, Subscribed, TopicDeleted};

#[async_trait]
impl Directory for SqliteStore {
    async fn subscribe(
        &self,
        subscriber: &ClientToken,
        request: &SubscriptionRequest,
        create_topics: bool,
    ) -> StoreResult<Subscribed> {
        let max_topics = create_topics.then_some(self.max_topics);
        let (subscriber, request) = (subscriber.clone(), request.clone());
        let queue = random_hex().map_err(|error| StoreError::Unavailable(error.to_string()))?;
        let clock = self.clock.clone();
        let subscribed = self
            .write(move |db| {
                let now_ms = clock.now_ms();
                subscribe(db, &subscriber, &request, max_topics, &queue, now_ms)
            })
            .await?;
        self.alarm.ring_in(Duration::ZERO);
        Ok(subscribed)
    }

    async fn unsubscribe(&self, subscriber: &ClientToken) -> StoreResult<bool> {
        let subscriber = subscriber.clone();
        self.write(move |db| unsubscribe(db, &subscriber)).await
    }

    async fn unsubscribe_topic(
        &self,
        subscriber: &ClientToken,
        topic: &TopicName,
    ) -> StoreResult<bool> {
        let (subscriber, topic) = (subscriber.clone(), topic.clone());
        self.write(move |db| unsubscribe_topic(db, &subscriber, &topic)).await
    }

    async fn delete_topic(
        &self,
        topic: &TopicName,
        owner: Option<&ClientToken>,
    ) -> StoreResult<TopicDeleted> {
        let (topic, owner) = (topic.clone(), owner.cloned());
        self.write(move |db| delete_topic(db, &topic, owner.as_ref())).await
    }

    async fn topics(&self) -> StoreResult<Vec<Topic>> {
        self.reader.run(topics).await
    }

    async fn subscriptions(&self) -> StoreResult<Vec<SubscriptionStatus>> {
        let now_ms = self.clock.now_ms();
        self.reader.run(move |db| subscriptions(db, now_ms)).await
    }

    async fn subscription(
        &self,
        subscriber: &ClientToken,
    ) -> StoreResult<Option<SubscriptionStatus>> {
        let (subscriber, now_ms) = (subscriber.clone(), self.clock.now_ms());
        self.reader.run(move |db| subscription(db, &subscriber, now_ms)).await
    }

    async fn api_tokens(&self) -> StoreResult<Vec<ApiToken>> {
        self.reader.run(api_tokens).await
    }

    async fn add_api_token(&self, token: &ApiToken) -> StoreResult<()> {
        let token = token.clone();
        self.write(move |db| add_api_token(db, &token)).await
    }

    async fn set_publisher(&self, topic: &TopicName, publisher: &ClientToken) -> StoreResult<bool> {
        let (topic, publisher) = (topic.clone(), publisher.clone());
        let sql = "UPDATE topics SET publisher = ?2, made_by = NULL WHERE name = ?1";
        let set = move |db: &Connection| db.execute(sql, [topic.as_str(), publisher.reveal()]);
        Ok(self.write(set).await? > 0)
    }

    async fn client_secrets(&self) -> StoreResult<Vec<(ClientToken, SigningSecrets)>> {
        self.reader.run(client_secrets).await
    }

    async fn set_client_secrets(
        &self,
        client: &ClientToken,
        secrets: &SigningSecrets,
    ) -> StoreResult<()> {
        let (client, secrets) = (client.clone(), secrets.clone());
        self.write(move |db| set_client_secrets(db, &client, &secrets)).await
    }

    async fn delete_api_token(&self, token: &ClientToken) -> StoreResult<()> {
        let token = token.clone();
        self.write(move |db| delete_api_token(db, &token)).await
    }
}

/// With `max_topics`, topics that do not exist are made, as long as the subscriber has no more than these.
/// `new_queue` names the subscriber's queue if it has none yet.
fn subscribe(
    db: &Connection,
    subscriber: &ClientToken,
    request: &SubscriptionRequest,
    max_topics: Option<u32>,
    new_queue: &str,
    now_ms: u64,
) -> rusqlite::Result<Subscribed> {
    let SubscriptionRequest { topics, terms, .. } = request;
    let (retention, options) = what_is_ours(db, subscriber)?.unwrap_or_default();
    let was_parallel = options.parallel.is_some();
    let (retention, options) = (request.retention.apply(retention), request.options.apply(options));
    if let Some(age) = retention.age.filter(|age| *age <= terms.timeout) {
        return Ok(Subscribed::KeptRetentionTooShort(age));
    }
    let mut unknown = Vec::new();
    for topic in topics {
        let mut known = db.prepare_cached("SELECT 1 FROM topics WHERE name = ?1")?;
        if !known.exists([topic.as_str()])? {
            unknown.push(topic);
        }
    }
    match (unknown.first(), max_topics) {
        (None, _) => {}
        (Some(topic), None) => return Ok(Subscribed::UnknownTopic((*topic).clone())),
        (Some(_), Some(max)) => {
            let count = topic_count(db, subscriber.reveal())? as usize + unknown.len();
            if count > max as usize {
                return Ok(Subscribed::TooManyTopics);
            }
        }
    }
    for topic in unknown {
        db.prepare_cached("INSERT INTO topics (name, made_by) VALUES (?1, ?2)")?
            .execute([topic.as_str(), subscriber.reveal()])?;
    }
    if was_parallel && options.parallel.is_none() {
        entity_order::end(db, subscriber, now_ms)?;
    }
    let (queue_id, paused_by): (i64, Option<String>) = db
        .prepare_cached(&format!(
            "INSERT INTO queues
                 (name, subscriber, callback, uuid, timeout_ms, max, retention_ms, max_queued,
                  secrets, format, refusals_max, parallel)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?9, ?10, ?12, ?13, ?14, ?15)
             ON CONFLICT (subscriber) DO UPDATE SET
                 health = iif(callback IS ?3 AND uuid IS ?4, health, 100),
                 health_restored = health_restored OR NOT (callback IS ?3 AND uuid IS ?4),
                 leased = leased AND callback IS ?3,
                 due_ms = {AFTER_SUBSCRIBING},
                 callback = ?3, uuid = ?4, timeout_ms = ?5, max = ?6,
                 retention_ms = ?9, max_queued = ?10,
                 pull_until_ms = iif(callback IS ?3, pull_until_ms, NULL),
                 secrets = ?12, format = ?13, refusals_max = ?14, parallel = ?15
             RETURNING id, paused_by"
        ))?
        .query_row(
            params![
                new_queue,
                subscriber.reveal(),
                terms.target.to_string(),
                terms.uuid,
                terms.timeout.as_millis() as u64,
                terms.max,
                now_ms,
                broken_off_ms(now_ms),
                retention.age.map(|age| age.as_millis() as u64),
                retention.count,
                now_ms + NEW_UUID_PAUSE.as_millis() as u64,
                Some(options.secrets.to_stored()).filter(|secrets| !secrets.is_empty()),
                Some(options.format)
                    .filter(|format| *format != BatchFormat::default())
                    .map(BatchFormat::as_str),
                options.refusals_max,
                options.parallel
            ],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )?;
    if paused_by.as_deref() == Some(PausedBy::Callback.as_str()) {
        let_go(db, queue_id, now_ms)?;
    } else {
        reschedule(db, queue_id, now_ms)?;
    }
    db.prepare_cached("DELETE FROM subscriptions WHERE queue_id = ?1")?.execute([queue_id])?;
    for topic in topics {
        db.prepare_cached("INSERT INTO subscriptions (topic, queue_id) VALUES (?1, ?2)")?
            .execute(params![topic.as_str(), queue_id])?;
    }
    Ok(Subscribed::Done)
}

/// What a subscriber has set that the original does not have, if it has subscribed.
fn what_is_ours(
    db: &Connection,
    subscriber: &ClientToken,
) -> rusqlite::Result<Option<(Retention, DeliveryOptions)>> {
    db.prepare_cached(
        "SELECT retention_ms, max_queued, secrets, format, refusals_max, parallel FROM queues
         WHERE subscriber = ?1",
    )?
    .query_row([subscriber.reveal()], |row| {
        Ok((retention_from_row(row, 0)?, options_from_row(row, 2)?))
    })
    .optional()
}

/// Reads `retention_ms, max_queued`, which start at this column.
fn retention_from_row(row: &Row<'_>, start: usize) -> rusqlite::Result<Retention> {
    let age: Option<u64> = row.get(start)?;
    Ok(Retention { age: age.map(Duration::from_millis), count: row.get(start + 1)? })
}

fn unsubscribe(db: &Connection, subscriber: &ClientToken) -> rusqlite::Result<bool> {
    let queue_id: Option<i64> = db
        .prepare_cached("DELETE FROM queues WHERE subscriber = ?1 RETURNING id")?
        .query_row([subscriber.reveal()], |row| row.get(0))
        .optional()?;
    let Some(queue_id) = queue_id else {
        return Ok(false);
    };
    db.execute("DELETE FROM subscriptions WHERE queue_id = ?1", [queue_id])?;
    // Its items go bit by bit: a long queue must not hold up everybody else's commits.
    db.execute("INSERT INTO removed_queues (id) VALUES (?1)", [queue_id])?;
    Ok(true)
}

fn unsubscribe_topic(
    db: &Connection,
    subscriber: &ClientToken,
    topic: &TopicName,
) -> rusqlite::Result<bool> {
    let removed = db.execute(
        "DELETE FROM subscriptions WHERE topic = ?2
             AND queue_id = (SELECT id FROM queues WHERE subscriber = ?1)",
        [subscriber.reveal(), topic.as_str()],
    )?;
    Ok(removed > 0)
}

fn delete_topic(
    db: &Connection,
    topic: &TopicName,
    owner: Option<&ClientToken>,
) -> rusqlite::Result<TopicDeleted> {
    let publisher: Option<Option<String>> = db
        .prepare_cached("SELECT publisher FROM topics WHERE name = ?1")?
        .query_row([topic.as_str()], |row| row.get(0))
        .optional()?;
    let Some(publisher) = publisher else {
        return Ok(TopicDeleted::Unknown);
    };
    if owner.is_some_and(|owner| publisher.as_deref() != Some(owner.reveal())) {
        return Ok(TopicDeleted::OwnedByAnother);
    }
    db.execute("DELETE FROM topics WHERE name = ?1", [topic.as_str()])?;
    db.execute("DELETE FROM subscriptions WHERE topic = ?1", [topic.as_str()])?;
    Ok(TopicDeleted::Done)
}

fn topics(db: &Connection) -> rusqlite::Result<Vec<Topic>> {
    db.prepare_cached(
        "SELECT name, publisher, events, ms, bytes FROM topics
         LEFT JOIN keeps ON topic = name ORDER BY name",
    )?
    .query_map([], |row| {
        let publisher: Option<String> = row.get(1)?;
        Ok(Topic {
            name: TopicName::from_stored(&row.get::<_, String>(0)?),
            publisher: publisher.as_deref().map(ClientToken::from_stored),
            events: row.get(2)?,
            keep: keep_from_row(row, 3)?,
        })
    })?
    .collect()
}

/// Reads `ms, bytes` of a keep, which start at this column.
fn keep_from_row(row: &Row<'_>, start: usize) -> rusqlite::Result<Option<Keep>> {
    let (ms, bytes): (Option<u64>, Option<u64>) = (row.get(start)?, row.get(start + 1)?);
    Ok(ms.zip(bytes).map(|(ms, bytes)| Keep { age: Duration::from_millis(ms), bytes }))
}

fn subscriptions(db: &Connection, now_ms: u64) -> rusqlite::Result<Vec<SubscriptionStatus>> {
    // One transaction, so that the two queries see the same state.
    let db = db.unchecked_transaction()?;
    let mut subscribed: BTreeMap<i64, BTreeSet<TopicName>> = BTreeMap::new();
    let mut pairs = db.prepare_cached("SELECT queue_id, topic FROM subscriptions")?;
    let mut rows = pairs.query([])?;
    while let Some(row) = rows.next()? {
        subscribed.entry(row.get(0)?).or_default().insert(topic_from_row(row, 1)?);
    }
    db.prepare_cached(&format!("{STATUS} ORDER BY subscriber"))?
        .query_map([], |row| {
            let topics = subscribed.remove(&row.get(0)?).unwrap_or_default();
            status_from_row(row, topics, now_ms)
        })?
        .collect()
}

fn subscription(
    db: &Connection,
    subscriber: &ClientToken,
    now_ms: u64,
) -> rusqlite::Result<Option<SubscriptionStatus>> {
    let db = db.unchecked_transaction()?;
    let topics = db
        .prepare_cached(
            "SELECT topic FROM subscriptions
             WHERE queue_id = (SELECT id FROM queues WHERE subscriber = ?1)",
        )?
        .query_map([subscriber.reveal()], |row| topic_from_row(row, 0))?
        .collect::<rusqlite::Result<_>>()?;
    db.prepare_cached(&format!("{STATUS} WHERE subscriber = ?1"))?
        .query_row([subscriber.reveal()], |row| status_from_row(row, topics, now_ms))
        .optional()
}

/// What [`status_from_row`] reads, of all queues.
const STATUS: &str = "
    SELECT id, subscriber, sent, next - head + aside,
        (SELECT min(at_ms) FROM (
            SELECT at_ms FROM items WHERE position = (id << 40) + head
            UNION ALL SELECT at_ms FROM (
                SELECT at_ms FROM aside_events WHERE aside > 0 AND queue_id = id
                ORDER BY event LIMIT 1))),
        callback, uuid, timeout_ms, max, retention_ms, max_queued, autodropped, expired, health,
        failed_at_ms, failed_attempt, failed_status, failed_reason,
        secrets, format, refusals_max, parallel, paused_ms, paused_by,
        iif(parallel IS NULL, batch_number, NULL), batch_last - head + 1, attempts, leased, due_ms, name
    FROM queues";

fn status_from_row(
    row: &Row<'_>,
    topics: BTreeSet<TopicName>,
    now_ms: u64,
) -> rusqlite::Result<SubscriptionStatus> {
    let oldest_ms: Option<u64> = row.get(4)?;
    Ok(SubscriptionStatus {
        subscriber: ClientToken::from_stored(&row.get::<_, String>(1)?),
        sent: row.get(2)?,
        queued: row.get(3)?,
        // Not in a time to come, if the clock was set back meanwhile.
        oldest_ms: oldest_ms.map(|oldest_ms| oldest_ms.min(now_ms)),
        subscription: Subscription {
            topics,
            terms: terms_from_row(row, 5)?,
            retention: retention_from_row(row, 9)?,
            options: options_from_row(row, 18)?,
        },
        autodropped: row.get(11)?,
        expired: row.get(12)?,
        health: Health::new(row.get(13)?),
        last_failure: failed_attempt_from_row(row, 14)?,
        pause: pause_from_row(row, 22)?,
        progress: progress_from_row(row, 24)?,
    })
}

/// Reads `paused_ms, paused_by`, which start at this column.
fn pause_from_row(row: &Row<'_>, start: usize) -> rusqlite::Result<Option<Pause>> {
    let Some(since_ms) = row.get(start)? else { return Ok(None) };
    let by: Option<String> = row.get(start + 1)?;
    Ok(Some(Pause { since_ms, by: PausedBy::from_stored(&by.unwrap_or_default()) }))
}

/// Reads `batch_number`, the events of that batch, `attempts, leased, due_ms, name`, which start at this column.
fn progress_from_row(row: &Row<'_>, start: usize) -> rusqlite::Result<Progress> {
    let (number, is_in_flight): (Option<u64>, bool) = (row.get(start)?, row.get(start + 3)?);
    let batch = match number {
        Some(number) => Some(OpenBatch {
            id: BatchId { queue: row.get(start + 5)?, number },
            events: row.get(start + 1)?,
            attempts: row.get(start + 2)?,
            is_in_flight,
        }),
        None => None,
    };
    let next_ms: Option<u64> = row.get(start + 4)?;
    Ok(Progress { batch, next_ms: next_ms.filter(|_| !is_in_flight) })
}

/// Reads `failed_at_ms, failed_attempt, failed_status, failed_reason`, which start at this column.
pub fn failed_attempt_from_row(
    row: &Row<'_>,
    start: usize,
) -> rusqlite::Result<Option<FailedAttempt>> {
    let Some(at_ms) = row.get(start)? else { return Ok(None) };
    let failure = Failure { status: row.get(start + 2)?, reason: row.get(start + 3)? };
    Ok(Some(FailedAttempt { at_ms, attempt: row.get(start + 1)?, failure }))
}

fn topic_from_row(row: &Row<'_>, column: usize) -> rusqlite::Result<TopicName> {
    Ok(TopicName::from_stored(&row.get::<_, String>(column)?))
}

fn api_tokens(db: &Connection) -> rusqlite::Result<Vec<ApiToken>> {
    db.prepare_cached("SELECT name, token, client, until_ms FROM api_tokens ORDER BY name, token")?
        .query_map([], |row| {
            let token = ClientToken::from_stored(&row.get::<_, String>(1)?);
            let client: Option<String> = row.get(2)?;
            Ok(ApiToken {
                name: row.get(0)?,
                client: client
                    .map_or_else(|| token.clone(), |client| ClientToken::from_stored(&client)),
                token,
                until_ms: row.get(3)?,
            })
        })?
        .collect()
}

fn add_api_token(db: &Connection, token: &ApiToken) -> rusqlite::Result<()> {
    db.execute(
        "INSERT INTO api_tokens (token, name, client, until_ms) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (token) DO UPDATE SET name = ?2, client = ?3, until_ms = ?4",
        params![token.token.reveal(), token.name, token.client.reveal(), token.until_ms],
    )?;
    Ok(())
}

fn client_secrets(db: &Connection) -> rusqlite::Result<Vec<(ClientToken, SigningSecrets)>> {
    db.prepare_cached("SELECT client, secrets FROM client_secrets")?
        .query_map([], |row| {
            let (client, secrets): (String, String) = (row.get(0)?, row.get(1)?);
            Ok((ClientToken::from_stored(&client), SigningSecrets::from_stored(&secrets)))
        })?
        .collect()
}

fn set_client_secrets(
    db: &Connection,
    client: &ClientToken,
    secrets: &SigningSecrets,
) -> rusqlite::Result<()> {
    db.execute("DELETE FROM client_secrets WHERE client = ?1", [client.reveal()])?;
    if !secrets.is_empty() {
        db.execute(
            "INSERT INTO client_secrets (client, secrets) VALUES (?1, ?2)",
            [client.reveal(), &secrets.to_stored()],
        )?;
    }
    Ok(())
}

fn delete_api_token(db: &Connection, token: &ClientToken) -> rusqlite::Result<()> {
    db.execute("DELETE FROM api_tokens WHERE token = ?1", [token.reveal()])?;
    Ok(())
}
