//! Random sequences of calls on a store and on a simple model of it, which have to agree.
//!
//! Every batch is due at once (timeout and pauses are 0) and no lease runs out, so that time
//! plays no part. The model knows, for each queue, what has to be given out next; which of the
//! queues that are due a claim takes first, it leaves to the store.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;

use super::fixture::{
    Fixture, LEASE, STORED, WholeStore, callback, client, publication, settlement, subscription,
    texts, topic,
};
use super::sequences;
use crate::bus::health::Health;
use crate::bus::subscription::{Change, Subscription, SubscriptionRequest, Terms};
use crate::store::{
    BatchOutcome, BatchSettled, BatchSettlement, Lane, LeasedBatch, Published, QueueLease,
    Subscribed, TopicDeleted,
};

const TOPICS: [&str; 3] = ["a", "b", "c"];
const PUBLISHERS: [&str; 2] = ["one", "two"];
const SUBSCRIBERS: [&str; 3] = ["alice", "bob", "carol"];
const STEPS_MAX: usize = 80;
/// Bytes that no item here takes.
const ITEM_MAX: u64 = 100;

#[derive(Clone, Debug)]
enum Step {
    Subscribe {
        who: usize,
        topics: BTreeSet<usize>,
        max: u32,
        max_queued: Change<u64>,
        callback: u8,
        create: bool,
    },
    Unsubscribe {
        who: usize,
    },
    UnsubscribeTopic {
        who: usize,
        topic: usize,
    },
    DeleteTopic {
        topic: usize,
        owner: Option<usize>,
    },
    /// Publisher, topic and number of items of each publication.
    Publish {
        group: Vec<(usize, usize, usize)>,
    },
    QueueClaim {
        limit: usize,
    },
    /// Settles one of the leases that are held.
    Settle {
        which: prop::sample::Index,
        outcome: BatchOutcome,
        health: u64,
        take_next: bool,
    },
    /// Settles one of the leases that were given up or lost.
    SettleLate {
        which: prop::sample::Index,
        outcome: BatchOutcome,
    },
    Renew,
    DropOldest {
        bytes: u64,
    },
    DropExpired,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    use prop::sample::Index;
    let (who, name, by) = (0..SUBSCRIBERS.len(), 0..TOPICS.len(), 0..PUBLISHERS.len());
    let outcome = prop_oneof![
        3 => Just(BatchOutcome::Acknowledged),
        1 => Just(BatchOutcome::Failed { retry_in: Duration::ZERO }),
        1 => Just(BatchOutcome::Returned),
    ];
    let topics = prop::collection::btree_set(name.clone(), 0..=TOPICS.len());
    let max_queued = prop_oneof![
        4 => Just(Change::Clear),
        2 => Just(Change::Keep),
        3 => (1..12u64).prop_map(Change::Set),
    ];
    let subscribe = (who.clone(), topics, 1..6u32, max_queued, 0..2u8, prop::bool::weighted(0.8))
        .prop_map(|(who, topics, max, max_queued, callback, create)| Step::Subscribe {
            who,
            topics,
            max,
            max_queued,
            callback,
            create,
        });
    let settle = (any::<Index>(), outcome.clone(), 0..=100u64, any::<bool>()).prop_map(
        |(which, outcome, health, take_next)| Step::Settle { which, outcome, health, take_next },
    );
    // Most publications come from one client: those that are refused exercise nothing else.
    let publisher = prop_oneof![5 => Just(0), 1 => by.clone()];
    let publish = vec((publisher, name.clone(), 1..4usize), 1..4);
    let step = prop_oneof![
        4 => subscribe,
        1 => who.clone().prop_map(|who| Step::Unsubscribe { who }),
        1 => (who, name.clone()).prop_map(|(who, topic)| Step::UnsubscribeTopic { who, topic }),
        1 => (name, prop::option::of(by))
            .prop_map(|(topic, owner)| Step::DeleteTopic { topic, owner }),
        8 => publish.prop_map(|group| Step::Publish { group }),
        6 => (1..4usize).prop_map(|limit| Step::QueueClaim { limit }),
        8 => settle,
        2 => (any::<Index>(), outcome)
            .prop_map(|(which, outcome)| Step::SettleLate { which, outcome }),
        1 => Just(Step::Renew),
        2 => (1..200u64).prop_map(|bytes| Step::DropOldest { bytes }),
        2 => Just(Step::DropExpired),
    ];
    vec(step, 1..=STEPS_MAX)
}

#[derive(Default)]
struct Model {
    /// Publisher and events ever received.
    topics: BTreeMap<&'static str, (Option<&'static str>, u64)>,
    queues: BTreeMap<&'static str, Queue>,
    /// Leases that hold nothing any more.
    late: Vec<QueueLease>,
    published: usize,
}

struct Queue {
    subscription: Subscription,
    items: Vec<String>,
    health: u64,
    sent: u64,
    lease: Option<QueueLease>,
    /// How many items the batch has that was given out, and how often it was.
    batch: Option<(usize, u32)>,
    autodropped: u64,
    expired: u64,
    /// It lost a batch that waited to be sent again; empty, it may be looked at in vain once.
    held: bool,
}

impl Queue {
    fn is_due(&self) -> bool {
        self.lease.is_none() && !self.items.is_empty()
    }

    fn moves_to(&self, wanted: &Subscription) -> bool {
        self.subscription.terms.target != wanted.terms.target
    }

    /// How many items are on their way to the subscriber.
    fn in_flight(&self) -> usize {
        let (length, _) = self.batch.filter(|_| self.lease.is_some()).unwrap_or_default();
        length
    }

    /// Drops the first items behind those in flight.
    fn drop_items(&mut self, count: usize) {
        let from = self.in_flight();
        self.items.drain(from..from + count);
        if count > 0 && self.lease.is_none() {
            self.held |= self.batch.take().is_some();
        }
    }

    /// Checks that `given` is what this queue has to give out.
    fn give_out(&mut self, given: &LeasedBatch) {
        let full = self.items.len().min(self.subscription.terms.max as usize);
        let (length, attempt) = self.batch.map_or((full, 1), |(length, last)| (length, last + 1));
        assert_eq!(texts(given), self.items[..length]);
        assert_eq!(given.batch.attempt, attempt);
        assert_eq!(given.health, Health::new(self.health));
        assert_eq!(given.terms, self.subscription.terms);
        self.batch = Some((length, attempt));
        self.lease = Some(given.lease.clone());
        self.held = false;
    }
}

impl Model {
    fn subscribe(
        &mut self,
        who: &'static str,
        mut wanted: Subscription,
        max_queued: Change<u64>,
        create: bool,
    ) -> Subscribed {
        let kept = self.queues.get(who).and_then(|queue| queue.subscription.retention.count);
        wanted.retention.count = max_queued.apply(kept);
        for name in &wanted.topics {
            let known = TOPICS.iter().find(|known| **known == name.as_str()).unwrap();
            if !create && !self.topics.contains_key(known) {
                return Subscribed::UnknownTopic(name.clone());
            }
            self.topics.entry(known).or_default();
        }
        match self.queues.get_mut(who) {
            None => {
                let queue = Queue {
                    subscription: wanted,
                    items: Vec::new(),
                    health: 100,
                    sent: 0,
                    lease: None,
                    batch: None,
                    autodropped: 0,
                    expired: 0,
                    held: false,
                };
                self.queues.insert(who, queue);
            }
            Some(queue) => {
                if queue.moves_to(&wanted) {
                    queue.health = 100;
                }
                queue.subscription = wanted;
            }
        }
        Subscribed::Done
    }

    fn publish(&mut self, by: &'static str, name: &'static str, items: &[String]) -> Published {
        let (publisher, events) = self.topics.entry(name).or_default();
        if *publisher.get_or_insert(by) != by {
            return Published::OwnedByAnother;
        }
        *events += items.len() as u64;
        for queue in self.queues.values_mut() {
            if queue.subscription.topics.contains(&topic(name)) {
                queue.items.extend_from_slice(items);
            }
        }
        STORED
    }

    fn delete_topic(&mut self, name: &'static str, owner: Option<&'static str>) -> TopicDeleted {
        match self.topics.get(name) {
            None => return TopicDeleted::Unknown,
            Some((publisher, _)) if owner.is_some() && *publisher != owner => {
                return TopicDeleted::OwnedByAnother;
            }
            Some(_) => self.topics.remove(name),
        };
        for queue in self.queues.values_mut() {
            queue.subscription.topics.remove(&topic(name));
        }
        TopicDeleted::Done
    }

    fn held(&self) -> Vec<&'static str> {
        let held = self.queues.iter().filter(|(_, queue)| queue.lease.is_some());
        held.map(|(who, _)| *who).collect()
    }
}

/// Does a step on both, and checks what the store answers.
async fn take(step: Step, f: &Fixture, model: &mut Model) {
    match step {
        Step::Subscribe { who, topics, max, max_queued, callback: number, create } => {
            let topics: Vec<&str> = topics.into_iter().map(|index| TOPICS[index]).collect();
            let wanted = subscription(&topics, |terms: &mut Terms| {
                terms.max = max;
                terms.target = callback(&format!("https://receiver.example/{number}"));
            });
            // A new callback under a lease is due later, for which no model waits.
            let queue = model.queues.get(SUBSCRIBERS[who]).filter(|queue| queue.lease.is_some());
            if queue.is_some_and(|queue| queue.moves_to(&wanted)) {
                return;
            }
            let mut request = SubscriptionRequest::from(wanted.clone());
            request.retention.count = max_queued;
            let answer = f.store.subscribe(&client(SUBSCRIBERS[who]), &request, create).await;
            let expected = model.subscribe(SUBSCRIBERS[who], wanted, max_queued, create);
            assert_eq!(answer.unwrap(), expected);
        }
        Step::Unsubscribe { who } => {
            let removed = model.queues.remove(SUBSCRIBERS[who]);
            let answer = f.store.unsubscribe(&client(SUBSCRIBERS[who])).await.unwrap();
            assert_eq!(answer, removed.is_some());
            model.late.extend(removed.and_then(|queue| queue.lease));
        }
        Step::UnsubscribeTopic { who, topic: index } => {
            let name = topic(TOPICS[index]);
            let answer = f.store.unsubscribe_topic(&client(SUBSCRIBERS[who]), &name).await;
            let queue = model.queues.get_mut(SUBSCRIBERS[who]);
            let removed = queue.is_some_and(|queue| queue.subscription.topics.remove(&name));
            assert_eq!(answer.unwrap(), removed);
        }
        Step::DeleteTopic { topic: index, owner } => {
            let owner = owner.map(|owner| PUBLISHERS[owner]);
            let token = owner.map(client);
            let answer = f.store.delete_topic(&topic(TOPICS[index]), token.as_ref()).await;
            assert_eq!(answer.unwrap(), model.delete_topic(TOPICS[index], owner));
        }
        Step::Publish { group } => {
            let (mut publications, mut expected) = (Vec::new(), Vec::new());
            for (by, name, count) in group {
                let items: Vec<String> =
                    (0..count).map(|item| (model.published + item).to_string()).collect();
                model.published += count;
                publications.push(publication(PUBLISHERS[by], TOPICS[name], &items));
                expected.push(model.publish(PUBLISHERS[by], TOPICS[name], &items));
            }
            assert_eq!(f.store.publish_placeless(publications).await.unwrap(), expected);
        }
        Step::QueueClaim { limit } => {
            let due = model.queues.values().filter(|queue| queue.is_due()).count();
            let in_vain = model.queues.values().any(|queue| queue.held && !queue.is_due());
            let batches = f.claim(limit).await.batches;
            assert!(batches.len() == due.min(limit) || in_vain && batches.len() < due.min(limit));
            for given in batches {
                let who = given.lease.subscriber.reveal();
                let queue = model.queues.get_mut(who).expect("only known subscribers are due");
                assert!(queue.is_due(), "{who} is leased already");
                queue.give_out(&given);
            }
        }
        Step::Settle { which, outcome, health, take_next } => {
            let held = model.held();
            if !held.is_empty() {
                settle(f, model, held[which.index(held.len())], outcome, health, take_next).await;
            }
        }
        Step::SettleLate { which, outcome } => {
            if !model.late.is_empty() {
                let late = &model.late[which.index(model.late.len())];
                let settled = f.settle(late, outcome).await;
                assert!(matches!(settled, BatchSettled::Stale), "{settled:?}");
            }
        }
        Step::Renew => {
            let held = model.queues.values().filter_map(|queue| queue.lease.clone());
            let leases: Vec<QueueLease> = model.late.iter().cloned().chain(held).collect();
            assert_eq!(f.store.renew_all(&leases, LEASE).await.unwrap(), model.late);
        }
        Step::DropOldest { bytes } => {
            let droppable = f.store.droppable(Lane::HOME).await.unwrap();
            for (who, queue) in &model.queues {
                let waiting = queue.items.len() - queue.in_flight();
                assert_eq!(droppable.of(&client(who)).items, waiting as u64, "{who}");
            }
            let shares = droppable.fair_shares(bytes);
            let drops = f.store.drop_oldest(Lane::HOME, bytes, &shares).await.unwrap();
            // Which queue's turn it was depends on the clock; that it is enough does not, nor who gives.
            let is_enough = drops.total().bytes >= bytes;
            for (who, queue) in &mut model.queues {
                let dropped = drops.of(&client(who));
                let share = shares.of(&client(who)).bytes;
                assert!(dropped.bytes < share + ITEM_MAX, "{who}: {dropped:?} of {share}");
                queue.drop_items(dropped.items as usize);
                queue.autodropped += dropped.items;
                let is_empty = queue.items.len() == queue.in_flight();
                assert!(is_enough || dropped.bytes >= share || is_empty, "{who}: {dropped:?}");
            }
        }
        Step::DropExpired => {
            let drops = f.store.drop_expired(Lane::HOME).await.unwrap();
            for (who, queue) in &mut model.queues {
                let kept = queue.subscription.retention.count.unwrap_or(u64::MAX);
                let waiting = queue.items.len() - queue.in_flight();
                let expired = (waiting as u64).saturating_sub(kept) as usize;
                assert_eq!(drops.of(&client(who)).items, expired as u64);
                queue.drop_items(expired);
                queue.expired += expired as u64;
            }
        }
    }
}

async fn settle(
    f: &Fixture,
    model: &mut Model,
    who: &'static str,
    outcome: BatchOutcome,
    health: u64,
    take_next: bool,
) {
    let queue = model.queues.get_mut(who).expect("a lease is of a queue that is there");
    let lease = queue.lease.take().expect("a lease is held");
    let wanted =
        BatchSettlement { health: Health::new(health), take_next, ..settlement(&lease, outcome) };
    let settled = f.store.settle_one(wanted, LEASE).await.unwrap();
    queue.health = health;
    if outcome == BatchOutcome::Acknowledged {
        let (length, _) = queue.batch.take().expect("a leased queue has a batch");
        queue.items.drain(..length);
        queue.sent += length as u64;
    }
    let goes_on = outcome == BatchOutcome::Acknowledged && take_next && !queue.items.is_empty();
    match settled {
        BatchSettled::Next(next) if goes_on => queue.give_out(&next),
        BatchSettled::Released if !goes_on => {}
        other => panic!("expected the {} batch: {other:?}", if goes_on { "next" } else { "same" }),
    }
    model.late.push(lease);
}

/// Checks all that the store shows.
async fn compare(f: &Fixture, model: &Model) {
    let topics = f.store.topics().await.unwrap();
    let shown = topics.iter().map(|topic| {
        (topic.name.as_str(), (topic.publisher.as_ref().map(|by| by.reveal()), topic.events))
    });
    assert_eq!(shown.collect::<BTreeMap<_, _>>(), model.topics);

    let subscriptions = f.store.subscriptions().await.unwrap();
    assert_eq!(subscriptions.len(), model.queues.len());
    for (status, (who, queue)) in subscriptions.iter().zip(&model.queues) {
        assert_eq!(status.subscriber.reveal(), *who);
        assert_eq!(status.subscription, queue.subscription);
        assert_eq!((status.sent, status.queued), (queue.sent, queue.items.len() as u64));
        assert_eq!(status.oldest_ms.is_some(), !queue.items.is_empty());
        assert_eq!((status.autodropped, status.expired), (queue.autodropped, queue.expired));
    }

    let batches = model
        .queues
        .values()
        .map(|queue| queue.items.len().div_ceil(queue.subscription.terms.max as usize) as u64);
    assert_eq!(f.store.due_batches(Duration::ZERO).await.unwrap(), batches.sum::<u64>());
}

async fn agrees(steps: Vec<Step>, f: &Fixture) {
    let mut model = Model::default();
    for step in steps {
        take(step, f, &mut model).await;
        compare(f, &model).await;
    }
}

#[test]
fn sqlite_agrees_with_the_model() {
    sequences::play_on_sqlite(32, &steps(), agrees);
}

#[test]
fn redis_agrees_with_the_model() {
    sequences::play_on_redis(12, &steps(), agrees);
}
