//! Publishing (§2): what is accepted, and what that means.

use serde_json::{Value, json};

use crate::support::{Bus, Client, event, eventually, now_ms, numbered};

/// A web process without a worker, so that queues keep what they get, and a subscriber of
/// `widgets`.
macro_rules! web_with_subscriber {
    ($store:ident => $bus:ident, $web:ident, $receiver:ident) => {
        let $bus = Bus::new(&$store);
        let $web = $bus.web().await;
        let $receiver = $bus.receiver().await;
        $web.client("demo").claims("widgets").await;
        let more = json!({"timeout": 0, "max": 10_000});
        $web.client("bob").subscribes(&$receiver, &["widgets"], more).await;
    };
}

on_both_stores!(an_accepted_publish_is_answered_as_the_settings_say, |store| async move {
    let bus = Bus::new(&store).set("ROUTEMASTER_PUBLISH_STATUS", "200");
    let server = bus.web().await;
    let demo = server.client("demo");
    let reply = demo.publish("widgets", &event(1)).await.expect(200);
    assert_eq!(reply.body, "");
    demo.publish("widgets", &json!([event(2), event(3)])).await.expect(200);
    demo.publish("widgets", &json!({})).await.expect_reason(400);
    assert_eq!(demo.topic("widgets").await["events"], 3);
});

on_both_stores!(an_accepted_event_is_in_every_subscribed_queue_at_once, |store| async move {
    web_with_subscriber!(store => bus, web, receiver);
    let (demo, alice) = (web.client("demo"), web.client("alice"));
    alice.subscribes(&receiver, &["widgets"], json!({})).await;
    for number in 1..=5 {
        let reply = demo.publish("widgets", &event(number)).await.expect(204);
        assert!(reply.body.is_empty(), "{reply:?}");
        for subscriber in ["alice", "bob"] {
            assert_eq!(demo.queued(subscriber).await, Some(number));
        }
    }
});

on_both_stores!(the_first_publish_creates_the_topic_and_makes_the_publisher, |store| async move {
    let bus = Bus::new(&store);
    let web = bus.web().await;
    let (demo, alice) = (web.client("demo"), web.client("alice"));
    assert_eq!(demo.get("/topics").await.expect(200).json(), json!([]));
    demo.publishes("widgets", 1..=2).await;
    let expected = json!({"name": "widgets", "publisher": "demo", "events": 2});
    assert_eq!(demo.topic("widgets").await, expected);
    alice.publish("widgets", &event(3)).await.expect_reason(403);
    assert_eq!(demo.topic("widgets").await, expected);
    alice.publishes("gadgets", 1..=1).await;
    assert_eq!(demo.topic("gadgets").await["publisher"], "alice");
});

on_both_stores!(a_topic_has_one_publisher_even_when_many_come_at_once, |store| async move {
    let bus = Bus::new(&store);
    let web = bus.web().await;
    for round in ["a", "b", "c", "d"] {
        let publishes = ["demo", "alice", "bob", "carol"].map(|token| {
            let client = web.client(token);
            let publish = async move { client.publish(round, &event(1)).await.status };
            (token, tokio::spawn(publish))
        });
        let mut winners = vec![];
        for (token, publish) in publishes {
            match publish.await.unwrap() {
                204 => winners.push(token),
                status => assert_eq!(status, 403),
            }
        }
        assert_eq!(winners.len(), 1, "{winners:?}");
        assert_eq!(web.client("demo").topic(round).await["publisher"], winners[0]);
    }
});

on_both_stores!(what_is_allowed_at_the_limits_is_accepted, |store| async move {
    web_with_subscriber!(store => bus, web, receiver);
    let demo = web.client("demo");
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let path = "a".repeat(1024 - "https://a.example/".len());
    let accented = "\u{e9}".repeat(1024 - "https://a.example/".len());
    let bodies = [
        r#"{"type":"create","url":"https://a.example"}"#.to_owned(),
        r#"{"type":"update","url":"https://a.example/?a=1#b","data":null}"#.to_owned(),
        r#"{"type":"delete","url":"https://a.example","timestamp":0}"#.to_owned(),
        r#"{"type":"noop","url":"https://a.example","timestamp":1700000000000}"#.to_owned(),
        r#" { "url" : "https://a.example" , "type" : "noop" , "data" : false } "#.to_owned(),
        format!(r#"{{"type":"create","url":"https://a.example/{path}"}}"#),
        format!(r#"{{"type":"create","url":"https://a.example/{accented}"}}"#),
        format!(r#"{{"type":"noop","url":"https://a.example","data":"{}"}}"#, "x".repeat(8190)),
        format!(r#"{{"type":"noop","url":"https://a.example","data":{}}}"#, nested(60)),
        format!(r#"{{"type":"noop","url":"https://a.example","data":{}}}"#, "9".repeat(1000)),
    ];
    let count = bodies.len();
    for body in bodies {
        let reply = demo.post("/topics/widgets", body.clone()).await;
        assert_eq!(reply.status, 204, "{body}: {reply:?}");
    }
    assert_eq!(demo.queued("bob").await, Some(count as u64));
    let _worker = bus.worker().await;
    // One batch, with a number that is out of the range of this harness's own parser.
    let attempt = receiver.attempts(1).await.remove(0);
    assert_eq!(attempt.body.matches(r#"{"topic":"widgets""#).count(), count);
    assert!(attempt.body.ends_with(&format!(r#""data":{}}}]"#, "9".repeat(1000))));
    // Nothing is left: it was acknowledged.
    let demo = web.client("demo");
    let settled = async || (demo.queued("bob").await == Some(0)).then_some(());
    eventually("the batch is acknowledged", settled).await;
});

on_both_stores!(an_event_without_a_timestamp_gets_the_time_of_reception, |store| async move {
    web_with_subscriber!(store => bus, web, receiver);
    let demo = web.client("demo");
    let before = now_ms();
    demo.publishes("widgets", [1]).await;
    let after = now_ms();
    let mut dated = event(2);
    dated["timestamp"] = json!(42);
    demo.publish("widgets", &dated).await.expect(204);
    let _worker = bus.worker().await;
    let events = receiver.events(2).await;
    let time = events[0]["t"].as_u64().expect("a time");
    assert!((before..=after).contains(&time), "{before} <= {time} <= {after}");
    assert_eq!(events[1]["t"], 42);
});

on_both_stores!(an_array_is_stored_whole_and_in_order, |store| async move {
    web_with_subscriber!(store => bus, web, receiver);
    let demo = web.client("demo");
    let events: Vec<Value> = (1..=250).map(event).collect();
    let reply = demo.post("/topics/widgets", json!(events).to_string()).await.expect(204);
    assert!(reply.body.is_empty(), "{reply:?}");
    demo.publish("widgets", &event(251)).await.expect(204);
    assert_eq!(demo.topic("widgets").await["events"], 252);
    let _worker = bus.worker().await;
    let received: Vec<u64> = receiver.events(251).await.iter().map(numbered).collect();
    assert_eq!(received, (1..=251).collect::<Vec<_>>());
});

on_both_stores!(an_array_with_a_bad_event_is_refused_whole, |store| async move {
    web_with_subscriber!(store => bus, web, _receiver);
    let demo = web.client("demo");
    let before = demo.topic("widgets").await;
    for (array, index) in [
        (json!([event(1), event(2), {"type": "x"}, event(3), {}]), 2),
        (json!([{}, event(1)]), 0),
        (json!([event(1), [event(2)]]), 1),
        (json!([event(1), null]), 1),
    ] {
        let reason = demo.post("/topics/widgets", array.to_string()).await.expect_reason(400);
        assert!(reason.contains(&index.to_string()), "{array}: {reason}");
    }
    demo.post("/topics/widgets", "[]").await.expect_reason(400);
    demo.post("/topics/gadgets", json!([event(1), {}]).to_string()).await.expect_reason(400);
    assert_eq!(demo.topic("widgets").await, before);
    assert!(demo.topic("gadgets").await.is_null());
    assert_eq!(demo.queued("bob").await, Some(0));
});

on_both_stores!(concurrent_publishes_are_each_stored_once, |store| async move {
    web_with_subscriber!(store => bus, web, receiver);
    let demo = web.client("demo");
    let publish = |demo: Client, task: u64| async move {
        demo.publishes("widgets", (1..=25).map(|number| task * 100 + number)).await;
    };
    let tasks: Vec<_> = (1..=8).map(|task| tokio::spawn(publish(demo.clone(), task))).collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(demo.topic("widgets").await["events"], 201);
    let _worker = bus.worker().await;
    let received = receiver.numbers(200).await;
    for task in 1..=8 {
        let own: Vec<_> = received.iter().filter(|number| *number / 100 == task).collect();
        assert_eq!(own.len(), 25);
        assert!(own.is_sorted(), "each client's events stay in order: {own:?}");
    }
});

on_both_stores!(longer_topic_names_and_larger_data_can_be_allowed, |store| async move {
    let bus = Bus::new(&store)
        .set("ROUTEMASTER_TOPIC_NAME_MAX", "64")
        .set("ROUTEMASTER_MAX_EVENT_DATA", "10");
    let web = bus.web().await;
    let demo = web.client("demo");
    demo.publish(&"a".repeat(64), &event(1)).await.expect(204);
    demo.publish(&"a".repeat(65), &event(1)).await.expect_reason(400);
    let mut small = event(1);
    small["data"] = json!("12345678");
    demo.publish("widgets", &small).await.expect(204);
    small["data"] = json!("123456789");
    demo.publish("widgets", &small).await.expect_reason(400);
});
