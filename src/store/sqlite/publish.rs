//! Publishing: a group of publications goes to the ends of its subscribers' queues, inside one
//! transaction.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, params};

use super::batches::from_ms;
use super::due::{IN_HAND, Waiting, after_append};
use crate::bus::topic::TopicName;
use crate::store::{Publication, Published};

/// What [`publish`] has to know of a topic: its owner and its subscribers' queues.
struct TopicState {
    publisher: Option<String>,
    queues: Vec<i64>,
    received: u64,
}

/// What [`publish`] changes of a queue.
struct Tail {
    next: i64,
    head: i64,
    timeout_ms: i64,
    max: i64,
    /// A batch was given out: the worker, not the publisher, says when the queue is due.
    in_hand: bool,
    due_ms: Option<i64>,
}

/// Appends a group of publications, in order, to the queues of their topics' subscribers.
///
/// Returns what became of each, and in how long the first of the queues touched is due.
pub fn publish(
    db: &Connection,
    publications: &[Publication],
    max_topics: u32,
    now_ms: u64,
) -> rusqlite::Result<(Vec<Published>, Option<Duration>)> {
    let now_ms = now_ms as i64;
    let mut topics: HashMap<&TopicName, TopicState> = HashMap::new();
    let mut tails: HashMap<i64, Tail> = HashMap::new();
    let mut published = Vec::with_capacity(publications.len());
    for publication in publications {
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
        topic.received += publication.items.len() as u64;
        for queue in &topic.queues {
            let tail = match tails.entry(*queue) {
                Entry::Occupied(entry) => entry.into_mut(),
                Entry::Vacant(entry) => entry.insert(load_tail(db, *queue)?),
            };
            append(db, *queue, tail, publication, now_ms)?;
        }
        published.push(Published::Stored);
    }
    for (name, topic) in topics.iter().filter(|(_, topic)| topic.received > 0) {
        db.prepare_cached("UPDATE topics SET events = events + ?2 WHERE name = ?1")?
            .execute(params![name.as_str(), topic.received as i64])?;
    }
    for (queue, tail) in &tails {
        db.prepare_cached("UPDATE queues SET next = ?2, due_ms = ?3 WHERE id = ?1")?
            .execute(params![queue, tail.next, tail.due_ms])?;
    }
    let earliest = tails.values().filter(|tail| !tail.in_hand).filter_map(|tail| tail.due_ms).min();
    Ok((published, earliest.map(|due_ms| from_ms(due_ms - now_ms))))
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
    let publisher = db
        .prepare_cached("SELECT publisher FROM topics WHERE name = ?1")?
        .query_row([name.as_str()], |row| row.get::<_, Option<String>>(0))
        .optional()?
        .flatten();
    let queues = db
        .prepare_cached("SELECT queue_id FROM subscriptions WHERE topic = ?1")?
        .query_map([name.as_str()], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    Ok(TopicState { publisher, queues, received: 0 })
}

fn load_tail(db: &Connection, queue: i64) -> rusqlite::Result<Tail> {
    db.prepare_cached(&format!(
        "SELECT next, head, timeout_ms, max, {IN_HAND}, due_ms FROM queues WHERE id = ?1"
    ))?
    .query_row([queue], |row| {
        Ok(Tail {
            next: row.get(0)?,
            head: row.get(1)?,
            timeout_ms: row.get(2)?,
            max: row.get(3)?,
            in_hand: row.get(4)?,
            due_ms: row.get(5)?,
        })
    })
}

fn append(
    db: &Connection,
    queue: i64,
    tail: &mut Tail,
    publication: &Publication,
    now_ms: i64,
) -> rusqlite::Result<()> {
    let mut insert = db.prepare_cached(
        "INSERT INTO items (position, at_ms, payload) VALUES ((?1 << 40) + ?2, ?3, ?4)",
    )?;
    let was_empty = tail.next == tail.head;
    for item in &publication.items {
        insert.execute(params![queue, tail.next, now_ms, &item[..]])?;
        tail.next += 1;
    }
    let (items, max, timeout_ms) = (tail.next - tail.head, tail.max, tail.timeout_ms);
    let waiting = Waiting { items, max, timeout_ms };
    tail.due_ms = after_append(&waiting, was_empty, tail.in_hand, tail.due_ms, now_ms);
    Ok(())
}
