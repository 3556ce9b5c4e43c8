//! Control while a bus is hurt: a subscription is paused, skipped, retried, put into another order, and workers are killed, at
//! random. Whatever was answered with 204 arrives or is a dead letter, in the order of each thing, and nothing is sent
//! while nothing is to be.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{Attempt, Bus, Client, Receiver, Signal, eventually};

const ENTITIES: u64 = 10;
const HURT_FOR: Duration = Duration::from_secs(8);

fn event(number: u64) -> Value {
    let url = format!("https://a.example/{}", number % ENTITIES);
    json!({"type": "update", "url": url, "data": number})
}

fn numbers(attempts: &[Attempt]) -> Vec<u64> {
    let acknowledged = attempts.iter().filter(|attempt| attempt.acknowledged());
    acknowledged.flat_map(Attempt::events).map(|event| event["data"].as_u64().unwrap()).collect()
}

async fn subscribe(demo: &Client, receiver: &Receiver, order: &str) {
    let more = json!({"timeout": 0, "max": 5, "order": order});
    demo.subscribes(receiver, &["widgets"], more).await;
}

/// Publishes one event after the other until it is told to end; how many were accepted.
async fn publish_on(client: Client, is_over: Arc<AtomicBool>) -> u64 {
    let mut number = 0;
    while !is_over.load(Ordering::Relaxed) {
        client.publish("widgets", &event(number)).await.expect(204);
        number += 1;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    number
}

/// Pauses, waits until what was on its way has ended, and looks that nothing more is sent.
async fn pause_a_while(demo: &Client, receiver: &Receiver) {
    demo.post("/subscriptions/demo/pause", "").await.expect(204);
    // An attempt of a worker that was killed has ended when its lease has.
    tokio::time::sleep(Duration::from_millis(100)).await;
    receiver.stays_quiet(Duration::from_millis(300)).await;
    demo.post("/subscriptions/demo/resume", "").await.expect(204);
}

async fn skip_some(demo: &Client, dice: &mut fastrand::Rng) {
    let queue = demo.get("/subscriptions/demo/queue?limit=5").await.expect(200).json();
    let waiting = queue["events"].as_array().unwrap();
    if !waiting.is_empty() {
        let through = &waiting[dice.usize(..waiting.len())]["position"];
        let body = json!({ "through": through }).to_string();
        demo.post("/subscriptions/demo/skip", body).await.expect(200);
    }
}

/// The numbers of all dead letters.
async fn dead(demo: &Client) -> BTreeSet<u64> {
    let (mut dead, mut after) = (BTreeSet::new(), String::new());
    loop {
        let path = format!("/dead_letters?kind=event&limit=500{after}");
        let page = demo.get(&path).await.expect(200).json();
        let letters = page["dead_letters"].as_array().unwrap().iter();
        dead.extend(letters.map(|letter| letter["event"]["data"].as_u64().unwrap()));
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => return dead,
        }
    }
}

on_both_stores!(nothing_is_lost_or_overtaken_whatever_is_done_to_a_queue, |store| async move {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut dice = fastrand::Rng::with_seed(seed);
    let bus = Bus::new(&store).set("ROUTEMASTER_MAX_BACKOFF_MS", "50");
    let web = bus.web().await;
    let mut workers = vec![bus.worker().await, bus.worker().await];
    let (demo, receiver) = (web.client("demo"), bus.receiver().await);
    demo.claims("widgets").await;
    let keep = json!({"ms": 3_600_000, "bytes": 10_000_000}).to_string();
    demo.put("/topics/widgets/keep", keep).await.expect(204);
    subscribe(&demo, &receiver, "queue").await;
    receiver.fail_share(0.1, seed);
    let is_over = Arc::new(AtomicBool::new(false));
    let publishing = tokio::spawn(publish_on(web.client("demo"), is_over.clone()));

    let begun = Instant::now();
    while begun.elapsed() < HURT_FOR {
        match dice.u32(..10) {
            0 | 1 => pause_a_while(&demo, &receiver).await,
            2 => skip_some(&demo, &mut dice).await,
            3 => {
                demo.post("/subscriptions/demo/retry", "").await.expect(204);
            }
            4 => subscribe(&demo, &receiver, "entity").await,
            5 => subscribe(&demo, &receiver, "queue").await,
            6 => {
                workers.remove(0).signal(Signal::Kill);
                workers.push(bus.worker().await);
            }
            _ => tokio::time::sleep(Duration::from_millis(dice.u64(1..200))).await,
        }
    }
    is_over.store(true, Ordering::Relaxed);
    let published = publishing.await.unwrap();
    receiver.fail_share(0.0, seed);
    subscribe(&demo, &receiver, "queue").await;
    eventually("nothing waits any more", async || {
        (demo.queued("demo").await == Some(0)).then_some(())
    })
    .await;

    let attempts = receiver.attempts_so_far();
    let arrived: BTreeSet<u64> = numbers(&attempts).into_iter().collect();
    let dead = dead(&demo).await;
    let lost: Vec<_> = (0..published)
        .filter(|number| !arrived.contains(number) && !dead.contains(number))
        .collect();
    assert!(lost.is_empty(), "of {published}, lost: {lost:?}");
    let mut last = BTreeMap::<u64, u64>::new();
    let mut seen = BTreeSet::new();
    for number in numbers(&attempts).into_iter().filter(|number| seen.insert(*number)) {
        let before = last.insert(number % ENTITIES, number);
        assert!(before < Some(number), "{number} came after {before:?}");
    }

    // What the topic has kept comes once more, in order and marked.
    let replayed = json!({"topics": ["widgets"], "since": 0}).to_string();
    demo.post("/subscription/replay", replayed).await.expect(200);
    eventually("all of it comes once more", async || {
        (demo.queued("demo").await == Some(0)).then_some(())
    })
    .await;
    let again = receiver.attempts_so_far().split_off(attempts.len());
    assert!(again.iter().all(|attempt| attempt.header("routemaster-replay") == Some("true")));
    let again: Vec<_> = numbers(&again).into_iter().filter(|number| *number < published).collect();
    assert_eq!(again, (0..published).collect::<Vec<_>>());
});
