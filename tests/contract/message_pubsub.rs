//! Messages into Google Pub/Sub (§11): in an emulator, what arrives is pulled; with tokens, beside it.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::{Value, json};

use crate::message_delivery::{add_publisher, add_topic, message, send};
use crate::support::{
    Answer, Bus, Google, PROJECT, PubSubServer, ROOT, Signal, Store, eventually, run, soon,
};

fn pubsub(more: Value) -> Value {
    let mut body = json!({"type": "pubsub"});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

fn numbers(pulled: &[crate::support::Pulled]) -> Vec<u64> {
    let data = |one: &crate::support::Pulled| serde_json::from_str::<Value>(&one.data).unwrap();
    pulled.iter().map(|one| data(one)["n"].as_u64().unwrap()).collect()
}

on_both_stores!(messages_arrive_in_pubsub_as_postoffice_sent_them, |store| async move {
    let emulator = PubSubServer::start().await;
    emulator.add_topic("orders").await;
    let bus = Bus::new(&store)
        .set("PUBSUB_EMULATOR_HOST", &emulator.host())
        .set("GCLOUD_PUBSUB_PROJECT_ID", PROJECT);
    let server = bus.serve().await;
    let demo = server.client("demo");
    add_topic(&demo, "t").await;
    add_publisher(&demo, "t", "orders", pubsub(json!({}))).await;
    let body = r#"{"topic":"t","payload":{"id": 1.50, "ü":[1]},"attributes":{"a":"b","c":"ü"}}"#;
    demo.post("/api/messages", body).await.expect(201);
    let pulled = emulator.pull("orders", 1).await.remove(0);
    assert_eq!(pulled.data, r#"{"id": 1.50, "ü":[1]}"#, "as it was sent");
    assert_eq!(pulled.attributes, json!({"a": "b", "c": "ü"}));
    // Each element of an array is a message.
    send(&demo, "t", json!([{"n": 1}, {"n": 2}, {"n": 3}])).await;
    let pulled = emulator.pull("orders", 3).await;
    assert_eq!(numbers(&pulled).into_iter().collect::<BTreeSet<_>>(), BTreeSet::from([1, 2, 3]));
    assert!(pulled.iter().all(|one| one.attributes == json!({"kind": "test"})));
});

on_both_stores!(what_waits_is_packed_together, |store| async move {
    let emulator = PubSubServer::start().await;
    emulator.add_topic("orders").await;
    let bus = Bus::new(&store)
        .set("PUBSUB_EMULATOR_HOST", &emulator.host())
        .set("GCLOUD_PUBSUB_PROJECT_ID", PROJECT);
    let server = bus.serve().await;
    let demo = server.client("demo");
    add_topic(&demo, "t").await;
    let held = pubsub(json!({"active": false, "chunk_size": 50}));
    let publisher = add_publisher(&demo, "t", "orders", held).await;
    let payload: Vec<Value> = (0..120).map(|n| json!({"n": n})).collect();
    let body = json!({"topic": "t", "payload": payload, "attributes": {}}).to_string();
    demo.post("/api/bulk_messages", body).await.expect(201);
    // One that Google refuses holds up itself alone.
    let long = "x".repeat(2_000);
    let body = json!({"topic": "t", "payload": {"n": 1000}, "attributes": {"long": long}});
    demo.post("/api/messages", body.to_string()).await.expect(201);
    let path = format!("/api/publishers/{publisher}");
    let change = json!({"active": true}).to_string();
    demo.try_send(Method::PATCH, &path, &[], change).await.unwrap().expect(200);
    let pulled = emulator.pull("orders", 120).await;
    let got: BTreeSet<u64> = numbers(&pulled).into_iter().collect();
    assert!((0..120).collect::<BTreeSet<_>>().is_subset(&got), "{got:?}");
    eventually("all but one are done", async || {
        let page = demo.get("/api/messages?state=done&limit=200").await.expect(200).json();
        (page["data"].as_array().unwrap().len() >= 120).then_some(())
    })
    .await;
});

on_both_stores!(what_pubsub_refuses_waits_for_somebody_to_act, |store| async move {
    let emulator = PubSubServer::start().await;
    let bus = Bus::new(&store)
        .set("PUBSUB_EMULATOR_HOST", &emulator.host())
        .set("GCLOUD_PUBSUB_PROJECT_ID", PROJECT);
    let server = bus.serve().await;
    let demo = server.client("demo");
    add_topic(&demo, "t").await;
    let terms = pubsub(json!({"max_attempts": 1, "seconds_retry": 1}));
    add_publisher(&demo, "t", "missing-topic", terms).await;
    let sent = send(&demo, "t", json!({"n": 1})).await;
    let failing = eventually("it is refused", async || {
        let message = message(&demo, &sent["message"]).await;
        let publisher = message["publishers"][0].clone();
        (publisher["state"] == "failing").then_some(publisher)
    })
    .await
    .0;
    assert_eq!(failing["status"], 404);
    let error = failing["error"].as_str().unwrap();
    assert!(error.contains("Google Pub/Sub answered 404"), "{error}");
    emulator.add_topic("missing-topic").await;
    demo.post(&format!("/api/messages/{}/retry", sent["message"]), "").await.expect(204);
    assert_eq!(numbers(&emulator.pull("missing-topic", 1).await), [1]);
});

on_both_stores!(an_emulator_that_stops_loses_nothing, |store| async move {
    let emulator = PubSubServer::start().await;
    let port = emulator.port();
    let bus = Bus::new(&store)
        .set("PUBSUB_EMULATOR_HOST", &emulator.host())
        .set("GCLOUD_PUBSUB_PROJECT_ID", PROJECT);
    let mut server = bus.serve().await;
    let demo = server.client("demo");
    add_topic(&demo, "t").await;
    add_publisher(&demo, "t", "orders", pubsub(json!({"seconds_retry": 1}))).await;
    drop(emulator);
    for n in 0..20 {
        send(&demo, "t", json!({"n": n})).await;
    }
    soon("it fails", server.stderr.line_with("a message was not forwarded")).await.unwrap();
    server.kill().await;
    let emulator = PubSubServer::start_on(Some(port)).await;
    emulator.add_topic("orders").await;
    let server = bus.serve().await;
    let demo = server.client("demo");
    let mut got = BTreeSet::new();
    soon("all arrive", async {
        while got.len() < 20 {
            // What met a topic that was not there yet waits for somebody to act.
            let page = demo.get("/api/messages?state=failing").await.expect(200).json();
            for message in page["data"].as_array().unwrap() {
                demo.post(&format!("/api/messages/{}/retry", message["id"]), "").await;
            }
            got.extend(numbers(&emulator.pull_now("orders").await));
        }
    })
    .await;
});

on_both_stores!(a_service_account_gets_tokens_and_renews_them, |store| async move {
    let google = Google::start(3600).await;
    let directory = tempfile::tempdir().unwrap();
    let credentials = google.credentials(directory.path());
    let bus = Bus::new(&store)
        .set("GOOGLE_APPLICATION_CREDENTIALS", credentials.to_str().unwrap())
        .set("PUBSUB_API_ENDPOINT", &format!("http://{}", google.host()));
    let server = bus.serve().await;
    let demo = server.client("demo");
    add_topic(&demo, "t").await;
    // The project is the account's.
    add_publisher(&demo, "t", "orders", pubsub(json!({}))).await;
    let published = async |n: u64| {
        send(&demo, "t", json!({"n": n})).await;
        let data = json!({"n": n}).to_string();
        let what = ("orders".to_owned(), data);
        eventually("it is published", async || google.published().contains(&what).then_some(()))
            .await;
    };
    published(1).await;
    published(2).await;
    assert_eq!(google.counts(), (1, 0), "one token does for many");
    google.revoke();
    published(3).await;
    assert_eq!(google.counts(), (2, 1), "a refused one is renewed at once");
    let log = server.stderr.text();
    assert!(!log.contains("ya29") && !log.contains("PRIVATE"), "{log}");
});

on_both_stores!(a_token_is_renewed_before_it_ends, |store| async move {
    let google = Google::start(4).await;
    let bus = Bus::new(&store)
        .set("GCE_METADATA_HOST", &google.host())
        .set("PUBSUB_API_ENDPOINT", &format!("http://{}", google.host()));
    let server = bus.serve().await;
    let demo = server.client("demo");
    add_topic(&demo, "t").await;
    add_publisher(&demo, "t", "orders", pubsub(json!({}))).await;
    eventually("a second token was fetched", async || {
        send(&demo, "t", json!({"n": 1})).await;
        (google.counts().0 >= 2).then_some(())
    })
    .await;
    assert_eq!(google.counts().1, 0, "no publish was refused");
});

on_both_stores!(each_success_is_told_to_the_historical_topic, |store| async move {
    let emulator = PubSubServer::start().await;
    emulator.add_topic("history").await;
    let bus = Bus::new(&store)
        .set("PUBSUB_EMULATOR_HOST", &emulator.host())
        .set("GCLOUD_PUBSUB_PROJECT_ID", PROJECT)
        .set("PUBSUB_HISTORICAL_TOPIC_NAME", "history")
        .set("CLUSTER_NAME", "west");
    let server = bus.serve().await;
    let demo = server.client("demo");
    let receiver = bus.receiver().await;
    receiver.answer_next([Answer::Status(500)]);
    add_topic(&demo, "t").await;
    let publisher = add_publisher(&demo, "t", &receiver.url(), json!({"seconds_retry": 1})).await;
    send(&demo, "t", json!({"n": 1})).await;
    receiver.attempts(2).await;
    let told = emulator.pull("history", 1).await.remove(0);
    assert_eq!(told.attributes, json!({"cluster_name": "west"}));
    let data: Value = serde_json::from_str(&told.data).unwrap();
    let expected = json!({
        "consumer_id": publisher, "target": receiver.url(), "type": "http",
        "message_payload": {"n": 1}, "attributes": {"kind": "test"},
    });
    assert_eq!(data, expected);
    // A telling of the telling would be kept before that is done.
    let root = server.client(ROOT);
    let path = "/api/messages?topic=historical%3A%20history";
    let (all, _) = eventually("it is told", async || {
        let all = root.get(path).await.expect(200).json()["data"].clone();
        (all[0]["publishers"][0]["state"] == "done").then_some(all)
    })
    .await;
    assert_eq!(all.as_array().unwrap().len(), 1, "{all}");
    assert_eq!(emulator.pull_now("history").await, [], "once, and nothing of the telling itself");
});

#[test]
fn a_message_that_cannot_be_read_is_not_taken_for_published() {
    run(async {
        let emulator = PubSubServer::start().await;
        emulator.add_topic("orders").await;
        let bus = Bus::new(&Store::sqlite())
            .set("PUBSUB_EMULATOR_HOST", &emulator.host())
            .set("GCLOUD_PUBSUB_PROJECT_ID", PROJECT);
        let mut server = bus.serve().await;
        let demo = server.client("demo");
        add_topic(&demo, "t").await;
        let held = pubsub(json!({"active": false}));
        let publisher = add_publisher(&demo, "t", "orders", held).await;
        let mut sent = Vec::new();
        for n in 1..=3 {
            sent.push(send(&demo, "t", json!({"n": n})).await["message"].clone());
        }
        server.signal(Signal::Term);
        server.exit().await;
        let file = bus.data_dir().join("routemaster.db");
        let damage = "UPDATE messages SET content = x'00' WHERE number = ?1";
        let changed = rusqlite::Connection::open(file).unwrap().execute(damage, [sent[1].as_i64()]);
        assert_eq!(changed, Ok(1));
        let server = bus.serve().await;
        let demo = server.client("demo");
        let change = json!({"active": true}).to_string();
        let path = format!("/api/publishers/{publisher}");
        demo.try_send(Method::PATCH, &path, &[], change).await.unwrap().expect(200);
        assert_eq!(numbers(&emulator.pull("orders", 2).await), [1, 3]);
        eventually("it fails", async || {
            let shown = message(&demo, &sent[1]).await["publishers"][0].clone();
            let error = shown["error"].as_str().unwrap_or_default().to_owned();
            (shown["state"] == "failing" && error.contains("cannot be read")).then_some(())
        })
        .await;
    });
}
