//! Publishing: a group of publications goes to every lane, each of which appends it to the queues of
//! its own subscribers.
//!
//! The home lane comes first: it knows who may publish. A lane that does not answer makes the whole
//! group fail, though others may have stored it; publishing again is right (docs/durability.md).

use std::collections::HashMap;
use std::fmt::Write;
use std::iter::repeat_n;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::BytesMut;
use fred::types::Value;
use futures_util::future::try_join_all;
use tokio::time::Instant;

use super::commit_slots::CommitSlot;
use super::connection::Connection;
use super::options::CALL_TIMEOUT;
use super::reply::{POSITION, Reply};
use super::{RedisStore, ms};
use crate::bus::position::EventPosition;
use crate::bus::token::ClientToken;
use crate::bus::topic::TopicName;
use crate::store::{
    Lane, PUBLISH_KEYS_KEPT, PUBLISH_KEYS_MAX, Publication, PublishKey, Published, StoreError,
    StoreResult,
};

/// How long the answer of a commit may take on its way: one that is begun later may be stored after
/// its publishers have been told that it is not.
const ANSWER_TIME: Duration = Duration::from_millis(250);

/// The pause before a group is sent again that came too late.
const LATE_PAUSE: Duration = Duration::from_millis(20);

/// What `publish.lua` answers when nobody waits for it any more.
const LATE: &str = "late";

/// What a lane does for a publish.
enum LaneTask {
    /// To say who may publish, and to count the events. There are so many lanes.
    Home {
        lanes: usize,
    },
    Other(Births),
}

/// A publication, and the position of its first item.
struct Placed {
    publication: Publication,
    first: EventPosition,
}

/// When each topic was made, and one of its name last deleted, in the home lane's own words.
type Births = HashMap<TopicName, String>;

/// What a lane answered.
struct Appended {
    /// A digit for each run.
    outcomes: String,
    births: String,
    /// The position of the first item of all.
    first: EventPosition,
    /// The positions of runs that were stored before, with commas between them.
    firsts: String,
}

pub async fn publish(
    store: &RedisStore,
    connection: &Connection,
    publications: Vec<Publication>,
    give_up: Instant,
) -> StoreResult<Vec<Published>> {
    let lanes = store.lane_count().await?;
    let slot = store.slots.take();
    let home = LaneTask::Home { lanes };
    let proposed = store.propose_positions(&publications);
    let mut placed = place(publications, proposed);
    let appended = append(store, connection, Lane::HOME, &home, &slot, &placed, give_up).await?;
    if appended.first != proposed {
        placed = place(placed.into_iter().map(|placed| placed.publication), appended.first);
        store.learn_position(&placed);
    }
    let published = outcomes(&appended, &placed)?;
    if lanes > 1 {
        let task = LaneTask::Other(births(&appended.births, &placed)?);
        // What was stored before may have come no further than to the home lane.
        let is_for_others = |published: &Published| {
            matches!(published, Published::Stored(_) | Published::StoredBefore(_))
        };
        let mut outcomes = published.iter();
        placed.retain(|_| outcomes.next().is_some_and(is_for_others));
        if !placed.is_empty() {
            let (task, slot, placed) = (&task, &slot, &placed);
            let others = Lane::first(lanes).skip(1);
            try_join_all(
                others.map(|lane| append(store, connection, lane, task, slot, placed, give_up)),
            )
            .await?;
        }
    }
    store.slots.give_back(slot);
    Ok(published)
}

/// Gives publications their positions, from one on.
fn place(publications: impl IntoIterator<Item = Publication>, first: EventPosition) -> Vec<Placed> {
    let mut next = first;
    let place = |publication: Publication| {
        let first = next;
        next = first.plus(publication.items.len() as u64);
        Placed { publication, first }
    };
    publications.into_iter().map(place).collect()
}

/// What became of each publication.
fn outcomes(appended: &Appended, placed: &[Placed]) -> StoreResult<Vec<Published>> {
    let mut firsts = appended.firsts.split(',');
    let mut published = Vec::with_capacity(placed.len());
    for (run, digit) in runs(placed).zip(appended.outcomes.bytes()) {
        match digit {
            b'1' => published.extend(run.iter().map(|placed| Published::Stored(placed.first))),
            b'3' => {
                let first = firsts.next().and_then(|first| first.parse().ok());
                let missing = || StoreError::Corrupt("publish: a position is missing".into());
                let stored_before = Published::StoredBefore(first.ok_or_else(missing)?);
                published.extend(repeat_n(stored_before, run.len()));
            }
            b'2' => published.extend(repeat_n(Published::TooManyTopics, run.len())),
            b'4' => published.extend(repeat_n(Published::KeyTaken, run.len())),
            _ => published.extend(repeat_n(Published::OwnedByAnother, run.len())),
        }
    }
    Ok(published)
}

fn births(text: &str, placed: &[Placed]) -> StoreResult<Births> {
    let mut births = text.split(',');
    let of_run = |run: &[Placed]| {
        let birth = births.next().filter(|birth| !birth.is_empty());
        let birth = birth.ok_or_else(|| StoreError::Corrupt("publish: a birth is missing".into()));
        Ok((run[0].publication.topic.clone(), birth?.to_owned()))
    };
    runs(placed).map(of_run).collect()
}

/// Appends publications in one lane.
async fn append(
    store: &RedisStore,
    connection: &Connection,
    lane: Lane,
    task: &LaneTask,
    slot: &CommitSlot,
    placed: &[Placed],
    give_up: Instant,
) -> StoreResult<Appended> {
    loop {
        let args = append_args(store, lane, task, slot, placed, give_up);
        let (script, keys) = (&store.scripts.publish, &store.lane(lane).keys);
        let mut reply = connection.run_replicated(script, keys, args, give_up).await?;
        let outcomes = reply.part()?.text()?;
        let due_in = reply.part()?.integer()?;
        store.lane(lane).server_time.learn(reply.part()?.unsigned()?);
        if let Ok(delay) = u64::try_from(due_in) {
            store.lane(lane).alarm.ring_in(Duration::from_millis(delay));
        }
        if outcomes != LATE {
            let appended = Appended {
                outcomes,
                births: reply.part()?.text()?,
                first: EventPosition::new(reply.part().and_then(Reply::unsigned)?),
                firsts: reply.part()?.text()?,
            };
            let arrivals = reply.part()?.text()?;
            if !arrivals.is_empty() {
                let arrivals: Vec<_> = arrivals.split(' ').map(ClientToken::from_stored).collect();
                store.arrivals.tell(&arrivals);
            }
            return Ok(appended);
        }
        // Late by a clock that has jumped, or really late.
        if Instant::now() >= give_up {
            return Err(StoreError::Unavailable("Redis: too late".into()));
        }
        // The answer has told what the clock shows; a server that still finds it late may hang.
        tokio::time::sleep(LATE_PAUSE).await;
    }
}

fn append_args(
    store: &RedisStore,
    lane: Lane,
    task: &LaneTask,
    slot: &CommitSlot,
    placed: &[Placed],
    give_up: Instant,
) -> Vec<Value> {
    let all_items = || placed.iter().flat_map(|placed| &placed.publication.items);
    let (items, bytes) = (all_items().count(), all_items().map(|item| item.len()).sum::<usize>());
    let mut args: Vec<Value> = Vec::with_capacity(10 + 6 * placed.len() + items);
    let (server_time, now) = (&store.lane(lane).server_time, Instant::now());
    // The call itself may be given up before the publishers do, and its answer must arrive by then.
    let nobody_waits = give_up.min(now + CALL_TIMEOUT);
    let begin_by = nobody_waits.checked_sub(ANSWER_TIME).unwrap_or(nobody_waits);
    let deadline_ms = server_time.at(begin_by);
    let lanes = match task {
        LaneTask::Home { lanes } => *lanes as i64,
        LaneTask::Other(_) => 0,
    };
    args.push(slot.name.as_str().into());
    args.push(slot.number.to_string().into());
    args.push(store.origin.as_str().into());
    args.push(deadline_ms.map_or(String::new(), |ms| ms.to_string()).into());
    args.push(lanes.into());
    let first = placed.first().map_or(0, |placed| placed.first.number());
    args.push(first.to_string().into());
    args.push((first + items as u64).saturating_sub(1).to_string().into());
    args.push(store.max_topics());
    args.push((PUBLISH_KEYS_MAX as i64).into());
    args.push(ms(PUBLISH_KEYS_KEPT));
    let mut entries = BytesMut::with_capacity(bytes + items * (POSITION + 1));
    for run in runs(placed) {
        let Publication { topic, publisher, key, .. } = &run[0].publication;
        args.push(topic.as_str().into());
        args.push(match task {
            LaneTask::Home { .. } => publisher.reveal().into(),
            LaneTask::Other(births) => {
                births.get(topic).map(String::as_str).unwrap_or_default().into()
            }
        });
        let (name, fingerprint) = match key {
            Some(PublishKey { name, fingerprint }) => (name.as_str(), fingerprint.as_str()),
            None => ("", ""),
        };
        args.extend::<[Value; 3]>([name.into(), fingerprint.into(), publisher.reveal().into()]);
        let count: usize = run.iter().map(|placed| placed.publication.items.len()).sum();
        args.push((count as i64).into());
        for Placed { publication, first } in run {
            args.extend(publication.items.iter().enumerate().map(|(index, item)| {
                let position = first.plus(index as u64).number();
                let _ = write!(entries, "{position:0POSITION$}:");
                entries.extend_from_slice(item);
                Value::Bytes(entries.split().freeze())
            }));
        }
    }
    args
}

/// Splits a group where the topic or the publisher changes, and around what is stored once.
fn runs(placed: &[Placed]) -> impl Iterator<Item = &[Placed]> {
    placed.chunk_by(|one, next| {
        let (one, next) = (&one.publication, &next.publication);
        let is_alike = one.topic == next.topic && one.publisher == next.publisher;
        is_alike && one.key.is_none() && next.key.is_none()
    })
}

impl RedisStore {
    /// The position of the first item of some publications, such that this process gives none twice. Redis
    /// corrects it where another process was faster.
    fn propose_positions(&self, publications: &[Publication]) -> EventPosition {
        let count: usize = publications.iter().map(|publication| publication.items.len()).sum();
        let server_ms = self.lane(Lane::HOME).server_time.at(Instant::now()).unwrap_or(0);
        let now = EventPosition::of_time(server_ms).number();
        let after = |last: u64| (last + 1).max(now);
        let last = |last: u64| after(last) + count as u64 - 1;
        // A clock that was set back by much is told by the server.
        let update = |before: u64| Some(last(if before > now + MOVED_US { 0 } else { before }));
        let order = Ordering::Relaxed;
        let before = self.last_proposed.fetch_update(order, order, update).unwrap_or_default();
        EventPosition::new(after(if before > now + MOVED_US { 0 } else { before }))
    }

    /// Takes note of positions that Redis has given instead: what is proposed next comes after them.
    fn learn_position(&self, placed: &[Placed]) {
        let Some(Placed { publication, first }) = placed.last() else { return };
        let last = first.plus(publication.items.len() as u64).number().saturating_sub(1);
        self.last_proposed.fetch_max(last, Ordering::Relaxed);
    }
}

/// Proposals that lie further in the future than this are none, in microseconds.
const MOVED_US: u64 = 50_000;
