//! Pulling (§13): a subscriber without a callback asks for its batches, in the same order and as safely.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Bus, Client, ROOT, Reply, Signal, eventually, numbered};

async fn subscribes(client: &Client, topics: &[&str], more: Value) {
    let mut body = json!({"topics": topics, "pull": true});
    for (name, value) in more.as_object().expect("fields") {
        body[name] = value.clone();
    }
    client.post("/subscription", body.to_string()).await.expect(204);
}

async fn pull(client: &Client, query: &str) -> Reply {
    client.get(&format!("/subscription/batch?{query}")).await
}

fn numbers(reply: &Reply) -> Vec<u64> {
    reply.json().as_array().expect("a batch").iter().map(numbered).collect()
}

fn id(reply: &Reply) -> String {
    reply.header("webhook-id").expect("a name").to_owned()
}

on_both_stores!(
    a_batch_is_pulled_acknowledged_and_the_next_one_comes_with_it,
    |store| async move {
        let bus = Bus::new(&store).set("METRIC_COLLECTION_SERVICE", "prometheus");
        let server = bus.serve().await;
        let demo = server.client("demo");
        demo.claims("widgets").await;
        pull(&demo, "").await.expect_reason(404);
        subscribes(&demo, &["widgets"], json!({"max": 2})).await;
        let shown = demo.get("/subscription").await.expect(200).json();
        assert_eq!((&shown["callback"], &shown["pull"]), (&Value::Null, &json!(true)));
        pull(&demo, "").await.expect(204);
        demo.publishes("widgets", 1..=5).await;
        let first = pull(&demo, "lease=2000").await.expect(200);
        assert_eq!(numbers(&first), [1, 2]);
        assert_eq!(first.header("routemaster-attempt"), Some("1"));
        let out = pull(&demo, "").await;
        assert!(out.header("retry-after").is_some(), "{out:?}");
        out.expect_reason(409);
        // Its lease is over: the same batch once more.
        let (again, _) = eventually("it comes again", async || {
            let reply = pull(&demo, "lease=60000").await;
            (reply.status == 200).then_some(reply)
        })
        .await;
        assert_eq!((id(&again), numbers(&again)), (id(&first), vec![1, 2]));
        assert_eq!(again.header("routemaster-attempt"), Some("2"));
        // It is given back, and comes at once.
        demo.post(&format!("/subscription/batch/{}/release", id(&first)), "").await.expect(204);
        assert_eq!(pull(&demo, "").await.expect(200).header("routemaster-attempt"), Some("3"));
        let second = pull(&demo, &format!("ack={}&max=1", id(&first))).await.expect(200);
        assert_eq!(numbers(&second), [3]);
        // Acknowledged twice it is stale, and nothing is lost.
        pull(&demo, &format!("ack={}", id(&first))).await.expect_reason(410);
        pull(&demo, "ack=nonsense").await.expect_reason(410);
        let path = format!("/subscription/batch/{}", id(&second));
        demo.delete(&path).await.expect(204);
        demo.delete(&path).await.expect_reason(410);
        let reply = demo.request(Method::POST, "/subscription/batch").await.expect(200);
        assert_eq!(numbers(&reply), [4, 5]);
        demo.delete(&format!("/subscription/batch/{}", id(&reply))).await.expect(204);
        let shown = demo.subscription("demo").await;
        assert_eq!((&shown["events"]["sent"], &shown["events"]["queued"]), (&json!(5), &json!(0)));
        // Each time that one was given out counts as an attempt: 2 + 2 + 2 + 1 + 2 events.
        let metrics = server.client(ROOT).get("/metrics").await.expect(200).body;
        let counted = |name: &str| {
            let mut lines =
                metrics.lines().filter(|line| line.contains(name) && line.contains("success"));
            lines
                .next()
                .unwrap_or_else(|| panic!("{name}: {metrics}"))
                .rsplit(' ')
                .next()
                .unwrap()
                .to_owned()
        };
        assert_eq!(counted("delivery_batches{"), "5");
        assert_eq!(counted("delivery_events{"), "9");
        for wrong in ["wait=60001", "max=0", "lease=1", "wait=x"] {
            pull(&demo, wrong).await.expect_reason(400);
        }
        server.client(ROOT).get("/subscription/batch").await.expect_reason(403);
        // A page of another site must not acknowledge.
        let path = format!("/subscription/batch?ack={}", id(&reply));
        let foreign = [("sec-fetch-site", "cross-site")];
        demo.request_with(Method::GET, &path, &foreign).await.expect_reason(403);
    }
);

on_both_stores!(
    whoever_waits_gets_an_event_at_once_whichever_process_took_it,
    |store| async move {
        let bus = Bus::new(&store);
        let (one, other) = (bus.serve().await, bus.web().await);
        let demo = one.client("demo");
        demo.claims("widgets").await;
        subscribes(&demo, &["widgets"], json!({})).await;
        for (number, asked, published) in [(1, &one, &one), (2, &one, &other), (3, &other, &one)] {
            let (asking, publishing) = (asked.client("demo"), published.client("demo"));
            let waiting = tokio::spawn(async move { pull(&asking, "wait=20000").await });
            tokio::time::sleep(Duration::from_millis(200)).await;
            let started = Instant::now();
            publishing.publishes("widgets", [number]).await;
            let reply = waiting.await.unwrap().expect(200);
            let took = started.elapsed();
            assert!(took < Duration::from_secs(3), "{number} came after {took:?}");
            assert_eq!(numbers(&reply), [number]);
            demo.delete(&format!("/subscription/batch/{}", id(&reply))).await.expect(204);
        }
        let started = Instant::now();
        pull(&demo, "wait=700").await.expect(204);
        assert!(started.elapsed() >= Duration::from_millis(700));
        // One that is paused gives out nothing.
        demo.post("/subscriptions/demo/pause", "").await.expect(204);
        demo.publishes("widgets", [4]).await;
        pull(&demo, "wait=100").await.expect_reason(409);
        demo.post("/subscriptions/demo/resume", "").await.expect(204);
        assert_eq!(numbers(&pull(&demo, "").await.expect(200)), [4]);
    }
);

on_both_stores!(a_stop_ends_held_requests_at_once, |store| async move {
    let bus = Bus::new(&store);
    let mut server = bus.serve().await;
    let demo = server.client("demo");
    demo.claims("widgets").await;
    subscribes(&demo, &["widgets"], json!({})).await;
    let waiting = tokio::spawn(async move { pull(&demo, "wait=60000").await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    server.signal(Signal::Term);
    waiting.await.unwrap().expect(204);
    let (code, took) = server.exit().await;
    assert!(code == Some(0) && took < Duration::from_secs(5), "{code:?} after {took:?}");
});

on_both_stores!(
    a_stream_brings_each_batch_after_the_acknowledgement_of_the_one_before,
    |store| async move {
        let bus = Bus::new(&store);
        let server = bus.serve().await;
        let demo = server.client("demo");
        demo.claims("widgets").await;
        demo.get("/subscription/stream").await.expect_reason(404);
        subscribes(&demo, &["widgets"], json!({"max": 2})).await;
        demo.publishes("widgets", 1..=3).await;
        let mut lines = demo.stream("/subscription/stream", "application/x-ndjson").await;
        let first: Value = serde_json::from_str(&lines.next().await).unwrap();
        assert_eq!(
            first["events"].as_array().unwrap().iter().map(numbered).collect::<Vec<_>>(),
            [1, 2]
        );
        assert_eq!(first["attempt"], 1);
        assert!(!lines.comes_within(Duration::from_millis(400)).await, "it is not acknowledged");
        let acknowledge = async |id: &str| {
            demo.delete(&format!("/subscription/batch/{id}")).await.expect(204);
        };
        acknowledge(first["id"].as_str().unwrap()).await;
        let second: Value = serde_json::from_str(&lines.next().await).unwrap();
        assert_eq!(second["events"].as_array().unwrap().len(), 1);
        drop(lines);
        // What comes back with its last id has acknowledged it.
        let path = "/subscription/stream?ack=last-event-id";
        demo.publishes("widgets", [4]).await;
        let last = second["id"].as_str().unwrap();
        let headers = [("accept", "text/event-stream"), ("last-event-id", last)];
        let mut events = demo.stream_with(path, &headers).await;
        let lines = [events.next().await, events.next().await, events.next().await];
        assert!(lines[0].starts_with("id: ") && lines[1] == "event: batch", "{lines:?}");
        let data: Value = serde_json::from_str(lines[2].strip_prefix("data: ").unwrap()).unwrap();
        assert_eq!(numbered(&data[0]), 4);
        demo.get("/subscription/stream?ack=yes").await.expect_reason(400);
    }
);

on_both_stores!(
    many_consumers_and_processes_share_a_queue_in_order_through_kills,
    |store| async move {
        let bus = Bus::new(&store);
        let publisher = bus.web().await;
        let demo = publisher.client("demo");
        demo.claims("widgets").await;
        subscribes(&demo, &["widgets"], json!({"max": 7})).await;
        let mut servers = [bus.web().await, bus.web().await];
        let publishing = {
            let demo = demo.clone();
            tokio::spawn(async move { demo.publishes("widgets", 1..=300).await })
        };
        // Whoever gets a batch may lose it with its process; nobody else has it meanwhile.
        let mut received: Vec<u64> = vec![];
        let mut kills = 0;
        while received.iter().collect::<BTreeSet<_>>().len() < 300 {
            let server = &servers[fastrand::usize(..2)];
            let client = server.client("demo");
            let path = "/subscription/batch?wait=500&lease=1000";
            let Ok(reply) = client.try_send(Method::GET, path, &[], "").await else { continue };
            if reply.status != 200 {
                continue;
            }
            received.extend(numbers(&reply));
            if kills < 4 && fastrand::u8(..) < 60 {
                kills += 1;
                let index = fastrand::usize(..2);
                servers[index].signal(Signal::Kill);
                servers[index] = bus.web().await;
                continue;
            }
            let client = servers[fastrand::usize(..2)].client("demo");
            let path = format!("/subscription/batch/{}", id(&reply));
            let _ = client.try_send(Method::DELETE, &path, &[], "").await;
        }
        publishing.await.unwrap();
        let mut highest = 0;
        for number in received {
            assert!(number <= highest + 1, "{number} came before {}", highest + 1);
            highest = highest.max(number);
        }
        assert!(kills > 0);
    }
);
