//! Retention: events that a subscriber would rather not receive late, or not in such numbers.

use serde_json::{Value, json};

use crate::support::{Answer, Bus, Store, event, eventually, run, soon};

on_both_stores!(events_past_their_retention_are_dropped_and_counted, |store| async move {
    let bus = Bus::new(&store).set("ROUTEMASTER_MAX_BACKOFF_MS", "200");
    let server = bus.serve().await;
    let (demo, alice) = (server.client("demo"), server.client("alice"));
    let (patient, hasty) = (bus.receiver().await, bus.receiver().await);
    demo.claims("widgets").await;
    for (client, receiver, more) in [
        (&demo, &patient, json!({"timeout": 0})),
        (&alice, &hasty, json!({"timeout": 0, "retention": 1000})),
    ] {
        receiver.answer(Answer::Status(503));
        client.subscribes(receiver, &["widgets"], more).await;
    }
    demo.publishes("widgets", 1..=5).await;
    let expired = async || alice.subscription("alice").await["events"]["expired"].as_u64();
    eventually("they expire", async || (expired().await == Some(5)).then_some(())).await;
    assert_eq!(alice.queued("alice").await, Some(0));
    for receiver in [&patient, &hasty] {
        receiver.answer(Answer::Status(200));
    }
    demo.publishes("widgets", 6..=7).await;
    assert_eq!(hasty.numbers(2).await, [6, 7]);
    assert_eq!(patient.numbers(7).await, (1..=7).collect::<Vec<_>>());
    let row = alice.subscription("alice").await;
    assert_eq!((&row["retention"], &row["events"]["expired"]), (&json!(1000), &json!(5)));
    let demos = demo.subscription("demo").await;
    assert!(demos["retention"].is_null() && demos["events"]["expired"].is_null(), "{demos}");
    let metric = soon("it is counted", server.stderr.line_with("routemaster.events.expired"));
    let metric = metric.await.expect("a metric");
    assert!(metric.contains("\"value\":5"), "{metric}");
});

on_both_stores!(of_more_than_max_queued_the_oldest_are_dropped, |store| async move {
    let bus = Bus::new(&store).set("ROUTEMASTER_MAX_BACKOFF_MS", "200");
    let server = bus.serve().await;
    let (demo, receiver) = (server.client("demo"), bus.receiver().await);
    receiver.answer(Answer::Status(503));
    demo.claims("widgets").await;
    demo.subscribes(&receiver, &["widgets"], json!({"timeout": 0, "max_queued": 3})).await;
    demo.publishes("widgets", 1..=10).await;
    let queued = async || demo.queued("demo").await;
    eventually("only three are left", async || (queued().await == Some(3)).then_some(())).await;
    receiver.answer(Answer::Status(200));
    assert_eq!(receiver.numbers(3).await, [8, 9, 10]);
    let row = demo.subscription("demo").await;
    assert_eq!((&row["max_queued"], &row["events"]["expired"]), (&json!(3), &json!(7)));

    // An old client that subscribes anew at each start knows nothing of it, and changes nothing.
    demo.subscribes(&receiver, &["widgets"], json!({"timeout": 0})).await;
    assert_eq!(demo.get("/subscription").await.expect(200).json()["max_queued"], 3);
    demo.subscribes(&receiver, &["widgets"], json!({"timeout": 0, "max_queued": 0})).await;
    let row = demo.subscription("demo").await;
    assert!(row["max_queued"].is_null(), "{row}");
});

#[test]
fn a_retention_that_makes_no_sense_is_refused() {
    run(async {
        let bus = Bus::new(&Store::sqlite());
        let web = bus.web().await;
        let demo = web.client("demo");
        demo.publish("widgets", &event(1)).await.expect(204);
        for (field, value) in [
            ("retention", json!(999)),
            ("retention", json!(500)),
            ("retention", json!("1000")),
            ("max_queued", json!(-1)),
            ("max_queued", json!(1.5)),
        ] {
            let mut body = json!({"topics": ["widgets"], "callback": "https://a.example/events"});
            body[field] = value.clone();
            demo.post("/subscription", body.to_string()).await.expect_reason(400);
        }
        assert!(demo.subscription("demo").await.is_null());
        let body = |more: Value| {
            let mut body = json!({"topics": ["widgets"], "callback": "https://a.example/events"});
            body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            body.to_string()
        };
        demo.post("/subscription", body(json!({"retention": 1000}))).await.expect(204);
        let before = demo.subscription("demo").await;
        let reply = demo.post("/subscription", body(json!({"timeout": 1000}))).await;
        assert!(reply.expect_reason(400).contains("`retention` of 1000"));
        assert_eq!(demo.subscription("demo").await, before);
    });
}
