//! Subscribing (§3): `POST /subscription` and what it changes.

use serde_json::{Value, json};

use crate::support::{Bus, ROOT, basic, event};

const CALLBACK: &str = "https://a.example/events";

on_both_stores!(a_subscription_has_its_defaults_and_both_names, |store| async move {
    let bus = Bus::new(&store);
    let web = bus.web().await;
    let (demo, alice) = (web.client("demo"), web.client("alice"));
    demo.claims("widgets").await;
    let body = json!({"topics": ["widgets"], "callback": CALLBACK}).to_string();
    for (client, path) in [(&demo, "/subscription"), (&alice, "/subscriber")] {
        let reply = client.post(path, body.clone()).await.expect(204);
        assert!(reply.body.is_empty(), "{reply:?}");
    }
    for (client, name) in [(&demo, "demo"), (&alice, "alice")] {
        let expected = json!({
            "subscriber": name,
            "callback": CALLBACK,
            "uuid": null,
            "max_events": 100,
            "timeout": 500,
            "topics": ["widgets"],
            "events": {"sent": 0, "queued": 0, "oldest": null},
        });
        assert_eq!(client.subscription(name).await, expected);
    }
});

on_both_stores!(the_listed_topics_are_exactly_the_subscription, |store| async move {
    let bus = Bus::new(&store);
    let web = bus.web().await;
    let (demo, receiver) = (web.client("demo"), bus.receiver().await);
    for topic in ["widgets", "gadgets", "gizmos"] {
        demo.claims(topic).await;
    }
    demo.subscribes(&receiver, &["widgets", "gadgets"], json!({"timeout": 0})).await;
    demo.publishes("widgets", [1]).await;
    demo.publishes("gadgets", [2]).await;
    demo.publishes("gizmos", [99]).await;
    demo.subscribes(&receiver, &["gadgets", "gizmos"], json!({"timeout": 0})).await;
    demo.publishes("widgets", [98]).await;
    demo.publishes("gadgets", [3]).await;
    demo.publishes("gizmos", [4]).await;
    assert_eq!(demo.subscription("demo").await["topics"], json!(["gadgets", "gizmos"]));
    demo.subscribes(&receiver, &[], json!({"timeout": 0})).await;
    demo.publishes("gizmos", [97]).await;
    assert_eq!(demo.subscription("demo").await["topics"], json!([]));
    assert_eq!(demo.queued("demo").await, Some(4), "queued events stay");
    let _worker = bus.worker().await;
    assert_eq!(receiver.numbers(4).await, [1, 2, 3, 4]);
});

on_both_stores!(subscribing_again_with_the_same_body_changes_nothing, |store| async move {
    let bus = Bus::new(&store);
    let web = bus.web().await;
    let (demo, receiver) = (web.client("demo"), bus.receiver().await);
    demo.claims("widgets").await;
    let more = json!({"timeout": 60_000, "max": 7, "uuid": "u"});
    demo.subscribes(&receiver, &["widgets"], more.clone()).await;
    demo.publishes("widgets", 1..=3).await;
    let before = demo.subscription("demo").await;
    demo.subscribes(&receiver, &["widgets"], more).await;
    // A topic that is named twice is the same topic.
    let twice = json!({"timeout": 60_000, "max": 7, "uuid": "u", "topics": ["widgets", "widgets"]});
    demo.subscribes(&receiver, &[], twice).await;
    assert_eq!(demo.subscription("demo").await, before);
    demo.publishes("widgets", [4]).await;
    assert_eq!(demo.queued("demo").await, Some(4));
});

on_both_stores!(another_body_is_the_whole_subscription, |store| async move {
    let bus = Bus::new(&store);
    let web = bus.web().await;
    let (demo, receiver) = (web.client("demo"), bus.receiver().await);
    demo.claims("widgets").await;
    let more = json!({"timeout": 60_000, "max": 7, "uuid": "u-1"});
    demo.subscribes(&receiver, &["widgets"], more).await;
    let set = demo.subscription("demo").await;
    assert_eq!((&set["max_events"], &set["timeout"]), (&json!(7), &json!(60_000)));
    assert_eq!(set["uuid"], "u-1");
    demo.publishes("widgets", [1]).await;

    demo.subscribes(&receiver, &["widgets"], json!({})).await;
    let default = demo.subscription("demo").await;
    assert_eq!((&default["max_events"], &default["timeout"]), (&json!(100), &json!(500)));
    assert_eq!(default["uuid"], Value::Null);
    // What waits already follows the new settings: it leaves soon, and without credentials.
    let _worker = bus.worker().await;
    let attempt = receiver.attempts(1).await.remove(0);
    assert_eq!(attempt.numbers(), [1]);
    assert_eq!(attempt.header("authorization"), None);
});

on_both_stores!(a_new_callback_gets_what_waits_already, |store| async move {
    let bus = Bus::new(&store);
    let web = bus.web().await;
    let demo = web.client("demo");
    let (old, new) = (bus.receiver().await, bus.receiver().await);
    demo.claims("widgets").await;
    demo.subscribes(&old, &["widgets"], json!({"timeout": 0})).await;
    demo.publishes("widgets", [1]).await;
    demo.subscribes(&new, &["widgets"], json!({"timeout": 0})).await;
    let _worker = bus.worker().await;
    assert_eq!(new.numbers(1).await, [1]);
    assert!(old.attempts_so_far().is_empty());
});

on_both_stores!(user_info_in_a_callback_is_the_uuid_and_is_never_shown, |store| async move {
    let bus = Bus::new(&store);
    let server = bus.serve().await;
    let (demo, receiver) = (server.client("demo"), bus.receiver().await);
    demo.claims("widgets").await;
    let callback = receiver.url().replace("https://", "https://us%65r:p4ss@") + "#part";
    let body = json!({"topics": ["widgets"], "callback": callback, "timeout": 0}).to_string();
    demo.post("/subscription", body).await.expect(204);
    let own = demo.get("/subscription").await.expect(200);
    assert_eq!(
        (&own.json()["uuid"], own.json()["callback"].as_str()),
        (&json!("user"), Some(&*receiver.url()))
    );
    demo.publishes("widgets", [1]).await;
    let attempt = &receiver.attempts(1).await[0];
    assert_eq!(attempt.header("authorization"), Some(&*basic("user:user")));
    assert!(!own.body.contains("p4ss"), "{own:?}");
    assert!(!server.stderr.text().contains("p4ss"));
});

on_both_stores!(ones_own_subscription_is_shown_to_its_subscriber, |store| async move {
    let bus = Bus::new(&store);
    let web = bus.web().await;
    let demo = web.client("demo");
    for path in ["/subscription", "/subscriber"] {
        demo.get(path).await.expect_reason(404);
        web.client(ROOT).get(path).await.expect_reason(403);
    }
    demo.claims("widgets").await;
    let body = json!({"topics": ["widgets"], "callback": "https://a.example/", "uuid": "u"});
    demo.post("/subscription", body.to_string()).await.expect(204);
    let own = demo.get("/subscription").await.expect(200).json();
    assert_eq!((&own["uuid"], &own), (&json!("u"), &demo.subscription("demo").await));
});

on_both_stores!(the_limits_are_inclusive, |store| async move {
    let bus = Bus::new(&store);
    let web = bus.web().await;
    let (demo, receiver) = (web.client("demo"), bus.receiver().await);
    for (timeout, max) in [(0, 1), (3_600_000, 10_000)] {
        demo.subscribes(&receiver, &[], json!({"timeout": timeout, "max": max})).await;
        let subscription = demo.subscription("demo").await;
        assert_eq!(subscription["timeout"], timeout);
        assert_eq!(subscription["max_events"], max);
    }
});

on_both_stores!(every_bad_subscription_gets_a_reason_and_changes_nothing, |store| async move {
    let bus = Bus::new(&store);
    let web = bus.web().await;
    let (demo, receiver) = (web.client("demo"), bus.receiver().await);
    demo.claims("widgets").await;
    demo.subscribes(&receiver, &["widgets"], json!({"max": 7})).await;
    let before = demo.subscription("demo").await;
    let (topics, callback) = (r#""topics":["widgets"]"#, r#""callback":"https://a.example""#);
    let mut bodies = vec![
        (String::new(), "empty"),
        ("{".into(), ""),
        ("[]".into(), "object"),
        ("7".into(), "object"),
        (format!("{{{topics}}}"), "callback"),
        (format!("{{{callback}}}"), "topics"),
        (format!("{{{topics},{callback},\"more\":1}}"), "more"),
        (format!("{{{topics},{topics},{callback}}}"), "duplicate"),
    ];
    for bad in [
        "http://a.example",
        "a.example",
        "https://",
        "https:///events",
        "https://a.example?x=1",
        "https://a.example/?",
        "https://a b",
        "",
    ] {
        bodies.push((format!(r#"{{{topics},"callback":"{bad}"}}"#), "callback"));
    }
    for bad in ["7", "null", "[]"] {
        bodies.push((format!(r#"{{{topics},"callback":{bad}}}"#), ""));
    }
    for bad in ["\"widgets\"", "null", "7", "{}", "[7]", "[null]", "[\"Widgets\"]", "[\"\"]"] {
        bodies.push((format!(r#"{{"topics":{bad},{callback}}}"#), ""));
    }
    for bad in ["-1", "3600001", "1.5", "\"1\"", "true", "18446744073709551616"] {
        bodies.push((format!(r#"{{{topics},{callback},"timeout":{bad}}}"#), ""));
    }
    for bad in ["0", "-1", "10001", "1.0", "\"1\"", "18446744073709551616"] {
        bodies.push((format!(r#"{{{topics},{callback},"max":{bad}}}"#), ""));
    }
    for bad in ["7", "true", "[]", "{}"] {
        bodies.push((format!(r#"{{{topics},{callback},"uuid":{bad}}}"#), ""));
    }
    for (body, part) in bodies {
        let reply = demo.post("/subscription", body.clone()).await;
        assert_eq!(reply.status, 400, "{body}: {reply:?}");
        let reason = reply.expect_reason(400);
        assert!(reason.contains(part), "{body} was refused with: {reason}");
    }
    assert_eq!(demo.subscription("demo").await, before);
    let alice = web.client("alice");
    alice.post("/subscription", "{}").await.expect_reason(400);
    assert!(alice.subscription("alice").await.is_null());
});

on_both_stores!(a_topic_that_nobody_published_to_is_unknown, |store| async move {
    let bus = Bus::new(&store);
    let web = bus.web().await;
    let (demo, receiver) = (web.client("demo"), bus.receiver().await);
    demo.claims("widgets").await;
    let body = json!({"topics": ["widgets", "nothing"], "callback": receiver.url()}).to_string();
    let reason = demo.post("/subscription", body.clone()).await.expect_reason(404);
    assert!(reason.contains("nothing"), "{reason}");
    assert!(demo.subscription("demo").await.is_null());
    assert!(demo.topic("nothing").await.is_null());

    // A refusal leaves an existing subscription as it is.
    demo.subscribes(&receiver, &["widgets"], json!({"max": 7})).await;
    let before = demo.subscription("demo").await;
    demo.post("/subscription", body).await.expect_reason(404);
    assert_eq!(demo.subscription("demo").await, before);
});

on_both_stores!(subscribing_can_be_allowed_to_create_topics, |store| async move {
    let bus = Bus::new(&store).set("ROUTEMASTER_SUBSCRIBE_CREATES_TOPICS", "true");
    let web = bus.web().await;
    let (demo, receiver) = (web.client("demo"), bus.receiver().await);
    demo.subscribes(&receiver, &["widgets"], json!({})).await;
    let topic = demo.topic("widgets").await;
    assert_eq!(topic, json!({"name": "widgets", "publisher": null, "events": 0}));
    let alice = web.client("alice");
    alice.publish("widgets", &event(1)).await.expect(204);
    assert_eq!(demo.topic("widgets").await["publisher"], "alice");
    assert_eq!(demo.queued("demo").await, Some(1));
    demo.publish("widgets", &event(2)).await.expect(403);
});
