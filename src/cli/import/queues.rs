//! What is in the queues: all batches of the source, page by page, in the order in which they were
//! begun. Within a page, each subscriber's batches go to its queue together.

use std::collections::BTreeMap;

use anyhow::bail;
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use indicatif::DecimalBytes;

use super::messagepack::{self, Entry};
use super::progress::Progress;
use super::ruby::{self, BadBatch, Batch, Batches};
use super::transfer::Transfer;
use crate::bus::item::Item;
use crate::bus::token::ClientToken;
use crate::store::redis::source::SourceError;
use crate::store::{
    IMPORT_MAX_BYTES, IMPORT_MAX_ITEMS, ITEM_OVERHEAD, ImportedPortion, Portion, Taken,
};

/// How many heads of batches are read at once, and the entries of how many.
const HEADS_AT_ONCE: usize = 64;
const BATCHES_AT_ONCE: usize = 16;
/// How many entries are read at once: as many as a batch of the original mostly holds at most.
const ENTRIES_AT_ONCE: u64 = 100;

const NO_SUBSCRIBER: &str = "batches skipped: their subscriber does not exist";
const SKIPPED_SUBSCRIBER: &str = "batches skipped: their subscriber is";

/// What waits to be put into a queue in one call.
#[derive(Default)]
struct Pending {
    portions: Vec<Portion>,
    items: usize,
    bytes: usize,
}

impl Pending {
    fn has_room_for(&self, bytes: usize) -> bool {
        self.items < IMPORT_MAX_ITEMS && self.bytes + bytes <= IMPORT_MAX_BYTES
    }

    /// Adds the next entry of a batch, of which so many were taken before.
    fn add(&mut self, batch: &Batch, from: u64, item: Option<Item>) {
        if self.portions.last().is_none_or(|portion| portion.batch != batch.id) {
            let (id, created_ms) = (batch.id.clone(), batch.created_ms);
            let portion = Portion { batch: id, created_ms, from, entries: 0, items: vec![] };
            self.portions.push(portion);
        }
        let Some(portion) = self.portions.last_mut() else { return };
        portion.entries += 1;
        if let Some(item) = item {
            self.items += 1;
            self.bytes += item.len();
            portion.items.push(item);
        }
    }
}

impl Transfer {
    pub(super) async fn import_queues(&mut self) -> anyhow::Result<()> {
        let total = match self.source.ranked_length(ruby::BATCHES).await {
            Err(SourceError::WrongType) => {
                self.report.note("batches skipped: their index is no sorted set", String::new);
                return Ok(());
            }
            total => total?,
        };
        let mut progress = Progress::start(("batches", "events"), total);
        let mut batches = Batches::default();
        while !self.stop.is_cancelled() {
            let page = batches.next(&self.source).await?;
            if page.is_empty() {
                break;
            }
            self.check_room().await?;
            for (subscriber, batches) in self.read_heads(page).await? {
                if self.stop.is_cancelled() {
                    break;
                }
                self.import_queue(&subscriber, batches).await?;
                progress.at(self.report.batches.found(), self.report.events.found());
            }
        }
        drop(progress);
        self.foresee_room().await
    }

    /// Reads the heads of a page of batches; those that can be taken, by subscriber.
    async fn read_heads(
        &mut self,
        page: Vec<Bytes>,
    ) -> anyhow::Result<BTreeMap<ClientToken, Vec<Batch>>> {
        let source = &self.source;
        let heads = stream::iter(page).map(async |id| {
            let head = ruby::batch(source, &id).await;
            head.map(|head| (id, head))
        });
        let heads: Vec<_> = heads.buffered(HEADS_AT_ONCE).try_collect().await?;
        let mut queues: BTreeMap<ClientToken, Vec<Batch>> = BTreeMap::new();
        for (id, head) in heads {
            match head {
                Err(bad) => self.skip_bad(&id, &bad),
                Ok(batch) => match self.subscribers.get(&batch.subscriber) {
                    Some(true) => {
                        queues.entry(batch.subscriber.clone()).or_default().push(batch);
                    }
                    Some(false) => self.skip(SKIPPED_SUBSCRIBER, &batch),
                    None => self.skip(NO_SUBSCRIBER, &batch),
                },
            }
        }
        Ok(queues)
    }

    fn skip_bad(&mut self, id: &[u8], bad: &BadBatch) {
        self.report.batches.skipped += 1;
        self.report.events.skipped += bad.entries;
        let text = format!("batches skipped: {}", bad.reason);
        self.report.note(&text, || String::from_utf8_lossy(id).into_owned());
    }

    fn skip(&mut self, text: &str, batch: &Batch) {
        self.report.batches.skipped += 1;
        self.report.events.skipped += batch.entries;
        self.report.note(text, || format!("{} of {}", batch.id, batch.subscriber));
    }

    /// Puts what is new of these batches at the end of a subscriber's queue.
    async fn import_queue(
        &mut self,
        subscriber: &ClientToken,
        batches: Vec<Batch>,
    ) -> anyhow::Result<()> {
        let ids: Vec<String> = batches.iter().map(|batch| batch.id.clone()).collect();
        let taken = self.target.taken(subscriber, &ids).await?;
        let mut open = Vec::new();
        for (batch, taken) in batches.into_iter().zip(taken) {
            self.count_taken(&batch, taken);
            if taken.entries < batch.entries {
                open.push((batch, taken));
            } else {
                self.report.batches.present += 1;
            }
        }
        let source = self.source.clone();
        let first = stream::iter(open).map(|(batch, taken)| {
            let source = source.clone();
            async move {
                let entries = batch.entries(&source, taken.entries, ENTRIES_AT_ONCE).await;
                entries.map(|entries| (batch, taken, entries))
            }
        });
        let mut first = std::pin::pin!(first.buffered(BATCHES_AT_ONCE));
        let mut pending = Pending::default();
        while let Some((batch, taken, entries)) = first.try_next().await? {
            let any = self.read_batch(&batch, taken, entries, &mut pending).await?;
            match (any, taken.entries) {
                (true, _) => self.report.batches.imported += 1,
                (false, 0) => self.report.batches.skipped += 1,
                (false, _) => self.report.batches.present += 1,
            }
            if self.stop.is_cancelled() {
                break;
            }
        }
        self.flush(subscriber, &mut pending).await
    }

    /// Counts what earlier runs took of a batch.
    fn count_taken(&mut self, batch: &Batch, taken: Taken) {
        self.report.events.present += taken.items;
        let left_out = taken.entries.saturating_sub(taken.items);
        if left_out > 0 {
            self.report.events.skipped += left_out;
            self.report.note_many(
                "entries left out by an earlier run, which said why",
                left_out,
                || batch.id.clone(),
            );
        }
    }

    /// Takes the entries of a batch, of which the first ones are there; whether there was an event
    /// among them. Ends early if it is told to stop: the rest is taken by the next run.
    async fn read_batch(
        &mut self,
        batch: &Batch,
        taken: Taken,
        mut entries: Vec<Bytes>,
        pending: &mut Pending,
    ) -> anyhow::Result<bool> {
        let (mut position, mut any) = (taken.entries, false);
        loop {
            let is_full = entries.len() as u64 == ENTRIES_AT_ONCE;
            for entry in entries {
                let item = self.read_entry(batch, position, &entry);
                let bytes = item.as_ref().map_or(0, Bytes::len);
                if !pending.has_room_for(bytes) {
                    self.flush(&batch.subscriber, pending).await?;
                }
                any |= item.is_some();
                pending.add(batch, position, item);
                position += 1;
            }
            if !is_full || self.stop.is_cancelled() {
                return Ok(any);
            }
            entries = batch.entries(&self.source, position, ENTRIES_AT_ONCE).await?;
        }
    }

    fn read_entry(&mut self, batch: &Batch, position: u64, entry: &[u8]) -> Option<Item> {
        match messagepack::read(entry, self.topic_name_max) {
            Ok(Entry::Event(item)) => Some(item),
            Ok(Entry::Control) => {
                self.report.control += 1;
                None
            }
            Err(reason) => {
                self.report.events.skipped += 1;
                let text = format!("events skipped: {reason}");
                let example = || format!("{} entry {}", batch.id, position + 1);
                self.report.note(&text, example);
                None
            }
        }
    }

    /// Puts what waits at the end of the queue.
    async fn flush(
        &mut self,
        subscriber: &ClientToken,
        pending: &mut Pending,
    ) -> anyhow::Result<()> {
        let Pending { portions, .. } = std::mem::take(pending);
        if portions.is_empty() {
            return Ok(());
        }
        let sizes = portions.iter().map(|portion| {
            let bytes: usize = portion.items.iter().map(Bytes::len).sum();
            (portion.batch.clone(), portion.items.len() as u64, bytes as u64)
        });
        let sizes: Vec<_> = sizes.collect();
        let outcomes = self.target.batches(subscriber, portions).await?;
        for (index, (batch, items, bytes)) in sizes.into_iter().enumerate() {
            let events = &mut self.report.events;
            match outcomes.as_ref().map(|outcomes| outcomes[index]) {
                Some(ImportedPortion::Appended) => {
                    events.imported += items;
                    self.report.bytes += bytes + items * ITEM_OVERHEAD;
                }
                Some(ImportedPortion::TakenBefore) => events.present += items,
                Some(ImportedPortion::OutOfStep) => {
                    events.skipped += items;
                    self.report.note(
                        "events skipped: somebody else imports at the same time; run this again",
                        || batch,
                    );
                }
                None => {
                    events.skipped += items;
                    self.report.note(
                        "events skipped: their subscriber was removed during the import",
                        || subscriber.label(),
                    );
                }
            }
        }
        Ok(())
    }

    /// Ends the import before autodrop would drop what it brings.
    async fn check_room(&self) -> anyhow::Result<()> {
        let room = self.target.room().await?;
        if !self.target.dry_run() && room.used > room.high_mark {
            bail!(
                "the store holds {}, and autodrop begins over {}: it would drop the oldest events, \
                 which are those that are imported; let it hold more ({MORE_ROOM}), here and where \
                 the bus is started, and run this again",
                DecimalBytes(room.used),
                DecimalBytes(room.high_mark)
            );
        }
        Ok(())
    }

    /// Says whether autodrop would drop something of what a dry run found.
    async fn foresee_room(&mut self) -> anyhow::Result<()> {
        let room = self.target.room().await?;
        let expected = if self.target.dry_run() { self.report.bytes } else { 0 };
        if self.report.events.imported > 0 && room.used + expected > room.high_mark {
            let text = format!(
                "the store would hold about {}, and autodrop begins over {}: let it hold more \
                 ({MORE_ROOM}), here and where the bus is started",
                DecimalBytes(room.used + expected),
                DecimalBytes(room.high_mark)
            );
            self.report.note(&text, String::new);
        }
        Ok(())
    }
}

const MORE_ROOM: &str = "ROUTEMASTER_REDIS_MAX_MEM or ROUTEMASTER_SQLITE_MAX_BYTES";
