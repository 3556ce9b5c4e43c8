//! A subscription whose events go into Google Pub/Sub (§3): a message an event, in order by an ordering key.

use serde_json::{Value, json};

use crate::support::{Bus, PROJECT, PubSubServer, Pulled, event, eventually, numbered};

fn numbers(pulled: &[Pulled]) -> Vec<u64> {
    let event = |one: &Pulled| serde_json::from_str::<Value>(&one.data).unwrap();
    pulled.iter().map(|one| numbered(&event(one))).collect()
}

on_both_stores!(each_event_becomes_a_message_in_order, |store| async move {
    let emulator = PubSubServer::start().await;
    let port = emulator.port();
    emulator.add_topic("widget-events").await;
    let bus = Bus::new(&store)
        .set("PUBSUB_EMULATOR_HOST", &emulator.host())
        .set("GCLOUD_PUBSUB_PROJECT_ID", PROJECT);
    let mut server = bus.serve().await;
    let (demo, alice) = (server.client("demo"), server.client("alice"));
    demo.claims("widgets").await;
    let subscription =
        json!({"topics": ["widgets"], "pubsub": "widget-events", "timeout": 0, "max": 7});
    alice.post("/subscription", subscription.to_string()).await.expect(204);
    let shown = alice.get("/subscription").await.expect(200).json();
    assert_eq!((&shown["callback"], &shown["pubsub"]), (&Value::Null, &json!("widget-events")));

    demo.publishes("widgets", 1..=20).await;
    let pulled = emulator.pull("widget-events", 20).await;
    assert_eq!(numbers(&pulled), (1..=20).collect::<Vec<_>>());
    let first: Value = serde_json::from_str(&pulled[0].data).unwrap();
    assert_eq!((&first["topic"], &first["type"]), (&json!("widgets"), &event(1)["type"]));
    assert!(pulled.iter().all(|one| one.ordering_key == pulled[0].ordering_key));
    assert!(!pulled[0].ordering_key.is_empty() && pulled[0].attributes["webhook-id"].is_string());

    // Away, it holds the queue up; killed meanwhile, the bus loses nothing, and the order stays.
    drop(emulator);
    demo.publishes("widgets", 21..=40).await;
    eventually("it fails", async || {
        let shown = alice.get("/subscription").await.expect(200).json();
        let reason = shown["last_error"]["reason"].as_str()?.to_owned();
        reason.contains("Google Pub/Sub").then_some(())
    })
    .await;
    server.kill().await;
    let emulator = PubSubServer::start_on(Some(port)).await;
    emulator.add_topic("widget-events").await;
    let server = bus.serve().await;
    let mut first_seen = Vec::new();
    for number in numbers(&emulator.pull("widget-events", 20).await) {
        if !first_seen.contains(&number) {
            first_seen.push(number);
        }
    }
    assert_eq!(first_seen, (21..=40).collect::<Vec<_>>());

    // A callback takes its place, and the other way round.
    let alice = server.client("alice");
    let both = json!({"topics": [], "pubsub": "abc", "callback": "https://a.example"});
    let reason = alice.post("/subscription", both.to_string()).await.expect_reason(400);
    assert!(reason.contains("exclude each other"), "{reason}");
    let bad = json!({"topics": [], "pubsub": "a b"});
    alice.post("/subscription", bad.to_string()).await.expect(400);
    let callback = json!({"topics": ["widgets"], "callback": "https://a.example"});
    alice.post("/subscription", callback.to_string()).await.expect(204);
    let shown = alice.get("/subscription").await.expect(200).json();
    assert_eq!(
        (&shown["callback"], &shown["pubsub"]),
        (&json!("https://a.example/"), &Value::Null)
    );
    let listed = bus.run(&["subscriptions", "--url", server.base(), "--token", "demo"]).await;
    assert!(listed.stdout.contains("https://a.example/"), "{}", listed.stdout);
});
