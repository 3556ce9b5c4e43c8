//! The index for text in messages. It is filled beside the road, so that what came a moment ago, or is large, is not in it
//! and is looked through.

use rusqlite::{Connection, params};

use crate::bus::message::MessageText;

/// The shortest text that the index finds, and how much of one it is asked for, in characters.
const INDEXED: usize = 3;
const TEXT_MAX: usize = 60;
/// How many messages are brought into it at once, and how many bytes of contents beyond the first.
const AT_ONCE: usize = 100;
const BYTES_AT_ONCE: usize = 128 * 1024;

/// What the index is asked for: all parts of any way to write a text, each of three characters. `None` if it is too
/// short.
pub fn parts_of(text: &MessageText) -> Option<String> {
    let of_way = |way: &String| {
        let characters: Vec<char> = way.chars().take(TEXT_MAX).collect();
        let parts: Vec<String> = characters
            .windows(INDEXED)
            .map(|part| format!("\"{}\"", part.iter().collect::<String>().replace('"', "\"\"")))
            .collect();
        (!parts.is_empty()).then(|| format!("({})", parts.join(" AND ")))
    };
    let ways: Option<Vec<String>> = text.ways().iter().map(of_way).collect();
    ways.map(|ways| ways.join(" OR "))
}

/// Numbers of messages below one that may have such a text, the newest first.
pub fn find(
    db: &Connection,
    parts: &str,
    before: i64,
    at_most: usize,
) -> rusqlite::Result<Vec<i64>> {
    let mut numbers: Vec<i64> = Vec::new();
    let mut look = |query: &str, wanted: &[&dyn rusqlite::ToSql]| -> rusqlite::Result<()> {
        let mut statement = db.prepare_cached(query)?;
        for number in statement.query_map(wanted, |row| row.get(0))? {
            numbers.push(number?);
        }
        Ok(())
    };
    let at_most = at_most as u64;
    look(
        "SELECT rowid FROM message_texts WHERE message_texts MATCH ?3 AND rowid < ?1
         ORDER BY rowid DESC LIMIT ?2",
        &[&before, &at_most, &parts],
    )?;
    look(
        "SELECT number FROM messages WHERE number < ?1 AND number > (SELECT texts_to FROM message_room)
         ORDER BY number DESC LIMIT ?2",
        &[&before, &at_most],
    )?;
    look(
        "SELECT number FROM messages WHERE number < ?1 AND length(content) > 65536
         ORDER BY number DESC LIMIT ?2",
        &[&before, &at_most],
    )?;
    numbers.sort_unstable_by_key(|number| std::cmp::Reverse(*number));
    numbers.dedup();
    numbers.truncate(at_most as usize);
    Ok(numbers)
}

/// Brings the next messages into the index; how many.
pub fn index(db: &Connection) -> rusqlite::Result<usize> {
    let next: Vec<(i64, usize)> = db
        .prepare_cached(
            "SELECT number, length(content) FROM messages
             WHERE number > (SELECT texts_to FROM message_room) ORDER BY number LIMIT ?1",
        )?
        .query_map([AT_ONCE as u64], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<rusqlite::Result<_>>()?;
    let (mut indexed, mut bytes) = (0, 0);
    for (number, length) in &next {
        if bytes > BYTES_AT_ONCE {
            break;
        }
        bytes += length;
        insert(db, *number)?;
        db.prepare_cached("UPDATE message_room SET texts_to = ?1")?.execute([number])?;
        indexed += 1;
    }
    Ok(indexed)
}

/// Brings a message into the index that has come back, where others of its time are.
pub fn index_again(db: &Connection, number: u64) -> rusqlite::Result<()> {
    let is_past =
        db.prepare_cached("SELECT 1 FROM message_room WHERE texts_to >= ?1")?.exists([number])?;
    if is_past { insert(db, number as i64) } else { Ok(()) }
}

fn insert(db: &Connection, number: i64) -> rusqlite::Result<()> {
    db.prepare_cached(
        "INSERT INTO message_texts (rowid, content)
         SELECT number, CAST(content AS TEXT) FROM messages
         WHERE number = ?1 AND length(content) <= 65536",
    )?
    .execute(params![number])?;
    Ok(())
}
