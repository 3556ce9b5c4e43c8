//! The journal in a stream of Redis, in the home lane. It has no index: what matches is looked for, the newest
//! first.

use std::collections::HashSet;

use async_trait::async_trait;
use fred::types::Value;
use tokio::time::Instant;

use super::link::Resend;
use super::reply::Reply;
use super::{RedisStore, ms};
use crate::bus::position::EventPosition;
use crate::journal::{
    Entry, EntryKind, Journal, JournalBounds, JournalError, JournalPage, JournalQuery,
};
use crate::store::{Lane, StoreError};

/// How many entries are looked at with one question.
const AT_ONCE: usize = 500;

impl From<StoreError> for JournalError {
    fn from(error: StoreError) -> Self {
        Self::Unavailable(error.to_string())
    }
}

#[async_trait]
impl Journal for RedisStore {
    async fn append(&self, entries: Vec<Entry>, bounds: JournalBounds) -> Result<(), JournalError> {
        let max_bytes = i64::try_from(bounds.max_bytes).unwrap_or(i64::MAX);
        let mut args: Vec<Value> = vec![ms(bounds.retention), max_bytes.into()];
        for entry in &entries {
            let json = serde_json::to_string(entry)
                .map_err(|e| JournalError::Unavailable(e.to_string()))?;
            args.push(json.into());
        }
        // Sent again, it would add them twice.
        self.run_with(&self.scripts.journal_append, Lane::HOME, args, Resend::No).await?;
        Ok(())
    }

    async fn find(
        &self,
        query: &JournalQuery,
        after: Option<&str>,
        limit: usize,
    ) -> Result<JournalPage, JournalError> {
        let mut place = after.map(before).transpose()?.unwrap_or_else(|| "+".into());
        // No batch carried an event before there was one.
        let since_ms = query.since_ms.max(query.event.map(EventPosition::at_ms));
        let (started, mut page) = (Instant::now(), JournalPage::default());
        loop {
            let found = self.entries_before(&place).await?;
            let looked_at = found.len();
            let mut last = None;
            for (at, entry) in found {
                let at_ms = entry.at_ms;
                let is_over = since_ms.is_some_and(|since| at_ms < since.saturating_sub(60_000));
                if query.matches(&entry) {
                    page.entries.push(entry);
                }
                if is_over {
                    return Ok(page);
                }
                if page.entries.len() == limit {
                    page.next = Some(at);
                    return Ok(page);
                }
                last = Some((at, at_ms));
            }
            let Some((at, at_ms)) = last.filter(|_| looked_at == AT_ONCE) else { return Ok(page) };
            if started.elapsed() >= query.time() {
                (page.next, page.back_to_ms) = (Some(at), Some(at_ms));
                return Ok(page);
            }
            place = before(&at)?;
        }
    }

    async fn erase_messages(&self, ids: Vec<String>) -> Result<(), JournalError> {
        let ids: HashSet<String> = ids.into_iter().collect();
        let mut place = "+".to_owned();
        loop {
            let found = self.entries_before(&place).await?;
            let is_meant =
                |entry: &Entry| entry.kind == EntryKind::Message && ids.contains(&entry.id);
            let meant = found.iter().filter(|(_, entry)| is_meant(entry));
            let places: Vec<Value> = meant.map(|(at, _)| at.as_str().into()).collect();
            if !places.is_empty() {
                self.run(&self.scripts.journal_erase, Lane::HOME, places).await?;
            }
            let Some((at, _)) = found.last().filter(|_| found.len() == AT_ONCE) else {
                return Ok(());
            };
            place = before(at)?;
        }
    }
}

impl RedisStore {
    /// Up to [`AT_ONCE`] entries before a place, each with its own.
    async fn entries_before(&self, place: &str) -> Result<Vec<(String, Entry)>, JournalError> {
        let args = vec![place.into(), (AT_ONCE as i64).into()];
        let found = self.run(&self.scripts.journal_before, Lane::HOME, args).await?;
        let read = |mut item: Reply| {
            let at = item.part()?.text()?;
            let entry = serde_json::from_slice(&item.part()?.bytes()?);
            let entry = entry.map_err(|error| JournalError::Unavailable(error.to_string()))?;
            Ok((at, entry))
        };
        found.map(read).collect()
    }
}

/// All before a place, as `XREVRANGE` wants it.
fn before(place: &str) -> Result<String, JournalError> {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let is_place = place.split_once('-').is_some_and(|(ms, n)| is_number(ms) && is_number(n));
    if is_place { Ok(format!("({place}")) } else { Err(JournalError::NoPlace) }
}
