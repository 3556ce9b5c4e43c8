//! Calls. Each function that writes runs inside one transaction.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, Row, params};
use tokio::time::Instant;

use super::SqliteStore;
use super::batches::{clock_was_set_back, from_ms};
use super::call_acceptance;
use super::destinations;
use super::message_topics;
use super::writer::Durability;
use crate::bus::call::{CallId, CallKind, CallState};
use crate::bus::token::ClientToken;
use crate::store::calls::{CALLS_AT_ONCE, CLAIMED_MAX_BYTES, DESTINATIONS_AT_ONCE};
use crate::store::{
    Acceptance, Alarm, CLOCK_STEP, CallCancelled, CallClaim, CallCounts, CallKey, CallLease,
    CallMemory, CallOutcome, CallSettled, CallSettlement, CallStatus, Calls, DestinationLimits,
    DestinationStatus, Lane, LeasedCall, NewCall, StoreResult, publisher_of,
};

#[async_trait]
impl Calls for SqliteStore {
    async fn accept_calls(
        &self,
        groups: Vec<Vec<NewCall>>,
        max_bytes: u64,
        give_up: Instant,
    ) -> StoreResult<Acceptance> {
        let clock = self.clock.clone();
        let keep = move |db: &Connection| {
            let dead_dropped = call_acceptance::make_room(db, &groups, max_bytes)?;
            let now_ms = clock.now_ms() as i64;
            let groups = groups.iter().map(|group| call_acceptance::accept(db, group, now_ms));
            Ok(Acceptance { groups: groups.collect::<rusqlite::Result<_>>()?, dead_dropped })
        };
        let accepted = self.writer.run(Durability::OnDisk, give_up, keep).await?;
        self.call_alarm.ring_in(Duration::ZERO);
        Ok(accepted)
    }

    async fn claim_calls(
        &self,
        _lane: Lane,
        limit: usize,
        limits: DestinationLimits,
        lease: Duration,
    ) -> StoreResult<CallClaim> {
        let now_ms = self.clock.now_ms() as i64;
        self.write_lazily(move |db| claim(db, limit, limits, lease, now_ms)).await
    }

    async fn renew_calls(
        &self,
        _lane: Lane,
        leases: &[CallLease],
        lease: Duration,
    ) -> StoreResult<Vec<CallLease>> {
        let (leases, now_ms) = (leases.to_vec(), self.clock.now_ms() as i64);
        self.write_lazily(move |db| renew(db, leases, now_ms + as_ms(lease))).await
    }

    async fn settle_calls(
        &self,
        _lane: Lane,
        settlements: Vec<CallSettlement>,
    ) -> StoreResult<Vec<CallSettled>> {
        let now_ms = self.clock.now_ms() as i64;
        let settle_all = move |db: &Connection| {
            settlements.iter().map(|settlement| settle(db, settlement, now_ms)).collect()
        };
        let settled = self.write_lazily(settle_all).await?;
        self.call_alarm.ring_in(Duration::ZERO);
        Ok(settled)
    }

    async fn call(&self, key: &CallKey) -> StoreResult<Option<(CallStatus, Bytes)>> {
        let key = key.clone();
        self.reader.run(move |db| call(db, &key)).await
    }

    async fn calls_before(&self, position: u64, at_most: usize) -> StoreResult<Vec<CallStatus>> {
        let position = i64::try_from(position).unwrap_or(i64::MAX);
        self.reader.run(move |db| calls_before(db, position, at_most.min(CALLS_AT_ONCE))).await
    }

    async fn retry_calls(&self, keys: &[CallKey]) -> StoreResult<Vec<bool>> {
        let (keys, now_ms) = (keys.to_vec(), self.clock.now_ms() as i64);
        let retry_all =
            move |db: &Connection| keys.iter().map(|key| retry(db, key, now_ms)).collect();
        let retried = self.write(retry_all).await?;
        self.call_alarm.ring_in(Duration::ZERO);
        Ok(retried)
    }

    async fn cancel_calls(&self, keys: &[CallKey]) -> StoreResult<Vec<CallCancelled>> {
        let keys = keys.to_vec();
        self.write(move |db| keys.iter().map(|key| cancel(db, key)).collect()).await
    }

    async fn call_counts(&self, kind: CallKind) -> StoreResult<CallCounts> {
        let counts = move |db: &Connection| {
            db.prepare_cached("SELECT waiting, dead, bytes FROM call_room WHERE kind = ?1")?
                .query_row([kind.as_str()], |row| {
                    Ok(CallCounts { waiting: row.get(0)?, dead: row.get(1)?, bytes: row.get(2)? })
                })
        };
        self.reader.run(counts).await
    }

    async fn due_calls(
        &self,
        within: Duration,
        limits: DestinationLimits,
        at_most: u64,
    ) -> StoreResult<u64> {
        let until_ms = self.clock.now_ms() as i64 + as_ms(within);
        let DestinationLimits { in_flight, probes, per_publisher } = limits;
        let count = move |db: &Connection| {
            db.prepare_cached(&format!(
                "SELECT count(*) FROM (
                     SELECT 1 FROM {WITH_PUBLISHERS}
                         CROSS JOIN calls c ON c.destination = destinations.name AND c.due_ms <= ?4
                     WHERE destinations.due_ms <= ?4 AND {FREE} > 0 LIMIT ?5)"
            ))?
            .query_row(params![probes, in_flight, per_publisher, until_ms, at_most], |row| {
                row.get(0)
            })
        };
        self.reader.run(count).await
    }

    async fn destinations(&self, at_most: usize) -> StoreResult<Vec<DestinationStatus>> {
        self.reader.run(move |db| destinations::list(db, at_most)).await
    }

    async fn forget_calls(&self, _lane: Lane, memory: CallMemory) -> StoreResult<usize> {
        let now_ms = self.clock.now_ms();
        self.write_lazily(move |db| forget(db, memory, now_ms)).await
    }

    async fn lane_of_destination(&self, _destination: &str) -> StoreResult<Lane> {
        Ok(Lane::HOME)
    }

    fn call_alarm(&self, _lane: Lane) -> &Alarm {
        self.is_watched.store(true, std::sync::atomic::Ordering::Relaxed);
        &self.call_alarm
    }
}

fn as_ms(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// Destinations, with the publishers that some of them are.
const WITH_PUBLISHERS: &str = "destinations LEFT JOIN message_publishers p ON p.id = publisher";
/// For how many more calls there is a place at one: `?1` while it fails, else `?2`, or for a publisher `?3` for
/// each message that one request carries.
const FREE: &str = "min(
    CASE WHEN publisher IS NULL THEN ?2 WHEN p.active THEN ?3 * iif(p.kind = 'pubsub', max(p.chunk_size, 1), 1)
        ELSE 0 END,
    iif(failures > 0, ?1, 1000000000)) - in_flight";

fn claim(
    db: &Connection,
    limit: usize,
    limits: DestinationLimits,
    lease: Duration,
    now_ms: i64,
) -> rusqlite::Result<CallClaim> {
    follow_clock(db, now_ms)?;
    end_old_leases(db, now_ms)?;
    let DestinationLimits { in_flight, probes, per_publisher } = limits;
    let due: Vec<(String, u32)> = db
        .prepare_cached(&format!(
            "SELECT name, {FREE} AS free FROM {WITH_PUBLISHERS}
             WHERE due_ms <= ?4 AND free > 0 ORDER BY due_ms LIMIT ?5"
        ))?
        .query_map(
            params![probes, in_flight, per_publisher, now_ms, DESTINATIONS_AT_ONCE as u64],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )?
        .collect::<Result<_, _>>()?;
    // Each destination's first, then each one's second, and so on.
    let mut candidates: Vec<(usize, i64, i64, usize)> = Vec::new();
    for (index, (name, free)) in due.iter().enumerate() {
        let mut waiting = db.prepare_cached(
            "SELECT number, due_ms FROM calls WHERE destination = ?1 AND due_ms <= ?2
             ORDER BY due_ms, number LIMIT ?3",
        )?;
        let rows = waiting
            .query_map(params![name, now_ms, (*free as usize).min(limit)], |row| {
                Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?))
            })?;
        for (rank, row) in rows.enumerate() {
            let (number, due_ms) = row?;
            candidates.push((rank, due_ms, number, index));
        }
    }
    candidates.sort_unstable();
    candidates.truncate(limit);
    let mut calls: Vec<LeasedCall> = Vec::with_capacity(candidates.len());
    let mut bytes = 0;
    for (_, _, number, index) in &candidates {
        if bytes > CLAIMED_MAX_BYTES {
            break;
        }
        let call = lease_call(db, *number, now_ms, lease)?;
        bytes += call.content.len();
        calls.push(call);
        db.prepare_cached("UPDATE destinations SET in_flight = in_flight + 1 WHERE name = ?1")?
            .execute([&due[*index].0])?;
    }
    let mut touched: Vec<usize> =
        candidates[..calls.len()].iter().map(|(.., index)| *index).collect();
    touched.sort_unstable();
    touched.dedup();
    for index in touched {
        destinations::reschedule(db, &due[index].0)?;
        let Some(id) = publisher_of(&due[index].0) else { continue };
        let publisher = message_topics::publisher(db, id)?.map(Arc::new);
        for call in calls.iter_mut().filter(|call| call.destination == due[index].0) {
            call.publisher = publisher.clone();
        }
    }
    let next_due: Option<i64> = db
        .prepare_cached(&format!(
            "SELECT min(at_ms) FROM (
                 SELECT min(lease_ms) AS at_ms FROM calls WHERE lease_ms IS NOT NULL
                 UNION ALL
                 SELECT due_ms FROM {WITH_PUBLISHERS} WHERE due_ms IS NOT NULL AND {FREE} > 0)"
        ))?
        .query_row(params![probes, in_flight, per_publisher], |row| row.get(0))?;
    Ok(CallClaim { calls, next_due: next_due.map(|due_ms| from_ms(due_ms - now_ms)) })
}

/// A clock that was set back must not hold up what was due before, nor a pause after an attempt, nor let leases last.
/// What was not due yet waits longer: its time may be one that its caller has named.
fn follow_clock(db: &Connection, now_ms: i64) -> rusqlite::Result<()> {
    if let Some(seen) = clock_was_set_back(db, "call clock", now_ms)? {
        let by = seen - now_ms;
        // The time is noted in steps, by claims that come every second.
        let last = seen + 2 * as_ms(CLOCK_STEP);
        db.execute("UPDATE calls SET lease_ms = lease_ms - ?1 WHERE lease_ms IS NOT NULL", [by])?;
        db.execute(
            "UPDATE calls SET due_ms = due_ms - ?1 WHERE due_ms <= ?2 OR due_ms IS NOT NULL AND attempts > 0",
            [by, last],
        )?;
        db.execute(
            "UPDATE destinations SET due_ms = (
                 SELECT min(due_ms) FROM calls WHERE destination = name AND due_ms IS NOT NULL)",
            [],
        )?;
    }
    Ok(())
}

/// Lets calls be made again whose holders have not settled them in their time.
fn end_old_leases(db: &Connection, now_ms: i64) -> rusqlite::Result<()> {
    let ended: Vec<(i64, String, bool)> = db
        .prepare_cached(
            "SELECT number, destination, cancelled FROM calls WHERE lease_ms <= ?1
             ORDER BY lease_ms LIMIT ?2",
        )?
        .query_map(params![now_ms, CALLS_AT_ONCE as u64], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })?
        .collect::<Result<_, _>>()?;
    for (number, destination, cancelled) in ended {
        release(db, number, &destination, (!cancelled).then_some(now_ms), Sign::None)?;
        if cancelled {
            db.prepare_cached("DELETE FROM calls WHERE number = ?1")?.execute([number])?;
        }
        destinations::reschedule(db, &destination)?;
    }
    Ok(())
}

/// What an attempt says of its destination.
#[derive(Clone, Copy)]
enum Sign {
    Works,
    Fails,
    None,
}

/// Ends a lease. The call is due then, if it is made again.
fn release(
    db: &Connection,
    number: i64,
    destination: &str,
    due_ms: Option<i64>,
    sign: Sign,
) -> rusqlite::Result<()> {
    db.prepare_cached("UPDATE calls SET lease_ms = NULL, due_ms = ?2 WHERE number = ?1")?
        .execute(params![number, due_ms])?;
    db.prepare_cached(match sign {
        Sign::None => "UPDATE destinations SET in_flight = max(in_flight - 1, 0) WHERE name = ?1",
        Sign::Works => {
            "UPDATE destinations SET in_flight = max(in_flight - 1, 0), failures = 0 WHERE name = ?1"
        }
        Sign::Fails => {
            "UPDATE destinations SET in_flight = max(in_flight - 1, 0), failures = failures + 1
             WHERE name = ?1"
        }
    })?
    .execute([destination])?;
    Ok(())
}

fn renew(
    db: &Connection,
    leases: Vec<CallLease>,
    until_ms: i64,
) -> rusqlite::Result<Vec<CallLease>> {
    let mut lost = Vec::new();
    for lease in leases {
        let CallLease { key, fence } = &lease;
        let renewed = db
            .prepare_cached(
                "UPDATE calls SET lease_ms = ?4
                 WHERE client = ?1 AND id = ?2 AND fence = ?3 AND lease_ms IS NOT NULL",
            )?
            .execute(params![key.client.reveal(), key.id.as_str(), fence, until_ms])?;
        if renewed == 0 {
            lost.push(lease);
        }
    }
    Ok(lost)
}

/// Where a call's title stands.
const TITLE: &str =
    "coalesce((SELECT t.title FROM call_titles t WHERE t.number = shared_title), title)";

/// Where its content stands.
const CONTENT: &str =
    "coalesce((SELECT m.content FROM messages m WHERE m.number = calls.message), content)";

fn lease_call(
    db: &Connection,
    number: i64,
    now_ms: i64,
    lease: Duration,
) -> rusqlite::Result<LeasedCall> {
    db.prepare_cached(&format!(
        "UPDATE calls SET due_ms = NULL, attempts = attempts + 1, lease_ms = ?2 + ?3,
             fence = max(fence + 1, ?2 * 1000)
         WHERE number = ?1
         RETURNING client, id, fence, kind, destination, {TITLE}, {CONTENT}, attempts, accepted_ms"
    ))?
    .query_row(params![number, now_ms, as_ms(lease)], |row| {
        Ok(LeasedCall {
            lease: CallLease { key: key_from_row(row)?, fence: row.get(2)? },
            kind: kind_from_row(row, 3)?,
            destination: row.get(4)?,
            title: row.get(5)?,
            content: Bytes::from(row.get::<_, Vec<u8>>(6)?),
            attempt: row.get(7)?,
            age: from_ms(now_ms - row.get::<_, i64>(8)?),
            publisher: None,
        })
    })
}

fn kind_from_row(row: &Row<'_>, column: usize) -> rusqlite::Result<CallKind> {
    let kind: String = row.get(column)?;
    CallKind::parse(&kind).ok_or_else(|| {
        let what = format!("no kind of call: {kind}").into();
        rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, what)
    })
}

/// Reads `client, id`, which are the first columns.
fn key_from_row(row: &Row<'_>) -> rusqlite::Result<CallKey> {
    let client = ClientToken::from_stored(&row.get::<_, String>(0)?);
    Ok(CallKey { client, id: CallId::from_stored(&row.get::<_, String>(1)?) })
}

fn settle(
    db: &Connection,
    settlement: &CallSettlement,
    now_ms: i64,
) -> rusqlite::Result<CallSettled> {
    let CallLease { key, fence } = &settlement.lease;
    let leased: Option<(i64, String, bool)> = db
        .prepare_cached(
            "SELECT number, destination, cancelled FROM calls
             WHERE client = ?1 AND id = ?2 AND fence = ?3 AND lease_ms IS NOT NULL",
        )?
        .query_row(params![key.client.reveal(), key.id.as_str(), fence], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })
        .optional()?;
    let Some((number, destination, cancelled)) = leased else { return Ok(CallSettled::Stale) };
    let (due_ms, over, sign) = match settlement.outcome {
        CallOutcome::Done => (None, Some("done"), Sign::Works),
        CallOutcome::Dead => (None, Some("dead"), Sign::Fails),
        CallOutcome::Failed { .. } if cancelled => (None, Some("dead"), Sign::Fails),
        CallOutcome::Returned if cancelled => (None, Some("dead"), Sign::None),
        CallOutcome::Failed { retry_in } => (Some(now_ms + as_ms(retry_in)), None, Sign::Fails),
        CallOutcome::Returned => (Some(now_ms), None, Sign::None),
    };
    release(db, number, &destination, due_ms, sign)?;
    if cancelled {
        db.prepare_cached("DELETE FROM calls WHERE number = ?1")?.execute([number])?;
    } else if settlement.outcome == CallOutcome::Returned {
        db.prepare_cached("UPDATE calls SET attempts = attempts - 1 WHERE number = ?1")?
            .execute([number])?;
    } else {
        db.prepare_cached(
            "UPDATE calls SET over = ?2, over_ms = iif(?2 IS NULL, NULL, ?3), status = ?4,
                 reason = ?5
             WHERE number = ?1",
        )?
        .execute(params![number, over, now_ms, settlement.status, settlement.reason])?;
    }
    destinations::reschedule(db, &destination)?;
    Ok(CallSettled::Recorded)
}

const STATUS: &str = "client, id, kind, number, destination, over, lease_ms IS NOT NULL, attempts,
    accepted_ms, due_ms, status, reason";

/// Reads the columns of [`STATUS`], and then the title.
fn status_from_row(row: &Row<'_>) -> rusqlite::Result<CallStatus> {
    let (over, is_leased): (Option<String>, bool) = (row.get(5)?, row.get(6)?);
    let attempts = row.get(7)?;
    Ok(CallStatus {
        key: key_from_row(row)?,
        kind: kind_from_row(row, 2)?,
        position: row.get(3)?,
        destination: row.get(4)?,
        state: CallState::of(over.as_deref(), is_leased, attempts),
        attempts,
        accepted_ms: row.get(8)?,
        due_ms: row.get(9)?,
        status: row.get(10)?,
        reason: row.get(11)?,
        title: row.get(12)?,
    })
}

fn call(db: &Connection, key: &CallKey) -> rusqlite::Result<Option<(CallStatus, Bytes)>> {
    db.prepare_cached(&format!(
        "SELECT {STATUS}, {TITLE}, content FROM calls WHERE client = ?1 AND id = ?2"
    ))?
    .query_row([key.client.reveal(), key.id.as_str()], |row| {
        Ok((status_from_row(row)?, row.get::<_, Vec<u8>>(13)?.into()))
    })
    .optional()
}

fn calls_before(
    db: &Connection,
    position: i64,
    at_most: usize,
) -> rusqlite::Result<Vec<CallStatus>> {
    db.prepare_cached(&format!(
        "SELECT {STATUS}, {TITLE} FROM calls WHERE number < ?1 AND number > 0 ORDER BY number DESC LIMIT ?2"
    ))?
    .query_map(params![position, at_most as u64], status_from_row)?
    .collect()
}

fn retry(db: &Connection, key: &CallKey, now_ms: i64) -> rusqlite::Result<bool> {
    let destination: Option<String> = db
        .prepare_cached(
            "UPDATE calls SET due_ms = ?3, over = NULL, over_ms = NULL
             WHERE client = ?1 AND id = ?2 AND lease_ms IS NULL AND over IS NOT 'done'
                 AND (message IS NULL OR EXISTS (
                     SELECT 1 FROM message_publishers p WHERE p.id = CAST(substr(destination, 11) AS INTEGER)))
             RETURNING destination",
        )?
        .query_row(params![key.client.reveal(), key.id.as_str(), now_ms], |row| row.get(0))
        .optional()?;
    let Some(destination) = destination else { return Ok(false) };
    // One whose calls were all over is not known any more.
    destinations::expect(db, &destination, now_ms)?;
    Ok(true)
}

fn cancel(db: &Connection, key: &CallKey) -> rusqlite::Result<CallCancelled> {
    let key = [key.client.reveal(), key.id.as_str()];
    let on_its_way = db
        .prepare_cached(
            "UPDATE calls SET cancelled = 1
             WHERE client = ?1 AND id = ?2 AND lease_ms IS NOT NULL",
        )?
        .execute(key)?;
    if on_its_way > 0 {
        return Ok(CallCancelled::OnItsWay);
    }
    let gone: Option<String> = db
        .prepare_cached("DELETE FROM calls WHERE client = ?1 AND id = ?2 RETURNING destination")?
        .query_row(key, |row| row.get(0))
        .optional()?;
    let Some(destination) = gone else { return Ok(CallCancelled::Unknown) };
    destinations::reschedule(db, &destination)?;
    Ok(CallCancelled::Gone)
}

fn forget(db: &Connection, memory: CallMemory, now_ms: u64) -> rusqlite::Result<usize> {
    let mut forgotten = 0;
    for (over, kept) in [("done", memory.done), ("dead", memory.dead)] {
        let before_ms = now_ms.saturating_sub(kept.as_millis() as u64);
        forgotten += db
            .prepare_cached(
                "DELETE FROM calls WHERE number IN (
                     SELECT number FROM calls WHERE over = ?1 AND over_ms <= ?2 AND message IS NULL
                     ORDER BY over_ms LIMIT ?3)",
            )?
            .execute(params![over, before_ms, (CALLS_AT_ONCE - forgotten) as u64])?;
    }
    Ok(forgotten)
}
