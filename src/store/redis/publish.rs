//! Publishing: a group of publications goes to every lane, each of which appends it to the queues of
//! its own subscribers.
//!
//! The home lane comes first: it knows who may publish. A lane that does not answer makes the whole
//! group fail, though others may have stored it; publishing again is right (docs/durability.md).

use std::iter::repeat_n;
use std::time::Duration;

use bytes::BytesMut;
use fred::types::Value;
use tokio::time::Instant;

use super::commit_slots::CommitSlot;
use super::options::CALL_TIMEOUT;
use super::reply::STAMP;
use super::{LATE, RedisStore};
use crate::store::{Lane, Publication, StoreError, StoreResult};

/// How long the answer of a commit may take on its way: one that is begun later may be stored after
/// its publishers have been told that it is not.
const ANSWER_TIME: Duration = Duration::from_millis(250);

impl RedisStore {
    /// Appends publications in one of so many lanes; returns a digit for each.
    pub(super) async fn append(
        &self,
        lane: Lane,
        lanes: usize,
        slot: &CommitSlot,
        publications: &[Publication],
        give_up: Instant,
    ) -> StoreResult<String> {
        loop {
            let args = self.append_args(lane, lanes, slot, publications, give_up);
            let (script, keys) = (&self.scripts.publish, &self.lane(lane).keys);
            let mut reply = self.connection.run_replicated(script, keys, args, give_up).await?;
            let outcomes = reply.part()?.text()?;
            let due_in = reply.part()?.integer()?;
            self.lane(lane).server_time.learn(reply.part()?.unsigned()?);
            if let Ok(delay) = u64::try_from(due_in) {
                self.lane(lane).alarm.ring_in(Duration::from_millis(delay));
            }
            if outcomes != LATE {
                let runs = runs(publications).zip(outcomes.chars());
                return Ok(runs.flat_map(|(run, outcome)| repeat_n(outcome, run.len())).collect());
            }
            // Late by a clock that has jumped, or really late.
            if Instant::now() >= give_up {
                return Err(StoreError::Unavailable("Redis: too late".into()));
            }
        }
    }

    fn append_args(
        &self,
        lane: Lane,
        lanes: usize,
        slot: &CommitSlot,
        publications: &[Publication],
        give_up: Instant,
    ) -> Vec<Value> {
        let all_items = || publications.iter().flat_map(|publication| &publication.items);
        let (items, bytes) =
            (all_items().count(), all_items().map(|item| item.len()).sum::<usize>());
        let mut args: Vec<Value> = Vec::with_capacity(6 + 3 * publications.len() + items);
        let (server_time, now) = (&self.lane(lane).server_time, Instant::now());
        // The call itself may be given up before the publishers do, and its answer must arrive by then.
        let nobody_waits = give_up.min(now + CALL_TIMEOUT);
        let begin_by = nobody_waits.checked_sub(ANSWER_TIME).unwrap_or(nobody_waits);
        let deadline_ms = server_time.at(begin_by);
        // The script corrects it where it is wrong.
        let stamp = format!("{:0STAMP$}", server_time.at(now).unwrap_or(0));
        args.push(slot.name.as_str().into());
        args.push(slot.number.to_string().into());
        args.push(self.origin.as_str().into());
        args.push(deadline_ms.map_or(String::new(), |ms| ms.to_string()).into());
        args.push(if lane == Lane::HOME { lanes as i64 } else { 0 }.into());
        args.push(stamp.as_str().into());
        let mut entries = BytesMut::with_capacity(bytes + items * STAMP);
        for run in runs(publications) {
            let items = || run.iter().flat_map(|publication| &publication.items);
            args.push(run[0].topic.as_str().into());
            args.push(run[0].publisher.reveal().into());
            args.push((items().count() as i64).into());
            args.extend(items().map(|item| {
                entries.extend_from_slice(stamp.as_bytes());
                entries.extend_from_slice(item);
                Value::Bytes(entries.split().freeze())
            }));
        }
        args
    }
}

/// Splits a group where the topic or the publisher changes.
fn runs(publications: &[Publication]) -> impl Iterator<Item = &[Publication]> {
    publications.chunk_by(|one, next| one.topic == next.topic && one.publisher == next.publisher)
}
