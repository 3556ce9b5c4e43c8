//! Publishing: a group of publications goes to every lane, each of which appends it to the queues of
//! its own subscribers.
//!
//! The home lane comes first: it knows who may publish. A lane that does not answer makes the whole
//! group fail, though others may have stored it; publishing again is right (docs/durability.md).

use std::collections::HashMap;
use std::iter::repeat_n;
use std::time::Duration;

use bytes::BytesMut;
use fred::types::Value;
use futures_util::future::try_join_all;
use tokio::time::Instant;

use super::RedisStore;
use super::commit_slots::CommitSlot;
use super::options::CALL_TIMEOUT;
use super::reply::STAMP;
use crate::bus::topic::TopicName;
use crate::store::{Lane, Publication, Published, StoreError, StoreResult};

/// How long the answer of a commit may take on its way: one that is begun later may be stored after
/// its publishers have been told that it is not.
const ANSWER_TIME: Duration = Duration::from_millis(250);

/// The pause before a group is sent again that came too late.
const LATE_PAUSE: Duration = Duration::from_millis(20);

/// What `publish.lua` answers when nobody waits for it any more.
const LATE: &str = "late";

/// What it answers for a run.
fn outcome(digit: u8) -> Published {
    match digit {
        b'1' => Published::Stored,
        b'2' => Published::TooManyTopics,
        _ => Published::OwnedByAnother,
    }
}

/// What a lane does for a publish.
enum LaneTask {
    /// To say who may publish, and to count the events. There are so many lanes.
    Home {
        lanes: usize,
    },
    Other(Births),
}

/// When each topic was made, and one of its name last deleted, in the home lane's own words.
type Births = HashMap<TopicName, String>;

/// What a lane answered.
struct Appended {
    /// A digit for each run.
    outcomes: String,
    births: String,
}

pub async fn publish(
    store: &RedisStore,
    mut publications: Vec<Publication>,
    give_up: Instant,
) -> StoreResult<Vec<Published>> {
    let lanes = store.lane_count().await?;
    let slot = store.slots.take();
    let home = LaneTask::Home { lanes };
    let appended = append(store, Lane::HOME, &home, &slot, &publications, give_up).await?;
    let outcomes = runs(&publications).zip(appended.outcomes.bytes());
    let published: Vec<Published> =
        outcomes.flat_map(|(run, digit)| repeat_n(outcome(digit), run.len())).collect();
    if lanes > 1 {
        let task = LaneTask::Other(births(&appended.births, &publications)?);
        let mut outcomes = published.iter();
        publications.retain(|_| outcomes.next() == Some(&Published::Stored));
        if !publications.is_empty() {
            let (task, slot, publications) = (&task, &slot, &publications);
            let others = Lane::first(lanes).skip(1);
            try_join_all(others.map(|lane| append(store, lane, task, slot, publications, give_up)))
                .await?;
        }
    }
    store.slots.give_back(slot);
    Ok(published)
}

fn births(text: &str, publications: &[Publication]) -> StoreResult<Births> {
    let mut births = text.split(',');
    let of_run = |run: &[Publication]| {
        let birth = births.next().filter(|birth| !birth.is_empty());
        let birth = birth.ok_or_else(|| StoreError::Corrupt("publish: a birth is missing".into()));
        Ok((run[0].topic.clone(), birth?.to_owned()))
    };
    runs(publications).map(of_run).collect()
}

/// Appends publications in one lane.
async fn append(
    store: &RedisStore,
    lane: Lane,
    task: &LaneTask,
    slot: &CommitSlot,
    publications: &[Publication],
    give_up: Instant,
) -> StoreResult<Appended> {
    loop {
        let args = append_args(store, lane, task, slot, publications, give_up);
        let (script, keys) = (&store.scripts.publish, &store.lane(lane).keys);
        let mut reply = store.connection.run_replicated(script, keys, args, give_up).await?;
        let outcomes = reply.part()?.text()?;
        let due_in = reply.part()?.integer()?;
        store.lane(lane).server_time.learn(reply.part()?.unsigned()?);
        if let Ok(delay) = u64::try_from(due_in) {
            store.lane(lane).alarm.ring_in(Duration::from_millis(delay));
        }
        if outcomes != LATE {
            return Ok(Appended { outcomes, births: reply.part()?.text()? });
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
    publications: &[Publication],
    give_up: Instant,
) -> Vec<Value> {
    let all_items = || publications.iter().flat_map(|publication| &publication.items);
    let (items, bytes) = (all_items().count(), all_items().map(|item| item.len()).sum::<usize>());
    let mut args: Vec<Value> = Vec::with_capacity(7 + 3 * publications.len() + items);
    let (server_time, now) = (&store.lane(lane).server_time, Instant::now());
    // The call itself may be given up before the publishers do, and its answer must arrive by then.
    let nobody_waits = give_up.min(now + CALL_TIMEOUT);
    let begin_by = nobody_waits.checked_sub(ANSWER_TIME).unwrap_or(nobody_waits);
    let deadline_ms = server_time.at(begin_by);
    // The script corrects it where it is wrong.
    let stamp = format!("{:0STAMP$}", server_time.at(now).unwrap_or(0));
    let lanes = match task {
        LaneTask::Home { lanes } => *lanes as i64,
        LaneTask::Other(_) => 0,
    };
    args.push(slot.name.as_str().into());
    args.push(slot.number.to_string().into());
    args.push(store.origin.as_str().into());
    args.push(deadline_ms.map_or(String::new(), |ms| ms.to_string()).into());
    args.push(lanes.into());
    args.push(stamp.as_str().into());
    args.push(store.max_topics());
    let mut entries = BytesMut::with_capacity(bytes + items * STAMP);
    for run in runs(publications) {
        let items = || run.iter().flat_map(|publication| &publication.items);
        let Publication { topic, publisher, .. } = &run[0];
        args.push(topic.as_str().into());
        args.push(match task {
            LaneTask::Home { .. } => publisher.reveal().into(),
            LaneTask::Other(births) => {
                births.get(topic).map(String::as_str).unwrap_or_default().into()
            }
        });
        args.push((items().count() as i64).into());
        args.extend(items().map(|item| {
            entries.extend_from_slice(stamp.as_bytes());
            entries.extend_from_slice(item);
            Value::Bytes(entries.split().freeze())
        }));
    }
    args
}

/// Splits a group where the topic or the publisher changes.
fn runs(publications: &[Publication]) -> impl Iterator<Item = &[Publication]> {
    publications.chunk_by(|one, next| one.topic == next.topic && one.publisher == next.publisher)
}
