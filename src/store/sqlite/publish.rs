//! Publishing: a group of publications goes to the ends of its subscribers' queues, inside one
//! transaction.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, params};

use super::batches::from_ms;
use super::items::{Appending, take_positions};
use super::kept_events;
use crate::bus::item::Item;
use crate::bus::position::EventPosition;
use crate::bus::token::ClientToken;
use crate::bus::topic::TopicName;
use crate::store::{PUBLISH_KEYS_KEPT, PUBLISH_KEYS_MAX, Publication, PublishKey, Published};

/// What [`publish`] has to know of a topic: its owner and its subscribers' queues.
struct TopicState {
    publisher: Option<String>,
    queues: Vec<i64>,
    received: u64,
    /// Of what it keeps of its events, if it does.
    keep_id: Option<i64>,
}

/// Appends a group of publications, in order, to the queues of their topics' subscribers.
///
/// Returns what became of each, and of the queues that were touched.
pub fn publish(
    db: &Connection,
    publications: &[Publication],
    max_topics: u32,
    now_ms: u64,
) -> rusqlite::Result<(Vec<Published>, Touched)> {
    let events = publications.iter().map(|publication| publication.items.len() as u64).sum();
    let mut position = take_positions(db, events, now_ms)?;
    let now_ms = now_ms as i64;
    let mut topics: HashMap<&TopicName, TopicState> = HashMap::new();
    // For each queue what it gets, in order.
    let mut appends: BTreeMap<i64, Vec<(&[Item], EventPosition)>> = BTreeMap::new();
    let mut published = Vec::with_capacity(publications.len());
    for publication in publications {
        let first = position;
        position = first.plus(publication.items.len() as u64);
        let topic = match topics.entry(&publication.topic) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => entry.insert(load_topic(db, &publication.topic)?),
        };
        let client = publication.publisher.reveal();
        match &topic.publisher {
            Some(owner) if owner == client => {}
            Some(_) => {
                published.push(Published::OwnedByAnother);
                continue;
            }
            None if claim_topic(db, &publication.topic, client, max_topics)? => {
                topic.publisher = Some(client.to_owned());
            }
            None => {
                published.push(Published::TooManyTopics);
                continue;
            }
        }
        if let Some(key) = &publication.key
            && let Some(before) = keep_key(db, client, key, first, now_ms)?
        {
            published.push(before);
            continue;
        }
        topic.received += publication.items.len() as u64;
        if let Some(keep_id) = topic.keep_id {
            kept_events::add(db, keep_id, &publication.items, first, now_ms)?;
        }
        for queue in &topic.queues {
            appends.entry(*queue).or_default().push((&publication.items, first));
        }
        published.push(Published::Stored(first));
    }
    for (name, topic) in topics.iter().filter(|(_, topic)| topic.received > 0) {
        db.prepare_cached("UPDATE topics SET events = events + ?2 WHERE name = ?1")?
            .execute(params![name.as_str(), topic.received as i64])?;
    }
    let (mut appending, mut earliest, mut arrivals) = (Appending::new(db)?, None, Vec::new());
    for (queue, runs) in appends {
        let appended = appending.append(queue, runs, now_ms)?;
        earliest = earliest.into_iter().chain(appended.due_ms).min();
        arrivals.extend(appended.arrival);
    }
    let due_in = earliest.map(|due_ms: i64| from_ms(due_ms - now_ms));
    Ok((published, Touched { due_in, arrivals }))
}

/// What was changed of queues.
pub struct Touched {
    /// In how long the first of them is due.
    pub due_in: Option<Duration>,
    /// Those who ask for their batches, and for whom nothing waited.
    pub arrivals: Vec<ClientToken>,
}

/// Makes a client the publisher of a topic that has none, and the topic if it is not there; `false` if the
/// client would then have more topics than it may.
fn claim_topic(
    db: &Connection,
    topic: &TopicName,
    client: &str,
    max_topics: u32,
) -> rusqlite::Result<bool> {
    let is_maker = db
        .prepare_cached("SELECT 1 FROM topics WHERE name = ?1 AND made_by = ?2")?
        .exists([topic.as_str(), client])?;
    if !is_maker && topic_count(db, client)? >= max_topics {
        return Ok(false);
    }
    db.prepare_cached(
        "INSERT INTO topics (name, publisher) VALUES (?1, ?2)
         ON CONFLICT (name) DO UPDATE SET publisher = ?2, made_by = NULL",
    )?
    .execute([topic.as_str(), client])?;
    Ok(true)
}

/// How many topics a client is the publisher of, or has made by subscribing.
pub fn topic_count(db: &Connection, client: &str) -> rusqlite::Result<u32> {
    db.prepare_cached("SELECT count(*) FROM topics WHERE coalesce(publisher, made_by) = ?1")?
        .query_row([client], |row| row.get(0))
}

fn load_topic(db: &Connection, name: &TopicName) -> rusqlite::Result<TopicState> {
    let (publisher, keep_id) = db
        .prepare_cached(
            "SELECT publisher, (SELECT id FROM keeps WHERE topic = name) FROM topics WHERE name = ?1",
        )?
        .query_row([name.as_str()], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?
        .unwrap_or_default();
    let queues = db
        .prepare_cached("SELECT queue_id FROM subscriptions WHERE topic = ?1")?
        .query_map([name.as_str()], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    Ok(TopicState { publisher, queues, received: 0, keep_id })
}

/// Takes note of the key of a publication; or what became of the one that came before under the same key.
fn keep_key(
    db: &Connection,
    client: &str,
    key: &PublishKey,
    first: EventPosition,
    now_ms: i64,
) -> rusqlite::Result<Option<Published>> {
    let before: Option<(String, u64)> = db
        .prepare_cached(
            "SELECT fingerprint, event FROM publish_keys WHERE client = ?1 AND name = ?2",
        )?
        .query_row([client, &key.name], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    if let Some((fingerprint, event)) = before {
        let is_same = fingerprint == key.fingerprint;
        let stored = Published::StoredBefore(EventPosition::new(event));
        return Ok(Some(if is_same { stored } else { Published::KeyTaken }));
    }
    db.prepare_cached(
        "INSERT INTO publish_keys (client, name, fingerprint, event, at_ms)
         VALUES (?1, ?2, ?3, ?4, ?5)",
    )?
    .execute(params![client, key.name, key.fingerprint, first.number(), now_ms])?;
    Ok(None)
}

/// How many keys are forgotten at once.
const KEYS_AT_ONCE: u32 = 5_000;

/// Forgets some keys that are old, or of which their client has too many.
pub fn forget_keys(db: &Connection, now_ms: u64) -> rusqlite::Result<()> {
    let old_ms = now_ms.saturating_sub(PUBLISH_KEYS_KEPT.as_millis() as u64);
    db.prepare_cached(
        "DELETE FROM publish_keys WHERE (client, name) IN
             (SELECT client, name FROM publish_keys WHERE at_ms < ?1 ORDER BY at_ms LIMIT ?2)",
    )?
    .execute(params![old_ms, KEYS_AT_ONCE])?;
    let mut select = db.prepare_cached(
        "SELECT client, count(*) FROM publish_keys GROUP BY client HAVING count(*) > ?1",
    )?;
    let too_many = select.query_map([PUBLISH_KEYS_MAX as i64], |row| {
        Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?))
    })?;
    for (client, count) in too_many.collect::<rusqlite::Result<Vec<_>>>()? {
        let excess = (count - PUBLISH_KEYS_MAX as i64).min(i64::from(KEYS_AT_ONCE));
        db.prepare_cached(
            "DELETE FROM publish_keys WHERE client = ?1 AND name IN
                 (SELECT name FROM publish_keys WHERE client = ?1 ORDER BY at_ms LIMIT ?2)",
        )?
        .execute(params![client, excess])?;
    }
    Ok(())
}
