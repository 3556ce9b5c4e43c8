//! Messages and their deliveries. Each function that writes runs inside one transaction.

use std::collections::BTreeMap;

use async_trait::async_trait;
use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, Row, params};
use tokio::time::Instant;

use super::SqliteStore;
use super::destinations;
use super::message_texts;
use super::writer::Durability;
use crate::bus::call::CallState;
use crate::bus::message::MessageText;
use crate::bus::token::{ClientToken, MESSAGES_CLIENT};
use crate::store::messages::{
    CATCH_UP_AHEAD, MESSAGES_FORGOTTEN_FOR_ROOM, MESSAGES_MAX_BYTES, ONCE_KEPT,
    publisher_destination,
};
use crate::store::{
    AcceptedMessage, Forgotten, MESSAGES_AT_ONCE, MessageAcceptance, MessageCounts,
    MessageDelivery, MessageRecord, Messages, MessagesAccepted, NewMessageGroup, PublisherBehind,
    StoreResult, publisher_of,
};

/// What a message costs beyond its content, and what each of its deliveries, about, in bytes: measured.
const MESSAGE_OVERHEAD: u64 = 130;
const DELIVERY_OVERHEAD: u64 = 220;
/// What lies between a delivery's number and that of its call.
const CALLS_FROM: i64 = 1 << 60;

#[async_trait]
impl Messages for SqliteStore {
    async fn accept_messages(
        &self,
        groups: Vec<NewMessageGroup>,
        max_bytes: u64,
        give_up: Instant,
    ) -> StoreResult<MessageAcceptance> {
        let clock = self.clock.clone();
        let keep = move |db: &Connection| {
            let mut forgotten = Forgotten::default();
            let now_ms = clock.now_ms();
            let groups = groups
                .iter()
                .map(|group| accept(db, group, max_bytes, now_ms, &mut forgotten))
                .collect::<rusqlite::Result<_>>()?;
            Ok(MessageAcceptance { groups, forgotten })
        };
        let accepted = self.writer.run(Durability::OnDisk, give_up, keep).await?;
        self.call_alarm.ring_in(std::time::Duration::ZERO);
        Ok(accepted)
    }

    async fn forget_once(&self, names: &[String]) -> StoreResult<()> {
        let names = names.to_vec();
        let forget_all = move |db: &Connection| {
            let mut forget = db.prepare_cached("DELETE FROM messages_once WHERE name = ?1")?;
            names.iter().try_for_each(|name| forget.execute([name]).map(drop))
        };
        self.write(forget_all).await
    }

    async fn message(&self, number: u64) -> StoreResult<Option<MessageRecord>> {
        let Ok(number) = i64::try_from(number) else { return Ok(None) };
        self.reader
            .run(move |db| {
                let of_delivery: Option<i64> = db
                    .prepare_cached("SELECT message FROM calls WHERE number = ?1")?
                    .query_row([number - CALLS_FROM], |row| row.get(0))
                    .optional()?;
                let found = one(db, of_delivery.unwrap_or(number))?;
                found.map(|message| with_deliveries(db, message)).transpose()
            })
            .await
    }

    async fn messages_before(
        &self,
        number: u64,
        topic_id: Option<u64>,
        text: Option<&MessageText>,
        at_most: usize,
    ) -> StoreResult<Vec<MessageRecord>> {
        let number = i64::try_from(number).unwrap_or(i64::MAX);
        let at_most = at_most.min(MESSAGES_AT_ONCE);
        let parts = text.and_then(message_texts::parts_of);
        self.reader
            .run(move |db| match parts {
                Some(parts) => {
                    let numbers = message_texts::find(db, &parts, number, at_most)?;
                    let all = numbers.into_iter().filter_map(|number| one(db, number).transpose());
                    bounded(db, all)
                }
                None => messages_before(db, number, topic_id, at_most),
            })
            .await
    }

    async fn index_texts(&self) -> StoreResult<usize> {
        self.write_lazily(message_texts::index).await
    }

    async fn message_counts(&self) -> StoreResult<MessageCounts> {
        self.reader.run(counts).await
    }

    async fn forget_messages(&self, before_ms: u64) -> StoreResult<Forgotten> {
        let forget_old = move |db: &Connection| {
            let mut forgotten = Forgotten::default();
            for (number, received_ms) in closed(db, MESSAGES_AT_ONCE)? {
                if received_ms >= before_ms {
                    break;
                }
                forgotten.dead += forget(db, number)?;
                forgotten.messages += 1;
            }
            Ok(forgotten)
        };
        self.write_lazily(forget_old).await
    }

    async fn erase_messages(&self, numbers: &[u64]) -> StoreResult<Vec<bool>> {
        let numbers = numbers.to_vec();
        self.write(move |db| numbers.iter().map(|number| erase(db, *number as i64)).collect()).await
    }

    async fn discard_deliveries(&self) -> StoreResult<u64> {
        self.write(discard).await
    }

    async fn publishers_behind(&self) -> StoreResult<Vec<PublisherBehind>> {
        self.reader
            .run(|db| {
                db.prepare_cached(&format!("{BEHIND} ORDER BY id"))?
                    .query_map([], behind_from_row)?
                    .collect()
            })
            .await
    }

    async fn catch_up(
        &self,
        publisher: u64,
        from_history: Vec<MessageRecord>,
    ) -> StoreResult<usize> {
        let clock = self.clock.clone();
        let give = move |db: &Connection| give(db, publisher, &from_history, clock.now_ms());
        let given = self.write(give).await?;
        if given > 0 {
            self.call_alarm.ring_in(std::time::Duration::ZERO);
        }
        Ok(given)
    }

    async fn closed_messages(&self, after: u64) -> StoreResult<Vec<MessageRecord>> {
        let after = i64::try_from(after).unwrap_or(i64::MAX);
        self.reader.run(move |db| closed_messages(db, after)).await
    }

    async fn forget_closed(&self, numbers: &[u64]) -> StoreResult<u64> {
        let numbers = numbers.to_vec();
        let forget_all = move |db: &Connection| {
            let mut forgotten = 0;
            for number in numbers {
                let is_closed = db
                    .prepare_cached(&format!(
                        "SELECT 1 FROM messages WHERE number = ?1 AND open = 0 AND {NOBODY_IS_BEHIND}"
                    ))?
                    .exists([number])?;
                if is_closed {
                    forget(db, number as i64)?;
                    forgotten += 1;
                }
            }
            Ok(forgotten)
        };
        self.write_lazily(forget_all).await
    }
}

/// Gives out so many numbers that grow with time; the first of them.
fn next_numbers(db: &Connection, count: usize, now_ms: u64) -> rusqlite::Result<i64> {
    db.prepare_cached(
        "UPDATE message_room SET last = max(last + 1, ?1) + ?2 - 1 RETURNING last - ?2 + 1",
    )?
    .query_row(params![now_ms * 1000, count as u64], |row| row.get(0))
}

fn accept(
    db: &Connection,
    group: &NewMessageGroup,
    max_bytes: u64,
    now_ms: u64,
    forgotten: &mut Forgotten,
) -> rusqlite::Result<MessagesAccepted> {
    let topic_id: Option<i64> = db
        .prepare_cached("SELECT id FROM message_topics WHERE name = ?1")?
        .query_row([group.topic.as_str()], |row| row.get(0))
        .optional()?;
    let Some(topic_id) = topic_id else { return Ok(MessagesAccepted::UnknownTopic) };
    let publishers: Vec<(u64, bool)> = db
        .prepare_cached(
            "SELECT id, caught_up_to IS NULL FROM message_publishers 
             WHERE topic_id = ?1 AND (?2 IS NULL OR id = ?2) ORDER BY id",
        )?
        .query_map(params![topic_id, group.only], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<rusqlite::Result<_>>()?;
    if let Some(name) = &group.once {
        let old_ms = now_ms.saturating_sub(ONCE_KEPT.as_millis() as u64);
        db.prepare_cached("DELETE FROM messages_once WHERE at_ms < ?1")?.execute([old_ms])?;
        if db.prepare_cached("SELECT 1 FROM messages_once WHERE name = ?1")?.exists([name])? {
            return Ok(MessagesAccepted::Known);
        }
    }
    let overhead = MESSAGE_OVERHEAD + DELIVERY_OVERHEAD * publishers.len() as u64;
    let bytes: u64 = group.contents.iter().map(|content| content.len() as u64 + overhead).sum();
    if !make_room(db, bytes, max_bytes, forgotten)? {
        return Ok(MessagesAccepted::Full);
    }
    if let Some(name) = &group.once {
        db.prepare_cached("INSERT INTO messages_once VALUES (?1, ?2)")?
            .execute(params![name, now_ms])?;
    }
    let due_ms = group.at_ms.unwrap_or(0).max(now_ms);
    let each = 1 + publishers.len();
    let mut number = next_numbers(db, each * group.contents.len(), now_ms)?;
    let mut kept = Vec::with_capacity(group.contents.len());
    let live: Vec<(usize, u64)> = publishers
        .iter()
        .enumerate()
        .filter(|(_, (_, is_live))| *is_live)
        .map(|(index, (id, _))| (index, *id))
        .collect();
    for content in &group.contents {
        let deliveries: Vec<u64> = (1..each).map(|place| (number as u64) + place as u64).collect();
        let promised: BTreeMap<u64, u64> = publishers
            .iter()
            .zip(&deliveries)
            .filter(|((_, is_live), _)| !is_live)
            .map(|((id, _), delivery)| (*id, *delivery))
            .collect();
        let promised = (!promised.is_empty()).then(|| serde_json::to_string(&promised));
        db.prepare_cached(
            "INSERT INTO messages (number, topic_id, sender, received_ms, due_ms, open, promised, content)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?
        .execute(params![
            number,
            topic_id,
            group.sender.reveal(),
            now_ms,
            due_ms,
            live.len(),
            promised.transpose().ok().flatten(),
            &content[..],
        ])?;
        for (index, publisher) in &live {
            let to = Delivery { number: deliveries[*index] as i64, publisher: *publisher };
            insert_delivery(db, &to, number, now_ms, due_ms)?;
        }
        kept.push(AcceptedMessage { number: number as u64, deliveries });
        number += each as i64;
    }
    for (_, publisher) in live {
        expect(db, publisher, due_ms)?;
    }
    Ok(MessagesAccepted::Kept(kept))
}

/// A number that a publisher has for a message.
struct Delivery {
    number: i64,
    publisher: u64,
}

fn insert_delivery(
    db: &Connection,
    delivery: &Delivery,
    message: i64,
    received_ms: u64,
    due_ms: u64,
) -> rusqlite::Result<()> {
    db.prepare_cached(
        "INSERT INTO calls (number, client, id, kind, fingerprint, destination, accepted_ms, due_ms, title,
             content, message)
         VALUES (?1, ?2, ?3, 'message', '', ?4, ?5, ?6, '', x'', ?7)",
    )?
    .execute(params![
        delivery.number - CALLS_FROM,
        MESSAGES_CLIENT,
        delivery.number.to_string(),
        publisher_destination(delivery.publisher),
        received_ms,
        due_ms,
        message,
    ])?;
    Ok(())
}

/// Lets a publisher's deliveries be looked for from then on.
fn expect(db: &Connection, publisher: u64, due_ms: u64) -> rusqlite::Result<()> {
    destinations::expect(db, &publisher_destination(publisher), due_ms as i64)
}

fn counts(db: &Connection) -> rusqlite::Result<MessageCounts> {
    db.prepare_cached(
        "SELECT messages, bytes + ?1 * messages + ?2 * (SELECT calls FROM call_room WHERE kind = 'message')
         FROM message_room",
    )?
    .query_row([MESSAGE_OVERHEAD, DELIVERY_OVERHEAD], |row| {
        Ok(MessageCounts { messages: row.get(0)?, bytes: row.get(1)? })
    })
}

/// Forgets the oldest messages that wait for nobody, until so many more bytes fit; whether they do.
fn make_room(
    db: &Connection,
    more: u64,
    max_bytes: u64,
    forgotten: &mut Forgotten,
) -> rusqlite::Result<bool> {
    let mut left = MESSAGES_FORGOTTEN_FOR_ROOM;
    loop {
        let fits = || counts(db).map(|counts| counts.bytes + more <= max_bytes);
        if fits()? {
            return Ok(true);
        }
        let old = closed(db, left.min(MESSAGES_AT_ONCE))?;
        if old.is_empty() {
            return Ok(false);
        }
        left -= old.len();
        for (number, _) in old {
            if fits()? {
                return Ok(true);
            }
            forgotten.dead += forget(db, number)?;
            forgotten.messages += 1;
        }
    }
}

/// The oldest messages that wait for nobody, also not for a publisher that begins in the past, with when they came.
fn closed(db: &Connection, at_most: usize) -> rusqlite::Result<Vec<(i64, u64)>> {
    db.prepare_cached(&format!(
        "SELECT number, received_ms FROM
             (SELECT number, received_ms, topic_id FROM messages WHERE open = 0 ORDER BY number LIMIT 5000)
         WHERE {NOBODY_IS_BEHIND} LIMIT ?1"
    ))?
    .query_map([at_most as u64], |row| Ok((row.get(0)?, row.get(1)?)))?
    .collect()
}

/// Takes a message away that waits for nobody; how many of its deliveries had been given up on.
fn forget(db: &Connection, number: i64) -> rusqlite::Result<u64> {
    let dead = db
        .prepare_cached("SELECT count(*) FROM calls WHERE message = ?1 AND over = 'dead'")?
        .query_row([number], |row| row.get(0))?;
    db.prepare_cached("DELETE FROM calls WHERE message = ?1")?.execute([number])?;
    db.prepare_cached("DELETE FROM messages WHERE number = ?1")?.execute([number])?;
    Ok(dead)
}

fn erase(db: &Connection, number: i64) -> rusqlite::Result<bool> {
    db.prepare_cached(
        "UPDATE calls SET cancelled = 1 WHERE message = ?1 AND lease_ms IS NOT NULL",
    )?
    .execute([number])?;
    let waited: Vec<String> = db
        .prepare_cached(
            "DELETE FROM calls WHERE message = ?1 AND lease_ms IS NULL RETURNING destination",
        )?
        .query_map([number], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    for destination in waited {
        destinations::reschedule(db, &destination)?;
    }
    let gone = db.prepare_cached("DELETE FROM messages WHERE number = ?1")?.execute([number])?;
    Ok(gone > 0)
}

fn discard(db: &Connection) -> rusqlite::Result<u64> {
    let publishers: Vec<u64> = db
        .prepare_cached("SELECT publisher FROM message_discards")?
        .query_map([], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    let mut discarded = 0;
    for publisher in publishers {
        let left = MESSAGES_AT_ONCE - discarded;
        let destination = publisher_destination(publisher);
        discarded += db
            .prepare_cached(
                "DELETE FROM calls WHERE number IN (
                     SELECT number FROM calls WHERE destination = ?1 AND due_ms IS NOT NULL LIMIT ?2)",
            )?
            .execute(params![destination, left as u64])?;
        destinations::reschedule(db, &destination)?;
        if discarded >= MESSAGES_AT_ONCE {
            break;
        }
        db.prepare_cached(
            "UPDATE calls SET cancelled = 1 WHERE destination = ?1 AND lease_ms IS NOT NULL",
        )?
        .execute([&destination])?;
        db.prepare_cached("DELETE FROM message_discards WHERE publisher = ?1")?
            .execute([publisher])?;
    }
    Ok(discarded as u64)
}

const BEHIND: &str =
    "SELECT id, topic_id, caught_up_to FROM message_publishers WHERE caught_up_to IS NOT NULL";

fn behind_from_row(row: &Row<'_>) -> rusqlite::Result<PublisherBehind> {
    Ok(PublisherBehind { publisher: row.get(0)?, topic_id: row.get(1)?, caught_up_to: row.get(2)? })
}

/// Gives a publisher what comes next; one that lacks nothing any more gets what comes like all others.
fn give(
    db: &Connection,
    publisher: u64,
    from_history: &[MessageRecord],
    now_ms: u64,
) -> rusqlite::Result<usize> {
    let behind = db
        .prepare_cached(&format!("{BEHIND} AND id = ?1"))?
        .query_row([publisher], behind_from_row)
        .optional()?;
    let Some(PublisherBehind { topic_id, caught_up_to, .. }) = behind else { return Ok(0) };
    let destination = publisher_destination(publisher);
    let ahead: usize = db
        .prepare_cached(
            "SELECT count(*) FROM (
                 SELECT 1 FROM calls WHERE destination = ?1 AND due_ms IS NOT NULL LIMIT ?2)",
        )?
        .query_row(params![destination, CATCH_UP_AHEAD as u64], |row| row.get(0))?;
    let room = (CATCH_UP_AHEAD - ahead).min(MESSAGES_AT_ONCE);
    if room == 0 {
        return Ok(0);
    }
    let next: Vec<(i64, u64, Option<String>)> = if from_history.is_empty() {
        db.prepare_cached(
            "SELECT number, received_ms, due_ms, promised FROM messages WHERE topic_id = ?1 AND number > ?2
             ORDER BY number LIMIT ?3",
        )?
        .query_map(params![topic_id, caught_up_to, room as u64], |row| {
            let due_ms = due_again(row.get(1)?, row.get(2)?, now_ms);
            Ok((row.get(0)?, due_ms, row.get(3)?))
        })?
        .collect::<rusqlite::Result<_>>()?
    } else {
        let wanted = from_history.iter().filter(|message| message.number > caught_up_to);
        let wanted: Vec<&MessageRecord> = wanted.take(room).collect();
        wanted.iter().try_for_each(|message| bring_back(db, message))?;
        let due_ms =
            |message: &MessageRecord| due_again(message.received_ms, message.due_ms, now_ms);
        wanted.iter().map(|message| (message.number as i64, due_ms(message), None)).collect()
    };
    for (message, due_ms, promised) in &next {
        let promised: Option<BTreeMap<u64, i64>> =
            promised.as_deref().and_then(|json| serde_json::from_str(json).ok());
        let promised = promised.and_then(|numbers| numbers.get(&publisher).copied());
        let number = match promised {
            Some(number) => number,
            None => next_numbers(db, 1, now_ms)?,
        };
        insert_delivery(db, &Delivery { number, publisher }, *message, now_ms, *due_ms)?;
        db.prepare_cached("UPDATE messages SET open = open + 1 WHERE number = ?1")?
            .execute([message])?;
        expect(db, publisher, *due_ms)?;
    }
    let is_all = from_history.is_empty() && next.len() < room;
    let last = next.last().map_or(caught_up_to as i64, |(number, ..)| *number);
    db.prepare_cached("UPDATE message_publishers SET caught_up_to = ?2 WHERE id = ?1")?
        .execute(params![publisher, (!is_all).then_some(last)])?;
    Ok(next.len())
}

/// When a message is due at one more publisher. What nobody scheduled is due now, also if the clock has been set back
/// since it came.
fn due_again(received_ms: u64, due_ms: u64, now_ms: u64) -> u64 {
    let is_scheduled = due_ms > received_ms;
    if is_scheduled { due_ms } else { due_ms.min(now_ms) }
}

/// Keeps a message here again that was in history.
fn bring_back(db: &Connection, message: &MessageRecord) -> rusqlite::Result<()> {
    let kept = db
        .prepare_cached(
            "INSERT INTO messages (number, topic_id, sender, received_ms, due_ms, open, content)
         VALUES (?1, ?2, ?3, ?4, ?5, 0, ?6) ON CONFLICT DO NOTHING",
        )?
        .execute(params![
            message.number,
            message.topic_id,
            message.sender.reveal(),
            message.received_ms,
            message.due_ms,
            &message.content[..]
        ])?;
    // One that is here is in the index, or will be.
    if kept > 0 { message_texts::index_again(db, message.number) } else { Ok(()) }
}

/// That no publisher of a message's topic lacks something.
const NOBODY_IS_BEHIND: &str =
    "topic_id NOT IN (SELECT topic_id FROM message_publishers WHERE caught_up_to IS NOT NULL)";

fn closed_messages(db: &Connection, after: i64) -> rusqlite::Result<Vec<MessageRecord>> {
    let query = format!(
        "{MESSAGES} WHERE open = 0 AND number > ?1 AND {NOBODY_IS_BEHIND}
             AND NOT EXISTS (SELECT 1 FROM calls WHERE message = messages.number AND over = 'dead')
         ORDER BY number LIMIT ?2"
    );
    let mut statement = db.prepare_cached(&query)?;
    let rows = statement.query_map(params![after, MESSAGES_AT_ONCE as u64], message_from_row)?;
    bounded(db, rows)
}

/// As many as are not too much at once, with their deliveries.
fn bounded(
    db: &Connection,
    rows: impl Iterator<Item = rusqlite::Result<MessageRecord>>,
) -> rusqlite::Result<Vec<MessageRecord>> {
    let (mut found, mut bytes) = (Vec::new(), 0);
    for message in rows {
        let message = message?;
        bytes += message.content.len();
        if bytes > MESSAGES_MAX_BYTES && !found.is_empty() {
            break;
        }
        found.push(with_deliveries(db, message)?);
    }
    Ok(found)
}

const MESSAGES: &str =
    "SELECT number, topic_id, sender, received_ms, due_ms, content FROM messages";

fn one(db: &Connection, number: i64) -> rusqlite::Result<Option<MessageRecord>> {
    db.prepare_cached(&format!("{MESSAGES} WHERE number = ?1"))?
        .query_row([number], message_from_row)
        .optional()
}

fn message_from_row(row: &Row<'_>) -> rusqlite::Result<MessageRecord> {
    Ok(MessageRecord {
        number: row.get(0)?,
        topic_id: row.get(1)?,
        sender: ClientToken::from_stored(row.get_ref(2)?.as_str()?),
        received_ms: row.get(3)?,
        due_ms: row.get(4)?,
        content: Bytes::from(row.get::<_, Vec<u8>>(5)?),
        deliveries: Vec::new(),
    })
}

fn messages_before(
    db: &Connection,
    number: i64,
    topic_id: Option<u64>,
    at_most: usize,
) -> rusqlite::Result<Vec<MessageRecord>> {
    let topic = if topic_id.is_some() { "topic_id = ?3" } else { "?3 IS NULL" };
    let query = format!("{MESSAGES} WHERE {topic} AND number < ?1 ORDER BY number DESC LIMIT ?2");
    let mut statement = db.prepare_cached(&query)?;
    let rows = statement.query_map(params![number, at_most as u64, topic_id], message_from_row)?;
    bounded(db, rows)
}

fn with_deliveries(db: &Connection, message: MessageRecord) -> rusqlite::Result<MessageRecord> {
    let deliveries = db
        .prepare_cached(
            "SELECT number, destination, over, lease_ms IS NOT NULL, attempts, due_ms, over_ms, status, reason
             FROM calls WHERE message = ?1 ORDER BY number",
        )?
        .query_map([message.number as i64], |row| {
            let (over, attempts): (Option<String>, u32) = (row.get(2)?, row.get(4)?);
            let destination: String = row.get(1)?;
            Ok(MessageDelivery {
                number: (row.get::<_, i64>(0)? + CALLS_FROM) as u64,
                publisher_id: publisher_of(&destination).unwrap_or_default(),
                state: CallState::of(over.as_deref(), row.get(3)?, attempts),
                attempts,
                due_ms: row.get(5)?,
                ended_ms: row.get(6)?,
                status: row.get(7)?,
                reason: row.get(8)?,
            })
        })?
        .collect::<rusqlite::Result<_>>()?;
    Ok(MessageRecord { deliveries, ..message })
}
