//! Queues in the order of entities: what is done leaves the middle of a window, what fails is set aside and comes again,
//! and whoever looks at the queue, holds, skips or ends it finds all of it.

use std::time::Duration;

use super::fixture::{
    Fixture, HOUR, LEASE, SHORT_LEASE, client, on_all_stores, on_both_stores, plain, subscription,
    text, texts,
};
use crate::bus::attempt::Failure;
use crate::bus::entity::Entity;
use crate::bus::health::Health;
use crate::bus::item::QueuedItem;
use crate::bus::position::EventPosition;
use crate::bus::subscription::SubscriptionRequest;
use crate::store::{
    AsideEntity, AsideProgress, DeadCause, Lane, LeasedBatch, QueueLease, Retried, Skip, Skipped,
    Window, WindowStep,
};

on_all_stores!(
    a_window_is_given_out_and_what_is_done_leaves_its_middle,
    a_failure_is_shown_until_it_is_overcome,
    what_is_set_aside_comes_again_in_its_own_time,
    a_window_that_was_lost_is_given_out_anew_and_nothing_is_missing,
    whoever_looks_or_skips_finds_what_is_set_aside,
    an_event_that_is_set_aside_can_become_a_dead_letter,
    what_is_set_aside_goes_back_with_the_order,
    what_is_set_aside_goes_with_its_subscription,
    a_stale_step_changes_nothing,
);

const ALICE: &str = "alice";

/// Subscribes in the order of entities, two batches of two at once.
async fn subscribe(f: &Fixture) {
    let mut subscription = subscription(&["a"], |terms| terms.max = 2);
    subscription.options.parallel = Some(2);
    let request: SubscriptionRequest = subscription.into();
    f.store.subscribe(&client(ALICE), &request, true).await.unwrap();
}

async fn lane(f: &Fixture) -> Lane {
    let lanes = f.store.lanes().await.unwrap();
    for lane in Lane::first(lanes) {
        let claim = f.store.claim_queues(lane, 0, LEASE).await.unwrap();
        assert!(claim.batches.is_empty());
        if claim.next_due.is_some() {
            return lane;
        }
    }
    panic!("nothing is due");
}

struct Held {
    lane: Lane,
    lease: QueueLease,
    items: Vec<QueuedItem>,
}

impl Held {
    async fn claim(f: &Fixture) -> Self {
        Self::claim_for(f, LEASE).await
    }

    async fn claim_for(f: &Fixture, lease: Duration) -> Self {
        let lane = lane(f).await;
        let mut claim = f.store.claim_queues(lane, 1, lease).await.unwrap();
        let leased: LeasedBatch = claim.batches.remove(0);
        assert_eq!(leased.options.parallel, Some(2));
        Self { lane, lease: leased.lease, items: leased.batch.items }
    }

    fn step(&self) -> WindowStep {
        WindowStep {
            lease: self.lease.clone(),
            done: vec![],
            aside: vec![],
            entities: vec![],
            health: Health::MAX,
            failure: None,
            has_recovered: true,
            more: 0,
        }
    }

    /// Takes a step that must be taken; what came into the window.
    async fn take(&mut self, f: &Fixture, step: WindowStep) -> Vec<String> {
        let gone: Vec<_> =
            step.done.iter().copied().chain(step.aside.iter().map(|(place, _)| *place)).collect();
        let window = f.store.step_window(self.lane, step, LEASE).await.unwrap();
        let Window { lease, items, .. } = window.expect("the lease holds");
        let mut place = 0;
        self.items.retain(|_| {
            place += 1;
            !gone.contains(&(place - 1))
        });
        let came = items.iter().map(|item| text(&item.item)).collect();
        self.items.extend(items);
        self.lease = lease;
        came
    }

    async fn close(&self, f: &Fixture) {
        f.store.close_window(self.lane, &self.lease).await.unwrap();
    }

    async fn aside(&self, f: &Fixture) -> Vec<AsideEntity> {
        let mut aside = f.store.entities_aside(self.lane, &self.lease).await.unwrap();
        aside.sort_by(|one, other| one.entity.cmp(&other.entity));
        aside
    }

    async fn events_aside(&self, f: &Fixture, entity: &Entity) -> Vec<String> {
        let events = f.store.events_aside(self.lane, &self.lease, entity, 10).await.unwrap();
        events.iter().map(|event| text(&event.item)).collect()
    }

    fn texts(&self) -> Vec<String> {
        self.items.iter().map(|item| text(&item.item)).collect()
    }
}

fn entity(name: &str) -> Entity {
    Entity::from_stored(name.into())
}

fn progress(name: &str, done: usize, attempts: u32, due_in: Duration) -> AsideProgress {
    AsideProgress { entity: entity(name), done, dead: None, attempts, due_in }
}

async fn waiting(f: &Fixture) -> Vec<String> {
    let all = f.store.peek(&client(ALICE), EventPosition::BEFORE_ALL, 100).await;
    all.unwrap().unwrap().iter().map(|event| text(&event.item)).collect()
}

/// A queue with "1" to "9", of which "2" and "4" are set aside as `x` and "3" as `y`, due in an hour; "1" is done.
async fn with_aside(f: &Fixture) -> Held {
    subscribe(f).await;
    for number in 1..=9 {
        f.publish("a", &[number.to_string()]).await;
    }
    let mut held = Held::claim(f).await;
    let step = WindowStep {
        done: vec![0],
        aside: vec![(1, entity("x")), (2, entity("y")), (3, entity("x"))],
        failure: Some(Failure::new(Some(500), "no")),
        ..held.step()
    };
    held.take(f, step).await;
    let entities = vec![progress("x", 0, 1, HOUR), progress("y", 0, 3, HOUR)];
    held.take(f, WindowStep { entities, more: 3, ..held.step() }).await;
    held
}

async fn a_window_is_given_out_and_what_is_done_leaves_its_middle(f: &Fixture) {
    subscribe(f).await;
    for number in 1..=9 {
        f.publish("a", &[number.to_string()]).await;
    }
    let mut held = Held::claim(f).await;
    assert_eq!(held.texts(), ["1", "2", "3", "4"], "two batches of two");
    let step = WindowStep { done: vec![1, 2], more: 2, ..held.step() };
    assert_eq!(held.take(f, step).await, ["5", "6"]);
    assert_eq!(held.texts(), ["1", "4", "5", "6"]);
    let status = f.status(ALICE).await;
    assert_eq!((status.sent, status.queued), (2, 7));
    assert_eq!(status.progress.batch, None);
    let step = WindowStep { done: vec![0, 3], more: 9, ..held.step() };
    assert_eq!(held.take(f, step).await, ["7", "8", "9"]);
    f.publish("a", &["10"]).await;
    let step = WindowStep { done: vec![0, 1, 2, 3, 4], more: 9, ..held.step() };
    assert_eq!(held.take(f, step).await, ["10"]);
    held.close(f).await;
    let mut held = Held::claim(f).await;
    assert_eq!(held.texts(), ["10"]);
    held.take(f, WindowStep { done: vec![0], ..held.step() }).await;
    held.close(f).await;
    assert_eq!((f.status(ALICE).await.sent, f.status(ALICE).await.queued), (10, 0));
    assert_eq!(f.claim_none().await, None);
}

async fn a_failure_is_shown_until_it_is_overcome(f: &Fixture) {
    subscribe(f).await;
    for number in 1..=4 {
        f.publish("a", &[number.to_string()]).await;
    }
    let mut held = Held::claim(f).await;
    let failure = Some(Failure::new(Some(422), "no"));
    held.take(f, WindowStep { failure, ..held.step() }).await;
    let step = WindowStep { done: vec![0], has_recovered: false, ..held.step() };
    held.take(f, step).await;
    assert!(f.status(ALICE).await.last_failure.is_some(), "nothing says that it is over");
    held.take(f, WindowStep { done: vec![0], ..held.step() }).await;
    assert_eq!(f.status(ALICE).await.last_failure, None);
}

async fn what_is_set_aside_comes_again_in_its_own_time(f: &Fixture) {
    let mut held = with_aside(f).await;
    assert_eq!(held.texts(), ["5", "6", "7"]);
    let aside = held.aside(f).await;
    let told: Vec<_> =
        aside.iter().map(|one| (one.entity.as_str(), one.events, one.attempts)).collect();
    assert_eq!(told, [("x", 2, 1), ("y", 1, 3)]);
    assert!(aside.iter().all(|one| one.due_in > HOUR / 2 && one.due_in <= HOUR), "{aside:?}");
    assert_eq!(held.events_aside(f, &entity("x")).await, ["2", "4"]);
    let status = f.status(ALICE).await;
    assert_eq!((status.sent, status.queued), (1, 8));
    assert_eq!(status.last_failure.map(|failed| failed.failure.reason), Some("no".into()));
    // What comes behind what is set aside goes there as well.
    let step =
        WindowStep { done: vec![0, 2], aside: vec![(1, entity("x"))], more: 9, ..held.step() };
    assert_eq!(held.take(f, step).await, ["8", "9"]);
    assert_eq!(held.events_aside(f, &entity("x")).await, ["2", "4", "6"]);
    held.take(f, WindowStep { done: vec![0, 1], ..held.step() }).await;
    held.close(f).await;
    // Nothing is due for an hour, but what is new.
    assert!(f.claim_none().await.is_some_and(|due| due > HOUR / 2));
    f.publish("a", &["new"]).await;
    let mut held = Held::claim(f).await;
    assert_eq!(held.texts(), ["new"]);
    let entities = vec![progress("x", 2, 0, Duration::ZERO)];
    held.take(f, WindowStep { done: vec![0], entities, ..held.step() }).await;
    assert_eq!(held.events_aside(f, &entity("x")).await, ["6"]);
    held.close(f).await;
    let mut held = Held::claim(f).await;
    assert!(held.items.is_empty(), "what is set aside is due: {:?}", held.texts());
    let entities = vec![progress("x", 1, 0, HOUR), progress("y", 1, 0, HOUR)];
    held.take(f, WindowStep { entities, ..held.step() }).await;
    assert_eq!(held.aside(f).await, []);
    held.close(f).await;
    let status = f.status(ALICE).await;
    assert_eq!((status.sent, status.queued, status.oldest_ms), (10, 0, None));
    assert_eq!(status.last_failure, None);
    assert_eq!(f.claim_none().await, None);
}

async fn a_window_that_was_lost_is_given_out_anew_and_nothing_is_missing(f: &Fixture) {
    subscribe(f).await;
    for number in 1..=5 {
        f.publish("a", &[number.to_string()]).await;
    }
    let mut lost = Held::claim_for(f, SHORT_LEASE).await;
    let step = WindowStep { done: vec![1], aside: vec![(2, entity("x"))], ..lost.step() };
    let window = f.store.step_window(lost.lane, step, SHORT_LEASE).await.unwrap();
    lost.lease = window.expect("the lease holds").lease;
    f.pass(SHORT_LEASE * 2).await;
    let held = Held::claim(f).await;
    assert_eq!(held.texts(), ["1", "4", "5"]);
    assert_eq!(held.events_aside(f, &entity("x")).await, ["3"]);
    let step = WindowStep { done: vec![0], ..lost.step() };
    assert!(f.store.step_window(lost.lane, step, LEASE).await.unwrap().is_none());
    assert_eq!(f.status(ALICE).await.queued, 4);
}

async fn whoever_looks_or_skips_finds_what_is_set_aside(f: &Fixture) {
    let held = with_aside(f).await;
    assert_eq!(waiting(f).await, ["2", "3", "4", "5", "6", "7", "8", "9"]);
    let all = f.store.peek(&client(ALICE), EventPosition::BEFORE_ALL, 100).await.unwrap().unwrap();
    assert_eq!(f.status(ALICE).await.oldest_ms, Some(all[0].since_ms));
    let behind = f.store.peek(&client(ALICE), all[1].position, 2).await.unwrap().unwrap();
    assert_eq!(behind, all[2..4]);
    for event in &all {
        let at = f.store.waiting_event(&client(ALICE), event.position).await.unwrap();
        assert_eq!(at.as_ref(), Some(event));
    }
    held.close(f).await;
    assert_eq!(f.store.retry_now(&client(ALICE)).await.unwrap(), Retried::Due);
    let held = Held::claim(f).await;
    assert!(held.aside(f).await.iter().all(|one| one.due_in.is_zero()));
    for (through, events) in [(0, 1), (3, 3), (3, 0)] {
        let skip = Skip::Through(all[through].position);
        let skipped = f.store.skip(&client(ALICE), skip).await.unwrap();
        assert_eq!(skipped, Skipped::Done { events, has_more: false });
    }
    assert_eq!(waiting(f).await, ["6", "7", "8", "9"]);
    let mut dead: Vec<_> = f.store.dead_events(None, None, 10).await.unwrap();
    dead.sort_by_key(|(_, dead)| dead.position);
    let dead: Vec<_> = dead.iter().map(|(_, dead)| text(&dead.item)).collect();
    assert_eq!(dead, ["2", "3", "4", "5"]);
    let stale = f.store.step_window(held.lane, held.step(), LEASE).await.unwrap();
    assert!(stale.is_none(), "what is on its way is broken off");
}

async fn an_event_that_is_set_aside_can_become_a_dead_letter(f: &Fixture) {
    let mut held = with_aside(f).await;
    let never = Failure::new(Some(422), "never");
    let dead = AsideProgress { dead: Some(never), ..progress("x", 0, 0, HOUR) };
    // Another one has failed since.
    let failure = Some(Failure::new(Some(500), "no"));
    held.take(f, WindowStep { entities: vec![dead], failure, ..held.step() }).await;
    assert_eq!(held.events_aside(f, &entity("x")).await, ["4"]);
    let dead = f.store.dead_events(Some(&client(ALICE)), None, 10).await.unwrap();
    let dead: Vec<_> = dead.into_iter().map(|(_, dead)| dead).collect();
    assert_eq!(
        (dead.len(), dead[0].cause, text(&dead[0].item)),
        (1, DeadCause::Refused, "2".into())
    );
    assert_eq!(dead[0].failure, Some(Failure::new(Some(422), "never")));
    assert_eq!((f.status(ALICE).await.sent, f.status(ALICE).await.queued), (1, 7));
}

async fn what_is_set_aside_goes_back_with_the_order(f: &Fixture) {
    let held = with_aside(f).await;
    held.close(f).await;
    f.subscribe(ALICE, &["a"], |terms| terms.max = 100).await;
    assert_eq!(waiting(f).await, ["2", "3", "4", "5", "6", "7", "8", "9"]);
    assert_eq!(f.status(ALICE).await.queued, 8);
    let leased = f.claim_one().await;
    assert_eq!(leased.options.parallel, None);
    assert_eq!(texts(&leased), ["2", "3", "4", "5", "6", "7", "8", "9"]);
    f.settle(&leased.lease, crate::store::BatchOutcome::Acknowledged).await;
    assert_eq!((f.status(ALICE).await.sent, f.status(ALICE).await.queued), (9, 0));
}

async fn what_is_set_aside_goes_with_its_subscription(f: &Fixture) {
    let held = with_aside(f).await;
    assert!(f.store.unsubscribe(&client(ALICE)).await.unwrap());
    subscribe(f).await;
    assert_eq!(f.status(ALICE).await.queued, 0);
    let stale = f.store.step_window(held.lane, held.step(), LEASE).await.unwrap();
    assert!(stale.is_none());
    f.publish("a", &["new"]).await;
    let held = Held::claim(f).await;
    assert_eq!((held.texts(), held.aside(f).await), (vec!["new".to_owned()], vec![]));
    f.subscribe(ALICE, &["a"], plain).await;
}

async fn a_stale_step_changes_nothing(f: &Fixture) {
    let mut held = with_aside(f).await;
    let stale = held.step();
    held.take(f, held.step()).await;
    let step = WindowStep { done: vec![0], entities: vec![progress("x", 1, 0, HOUR)], ..stale };
    assert!(f.store.step_window(held.lane, step.clone(), LEASE).await.unwrap().is_none());
    f.store.close_window(held.lane, &step.lease).await.unwrap();
    assert_eq!((f.status(ALICE).await.sent, f.status(ALICE).await.queued), (1, 8));
    assert_eq!(held.events_aside(f, &entity("x")).await, ["2", "4"]);
    assert!(held.take(f, held.step()).await.is_empty(), "the lease holds");
}
