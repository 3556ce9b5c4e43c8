//! The oracle: holds what publishers were told against what subscribers got.
//!
//! It knows nothing of how a bus works, only what its documents promise (docs/durability.md):
//!
//! - an event answered with 204 reaches every subscriber, which acknowledges it, or is counted as dropped;
//! - a publish that was answered before another one to its topic was sent is before it in every queue, so
//!   each subscriber sees each publisher's answered events for the first time in order, over whatever
//!   connections they were published;
//! - what was refused comes again before anything that is behind it;
//! - nothing arrives that was not sent, and what arrives is what was sent, byte for byte;
//! - an array is stored as a whole or not at all;
//! - what is sent again under a `Webhook-Id` is the same batch;
//! - the counters of monitoring say what happened.
//!
//! A publish that got no answer, or 503, may be there or not; one that was refused otherwise may not.
#![allow(dead_code, reason = "the contract tests use it to test it")]

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::RangeInclusive;
use std::time::Instant;

use serde::Deserialize;
use serde_json::value::RawValue;

/// An event: its stream, and its number there.
pub type EventId = (usize, u64);

/// What a publisher was told about a publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    Accepted,
    /// 503: not stored, but for the rare case that docs/durability.md names.
    Unavailable,
    /// Another status: nothing was stored.
    Refused,
    /// The connection ended, or the client's time did.
    Nothing,
}

/// One publish of a stream: one event, or an array of them.
#[derive(Clone, Debug)]
pub struct Publish {
    /// The number of its first event; the others follow.
    pub first: u64,
    /// Each event as subscribers must get it.
    pub events: Vec<String>,
    pub answer: Answer,
    pub sent_at: Instant,
    pub answered_at: Instant,
}

/// What one connection published, one after the other; each publish waited for the answer to the
/// one before it.
#[derive(Clone, Debug, Default)]
pub struct Stream {
    pub topic: String,
    pub publishes: Vec<Publish>,
}

/// One POST to a subscriber.
#[derive(Clone, Debug)]
pub struct Receipt {
    pub batch: String,
    pub body: String,
    /// Whether it was answered with 200.
    pub acknowledged: bool,
}

/// What one subscriber got, in the order of arrival, and what monitoring says about it.
#[derive(Clone, Debug, Default)]
pub struct Subscriber {
    pub name: String,
    pub receipts: Vec<Receipt>,
    pub sent: u64,
    pub queued: u64,
    /// Autodropped and expired.
    pub dropped: u64,
}

/// What else must be known for a verdict.
#[derive(Clone, Debug, Default)]
pub struct Terms {
    /// How many events may come again after they were acknowledged, to all subscribers together.
    pub duplicates_max: u64,
    /// Events that were sent before this may be lost: the store forgot everything.
    pub forgotten_before: Option<Instant>,
    pub counters: Counters,
    /// Whether a publish that got no answer may be undone after it was delivered: counters may then be
    /// lower by what arrived of such publishes.
    pub may_undo: bool,
    /// What was sent in these times may be lost though it was answered with 204: the store's settings
    /// promise no more.
    pub may_lose: Vec<RangeInclusive<Instant>>,
    /// Whether a publish may remain without an answer: a web process dies.
    pub may_not_answer: bool,
}

/// How the counters of monitoring must agree with what arrived.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Counters {
    #[default]
    Exactly,
    /// A subscriber's may be lower, because the store lost some, and a topic's are not looked at. A higher
    /// one tells of an event that was in a queue twice.
    NoMore,
    /// They began anew.
    Unknown,
}

/// What came out.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    pub accepted: u64,
    pub unavailable: u64,
    pub unanswered: u64,
    /// Different events, over all subscribers.
    pub received: u64,
    pub lost: u64,
    /// Autodropped and expired, by the bus's own count.
    pub dropped: u64,
    pub reordered: u64,
    /// Never sent, refused, or altered.
    pub phantom: u64,
    /// Come again after an acknowledgement.
    pub duplicated: u64,
    /// Stored though the answer was 503.
    pub stored_unavailable: u64,
    /// Stored without an answer.
    pub stored_unanswered: u64,
    pub violations: Vec<String>,
}

/// How many violations of a kind are told one by one.
const TOLD: usize = 3;

impl Verdict {
    fn violation(&mut self, kind: &str, text: String) {
        let told = self.violations.iter().filter(|told| told.starts_with(kind)).count();
        if told < TOLD {
            self.violations.push(format!("{kind}: {text}"));
        }
    }
}

/// A delivered event, as far as it has to be understood.
#[derive(Deserialize)]
struct Delivered {
    url: String,
}

/// The URL of an event: its stream, and its number there.
pub fn url(stream: usize, number: u64) -> String {
    format!("https://a.example/{stream}/{number}")
}

/// Which event it is that was delivered.
pub fn origin(event: &str) -> Option<EventId> {
    let delivered: Delivered = serde_json::from_str(event).ok()?;
    let (stream, number) = delivered.url.strip_prefix("https://a.example/")?.split_once('/')?;
    Some((stream.parse().ok()?, number.parse().ok()?))
}

/// An event that was sent, found by its number.
struct Known<'a> {
    answer: Answer,
    event: &'a str,
    sent_at: Instant,
    answered_at: Instant,
}

type KnownEvents<'a> = Vec<HashMap<u64, Known<'a>>>;

/// Judges a run that is over.
pub fn judge(
    streams: &[Stream],
    subscribers: &[Subscriber],
    topics: &BTreeMap<String, u64>,
    terms: &Terms,
) -> Verdict {
    let mut verdict = Verdict::default();
    let known = know(streams, &mut verdict);
    let mut stored: BTreeMap<&str, HashSet<EventId>> = BTreeMap::new();
    for subscriber in subscribers {
        let Received { first, acknowledged, batches } = read(subscriber, &known, &mut verdict);
        check_order(subscriber, streams, &known, &first, &mut verdict);
        let keeps_all = terms.may_lose.is_empty() && terms.forgotten_before.is_none();
        if keeps_all && subscriber.dropped == 0 {
            check_overtaking(subscriber, &known, &batches, &mut verdict);
        }
        check_complete(subscriber, streams, &known, &acknowledged, terms, &mut verdict);
        if terms.counters == Counters::NoMore && subscriber.sent > acknowledged.len() as u64 {
            let Subscriber { name, sent, .. } = subscriber;
            let text = format!("{name} counts {sent} sent of {} that arrived", acknowledged.len());
            verdict.violation("counters", text);
        }
        verdict.received += first.len() as u64;
        verdict.dropped += subscriber.dropped;
        for (stream, number) in first {
            stored.entry(&streams[stream].topic).or_default().insert((stream, number));
        }
    }
    count_unpromised(&known, &stored, &mut verdict);
    if verdict.duplicated > terms.duplicates_max {
        let text = format!("{} events, at most {}", verdict.duplicated, terms.duplicates_max);
        verdict.violation("duplicated", text);
    }
    if verdict.unanswered > 0 && !terms.may_not_answer {
        verdict.violation("unanswered", format!("{} events", verdict.unanswered));
    }
    if terms.counters == Counters::Exactly {
        let undone_max = if terms.may_undo { verdict.stored_unanswered } else { 0 };
        check_counters(subscribers, topics, &stored, undone_max, &mut verdict);
    }
    verdict
}

fn know<'a>(streams: &'a [Stream], verdict: &mut Verdict) -> KnownEvents<'a> {
    let known = streams.iter().map(|stream| {
        let mut events = HashMap::new();
        for publish in &stream.publishes {
            let count = publish.events.len() as u64;
            match publish.answer {
                Answer::Accepted => verdict.accepted += count,
                Answer::Unavailable => verdict.unavailable += count,
                Answer::Nothing => verdict.unanswered += count,
                Answer::Refused => {
                    let text = format!("{} of {}", publish.first, stream.topic);
                    verdict.violation("refused", text);
                }
            }
            for (number, event) in (publish.first..).zip(&publish.events) {
                let Publish { answer, sent_at, answered_at, .. } = *publish;
                events.insert(number, Known { answer, event, sent_at, answered_at });
            }
        }
        events
    });
    known.collect()
}

/// The events that a subscriber got.
#[derive(Default)]
struct Received {
    /// In the order in which it saw each first.
    first: Vec<EventId>,
    acknowledged: HashSet<EventId>,
    /// Those of each receipt, and whether it was acknowledged.
    batches: Vec<(Vec<EventId>, bool)>,
}

/// Reads all receipts. Finds what was never sent, what was altered, what came again, and batches that
/// changed.
fn read(subscriber: &Subscriber, known: &KnownEvents<'_>, verdict: &mut Verdict) -> Received {
    let name = &subscriber.name;
    let Received { mut first, mut acknowledged, mut batches } = Received::default();
    let mut seen = HashSet::new();
    let mut bodies: HashMap<&str, &str> = HashMap::new();
    for receipt in &subscriber.receipts {
        if *bodies.entry(&receipt.batch).or_insert(&receipt.body) != receipt.body {
            verdict.violation("changed", format!("batch {} of {name}", receipt.batch));
        }
        let Ok(events) = serde_json::from_str::<Vec<&RawValue>>(&receipt.body) else {
            verdict.phantom += 1;
            verdict.violation("phantom", format!("{name} got no batch: {}", receipt.body));
            continue;
        };
        let (mut in_batch, mut batch) = (HashSet::new(), vec![]);
        for event in events.into_iter().map(RawValue::get) {
            let from = origin(event);
            if !in_batch.insert(from) {
                verdict.violation("doubled", format!("{name} got {event} twice in a batch"));
            }
            let sent = from.and_then(|(stream, number)| known.get(stream)?.get(&number));
            let (Some(from), Some(sent)) = (from, sent) else {
                verdict.phantom += 1;
                verdict.violation("phantom", format!("{name} got {event}, which nobody sent"));
                continue;
            };
            if sent.event != event {
                verdict.phantom += 1;
                verdict.violation("altered", format!("{name} got {event} for {}", sent.event));
            }
            if sent.answer == Answer::Refused {
                verdict.phantom += 1;
                verdict.violation("phantom", format!("{name} got {event}, which was refused"));
            }
            batch.push(from);
            if seen.insert(from) {
                first.push(from);
            }
            if acknowledged.contains(&from) {
                verdict.duplicated += 1;
            }
            if receipt.acknowledged {
                acknowledged.insert(from);
            }
        }
        batches.push((batch, receipt.acknowledged));
    }
    Received { first, acknowledged, batches }
}

/// What was answered with 204 before something else was sent to the same topic must come before it.
fn check_order(
    subscriber: &Subscriber,
    streams: &[Stream],
    known: &KnownEvents<'_>,
    first: &[EventId],
    verdict: &mut Verdict,
) {
    // Of each topic, what was sent last of all that has come.
    let mut latest: HashMap<&str, (Instant, EventId)> = HashMap::new();
    for &(stream, number) in first {
        let event = &known[stream][&number];
        let this = (event.sent_at, (stream, number));
        let latest = latest.entry(&streams[stream].topic).or_insert(this);
        if event.answer == Answer::Accepted && event.answered_at < latest.0 {
            verdict.reordered += 1;
            let text = format!("{} saw {:?} before {:?}", subscriber.name, latest.1, this.1);
            verdict.violation("reordered", text);
        }
        *latest = this.max(*latest);
    }
}

/// What was answered with 204, came and was refused has to come again before anything new; but not what
/// was acknowledged before: two workers with two masters may have sent it both.
fn check_overtaking(
    subscriber: &Subscriber,
    known: &KnownEvents<'_>,
    batches: &[(Vec<EventId>, bool)],
    verdict: &mut Verdict,
) {
    let mut seen = HashSet::<EventId>::new();
    // To come again.
    let mut refused = HashSet::<EventId>::new();
    let mut done = HashSet::<EventId>::new();
    for (events, acknowledged) in batches {
        for event in events {
            refused.remove(event);
            let is_new = seen.insert(*event);
            if let Some(left) = refused.iter().next().filter(|_| is_new) {
                let text = format!("{} saw {event:?}, and had refused {left:?}", subscriber.name);
                verdict.violation("overtaken", text);
            }
        }
        let is_promised =
            |(stream, number): &&EventId| known[*stream][number].answer == Answer::Accepted;
        if *acknowledged {
            done.extend(events);
        } else {
            refused.extend(events.iter().filter(is_promised).filter(|event| !done.contains(event)));
        }
    }
}

fn check_complete(
    subscriber: &Subscriber,
    streams: &[Stream],
    known: &KnownEvents<'_>,
    got: &HashSet<EventId>,
    terms: &Terms,
    verdict: &mut Verdict,
) {
    let (mut missing, mut excused) = (0, 0);
    let mut example = None;
    for (stream, events) in known.iter().enumerate() {
        for (number, event) in events {
            let forgotten = terms.forgotten_before.is_some_and(|before| event.sent_at < before);
            let promised = event.answer == Answer::Accepted && !forgotten;
            if promised && !got.contains(&(stream, *number)) {
                missing += 1;
                if terms.may_lose.iter().any(|time| time.contains(&event.sent_at)) {
                    excused += 1;
                } else {
                    example = Some((stream, *number));
                }
            }
        }
    }
    let lost = u64::saturating_sub(missing, subscriber.dropped);
    verdict.lost += lost;
    if lost > excused {
        let text = format!("{} did not get {lost} events, such as {example:?}", subscriber.name);
        verdict.violation("lost", text);
    }
    if subscriber.dropped > 0 || !terms.may_lose.is_empty() || terms.forgotten_before.is_some() {
        return;
    }
    for (index, stream) in streams.iter().enumerate() {
        for publish in &stream.publishes {
            let numbers = (publish.first..).take(publish.events.len());
            let arrived = numbers.filter(|number| got.contains(&(index, *number))).count();
            if arrived != 0 && arrived != publish.events.len() && publish.answer != Answer::Accepted
            {
                let text = format!("{} of stream {index}: {arrived} arrived", publish.first);
                verdict.violation("torn array", text);
            }
        }
    }
}

fn count_unpromised(
    known: &KnownEvents<'_>,
    stored: &BTreeMap<&str, HashSet<EventId>>,
    verdict: &mut Verdict,
) {
    for (stream, number) in stored.values().flatten() {
        match known[*stream][number].answer {
            Answer::Unavailable => verdict.stored_unavailable += 1,
            Answer::Nothing => verdict.stored_unanswered += 1,
            Answer::Accepted | Answer::Refused => {}
        }
    }
}

/// Every subscriber has all topics, so each stored event was sent to each once. A counter that is
/// higher tells of an event that is in a queue twice.
fn check_counters(
    subscribers: &[Subscriber],
    topics: &BTreeMap<String, u64>,
    stored: &BTreeMap<&str, HashSet<EventId>>,
    undone_max: u64,
    verdict: &mut Verdict,
) {
    let agrees = |counted: u64, all: u64| (all.saturating_sub(undone_max)..=all).contains(&counted);
    for (topic, events) in stored {
        let counted = topics.get(*topic).copied().unwrap_or_default();
        if !agrees(counted, events.len() as u64) {
            let text = format!("{topic} counts {counted} events, {} arrived", events.len());
            verdict.violation("counters", text);
        }
    }
    let all: u64 = stored.values().map(|events| events.len() as u64).sum();
    for subscriber in subscribers {
        let Subscriber { name, sent, queued, dropped, .. } = subscriber;
        if !agrees(sent + dropped, all) || *queued != 0 {
            let text = format!(
                "{name} counts {sent} sent, {dropped} dropped, {queued} queued of {all} stored"
            );
            verdict.violation("counters", text);
        }
    }
}

#[cfg(test)]
#[path = "oracle_tests.rs"]
mod tests;
