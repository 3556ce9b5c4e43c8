//! Order: every subscriber sees each publisher's events in order and misses none, however many
//! workers there are and however often its callback refuses.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::support::{Bus, Receiver};

const WORKERS: usize = 4;
const PUBLISHERS: u64 = 8;
const EVENTS_EACH: u64 = 150;
const SEED: u64 = 20_260_101;

/// The publisher's number and the event's, from its URL.
fn origin(event: &Value) -> (u64, u64) {
    let url = event["url"].as_str().unwrap();
    let mut parts = url.rsplit('/').map(|part| part.parse::<u64>().unwrap());
    let number = parts.next().unwrap();
    (parts.next().unwrap(), number)
}

fn event(publisher: u64, number: u64) -> Value {
    json!({"type": "update", "url": format!("https://a.example/{publisher}/{number}")})
}

fn topic(publisher: u64) -> String {
    format!("topic_{}", char::from(b'a' + publisher as u8))
}

/// Checks what one subscriber got: each publisher's events by the moment they were first seen.
async fn is_in_order_and_complete(name: &str, receiver: &Receiver) {
    let total = (PUBLISHERS * EVENTS_EACH) as usize;
    receiver.events(total).await;
    let mut seen: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    for attempt in receiver.attempts_so_far() {
        for (publisher, number) in attempt.events().iter().map(origin) {
            let numbers = seen.entry(publisher).or_default();
            if !numbers.contains(&number) {
                numbers.push(number);
            }
        }
    }
    let expected: Vec<u64> = (1..=EVENTS_EACH).collect();
    for publisher in 0..PUBLISHERS {
        assert_eq!(seen.get(&publisher), Some(&expected), "{name}, publisher {publisher}");
    }
    // Nothing was acknowledged twice either: no worker died, no lease was lost.
    assert_eq!(receiver.events(total).await.len(), total, "{name}");
}

on_both_stores!(each_publishers_events_arrive_in_order_and_complete, |store| async move {
    let publishers: Vec<String> = (0..PUBLISHERS).map(|n| format!("publisher-{n}")).collect();
    let clients = format!("steady,slow,flaky,{}", publishers.join(","));
    let bus = Bus::new(&store).set("ROUTEMASTER_CLIENTS", &clients);
    let web = bus.web().await;
    let topics: Vec<String> = (0..PUBLISHERS).map(topic).collect();
    let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
    for (publisher, topic) in publishers.iter().zip(&topics) {
        web.client(publisher).claims(topic).await;
    }
    let (steady, slow, flaky) = (bus.receiver().await, bus.receiver().await, bus.receiver().await);
    flaky.fail_share(0.2, SEED);
    slow.answer(crate::support::Answer::After(std::time::Duration::from_millis(20)));
    for (token, receiver, max) in
        [("steady", &steady, 100), ("slow", &slow, 40), ("flaky", &flaky, 10)]
    {
        let more = json!({"timeout": 0, "max": max});
        web.client(token).subscribes(receiver, &topics, more).await;
    }
    let mut workers = vec![];
    for _ in 0..WORKERS {
        workers.push(bus.worker().await);
    }
    let publishing: Vec<_> = publishers
        .iter()
        .zip(0..)
        .map(|(token, publisher)| {
            let client = web.client(token);
            tokio::spawn(async move {
                for number in 1..=EVENTS_EACH {
                    let (topic, event) = (topic(publisher), event(publisher, number));
                    client.publish(&topic, &event).await.expect(204);
                }
            })
        })
        .collect();
    for task in publishing {
        task.await.unwrap();
    }
    is_in_order_and_complete("steady", &steady).await;
    is_in_order_and_complete("slow", &slow).await;
    is_in_order_and_complete("flaky", &flaky).await;
    let failed = flaky.attempts_so_far().len() - (PUBLISHERS * EVENTS_EACH / 10) as usize;
    assert!(failed > 0, "the flaky subscriber never failed");
});
