//! What a queue does once it has items: claim, settle, renew. Each function runs inside one
//! transaction.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::dead_events::{Death, bury};
use super::due::{Waiting, oldest_ms};
use super::items::queued_item;
use crate::bus::attempt::{Failure, is_refusal};
use crate::bus::batch::{Batch, BatchId, MAX_BATCH_BYTES};
use crate::bus::health::Health;
use crate::bus::item::QueuedItem;
use crate::bus::pause::PausedBy;
use crate::bus::signature::SigningSecrets;
use crate::bus::subscription::options::{BatchFormat, DeliveryOptions};
use crate::bus::subscription::{Target, Terms};
use crate::bus::token::ClientToken;
use crate::store::{
    BatchOutcome, BatchSettled, BatchSettlement, CLAIM_MAX_BYTES, CLOCK_STEP, LeasedBatch,
    QueueClaim, QueueLease,
};

/// A row of `queues`, as claiming and settling need it.
pub struct Queue {
    pub id: i64,
    pub lease: QueueLease,
    pub terms: Terms,
    health: Health,
    pub head: i64,
    pub next: i64,
    /// Number and last item of the batch that was given out and is not acknowledged.
    pub batch: Option<(u64, i64)>,
    pub attempts: u32,
    options: DeliveryOptions,
    pub is_paused: bool,
    suspects: Suspects,
    /// How many events are set aside.
    aside: u64,
}

/// Events of which one may be such that its subscriber refuses it.
#[derive(Default)]
struct Suspects {
    /// How often the batch was refused.
    refusals: u32,
    /// The last of them; `None` while no event is looked for.
    last: Option<i64>,
    /// How many of them the next batch has at most.
    next_max: Option<i64>,
}

impl Queue {
    pub const COLUMNS: &str =
        "id, subscriber, name, fence, callback, uuid, timeout_ms, max, health,
        head, next, batch_number, batch_last, attempts, secrets, format, refusals_max,
        parallel, paused_ms IS NOT NULL, refusals, suspect_last, next_max, aside";

    pub fn from_row(row: &Row<'_>) -> rusqlite::Result<Self> {
        let batch_number: Option<u64> = row.get(11)?;
        let batch_last: Option<i64> = row.get(12)?;
        Ok(Self {
            id: row.get(0)?,
            lease: QueueLease {
                subscriber: ClientToken::from_stored(&row.get::<_, String>(1)?),
                queue: row.get(2)?,
                fence: row.get(3)?,
            },
            terms: terms_from_row(row, 4)?,
            health: Health::new(row.get(8)?),
            head: row.get(9)?,
            next: row.get(10)?,
            batch: batch_number.zip(batch_last),
            attempts: row.get(13)?,
            options: options_from_row(row, 14)?,
            is_paused: row.get(18)?,
            suspects: Suspects {
                refusals: row.get(19)?,
                last: row.get(20)?,
                next_max: row.get(21)?,
            },
            aside: row.get(22)?,
        })
    }

    /// Leases the queue and gives out its batch, the same one as long as it is not acknowledged; or a window, if its
    /// order is that of entities.
    /// `None`, and nothing is due any more, if the queue is empty or paused.
    pub fn give_out(
        mut self,
        db: &Connection,
        lease: Duration,
        now_ms: u64,
    ) -> rusqlite::Result<Option<LeasedBatch>> {
        if self.is_paused {
            self.release(db, None)?;
            return Ok(None);
        }
        if self.head == self.next && self.aside == 0 {
            db.prepare_cached(
                "UPDATE queues SET leased = 0, keeps_pause = 0, due_ms = NULL WHERE id = ?1",
            )?
            .execute([self.id])?;
            return Ok(None);
        }
        let max = self.terms.max;
        if let Some(parallel) = self.options.parallel {
            (self.batch, self.suspects) = (None, Suspects::default());
            self.terms.max = max.saturating_mul(parallel);
        }
        let (items, oldest_ms) = self.read_batch(db)?;
        self.terms.max = max;
        let last = self.head + items.len() as i64 - 1;
        self.attempts += 1;
        self.lease.fence = (self.lease.fence + 1).max(now_ms * 1000);
        let number = self.batch.map_or(self.lease.fence, |(number, _)| number);
        db.prepare_cached(
            "UPDATE queues SET leased = 1, keeps_pause = 0, health_restored = 0, fence = ?2,
                 due_ms = iif(callback = 'pull:', NULL, ?3),
                 pull_until_ms = iif(callback = 'pull:', ?3, NULL), batch_number = ?4, batch_last = ?5, attempts = ?6 WHERE id = ?1",
        )?
        .execute(params![
            self.id,
            self.lease.fence,
            now_ms + lease.as_millis() as u64,
            number,
            last,
            self.attempts
        ])?;
        let id = BatchId { queue: self.lease.queue.clone(), number };
        Ok(Some(LeasedBatch {
            lease: self.lease,
            terms: self.terms,
            options: self.options,
            health: self.health,
            waited: Duration::from_millis(now_ms.saturating_sub(oldest_ms)),
            batch: Batch { id, attempt: self.attempts, items },
        }))
    }

    /// The items of the batch in hand, or of the next one, and when the first was accepted.
    fn read_batch(&self, db: &Connection) -> rusqlite::Result<(Vec<QueuedItem>, u64)> {
        let mut select = db.prepare_cached(
            "SELECT payload, at_ms, event FROM items
             WHERE position BETWEEN (?1 << 40) + ?2 AND (?1 << 40) + ?3 ORDER BY position",
        )?;
        let last = match self.batch {
            Some((_, last)) => last,
            None => self.last_of_next(),
        };
        let mut rows = select.query(params![self.id, self.head, last])?;
        let mut items = Vec::new();
        let (mut bytes, mut oldest_ms) = (0, u64::MAX);
        while let Some(row) = rows.next()? {
            let payload = row.get_ref(0)?.as_blob()?;
            bytes += payload.len();
            if self.batch.is_none() && bytes > MAX_BATCH_BYTES && !items.is_empty() {
                break;
            }
            let at_ms = row.get(1)?;
            items.push(queued_item(payload, at_ms, row.get(2)?));
            oldest_ms = oldest_ms.min(at_ms);
        }
        Ok((items, oldest_ms))
    }

    /// The last item of the batch that is next, if none of them is too large.
    fn last_of_next(&self) -> i64 {
        let max = self.suspects.next_max.unwrap_or(i64::MAX).min(i64::from(self.terms.max));
        let last = self.next.min(self.head + max) - 1;
        self.suspects.last.map_or(last, |suspect| last.min(suspect.max(self.head)))
    }

    pub fn is_empty(&self) -> bool {
        self.head == self.next
    }

    /// Gives the lease back; the queue is due at `due_ms`, unless it is paused.
    pub fn release(&self, db: &Connection, due_ms: Option<u64>) -> rusqlite::Result<()> {
        let due_ms = due_ms.filter(|_| !self.is_paused && !self.terms.target.is_pull());
        db.prepare_cached(
            "UPDATE queues SET leased = 0, due_ms = ?2, pull_until_ms = NULL WHERE id = ?1",
        )?
        .execute(params![self.id, due_ms])?;
        Ok(())
    }

    /// Takes the acknowledged batch off the queue; returns when the next one is due.
    pub fn acknowledge(&mut self, db: &Connection, now_ms: u64) -> rusqlite::Result<Option<u64>> {
        if let Some((_, last)) = self.batch.take() {
            let removed = db
                .prepare_cached(
                    "DELETE FROM items WHERE position BETWEEN (?1 << 40) + ?2 AND (?1 << 40) + ?3",
                )?
                .execute(params![self.id, self.head, last])?;
            self.head = self.head.max(last + 1);
            self.attempts = 0;
            db.prepare_cached(
                "UPDATE queues SET head = ?2, sent = sent + ?3, attempts = 0,
                     batch_number = NULL, batch_last = NULL, failed_at_ms = NULL, refusals = 0,
                     next_max = NULL, suspect_last = iif(suspect_last < ?2, NULL, suspect_last)
                 WHERE id = ?1",
            )?
            .execute(params![self.id, self.head, removed])?;
            self.suspects.next_max = None;
            self.suspects.last = self.suspects.last.filter(|last| *last >= self.head);
        }
        if self.is_paused {
            return Ok(None);
        }
        let waiting = Waiting {
            items: self.next - self.head,
            max: i64::from(self.terms.max),
            timeout_ms: self.terms.timeout.as_millis() as i64,
        };
        let due_ms = waiting.due_ms(now_ms as i64, || oldest_ms(db, self.id))?;
        Ok(due_ms.and_then(|due_ms| u64::try_from(due_ms).ok()))
    }
}

impl Queue {
    /// Takes note of a refusal of the batch. When it was refused often enough, the batch is halved, or the one
    /// event in it is a dead letter. Returns whether there still is a batch, or part of it, to be sent again.
    fn refused(
        &mut self,
        db: &Connection,
        max: u32,
        failure: &Failure,
        now_ms: u64,
    ) -> rusqlite::Result<bool> {
        let Some((_, last)) = self.batch else { return Ok(true) };
        self.suspects.refusals = self.suspects.refusals.saturating_add(1);
        let events = last - self.head + 1;
        // What was refused with others is not guilty yet: alone it has as many tries as the batch had.
        let is_half = self.suspects.last.is_some() && events > 1;
        if self.suspects.refusals < if is_half { 1 } else { max } {
            db.prepare_cached("UPDATE queues SET refusals = ?2 WHERE id = ?1")?
                .execute(params![self.id, self.suspects.refusals])?;
            return Ok(true);
        }
        let suspect_last = self.suspects.last.map_or(last, |suspect| suspect.max(last));
        if events > 1 {
            self.forget_batch(db, self.head, Some(suspect_last), Some(events / 2))?;
            return Ok(true);
        }
        let death = Death::of_refused(failure, now_ms);
        bury(db, self.id, self.lease.subscriber.reveal(), self.head, self.head, &death)?;
        self.head += 1;
        let suspect_last = (suspect_last >= self.head).then_some(suspect_last);
        self.forget_batch(db, self.head, suspect_last, None)?;
        Ok(self.head < self.next)
    }

    /// The next batch is another one.
    fn forget_batch(
        &mut self,
        db: &Connection,
        head: i64,
        suspect_last: Option<i64>,
        next_max: Option<i64>,
    ) -> rusqlite::Result<()> {
        self.batch = None;
        db.prepare_cached(
            "UPDATE queues SET head = ?2, batch_number = NULL, batch_last = NULL, attempts = 0,
                 refusals = 0, suspect_last = ?3, next_max = ?4, keeps_pause = 1 WHERE id = ?1",
        )?
        .execute(params![self.id, head, suspect_last, next_max])?;
        Ok(())
    }
}

/// Reads `secrets, format, refusals_max, parallel`, which start at this column.
pub fn options_from_row(row: &Row<'_>, start: usize) -> rusqlite::Result<DeliveryOptions> {
    let (secrets, format): (Option<String>, Option<String>) =
        (row.get(start)?, row.get(start + 1)?);
    Ok(DeliveryOptions {
        secrets: secrets
            .map_or_else(SigningSecrets::default, |text| SigningSecrets::from_stored(&text)),
        format: format.as_deref().and_then(BatchFormat::parse).unwrap_or_default(),
        refusals_max: row.get(start + 2)?,
        parallel: row.get(start + 3)?,
    })
}

/// Reads `callback, uuid, timeout_ms, max`, which start at this column.
pub fn terms_from_row(row: &Row<'_>, start: usize) -> rusqlite::Result<Terms> {
    let target: String = row.get(start)?;
    Ok(Terms {
        target: Target::from_stored(&target),
        uuid: row.get(start + 1)?,
        timeout: Duration::from_millis(row.get(start + 2)?),
        max: row.get(start + 3)?,
    })
}

/// Leases up to `limit` queues that are due, the longest due first, and gives out their batches.
pub fn claim(
    db: &Connection,
    limit: usize,
    lease: Duration,
    now_ms: u64,
) -> rusqlite::Result<QueueClaim> {
    follow_clock(db, now_ms as i64)?;
    let sql = format!(
        "SELECT {} FROM queues WHERE due_ms <= ?1 ORDER BY due_ms LIMIT ?2",
        Queue::COLUMNS
    );
    let due = db
        .prepare_cached(&sql)?
        .query_map(params![now_ms, limit], Queue::from_row)?
        .collect::<Result<Vec<_>, _>>()?;
    let mut batches = Vec::with_capacity(due.len());
    let mut bytes = 0;
    for queue in due {
        if let Some(given) = queue.give_out(db, lease, now_ms)? {
            bytes += given.batch.bytes();
            batches.push(given);
        }
        if bytes >= CLAIM_MAX_BYTES {
            break;
        }
    }
    let next_due_ms: Option<i64> = db
        .prepare_cached("SELECT min(due_ms) FROM queues WHERE due_ms IS NOT NULL")?
        .query_row([], |row| row.get(0))?;
    let next_due = next_due_ms.map(|due_ms| from_ms(due_ms - now_ms as i64));
    Ok(QueueClaim { batches, next_due })
}

/// A clock that was set back must not hold up deliveries for as long as it was set back by.
fn follow_clock(db: &Connection, now_ms: i64) -> rusqlite::Result<()> {
    if let Some(seen) = clock_was_set_back(db, "clock", now_ms)? {
        db.execute("UPDATE queues SET due_ms = due_ms - ?1", [seen - now_ms])?;
        db.execute("UPDATE aside_entities SET due_ms = due_ms - ?1", [seen - now_ms])?;
    }
    Ok(())
}

/// Takes note of the time under a name; what it was before, if the clock has been set back since then.
pub(super) fn clock_was_set_back(
    db: &Connection,
    name: &str,
    now_ms: i64,
) -> rusqlite::Result<Option<i64>> {
    let step = CLOCK_STEP.as_millis() as i64;
    let seen: Option<i64> = db
        .prepare_cached("SELECT at_ms FROM times WHERE name = ?1")?
        .query_row([name], |row| row.get(0))
        .optional()?;
    let seen = seen.unwrap_or(0);
    if (now_ms - seen).abs() > step {
        db.prepare_cached("INSERT OR REPLACE INTO times (name, at_ms) VALUES (?1, ?2)")?
            .execute(params![name, now_ms])?;
    }
    Ok((now_ms < seen - step).then_some(seen))
}

/// Finds the queue of a lease, if the lease still holds.
pub fn leased_queue(db: &Connection, lease: &QueueLease) -> rusqlite::Result<Option<Queue>> {
    let sql =
        format!("SELECT {} FROM queues WHERE name = ?1 AND fence = ?2 AND leased", Queue::COLUMNS);
    db.prepare_cached(&sql)?
        .query_row(params![lease.queue, lease.fence], Queue::from_row)
        .optional()
}

/// Records how deliveries ended. Returns also in how long the first of the released queues is due.
pub fn settle_all(
    db: &Connection,
    settlements: &[BatchSettlement],
    lease: Duration,
    now_ms: u64,
) -> rusqlite::Result<(Vec<BatchSettled>, Option<Duration>)> {
    let (mut settled, mut first_due) = (Vec::with_capacity(settlements.len()), None);
    let mut bytes = 0;
    for settlement in settlements {
        let take_next = settlement.take_next && bytes < CLAIM_MAX_BYTES;
        let (outcome, due_in) = settle(db, settlement, take_next, lease, now_ms)?;
        if let BatchSettled::Next(next) = &outcome {
            bytes += next.batch.bytes();
        }
        first_due = first_due.into_iter().chain(due_in).min();
        settled.push(outcome);
    }
    Ok((settled, first_due))
}

/// Records how a delivery ended. Returns also in how long the queue is due, if it was released.
fn settle(
    db: &Connection,
    settlement: &BatchSettlement,
    take_next: bool,
    lease: Duration,
    now_ms: u64,
) -> rusqlite::Result<(BatchSettled, Option<Duration>)> {
    let Some(mut queue) = leased_queue(db, &settlement.lease)? else {
        return Ok((BatchSettled::Stale, None));
    };
    queue.health = settlement.health;
    // What the delivery says of a health that was restored meanwhile is out of date.
    let health: u64 = db
        .prepare_cached(
            "UPDATE queues SET health = iif(health_restored, health, ?2), health_restored = 0
             WHERE id = ?1 RETURNING health",
        )?
        .query_row(params![queue.id, queue.health.points()], |row| row.get(0))?;
    queue.health = Health::new(health);
    if let Some(Failure { status, reason }) = &settlement.failure {
        db.prepare_cached(
            "UPDATE queues SET failed_at_ms = ?2, failed_attempt = attempts, failed_status = ?3,
                 failed_reason = ?4 WHERE id = ?1",
        )?
        .execute(params![queue.id, now_ms, status, reason])?;
    }
    let due_ms = match settlement.outcome {
        BatchOutcome::Acknowledged => queue.acknowledge(db, now_ms)?,
        BatchOutcome::Failed { retry_in } => {
            let refusal = settlement
                .failure
                .as_ref()
                .filter(|failure| failure.status.is_some_and(is_refusal));
            let goes_on = match (queue.options.refusals_max, refusal) {
                (Some(max), Some(failure)) if queue.options.parallel.is_none() => {
                    queue.refused(db, max, failure, now_ms)?
                }
                _ => true,
            };
            goes_on.then(|| now_ms + retry_in.as_millis() as u64)
        }
        BatchOutcome::Gone => {
            pause(db, queue.id, PausedBy::Callback, now_ms)?;
            None
        }
        BatchOutcome::Returned => Some(now_ms),
    };
    let acknowledged = settlement.outcome == BatchOutcome::Acknowledged;
    let is_due = due_ms.is_some_and(|due_ms| due_ms <= now_ms);
    if acknowledged && take_next && is_due {
        let next = queue.give_out(db, lease, now_ms)?;
        let settled =
            next.map_or(BatchSettled::Released, |batch| BatchSettled::Next(Box::new(batch)));
        return Ok((settled, None));
    }
    queue.release(db, due_ms)?;
    let due_in = due_ms.map(|due_ms| Duration::from_millis(due_ms.saturating_sub(now_ms)));
    Ok((BatchSettled::Released, due_in))
}

/// Pauses a queue, unless it is paused.
pub fn pause(db: &Connection, queue_id: i64, by: PausedBy, now_ms: u64) -> rusqlite::Result<()> {
    db.prepare_cached(
        "UPDATE queues SET paused_ms = ?2, paused_by = ?3, due_ms = iif(leased, due_ms, NULL)
         WHERE id = ?1 AND paused_ms IS NULL",
    )?
    .execute(params![queue_id, now_ms, by.as_str()])?;
    Ok(())
}

/// Prolongs the leases that still hold and returns the others.
pub fn renew(
    db: &Connection,
    leases: Vec<QueueLease>,
    lease: Duration,
    now_ms: u64,
) -> rusqlite::Result<Vec<QueueLease>> {
    let until_ms = now_ms + lease.as_millis() as u64;
    let mut lost = Vec::new();
    for lease in leases {
        let renewed = db
            .prepare_cached(
                "UPDATE queues SET due_ms = ?3 WHERE name = ?1 AND fence = ?2 AND leased",
            )?
            .execute(params![lease.queue, lease.fence, until_ms])?;
        if renewed == 0 {
            lost.push(lease);
        }
    }
    Ok(lost)
}

/// Counts the batches that the queues due by `until_ms`, or in a worker's hands, amount to.
pub fn due_batches(db: &Connection, until_ms: u64) -> rusqlite::Result<u64> {
    db.prepare_cached(
        "SELECT coalesce(sum((next - head + max - 1) / max), 0) FROM queues
         WHERE (leased AND callback <> 'pull:') OR due_ms <= ?1",
    )?
    .query_row([until_ms], |row| row.get(0))
}

pub fn from_ms(ms: i64) -> Duration {
    Duration::from_millis(u64::try_from(ms).unwrap_or(0))
}
