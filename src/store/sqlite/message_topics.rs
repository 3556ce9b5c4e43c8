//! Message topics and publishers. Each function that writes runs inside one transaction.

use std::time::Duration;

use async_trait::async_trait;
use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::SqliteStore;
use crate::bus::message::{
    MessageTopicName, NewPublisher, NewTopic, PublisherChange, TargetKind, Terms,
};
use crate::bus::signature::SigningSecrets;
use crate::bus::token::ClientToken;
use crate::store::{
    MessagePublisher, MessageTopic, MessageTopics, PublisherAdded, PublisherChanged,
    PublisherRemoved, StoreResult, TopicAdded, TopicRemoved,
};

#[async_trait]
impl MessageTopics for SqliteStore {
    async fn add_message_topic(
        &self,
        new: &NewTopic,
        owner: &ClientToken,
        max: u32,
    ) -> StoreResult<TopicAdded> {
        let (new, owner, clock) = (new.clone(), owner.clone(), self.clock.clone());
        self.write(move |db| add_topic(db, &new, &owner, max, clock.now_ms())).await
    }

    async fn message_topics(&self) -> StoreResult<Vec<MessageTopic>> {
        self.reader
            .run(|db| {
                db.prepare_cached(&format!("{TOPICS} ORDER BY id"))?
                    .query_map([], topic_from_row)?
                    .collect()
            })
            .await
    }

    async fn message_topic(&self, id: u64) -> StoreResult<Option<MessageTopic>> {
        self.reader
            .run(move |db| {
                db.prepare_cached(&format!("{TOPICS} WHERE id = ?1"))?
                    .query_row([id], topic_from_row)
                    .optional()
            })
            .await
    }

    async fn remove_message_topic(&self, id: u64, cascade: bool) -> StoreResult<TopicRemoved> {
        self.write(move |db| remove_topic(db, id, cascade)).await
    }

    async fn add_message_publisher(
        &self,
        new: &NewPublisher,
        owner: &ClientToken,
        max: u32,
    ) -> StoreResult<PublisherAdded> {
        let (new, owner, clock) = (new.clone(), owner.clone(), self.clock.clone());
        self.write(move |db| add_publisher(db, &new, &owner, max, clock.now_ms())).await
    }

    async fn message_publishers(&self) -> StoreResult<Vec<MessagePublisher>> {
        self.reader
            .run(|db| {
                db.prepare_cached(&format!("{PUBLISHERS} ORDER BY id"))?
                    .query_map([], publisher_from_row)?
                    .collect()
            })
            .await
    }

    async fn message_publisher(&self, id: u64) -> StoreResult<Option<MessagePublisher>> {
        self.reader.run(move |db| publisher(db, id)).await
    }

    async fn change_message_publisher(
        &self,
        id: u64,
        change: &PublisherChange,
    ) -> StoreResult<PublisherChanged> {
        let change = change.clone();
        let changed = self.write(move |db| change_publisher(db, id, &change)).await?;
        // What it has held back may go out now.
        self.call_alarm.ring_in(Duration::ZERO);
        Ok(changed)
    }

    async fn remove_message_publisher(&self, id: u64) -> StoreResult<PublisherRemoved> {
        self.write(move |db| remove_publisher(db, id)).await
    }
}

const TOPICS: &str =
    "SELECT id, name, origin_host, recovery_enabled, owner, made_ms FROM message_topics";
const PUBLISHERS: &str =
    "SELECT id, topic_id, kind, target, from_now, active, timeout_ms, retry_ms, chunk_size,
     max_attempts, owner, made_ms, secrets FROM message_publishers";

fn add_topic(
    db: &Connection,
    new: &NewTopic,
    owner: &ClientToken,
    max: u32,
    now_ms: u64,
) -> rusqlite::Result<TopicAdded> {
    if topic_id(db, &new.name)?.is_some() {
        return Ok(TopicAdded::NameTaken);
    }
    if count(db, "SELECT count(*) FROM message_topics WHERE owner = ?1", owner)? >= max {
        return Ok(TopicAdded::TooMany);
    }
    let id = db
        .prepare_cached(
            "INSERT INTO message_topics (name, origin_host, recovery_enabled, owner, made_ms)
             VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .insert(params![
            new.name.as_str(),
            new.origin_host.as_str(),
            new.recovery_enabled,
            owner.reveal(),
            now_ms
        ])?;
    Ok(TopicAdded::Added(id as u64))
}

fn topic_id(db: &Connection, name: &MessageTopicName) -> rusqlite::Result<Option<u64>> {
    db.prepare_cached("SELECT id FROM message_topics WHERE name = ?1")?
        .query_row([name.as_str()], |row| row.get(0))
        .optional()
}

fn count(db: &Connection, query: &str, owner: &ClientToken) -> rusqlite::Result<u32> {
    db.prepare_cached(query)?.query_row([owner.reveal()], |row| row.get(0))
}

fn remove_topic(db: &Connection, id: u64, cascade: bool) -> rusqlite::Result<TopicRemoved> {
    let publishers = "SELECT 1 FROM message_publishers WHERE topic_id = ?1";
    if !cascade && db.prepare_cached(publishers)?.exists([id])? {
        return Ok(TopicRemoved::HasPublishers);
    }
    let publishers: Vec<u64> = db
        .prepare_cached("SELECT id FROM message_publishers WHERE topic_id = ?1")?
        .query_map([id], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    for publisher in publishers {
        remove_publisher(db, publisher)?;
    }
    let removed = db.prepare_cached("DELETE FROM message_topics WHERE id = ?1")?.execute([id])?;
    Ok(if removed > 0 { TopicRemoved::Gone } else { TopicRemoved::Unknown })
}

fn add_publisher(
    db: &Connection,
    new: &NewPublisher,
    owner: &ClientToken,
    max: u32,
    now_ms: u64,
) -> rusqlite::Result<PublisherAdded> {
    let Some(topic_id) = topic_id(db, &new.topic)? else { return Ok(PublisherAdded::UnknownTopic) };
    let (kind, target) = (new.target.kind(), new.target.as_str());
    if has_target(db, topic_id, kind, target)? {
        return Ok(PublisherAdded::Taken);
    }
    if count(db, "SELECT count(*) FROM message_publishers WHERE owner = ?1", owner)? >= max {
        return Ok(PublisherAdded::TooMany);
    }
    let Terms { active, timeout, retry, chunk_size, max_attempts, secrets } = &new.terms;
    let id = db
        .prepare_cached(
            "INSERT INTO message_publishers (topic_id, kind, target, from_now, active, timeout_ms, retry_ms,
                 chunk_size, max_attempts, owner, made_ms, secrets)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
        )?
        .insert(params![
            topic_id,
            kind.as_str(),
            target,
            new.from_now,
            active,
            timeout.as_millis() as u64,
            retry.as_millis() as u64,
            chunk_size,
            max_attempts,
            owner.reveal(),
            now_ms,
            secrets.to_stored()
        ])?;
    if !new.from_now {
        db.prepare_cached("UPDATE message_publishers SET caught_up_to = 0 WHERE id = ?1")?
            .execute([id])?;
    }
    Ok(PublisherAdded::Added(id as u64))
}

pub(super) fn publisher(db: &Connection, id: u64) -> rusqlite::Result<Option<MessagePublisher>> {
    db.prepare_cached(&format!("{PUBLISHERS} WHERE id = ?1"))?
        .query_row([id], publisher_from_row)
        .optional()
}

fn has_target(
    db: &Connection,
    topic_id: u64,
    kind: TargetKind,
    target: &str,
) -> rusqlite::Result<bool> {
    db.prepare_cached(
        "SELECT 1 FROM message_publishers WHERE topic_id = ?1 AND kind = ?2 AND target = ?3",
    )?
    .exists(params![topic_id, kind.as_str(), target])
}

fn change_publisher(
    db: &Connection,
    id: u64,
    change: &PublisherChange,
) -> rusqlite::Result<PublisherChanged> {
    let Some(before) = publisher(db, id)? else { return Ok(PublisherChanged::Unknown) };
    let target = change.target.as_deref().unwrap_or(&before.target);
    if target != before.target && has_target(db, before.topic_id, before.kind, target)? {
        return Ok(PublisherChanged::Taken);
    }
    let Terms { active, timeout, retry, chunk_size, max_attempts, secrets } =
        change.applied_to(before.terms);
    db.prepare_cached(
        "UPDATE message_publishers SET target = ?2, active = ?3, timeout_ms = ?4, retry_ms = ?5,
             chunk_size = ?6, max_attempts = ?7, secrets = ?8
         WHERE id = ?1",
    )?
    .execute(params![
        id,
        target,
        active,
        timeout.as_millis() as u64,
        retry.as_millis() as u64,
        chunk_size,
        max_attempts,
        secrets.to_stored()
    ])?;
    Ok(PublisherChanged::Changed)
}

fn remove_publisher(db: &Connection, id: u64) -> rusqlite::Result<PublisherRemoved> {
    let removed =
        db.prepare_cached("DELETE FROM message_publishers WHERE id = ?1")?.execute([id])?;
    if removed > 0 {
        db.prepare_cached("INSERT INTO message_discards VALUES (?1)")?.execute([id])?;
        return Ok(PublisherRemoved::Gone);
    }
    let last: Option<u64> = db
        .prepare_cached("SELECT seq FROM sqlite_sequence WHERE name = 'message_publishers'")?
        .query_row([], |row| row.get(0))
        .optional()?;
    let was_given = (1..=last.unwrap_or(0)).contains(&id);
    Ok(if was_given { PublisherRemoved::WasGone } else { PublisherRemoved::Unknown })
}

fn topic_from_row(row: &Row<'_>) -> rusqlite::Result<MessageTopic> {
    Ok(MessageTopic {
        id: row.get(0)?,
        name: MessageTopicName::from_checked(row.get_ref(1)?.as_str()?),
        origin_host: row.get(2)?,
        recovery_enabled: row.get(3)?,
        owner: ClientToken::from_stored(row.get_ref(4)?.as_str()?),
        made_ms: row.get(5)?,
    })
}

fn publisher_from_row(row: &Row<'_>) -> rusqlite::Result<MessagePublisher> {
    let kind = TargetKind::parse(row.get_ref(2)?.as_str()?).ok_or_else(|| {
        rusqlite::Error::FromSqlConversionFailure(2, Type::Text, "no kind of target".into())
    })?;
    Ok(MessagePublisher {
        id: row.get(0)?,
        topic_id: row.get(1)?,
        kind,
        target: row.get(3)?,
        from_now: row.get(4)?,
        terms: Terms {
            active: row.get(5)?,
            timeout: Duration::from_millis(row.get(6)?),
            retry: Duration::from_millis(row.get(7)?),
            chunk_size: row.get(8)?,
            max_attempts: row.get(9)?,
            secrets: row
                .get::<_, Option<String>>(12)?
                .map_or_else(SigningSecrets::default, |text| SigningSecrets::from_stored(&text)),
        },
        owner: ClientToken::from_stored(row.get_ref(10)?.as_str()?),
        made_ms: row.get(11)?,
    })
}
