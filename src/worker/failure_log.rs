//! Lines about deliveries that fail: the first ones of a row at once, then one in a while that says how many
//! there were. A subscriber that is dead for a night is no thousand lines.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How many failures of a row are told one by one.
const TOLD_AT_ONCE: u64 = 3;
/// How many lines about one of them there are in that time, if it fails for ever other reasons.
const LINES_MAX: u64 = 20;
/// How long further ones are summed up.
const SILENCE: Duration = Duration::from_secs(60);
/// Of how many failures are summed up; those of others are told one by one.
const ROWS_MAX: usize = 50_000;
/// After which time without a failure a row is over that nobody has ended.
const FORGET: Duration = Duration::from_secs(3600);

/// Rows of failures, each of whom it is named by.
pub struct FailureLog<K>(Mutex<HashMap<K, Row>>);

impl<K> Default for FailureLog<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

struct Row {
    /// Of failures in a row; the row is over when there is none.
    failures: u64,
    since: Instant,
    last: Instant,
    /// When lines were first written of late, and how many.
    told: Instant,
    lines: u64,
    untold: u64,
    /// Why it failed when it was last told.
    reason: String,
    recovered: Option<Instant>,
}

/// A row of failures that is over.
#[derive(Debug, PartialEq, Eq)]
pub struct Recovery {
    pub failures: u64,
    pub after: Duration,
}

impl<K: Clone + Eq + Hash> FailureLog<K> {
    /// Takes note of a failure. Whether to tell of it, and then how many were not told before. Another
    /// reason than before is told at once.
    pub fn failed(&self, who: &K, reason: &str, now: Instant) -> Option<u64> {
        let mut rows = self.rows();
        if rows.len() >= ROWS_MAX && !rows.contains_key(who) {
            rows.retain(|_, row| now.saturating_duration_since(row.last) < FORGET);
            if rows.len() >= ROWS_MAX {
                return Some(0);
            }
        }
        let row = rows.entry(who.clone()).or_insert(Row {
            failures: 0,
            since: now,
            last: now,
            told: now,
            lines: 0,
            untold: 0,
            reason: String::new(),
            recovered: None,
        });
        if row.failures == 0 {
            row.since = now;
        }
        (row.last, row.failures) = (now, row.failures + 1);
        if now.saturating_duration_since(row.told) >= SILENCE {
            // Of a row that goes on, one line in a while; another one begins as the first did.
            row.lines = if row.failures > TOLD_AT_ONCE { TOLD_AT_ONCE - 1 } else { 0 };
            row.told = now;
        }
        let is_new = row.reason != reason;
        if row.lines >= if is_new { LINES_MAX } else { TOLD_AT_ONCE } {
            row.untold += 1;
            return None;
        }
        if is_new {
            reason.clone_into(&mut row.reason);
        }
        row.lines += 1;
        Some(std::mem::take(&mut row.untold))
    }

    /// Takes note of a success: what it ended, if that is worth a line. A subscriber that fails every other
    /// time is no line for each.
    pub fn succeeded(&self, who: &K, now: Instant) -> Option<Recovery> {
        let mut rows = self.rows();
        let row = rows.get_mut(who).filter(|row| row.failures > 0)?;
        let failures = std::mem::take(&mut row.failures);
        let recent = |at: Instant| now.saturating_duration_since(at) < SILENCE;
        if row.recovered.is_some_and(recent) {
            return None;
        }
        row.recovered = Some(now);
        Some(Recovery { failures, after: now.saturating_duration_since(row.since) })
    }

    fn rows(&self) -> MutexGuard<'_, HashMap<K, Row>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::token::ClientToken;

    #[test]
    fn a_row_of_failures_is_told_at_its_beginning_now_and_again_and_at_its_end() {
        let (log, start) = (FailureLog::default(), Instant::now());
        let shop = ClientToken::parse("shop--1").unwrap();
        let at = |seconds| start + Duration::from_secs(seconds);
        for _ in 0..TOLD_AT_ONCE {
            assert_eq!(log.failed(&shop, "500", at(0)), Some(0));
        }
        for second in 1..60 {
            assert_eq!(log.failed(&shop, "500", at(second)), None);
        }
        assert_eq!(log.failed(&shop, "500", at(60)), Some(59));
        assert_eq!(log.failed(&shop, "500", at(61)), None);
        assert_eq!(log.failed(&shop, "refused", at(62)), Some(1), "another reason is told at once");
        let other = ClientToken::parse("other--1").unwrap();
        assert_eq!(log.failed(&other, "500", at(61)), Some(0), "each has a row of its own");
        let recovery = Recovery { failures: TOLD_AT_ONCE + 62, after: Duration::from_secs(70) };
        assert_eq!(log.succeeded(&shop, at(70)), Some(recovery));
        assert_eq!(log.succeeded(&shop, at(71)), None);
        // One that fails every other time does not fill the log.
        let lines = (72..130).filter(|second| {
            let failed = log.failed(&shop, "500", at(*second)).is_some();
            log.succeeded(&shop, at(*second)).is_some() || failed
        });
        assert!(lines.count() <= 5);
        assert!(log.failed(&shop, "500", at(400)).is_some(), "another row begins");
        assert!(log.succeeded(&shop, at(401)).is_some());
    }
}
