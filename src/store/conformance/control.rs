//! Looking into queues, holding them, taking out what is in the way; what is stored once; where events stand.

use std::collections::BTreeSet;
use std::time::Duration;

use super::fixture::{
    Fixture, HOUR, LEASE, PUBLISHER, SHORT_LEASE, WholeStore, client, numbers, on_all_stores,
    on_both_stores, plain, publication, settlement, soon, subscription, text, texts,
};
use crate::bus::attempt::Failure;
use crate::bus::item::ItemParts;
use crate::bus::pause::PausedBy;
use crate::bus::position::EventPosition;
use crate::bus::subscription::options::DeliveryOptions;
use crate::bus::subscription::{SubscriptionRequest, Terms};
use crate::store::{
    BatchOutcome, BatchSettled, BatchSettlement, DeadBounds, DeadCause, ForgottenDead, Lane,
    LeasedBatch, PublishKey, Published, Retried, Skip, Skipped, WaitingEvent,
};

on_all_stores!(
    a_paused_queue_is_not_due_until_it_is_resumed,
    a_pause_during_a_delivery_begins_with_its_end,
    a_lease_that_runs_out_does_not_end_a_pause,
    a_callback_that_is_gone_pauses_until_its_subscriber_subscribes_again,
    what_waits_to_be_sent_again_can_be_due_at_once,
    a_queue_is_looked_into_from_any_position,
    what_is_skipped_is_kept_and_can_be_put_back,
    what_comes_behind_a_skipped_batch_does_not_overtake_it,
    an_event_that_is_refused_is_found_among_others,
    dead_letters_go_when_they_are_old_or_too_many,
    a_publication_with_a_key_is_stored_once,
    positions_are_never_given_twice_and_are_found_in_each_queue,
    options_stay_until_they_are_named,
);

/// Subscribers that are in several lanes where there are some.
const IN_SEVERAL_LANES: [&str; 4] = ["alice", "bob", "carol", "dave"];

async fn waiting(f: &Fixture, subscriber: &str) -> Vec<WaitingEvent> {
    let all = f.store.peek(&client(subscriber), EventPosition::BEFORE_ALL, 10_000).await;
    all.unwrap().expect("the subscriber is known")
}

fn events(waiting: &[WaitingEvent]) -> Vec<String> {
    waiting.iter().map(|event| text(&event.item)).collect()
}

async fn pause(f: &Fixture, subscriber: &str) {
    assert!(f.store.pause(&client(subscriber), PausedBy::Root).await.unwrap());
}

async fn resume(f: &Fixture, subscriber: &str) {
    assert!(f.store.resume(&client(subscriber)).await.unwrap());
}

fn refused(leased: &LeasedBatch, status: u16) -> BatchSettlement {
    let outcome = BatchOutcome::Failed { retry_in: Duration::ZERO };
    let failure = Some(Failure::new(Some(status), "no"));
    BatchSettlement { failure, ..settlement(&leased.lease, outcome) }
}

async fn a_paused_queue_is_not_due_until_it_is_resumed(f: &Fixture) {
    for subscriber in IN_SEVERAL_LANES {
        f.subscribe(subscriber, &["a"], plain).await;
        pause(f, subscriber).await;
        assert!(f.store.pause(&client(subscriber), PausedBy::Subscriber).await.unwrap());
    }
    f.publish("a", &numbers(1, 3)).await;
    assert_eq!(f.claim_none().await, None);
    let due = f.store.due_batches(HOUR).await.unwrap();
    assert_eq!(due, 0, "nothing of it is due");
    for subscriber in IN_SEVERAL_LANES {
        let status = f.status(subscriber).await;
        assert_eq!(
            status.pause.map(|pause| pause.by),
            Some(PausedBy::Root),
            "the first one counts"
        );
        assert_eq!(status.queued, 3);
        // Neither does a new subscription end it.
        f.subscribe(subscriber, &["a"], |terms| terms.max = 2).await;
        assert_eq!(f.store.retry_now(&client(subscriber)).await.unwrap(), Retried::Paused);
    }
    assert_eq!(f.claim_none().await, None);
    for subscriber in IN_SEVERAL_LANES {
        resume(f, subscriber).await;
        assert_eq!(f.status(subscriber).await.pause, None);
    }
    let received = f.drain().await;
    assert!(received.values().all(|texts| *texts == numbers(1, 3)) && received.len() == 4);
    assert!(!f.store.pause(&client("nobody"), PausedBy::Root).await.unwrap());
    assert!(!f.store.resume(&client("nobody")).await.unwrap());
}

async fn a_pause_during_a_delivery_begins_with_its_end(f: &Fixture) {
    f.subscribe("alice", &["a"], |terms| terms.max = 1).await;
    f.publish("a", &numbers(1, 3)).await;
    let leased = f.claim_one().await;
    pause(f, "alice").await;
    let settled = f.acknowledge_and_take(&leased.lease).await;
    assert!(matches!(settled, BatchSettled::Released), "{settled:?}");
    assert_eq!(f.claim_none().await, None);
    assert_eq!(f.status("alice").await.sent, 1);
    resume(f, "alice").await;
    let leased = f.claim_one().await;
    pause(f, "alice").await;
    f.settle(&leased.lease, BatchOutcome::Failed { retry_in: Duration::ZERO }).await;
    assert_eq!(f.claim_none().await, None);
    f.publish("a", &["4"]).await;
    assert_eq!(f.claim_none().await, None, "also not for what comes meanwhile");
    resume(f, "alice").await;
    let again = f.claim_one().await;
    assert_eq!((again.batch.id, again.batch.attempt), (leased.batch.id, 2));
}

async fn a_lease_that_runs_out_does_not_end_a_pause(f: &Fixture) {
    f.subscribe("alice", &["a"], plain).await;
    f.publish("a", &numbers(1, 2)).await;
    let lost = f.claim_one_for(SHORT_LEASE).await;
    pause(f, "alice").await;
    f.pass(SHORT_LEASE * 2).await;
    f.claim_none().await;
    assert_eq!(f.claim_none().await, None, "there is nothing to wait for");
    let settled = f.settle(&lost.lease, BatchOutcome::Acknowledged).await;
    assert!(matches!(settled, BatchSettled::Stale), "{settled:?}");
    resume(f, "alice").await;
    assert_eq!(f.claim_one().await.batch.id, lost.batch.id);
}

async fn a_callback_that_is_gone_pauses_until_its_subscriber_subscribes_again(f: &Fixture) {
    f.subscribe("alice", &["a"], |terms| terms.max = 1).await;
    f.publish("a", &numbers(1, 2)).await;
    let leased = f.claim_one().await;
    f.settle(&leased.lease, BatchOutcome::Gone).await;
    assert_eq!(f.status("alice").await.pause.map(|pause| pause.by), Some(PausedBy::Callback));
    assert_eq!(f.claim_none().await, None);
    f.publish("a", &["3"]).await;
    assert_eq!(f.claim_none().await, None);
    f.subscribe("alice", &["a"], |terms| terms.max = 1).await;
    assert_eq!(f.status("alice").await.pause, None);
    let again = f.claim_one().await;
    assert_eq!((again.batch.id, again.batch.attempt), (leased.batch.id, 2));
}

async fn what_waits_to_be_sent_again_can_be_due_at_once(f: &Fixture) {
    f.subscribe("alice", &["a"], plain).await;
    assert_eq!(f.store.retry_now(&client("alice")).await.unwrap(), Retried::Nothing);
    assert_eq!(f.store.retry_now(&client("nobody")).await.unwrap(), Retried::Unknown);
    f.publish("a", &["1"]).await;
    let leased = f.claim_one().await;
    assert_eq!(f.store.retry_now(&client("alice")).await.unwrap(), Retried::Nothing);
    f.settle(&leased.lease, BatchOutcome::Failed { retry_in: HOUR }).await;
    let next_ms = f.status("alice").await.progress.next_ms.expect("it is due some time");
    assert!(next_ms > f.now_ms() + 3_000_000, "{next_ms}");
    assert_eq!(f.store.retry_now(&client("alice")).await.unwrap(), Retried::Due);
    let again = f.claim_one().await;
    assert_eq!((again.batch.id, again.batch.attempt), (leased.batch.id, 2));
    let open = f.status("alice").await.progress.batch.expect("it was given out");
    assert_eq!((open.events, open.attempts, open.is_in_flight), (1, 2, true));
}

async fn a_queue_is_looked_into_from_any_position(f: &Fixture) {
    for subscriber in IN_SEVERAL_LANES {
        f.subscribe(subscriber, &["a"], |terms| terms.max = 2).await;
    }
    for number in numbers(1, 9) {
        f.publish("a", &[number]).await;
    }
    for subscriber in IN_SEVERAL_LANES {
        let all = waiting(f, subscriber).await;
        assert_eq!(events(&all), numbers(1, 9));
        assert!(all.iter().all(|event| event.since_ms.abs_diff(f.now_ms()) < 60_000), "{all:?}");
        for (index, event) in all.iter().enumerate() {
            let behind = f.store.peek(&client(subscriber), event.position, 3).await.unwrap();
            let behind = behind.expect("the subscriber is known");
            assert_eq!(events(&behind), events(&all[index + 1..(index + 4).min(9)]));
            let at = f.store.waiting_event(&client(subscriber), event.position).await.unwrap();
            assert_eq!(at.as_ref(), Some(event));
        }
        let before = EventPosition::new(all[0].position.number() - 1);
        for nowhere in [before, EventPosition::MAX] {
            let at = f.store.waiting_event(&client(subscriber), nowhere).await.unwrap();
            assert_eq!(at, None, "no event stands there");
        }
        let last = f.store.peek(&client(subscriber), EventPosition::MAX, 3).await.unwrap();
        assert_eq!(last, Some(vec![]));
    }
    let leased = f.claim(1).await.batches.remove(0);
    let subscriber = leased.lease.subscriber.reveal().to_owned();
    let marked: Vec<_> =
        waiting(f, &subscriber).await.iter().map(|event| event.is_in_batch).collect();
    assert_eq!(marked, [true, true, false, false, false, false, false, false, false]);
    f.settle(&leased.lease, BatchOutcome::Acknowledged).await;
    assert_eq!(events(&waiting(f, &subscriber).await), numbers(3, 9));
    let nobody = f.store.peek(&client("nobody"), EventPosition::BEFORE_ALL, 3).await;
    assert_eq!(nobody.unwrap(), None);
}

async fn skip(f: &Fixture, subscriber: &str, skip: Skip) -> Skipped {
    f.store.skip(&client(subscriber), skip).await.unwrap()
}

async fn what_is_skipped_is_kept_and_can_be_put_back(f: &Fixture) {
    for subscriber in IN_SEVERAL_LANES {
        f.subscribe(subscriber, &["a"], |terms| terms.max = 2).await;
    }
    f.publish("a", &numbers(1, 6)).await;
    for subscriber in IN_SEVERAL_LANES {
        let third = waiting(f, subscriber).await[2].position;
        let before = EventPosition::new(third.number() - 3);
        let nothing = Skipped::Done { events: 0, has_more: false };
        assert_eq!(skip(f, subscriber, Skip::Through(before)).await, nothing);
        let three = Skipped::Done { events: 3, has_more: false };
        assert_eq!(skip(f, subscriber, Skip::Through(third)).await, three);
        assert_eq!(skip(f, subscriber, Skip::Through(third)).await, nothing);
        assert_eq!(events(&waiting(f, subscriber).await), numbers(4, 6));
        let dead = f.store.dead_events(Some(&client(subscriber)), None, 10).await.unwrap();
        let dead: Vec<_> = dead.into_iter().map(|(_, dead)| dead).collect();
        assert_eq!(dead.iter().map(|dead| text(&dead.item)).collect::<Vec<_>>(), ["3", "2", "1"]);
        assert_eq!((dead[0].position, dead[0].cause), (third, DeadCause::Skipped));
        let one = f.store.dead_event(&client(subscriber), third).await.unwrap();
        assert_eq!(one.as_ref(), dead.iter().find(|event| event.position == third));
        assert_eq!(f.store.dead_event(&client(subscriber), before).await.unwrap(), None);
        assert!(f.store.retry_dead_event(&client(subscriber), third).await.unwrap());
        assert!(!f.store.retry_dead_event(&client(subscriber), third).await.unwrap());
        let deleted = f.store.delete_dead_event(&client(subscriber), dead[1].position).await;
        assert!(deleted.unwrap());
        let last = waiting(f, subscriber).await.pop().unwrap();
        let parts = ItemParts::of(&last.item);
        assert_eq!((parts.json, parts.replay_of), (&b"3"[..], Some(third)));
        assert!(last.position > third);
    }
    assert_eq!(f.store.dead_event_count().await.unwrap(), 4);
    // Page by page, in all lanes.
    let mut seen = BTreeSet::new();
    let mut before = None;
    loop {
        let page = f.store.dead_events(None, before, 1).await.unwrap();
        let Some((cursor, dead)) = page.into_iter().next() else { break };
        assert_eq!(text(&dead.item), "1");
        assert!(seen.insert(dead.subscriber.reveal().to_owned()), "{dead:?} came twice");
        before = Some(cursor);
    }
    assert_eq!(seen.len(), 4);
    let received = f.drain().await;
    assert!(received.values().all(|texts| texts[..3] == numbers(4, 6)), "{received:?}");
    assert_eq!(skip(f, "nobody", Skip::Batch(1)).await, Skipped::Unknown);
}

async fn what_comes_behind_a_skipped_batch_does_not_overtake_it(f: &Fixture) {
    f.subscribe("alice", &["a"], |terms| terms.max = 2).await;
    f.publish("a", &numbers(1, 4)).await;
    let leased = f.claim_one().await;
    assert_eq!(
        skip(f, "alice", Skip::Batch(leased.batch.id.number + 1)).await,
        Skipped::NotThisBatch
    );
    let two = Skipped::Done { events: 2, has_more: false };
    assert_eq!(skip(f, "alice", Skip::Batch(leased.batch.id.number)).await, two);
    let due = f.claim_none().await.expect("what comes behind is due");
    assert!(due > Duration::from_millis(500), "its attempt may still be on its way: {due:?}");
    let settled = f.settle(&leased.lease, BatchOutcome::Acknowledged).await;
    assert!(matches!(settled, BatchSettled::Stale), "{settled:?}");
    let next = f.claim_eventually().await;
    assert_eq!(texts(&next), numbers(3, 4));
    // One that waits to be sent again is on no way.
    f.settle(&next.lease, BatchOutcome::Failed { retry_in: HOUR }).await;
    f.publish("a", &["5"]).await;
    assert_eq!(skip(f, "alice", Skip::Batch(next.batch.id.number)).await, two);
    assert_eq!(texts(&f.claim_one().await), ["5"]);
    assert_eq!(f.status("alice").await.last_failure, None);
}

async fn options(f: &Fixture, subscriber: &str, change: impl FnOnce(&mut DeliveryOptions)) {
    let mut wanted = subscription(&["a"], |terms: &mut Terms| terms.max = 8);
    change(&mut wanted.options);
    f.store.subscribe(&client(subscriber), &wanted.into(), true).await.unwrap();
}

async fn an_event_that_is_refused_is_found_among_others(f: &Fixture) {
    options(f, "alice", |options| options.refusals_max = Some(2)).await;
    f.publish("a", &numbers(1, 12)).await;
    let (mut received, mut alone, mut attempts) = (vec![], 0, 0);
    while let Some(leased) = f.claim(1).await.batches.pop() {
        attempts += 1;
        assert!(attempts < 40, "it never ends");
        let given = texts(&leased);
        if given.contains(&"5".into()) || given.contains(&"6".into()) {
            // An answer that comes at a bad time is no refusal.
            let status = if attempts == 1 { 503 } else { 422 };
            alone += u32::from(given == ["5"]);
            f.store.settle_one(refused(&leased, status), LEASE).await.unwrap();
        } else {
            received.extend(given);
            f.settle(&leased.lease, BatchOutcome::Acknowledged).await;
        }
    }
    let expected: Vec<_> = numbers(1, 12).into_iter().filter(|n| n != "5" && n != "6").collect();
    assert_eq!(received, expected);
    assert_eq!(alone, 2, "alone it has as many tries as its batch had");
    let dead = f.store.dead_events(None, None, 10).await.unwrap();
    let dead: Vec<_> = dead.into_iter().map(|(_, dead)| dead).collect();
    assert_eq!(dead.iter().map(|dead| text(&dead.item)).collect::<Vec<_>>(), ["6", "5"]);
    assert_eq!(
        (dead[0].cause, dead[0].failure.clone()),
        (DeadCause::Refused, Some(Failure::new(Some(422), "no")))
    );
    // Without it, a batch is held for ever.
    options(f, "alice", |options| options.refusals_max = None).await;
    f.publish("a", &["13"]).await;
    for _ in 0..10 {
        let leased = f.claim_one().await;
        f.store.settle_one(refused(&leased, 422), LEASE).await.unwrap();
    }
    assert_eq!(events(&waiting(f, "alice").await), ["13"]);
}

async fn dead_letters_go_when_they_are_old_or_too_many(f: &Fixture) {
    f.subscribe("alice", &["a"], plain).await;
    f.publish("a", &vec!["x".repeat(1000); 20]).await;
    let last = waiting(f, "alice").await.pop().unwrap().position;
    skip(f, "alice", Skip::Through(last)).await;
    let lanes = f.store.lanes().await.unwrap();
    let forget = async |retention, max_bytes| {
        let mut all = ForgottenDead::default();
        for lane in Lane::first(lanes) {
            let bounds = DeadBounds { retention, max_bytes };
            let forgotten = f.store.forget_dead_events(lane, bounds).await.unwrap();
            all.old += forgotten.old;
            all.for_room += forgotten.for_room;
        }
        all
    };
    assert_eq!(forget(HOUR, 100_000).await, ForgottenDead::default());
    assert_eq!(f.store.dead_event_count().await.unwrap(), 20);
    assert_eq!(forget(HOUR, 10_000).await, ForgottenDead { old: 0, for_room: 20 });
    f.publish("a", &["y"]).await;
    let last = waiting(f, "alice").await.pop().unwrap().position;
    skip(f, "alice", Skip::Through(last)).await;
    f.pass(Duration::from_millis(20)).await;
    assert_eq!(
        forget(Duration::from_millis(5), 10_000).await,
        ForgottenDead { old: 1, for_room: 0 }
    );
    assert_eq!(f.store.dead_event_count().await.unwrap(), 0);
}

async fn a_publication_with_a_key_is_stored_once(f: &Fixture) {
    for subscriber in IN_SEVERAL_LANES {
        f.subscribe(subscriber, &["a"], plain).await;
    }
    let keyed = |name: &str, fingerprint: &str, text: &str| {
        let mut publication = publication(PUBLISHER, "a", &[text]);
        let (name, fingerprint) = (name.to_owned(), fingerprint.to_owned());
        publication.key = Some(PublishKey { name, fingerprint });
        publication
    };
    let first = f.store.publish(vec![keyed("k", "1", "one")], soon()).await.unwrap();
    let Published::Stored(position) = first[0] else { panic!("{first:?}") };
    let group = vec![
        keyed("k", "1", "one"),
        publication(PUBLISHER, "a", &["two"]),
        keyed("k", "2", "other"),
        keyed("l", "3", "three"),
        keyed("l", "3", "three"),
    ];
    let published = f.store.publish(group, soon()).await.unwrap();
    assert_eq!(published[0], Published::StoredBefore(position));
    assert_eq!(published[2], Published::KeyTaken);
    let Published::Stored(third) = published[3] else { panic!("{published:?}") };
    assert_eq!(published[4], Published::StoredBefore(third));
    f.store.forget_publish_keys().await.unwrap();
    let again = f.open_another().publish(vec![keyed("k", "1", "one")], soon()).await.unwrap();
    assert_eq!(again, [Published::StoredBefore(position)]);
    let received = f.drain().await;
    assert!(received.values().all(|texts| *texts == ["one", "two", "three"]), "{received:?}");
    assert_eq!(received.len(), 4);
}

async fn positions_are_never_given_twice_and_are_found_in_each_queue(f: &Fixture) {
    for subscriber in IN_SEVERAL_LANES {
        f.subscribe(subscriber, &["a", "b"], plain).await;
    }
    let publish = |topic: &'static str| {
        let store = f.open_another();
        async move {
            let mut given = vec![];
            for _ in 0..40 {
                let published = store
                    .publish(vec![publication(PUBLISHER, topic, &numbers(1, 5))], soon())
                    .await;
                let Published::Stored(first) = published.unwrap()[0] else { panic!("not stored") };
                given.extend((0..5).map(|index| first.plus(index)));
            }
            given
        }
    };
    let tasks = ["a", "b"].map(|topic| tokio::spawn(publish(topic)));
    let mut given = vec![];
    for task in tasks {
        given.extend(task.await.unwrap());
    }
    given.sort();
    assert_eq!(given.iter().collect::<BTreeSet<_>>().len(), 400);
    for subscriber in IN_SEVERAL_LANES {
        let found: Vec<_> =
            waiting(f, subscriber).await.iter().map(|event| event.position).collect();
        // What several bring at once may come into another lane in another order.
        let mut sorted = found.clone();
        sorted.sort();
        assert_eq!(sorted, given);
        for pair in found.windows(2) {
            let next = f.store.peek(&client(subscriber), pair[0], 1).await.unwrap().unwrap();
            assert_eq!(
                next[0].position, pair[1],
                "behind {} in the queue of {subscriber}",
                pair[0]
            );
        }
    }
}

async fn options_stay_until_they_are_named(f: &Fixture) {
    use crate::bus::signature::SigningSecrets;
    use crate::bus::subscription::options::{BatchFormat, OptionsRequest};
    let secrets = SigningSecrets::parse(&["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"]).unwrap();
    options(f, "alice", |options| {
        options.secrets = secrets.clone();
        options.format = BatchFormat::CloudEvents;
        options.refusals_max = Some(3);
    })
    .await;
    let wanted = f.status("alice").await.subscription.options;
    assert_eq!(
        (&wanted.secrets, wanted.format, wanted.refusals_max),
        (&secrets, BatchFormat::CloudEvents, Some(3))
    );
    let mut request: SubscriptionRequest = subscription(&["a"], plain).into();
    request.options = OptionsRequest::default();
    f.store.subscribe(&client("alice"), &request, true).await.unwrap();
    assert_eq!(f.status("alice").await.subscription.options, wanted);
    f.publish("a", &["1"]).await;
    assert_eq!(f.claim_one().await.options, wanted);
    f.subscribe("alice", &["a"], plain).await;
    assert_eq!(f.status("alice").await.subscription.options, DeliveryOptions::default());
}
