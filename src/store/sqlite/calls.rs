//! Calls. Each function that writes runs inside one transaction.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, Row, params};
use tokio::time::Instant;

use super::SqliteStore;
use super::batches::from_ms;
use super::call_acceptance;
use super::writer::Durability;
use crate::bus::call::CallId;
use crate::bus::token::ClientToken;
use crate::store::calls::{CALL_LEASE_MARGIN, CALLS_AT_ONCE, DESTINATIONS_AT_ONCE};
use crate::store::{
    Acceptance, Alarm, CallCancelled, CallClaim, CallKey, CallLease, CallMemory, CallOutcome,
    CallSettled, CallSettlement, CallState, CallStatus, Calls, DestinationLimits, Lane, LeasedCall,
    NewCall, StoreResult,
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
    ) -> StoreResult<CallClaim> {
        let now_ms = self.clock.now_ms();
        self.write_lazily(move |db| claim(db, limit, limits, now_ms as i64)).await
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

    async fn call(&self, key: &CallKey) -> StoreResult<Option<CallStatus>> {
        let key = key.clone();
        self.reader.run(move |db| status(db, &key)).await
    }

    async fn retry_call(&self, key: &CallKey) -> StoreResult<bool> {
        let (key, now_ms) = (key.clone(), self.clock.now_ms() as i64);
        let retried = self.write(move |db| retry(db, &key, now_ms)).await?;
        self.call_alarm.ring_in(Duration::ZERO);
        Ok(retried)
    }

    async fn cancel_call(&self, key: &CallKey) -> StoreResult<CallCancelled> {
        let key = key.clone();
        self.write(move |db| cancel(db, &key)).await
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

/// Works out when a destination's next call is due, and forgets one that has none.
fn reschedule(db: &Connection, destination: &str) -> rusqlite::Result<()> {
    db.prepare_cached(
        "UPDATE destinations SET due_ms = (
             SELECT min(due_ms) FROM calls WHERE destination = ?1 AND due_ms IS NOT NULL)
         WHERE name = ?1",
    )?
    .execute([destination])?;
    db.prepare_cached(
        "DELETE FROM destinations
         WHERE name = ?1 AND due_ms IS NULL AND in_flight = 0",
    )?
    .execute([destination])?;
    Ok(())
}

fn claim(
    db: &Connection,
    limit: usize,
    limits: DestinationLimits,
    now_ms: i64,
) -> rusqlite::Result<CallClaim> {
    end_old_leases(db, now_ms)?;
    let due: Vec<(String, u32)> = db
        .prepare_cached(
            "SELECT name, max(iif(failures > 0, ?2, ?3) - in_flight, 0) AS free FROM destinations
             WHERE due_ms <= ?1 AND free > 0 ORDER BY due_ms LIMIT ?4",
        )?
        .query_map(
            params![now_ms, limits.probes, limits.in_flight, DESTINATIONS_AT_ONCE as u64],
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
    let mut calls = Vec::with_capacity(candidates.len());
    for (_, _, number, index) in &candidates {
        calls.push(lease(db, *number, now_ms)?);
        db.prepare_cached("UPDATE destinations SET in_flight = in_flight + 1 WHERE name = ?1")?
            .execute([&due[*index].0])?;
    }
    let mut touched: Vec<usize> = candidates.iter().map(|(.., index)| *index).collect();
    touched.sort_unstable();
    touched.dedup();
    for index in touched {
        reschedule(db, &due[index].0)?;
    }
    let next_due: Option<i64> = db
        .prepare_cached(
            "SELECT min(at_ms) FROM (
                 SELECT min(lease_ms) AS at_ms FROM calls WHERE lease_ms IS NOT NULL
                 UNION ALL
                 SELECT due_ms FROM destinations WHERE due_ms IS NOT NULL
                     AND in_flight < iif(failures > 0, ?1, ?2))",
        )?
        .query_row(params![limits.probes, limits.in_flight], |row| row.get(0))?;
    Ok(CallClaim { calls, next_due: next_due.map(|due_ms| from_ms(due_ms - now_ms)) })
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
        release(db, number, &destination, (!cancelled).then_some(now_ms), 0)?;
        if cancelled {
            db.prepare_cached("DELETE FROM calls WHERE number = ?1")?.execute([number])?;
        }
        reschedule(db, &destination)?;
    }
    Ok(())
}

/// Ends a lease. The call is due then, if it is made again; `failures` is what the attempt says of its
/// destination: 1 that it fails, -1 that it works, 0 nothing.
fn release(
    db: &Connection,
    number: i64,
    destination: &str,
    due_ms: Option<i64>,
    failures: i64,
) -> rusqlite::Result<()> {
    db.prepare_cached("UPDATE calls SET lease_ms = NULL, due_ms = ?2 WHERE number = ?1")?
        .execute(params![number, due_ms])?;
    db.prepare_cached(
        "UPDATE destinations SET in_flight = max(in_flight - 1, 0),
             failures = CASE ?2 WHEN 0 THEN failures WHEN 1 THEN failures + 1 ELSE 0 END
         WHERE name = ?1",
    )?
    .execute(params![destination, failures])?;
    Ok(())
}

fn lease(db: &Connection, number: i64, now_ms: i64) -> rusqlite::Result<LeasedCall> {
    db.prepare_cached(
        "UPDATE calls SET due_ms = NULL, attempts = attempts + 1,
             lease_ms = ?2 + timeout_ms + ?3, fence = max(fence + 1, ?2 * 1000)
         WHERE number = ?1
         RETURNING client, id, fence, destination, content, timeout_ms, attempts, accepted_ms",
    )?
    .query_row(params![number, now_ms, CALL_LEASE_MARGIN.as_millis() as u64], |row| {
        Ok(LeasedCall {
            lease: CallLease { key: key_from_row(row)?, fence: row.get(2)? },
            destination: row.get(3)?,
            content: Bytes::from(row.get::<_, Vec<u8>>(4)?),
            timeout: Duration::from_millis(row.get(5)?),
            attempt: row.get(6)?,
            age: from_ms(now_ms - row.get::<_, i64>(7)?),
        })
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
    let (due_ms, over, failures) = match settlement.outcome {
        CallOutcome::Done => (None, Some("done"), -1),
        CallOutcome::Dead => (None, Some("dead"), 1),
        CallOutcome::Failed { .. } if cancelled => (None, Some("dead"), 1),
        CallOutcome::Returned if cancelled => (None, Some("dead"), 0),
        CallOutcome::Failed { retry_in } => (Some(now_ms + retry_in.as_millis() as i64), None, 1),
        CallOutcome::Returned => (Some(now_ms), None, 0),
    };
    release(db, number, &destination, due_ms, failures)?;
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
    reschedule(db, &destination)?;
    Ok(CallSettled::Recorded)
}

fn status(db: &Connection, key: &CallKey) -> rusqlite::Result<Option<CallStatus>> {
    db.prepare_cached(
        "SELECT client, id, destination, content, over, lease_ms IS NOT NULL, attempts, accepted_ms,
             due_ms, status, reason
         FROM calls WHERE client = ?1 AND id = ?2",
    )?
    .query_row([key.client.reveal(), key.id.as_str()], |row| {
        let (over, is_leased): (Option<String>, bool) = (row.get(4)?, row.get(5)?);
        let attempts = row.get(6)?;
        Ok(CallStatus {
            key: key_from_row(row)?,
            destination: row.get(2)?,
            content: Bytes::from(row.get::<_, Vec<u8>>(3)?),
            state: CallState::of(over.as_deref(), is_leased, attempts),
            attempts,
            accepted_ms: row.get(7)?,
            due_ms: row.get(8)?,
            status: row.get(9)?,
            reason: row.get(10)?,
        })
    })
    .optional()
}

fn retry(db: &Connection, key: &CallKey, now_ms: i64) -> rusqlite::Result<bool> {
    let destination: Option<String> = db
        .prepare_cached(
            "UPDATE calls SET due_ms = ?3, over = NULL, over_ms = NULL
             WHERE client = ?1 AND id = ?2 AND lease_ms IS NULL AND over IS NOT 'done'
             RETURNING destination",
        )?
        .query_row(params![key.client.reveal(), key.id.as_str(), now_ms], |row| row.get(0))
        .optional()?;
    let Some(destination) = destination else { return Ok(false) };
    // One whose calls were all over is not known any more.
    db.prepare_cached("INSERT INTO destinations (name) VALUES (?1) ON CONFLICT DO NOTHING")?
        .execute([&destination])?;
    reschedule(db, &destination)?;
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
    reschedule(db, &destination)?;
    Ok(CallCancelled::Gone)
}

fn forget(db: &Connection, memory: CallMemory, now_ms: u64) -> rusqlite::Result<usize> {
    let mut forgotten = 0;
    for (over, kept) in [("done", memory.done), ("dead", memory.dead)] {
        let before_ms = now_ms.saturating_sub(kept.as_millis() as u64);
        forgotten += db
            .prepare_cached(
                "DELETE FROM calls WHERE number IN (
                     SELECT number FROM calls WHERE over = ?1 AND over_ms <= ?2
                     ORDER BY over_ms LIMIT ?3)",
            )?
            .execute(params![over, before_ms, (CALLS_AT_ONCE - forgotten) as u64])?;
    }
    Ok(forgotten)
}
