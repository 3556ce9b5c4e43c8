//! Monitoring (§5): what the bus tells about itself, and to whom.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::support::{Answer, Bus, ORDERS, ROOT, event, eventually};

on_both_stores!(topics_are_listed_with_publisher_and_count, |store| async move {
    let bus = Bus::new(&store);
    let web = bus.web().await;
    let (demo, orders) = (web.client("demo"), web.client(ORDERS));
    let empty = demo.get("/topics").await.expect(200);
    assert_eq!(empty.json(), json!([]));
    assert_eq!(empty.header("content-type"), Some("application/json"));
    demo.publishes("widgets", 1..=3).await;
    orders.publishes("orders", 1..=1).await;
    let list = |publisher: &str| {
        json!([
            {"name": "orders", "publisher": publisher, "events": 1},
            {"name": "widgets", "publisher": "demo", "events": 3},
        ])
    };
    // The secret part of a token is for root and its holder only.
    assert_eq!(demo.get("/topics").await.expect(200).json(), list("orders"));
    assert_eq!(orders.get("/topics").await.expect(200).json(), list(ORDERS));
    assert_eq!(web.client(ROOT).get("/topics").await.expect(200).json(), list(ORDERS));
});

on_both_stores!(subscriptions_are_listed_and_secrets_only_to_their_holder, |store| async move {
    let bus = Bus::new(&store);
    let web = bus.web().await;
    let (demo, orders) = (web.client("demo"), web.client(ORDERS));
    assert_eq!(demo.get("/subscriptions").await.expect(200).json(), json!([]));
    demo.claims("widgets").await;
    let callback = "https://a.example/events";
    for (client, uuid) in [(&demo, "uuid-of-demo"), (&orders, "uuid-of-orders")] {
        let body = json!({
            "topics": ["widgets"], "callback": callback, "uuid": uuid, "timeout": 7, "max": 9,
        });
        client.post("/subscription", body.to_string()).await.expect(204);
    }
    let row = |subscriber: &str, uuid: Value| {
        json!({
            "subscriber": subscriber, "callback": callback, "uuid": uuid, "max_events": 9,
            "timeout": 7, "topics": ["widgets"],
            "events": {"sent": 0, "queued": 0, "oldest": null},
        })
    };
    let (demos, others) = (json!("uuid-of-demo"), json!("uuid-of-orders"));
    for path in ["/subscriptions", "/subscribers"] {
        for (token, expected) in [
            ("demo", [row("demo", demos.clone()), row("orders", Value::Null)]),
            (ORDERS, [row("demo", Value::Null), row(ORDERS, others.clone())]),
            ("alice", [row("demo", Value::Null), row("orders", Value::Null)]),
            (ROOT, [row("demo", demos.clone()), row(ORDERS, others.clone())]),
        ] {
            let listed = web.client(token).get(path).await.expect(200).json();
            assert_eq!(listed, json!(expected), "{path} as {token}");
        }
    }
});

on_both_stores!(sent_queued_and_oldest_follow_the_events, |store| async move {
    let bus = Bus::new(&store);
    let server = bus.serve().await;
    let (demo, receiver) = (server.client("demo"), bus.receiver().await);
    demo.claims("widgets").await;
    demo.subscribes(&receiver, &["widgets"], json!({"timeout": 0, "max": 2})).await;
    receiver.answer_next([Answer::Held]);
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let before = now();
    // What counts is when the bus got it, not what its publisher says.
    let mut dated = event(1);
    dated["timestamp"] = json!(1);
    demo.publish("widgets", &dated).await.expect(204);
    let after = now();
    receiver.attempts(1).await;
    demo.publishes("widgets", 2..=4).await;
    let events = demo.subscription("demo").await["events"].clone();
    assert_eq!((&events["sent"], &events["queued"]), (&json!(0), &json!(4)));
    let oldest = events["oldest"].as_u64().expect("a time in seconds");
    assert!((before..=after).contains(&oldest), "{before} <= {oldest} <= {after}");
    receiver.release();
    let all_sent = json!({"sent": 4, "queued": 0, "oldest": null});
    let settled = async || (demo.subscription("demo").await["events"] == all_sent).then_some(());
    eventually("all events count as sent", settled).await;

    // A failure is not counted as sent.
    receiver.answer_next([Answer::Status(500)]);
    demo.publishes("widgets", [5]).await;
    let sent = async || demo.subscription("demo").await["events"]["sent"].as_u64();
    eventually("the fifth is sent", async || (sent().await == Some(5)).then_some(())).await;
    assert_eq!(demo.topic("widgets").await["events"], 6);
});

on_both_stores!(pulse_tells_whether_the_store_is_there, |store| async move {
    let bus = Bus::new(&store);
    let server = bus.serve().await;
    for token in ["demo", ROOT] {
        for path in ["/pulse", "/pulse/scaling"] {
            let reply = server.client(token).get(path).await.expect(204);
            assert!(reply.body.is_empty(), "{reply:?}");
        }
    }
});

on_both_stores!(scaling_answers_late_when_too_many_batches_are_due, |store| async move {
    let bus = Bus::new(&store)
        .set("ROUTEMASTER_SCALING_THRESHOLD", "3")
        .set("ROUTEMASTER_SCALING_DEADLINE", "1000");
    let web = bus.web().await;
    let (demo, receiver) = (web.client("demo"), bus.receiver().await);
    demo.claims("widgets").await;
    let answer_time = async || {
        let start = Instant::now();
        demo.get("/pulse/scaling").await.expect(204);
        start.elapsed()
    };
    let second = Duration::from_secs(1);
    // Due only after the deadline: these do not count.
    demo.subscribes(&receiver, &["widgets"], json!({"timeout": 60_000, "max": 1000})).await;
    demo.publishes("widgets", 1..=4).await;
    assert!(answer_time().await < second / 2);
    // Two batches are under the threshold, three are not.
    demo.subscribes(&receiver, &["widgets"], json!({"timeout": 0, "max": 2})).await;
    assert!(answer_time().await < second / 2);
    demo.publishes("widgets", [5]).await;
    let late = answer_time().await;
    assert!((second..second * 3).contains(&late), "{late:?}");
});

on_both_stores!(health_asks_for_no_authentication, |store| async move {
    let bus = Bus::new(&store);
    let server = bus.serve().await;
    let anonymous = server.anonymous();
    for client in [
        anonymous.clone(),
        server.client("demo"),
        server.client("mallory"),
        anonymous.with_authorization("Bearer x"),
        anonymous.with_authorization("Basic !!!"),
    ] {
        let health = client.get("/health").await.expect(200);
        assert_eq!(health.body, "{}");
        assert_eq!(health.header("content-type"), Some("application/json"));
        let ping = client.get("/health/ping").await.expect(200).json();
        let keys: Vec<_> = ping.as_object().expect("an object").keys().collect();
        assert_eq!(keys, ["pong"]);
        assert!(client.get("/health/ping.json").await.expect(200).json()["pong"].is_u64());
    }
});

on_both_stores!(any_client_or_root_reads_all_monitoring, |store| async move {
    let bus = Bus::new(&store);
    let web = bus.web().await;
    let made = web.client(ROOT).post("/api_tokens", r#"{"name":"svc"}"#).await.expect(201).json();
    let made = made["token"].as_str().unwrap();
    for token in ["demo", "alice", ORDERS, ROOT, made] {
        let client = web.client(token);
        for (path, status) in [
            ("/topics", 200),
            ("/subscriptions", 200),
            ("/subscribers", 200),
            ("/pulse", 204),
            ("/pulse/scaling", 204),
        ] {
            let reply = client.get(path).await;
            assert_eq!(reply.status, status, "{token} {path}: {reply:?}");
        }
    }
});
