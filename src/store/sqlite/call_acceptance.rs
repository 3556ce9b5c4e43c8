//! What becomes of calls that are handed in. Runs inside one transaction.

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension, params};

use super::destinations;
use crate::bus::call::Due;
use crate::store::calls::{CALL_OVERHEAD, FORGOTTEN_FOR_ROOM};
use crate::store::{Accepted, CallKey, CallTitle, NewCall};

/// Makes room for groups; how many dead calls were forgotten for that.
///
/// # Errors
/// If there is too little all the same; what was forgotten is undone with it.
pub(super) fn make_room(
    db: &Connection,
    groups: &[Vec<NewCall>],
    max_bytes: u64,
) -> rusqlite::Result<u64> {
    let mut new = 0;
    for call in groups.iter().flatten() {
        let is_known = db
            .prepare_cached("SELECT 1 FROM calls WHERE client = ?1 AND id = ?2")?
            .exists([call.key.client.reveal(), call.key.id.as_str()])?;
        new += if is_known { 0 } else { size(call) };
    }
    let is_enough = || -> rusqlite::Result<bool> { Ok(taken(db)? + new <= max_bytes) };
    let mut dead_dropped = 0;
    for over in ["done", "dead"] {
        for _ in 0..FORGOTTEN_FOR_ROOM {
            if is_enough()? {
                return Ok(dead_dropped);
            }
            let forgotten = db
                .prepare_cached(
                    "DELETE FROM calls WHERE number = (
                         SELECT number FROM calls WHERE over = ?1 AND message IS NULL
                         ORDER BY over_ms LIMIT 1)",
                )?
                .execute([over])?;
            if forgotten == 0 {
                break;
            }
            dead_dropped += u64::from(over == "dead");
        }
    }
    if is_enough()? { Ok(dead_dropped) } else { Err(full("as many calls are kept as may be")) }
}

/// What all calls take, about, in bytes.
pub(super) fn taken(db: &Connection) -> rusqlite::Result<u64> {
    db.prepare_cached("SELECT sum(bytes + ?1 * calls) FROM call_room WHERE kind <> 'message'")?
        .query_row([CALL_OVERHEAD], |row| row.get(0))
}

/// What a call takes, about. A shared title counts for each that comes with it, until they are kept.
fn size(call: &NewCall) -> u64 {
    (call.content.len() + call.title.as_str().len()) as u64 + CALL_OVERHEAD
}

/// What SQLite says when there is no room.
fn full(why: &str) -> rusqlite::Error {
    let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_FULL);
    rusqlite::Error::SqliteFailure(code, Some(why.to_owned()))
}

/// Keeps a group, if none of it is in conflict with what is there, or with itself.
pub(super) fn accept(
    db: &Connection,
    group: &[NewCall],
    now_ms: i64,
) -> rusqlite::Result<Vec<Accepted>> {
    let mut seen: HashMap<&CallKey, &str> = HashMap::new();
    let mut accepted = Vec::with_capacity(group.len());
    for call in group {
        let known: Option<String> = db
            .prepare_cached("SELECT fingerprint FROM calls WHERE client = ?1 AND id = ?2")?
            .query_row([call.key.client.reveal(), call.key.id.as_str()], |row| row.get(0))
            .optional()?;
        let known = seen.get(&call.key).copied().or(known.as_deref());
        accepted.push(match known {
            None => Accepted::Stored,
            Some(fingerprint) if fingerprint == call.fingerprint => Accepted::Known,
            Some(_) => Accepted::Conflict,
        });
        seen.insert(&call.key, &call.fingerprint);
    }
    if !accepted.contains(&Accepted::Conflict) {
        for (call, _) in group.iter().zip(&accepted).filter(|(_, a)| **a == Accepted::Stored) {
            insert(db, call, now_ms)?;
        }
    }
    Ok(accepted)
}

fn insert(db: &Connection, call: &NewCall, now_ms: i64) -> rusqlite::Result<()> {
    let due_ms = match call.due {
        Due::In(delay) => now_ms + delay.as_millis() as i64,
        Due::At(at_ms) => (at_ms as i64).max(now_ms),
    };
    let (shared_title, title) = match &call.title {
        CallTitle::Own(title) => (None, title.as_str()),
        CallTitle::Shared(title) => (Some(title_number(db, title)?), ""),
    };
    db.prepare_cached(
        "INSERT INTO calls
             (client, id, kind, fingerprint, destination, accepted_ms, due_ms, shared_title, title, content)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
    )?
    .execute(params![
        call.key.client.reveal(),
        call.key.id.as_str(),
        call.kind.as_str(),
        call.fingerprint,
        call.destination,
        now_ms,
        due_ms,
        shared_title,
        title,
        &call.content[..],
    ])?;
    destinations::expect(db, &call.destination, due_ms)
}

/// The number of a title that calls share.
fn title_number(db: &Connection, title: &str) -> rusqlite::Result<i64> {
    let known = db
        .prepare_cached("SELECT number FROM call_titles WHERE title = ?1")?
        .query_row([title], |row| row.get(0))
        .optional()?;
    if let Some(number) = known {
        return Ok(number);
    }
    db.prepare_cached("INSERT INTO call_titles (title) VALUES (?1)")?.insert([title])
}
