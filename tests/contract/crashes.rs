//! Crashes: whatever is killed at whatever moment, an event that was answered with 204 arrives.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::{Answer, Attempt, Bus, Client, Receiver, event, first_seen, within};

/// How often something is killed.
const ROUNDS: u64 = 5;
/// A worker that was killed is replaced by another within this time.
const REPLACED_WITHIN: Duration = Duration::from_secs(10);

/// Waits until every one of these events was acknowledged by the receiver.
async fn all_arrive(receiver: &Receiver, accepted: &BTreeSet<u64>) -> Vec<Attempt> {
    let what = format!("{} accepted events arrive", accepted.len());
    let arrived = |all: &Vec<Attempt>| {
        let numbers: BTreeSet<u64> = all.iter().flat_map(Attempt::numbers).collect();
        accepted.is_subset(&numbers)
    };
    // A lease of the dead may have to run out first.
    let mut limit = Box::pin(receiver.until(&what, arrived));
    within(Duration::from_secs(30), &what, &mut limit).await
}

/// Publishes numbers from `start` on until the bus is gone; returns those that were accepted.
async fn publish_until_it_is_gone(client: Client, start: u64) -> (BTreeSet<u64>, u64) {
    let mut accepted = BTreeSet::new();
    let mut number = start;
    while client.try_publish("widgets", &event(number)).await {
        accepted.insert(number);
        number += 1;
    }
    (accepted, number + 1)
}

on_both_stores!(a_worker_killed_during_deliveries_loses_nothing, |store| async move {
    let clients = (0..ROUNDS).map(|round| format!("client-{round}")).collect::<Vec<_>>();
    let bus = Bus::new(&store).set("ROUTEMASTER_CLIENTS", &format!("demo,{}", clients.join(",")));
    let web = bus.web().await;
    let demo = web.client("demo");
    demo.claims("widgets").await;
    let mut dice = fastrand::Rng::with_seed(11);
    let (mut receivers, mut accepted) = (vec![], BTreeSet::new());
    for (round, client) in (0..).zip(&clients) {
        let mut worker = bus.worker().await;
        // Queues of the dead are leased for a while yet: a new one is delivered from at once.
        let receiver = bus.receiver().await;
        receiver.answer(Answer::After(Duration::from_millis(5)));
        let more = json!({"timeout": 0, "max": 3});
        web.client(client).subscribes(&receiver, &["widgets"], more).await;
        receivers.push((receiver, round * 100));
        let numbers = (1..=30).map(|number| round * 100 + number);
        accepted.extend(numbers.clone());
        demo.publishes("widgets", numbers).await;
        receivers.last().unwrap().0.attempts(1 + dice.usize(0..4)).await;
        worker.kill().await;
    }
    let _worker = bus.worker().await;
    for (receiver, subscribed_at) in &receivers {
        let expected: BTreeSet<u64> = accepted.range(subscribed_at..).copied().collect();
        let attempts = all_arrive(receiver, &expected).await;
        let expected: Vec<u64> = expected.into_iter().collect();
        assert_eq!(first_seen(&attempts), expected, "in order by first receipt");
    }
});

on_both_stores!(a_web_process_killed_during_publishes_loses_nothing, |store| async move {
    let bus = Bus::new(&store);
    let _worker = bus.worker().await;
    let receiver = bus.receiver().await;
    let (mut accepted, mut next) = (BTreeSet::new(), 1);
    for round in 0..ROUNDS {
        let mut web = bus.web().await;
        if round == 0 {
            web.client("demo").claims("widgets").await;
            let more = json!({"timeout": 0, "max": 50});
            web.client("bob").subscribes(&receiver, &["widgets"], more).await;
        }
        let tasks = (0..4).map(|task| {
            let start = next + task * 100_000;
            tokio::spawn(publish_until_it_is_gone(web.client("demo"), start))
        });
        let tasks: Vec<_> = tasks.collect();
        let seen = receiver.attempts_so_far().len();
        // Killed at a moment that only the deliveries decide.
        receiver.attempts(seen + 3).await;
        web.kill().await;
        let mut ends = BTreeSet::new();
        for task in tasks {
            let (numbers, end) = task.await.unwrap();
            accepted.extend(numbers);
            ends.insert(end % 100_000);
        }
        // No task publishes a number twice.
        next = ends.last().copied().unwrap();
    }
    assert!(accepted.len() > 20, "there was hardly anything to lose: {}", accepted.len());
    let attempts = all_arrive(&receiver, &accepted).await;
    // Each task's events in order by first receipt.
    let seen = first_seen(&attempts);
    for task in 0..4 {
        let own: Vec<u64> = seen.iter().copied().filter(|n| n / 100_000 == task).collect();
        assert!(own.is_sorted(), "{own:?}");
    }
});

on_both_stores!(
    one_process_of_both_roles_killed_again_and_again_loses_nothing,
    |store| async move {
        let bus = Bus::new(&store);
        let receiver = bus.receiver().await;
        let (mut accepted, mut next) = (BTreeSet::new(), 1);
        for round in 0..ROUNDS {
            let mut server = bus.serve().await;
            let demo = server.client("demo");
            if round == 0 {
                demo.claims("widgets").await;
                demo.subscribes(&receiver, &["widgets"], json!({"timeout": 0, "max": 5})).await;
            }
            let task = tokio::spawn(publish_until_it_is_gone(demo, next));
            let enough = async || {
                let published = server.client("demo").topic("widgets").await["events"].as_u64();
                (published > Some(round * 10)).then_some(())
            };
            crate::support::eventually("some events are published", enough).await;
            server.kill().await;
            let (numbers, end) = task.await.unwrap();
            accepted.extend(numbers);
            next = end;
        }
        let _server = bus.serve().await;
        let attempts = all_arrive(&receiver, &accepted).await;
        assert!(first_seen(&attempts).is_sorted());
    }
);

on_both_stores!(a_killed_worker_is_replaced_by_another_within_10_s, |store| async move {
    let bus = Bus::new(&store);
    let web = bus.web().await;
    let mut first = bus.worker().await;
    let (demo, receiver) = (web.client("demo"), bus.receiver().await);
    demo.claims("widgets").await;
    demo.subscribes(&receiver, &["widgets"], json!({"timeout": 0, "max": 1})).await;
    receiver.answer_next([Answer::Hang]);
    demo.publishes("widgets", 1..=2).await;
    receiver.attempts(1).await;
    // The second one finds the queue leased, and the first one dies with it.
    let _second = bus.worker().await;
    receiver.stays_quiet(Duration::from_millis(300)).await;
    first.kill().await;
    let died = Instant::now();
    assert_eq!(receiver.numbers(2).await, [1, 2]);
    let took = receiver.attempts_so_far()[1].at - died;
    assert!(took <= REPLACED_WITHIN, "it was replaced after {took:?}");
});

on_both_stores!(a_lease_is_kept_for_as_long_as_a_delivery_takes, |store| async move {
    // Longer than a lease can last without being renewed: it must be, or a dead worker would
    // not be replaced in time.
    let slow = Answer::After(REPLACED_WITHIN + Duration::from_secs(1));
    let bus = Bus::new(&store);
    let web = bus.web().await;
    let _workers = [bus.worker().await, bus.worker().await];
    let (demo, receiver) = (web.client("demo"), bus.receiver().await);
    demo.claims("widgets").await;
    demo.subscribes(&receiver, &["widgets"], json!({"timeout": 0, "max": 1})).await;
    receiver.answer_next([slow]);
    demo.publishes("widgets", 1..=2).await;
    let attempts = receiver.attempts(2).await;
    assert_eq!([attempts[0].numbers(), attempts[1].numbers()], [[1], [2]]);
});
