//! What became of one event (§14): it is followed from its publication to each acknowledgement.

use serde_json::{Value, json};

use crate::support::{Answer, Bus, Client, ORDERS, ROOT, event, eventually};

/// Publishes an event; where it stands.
async fn publish(client: &Client, topic: &str, number: u64) -> u64 {
    let told = client.publish(topic, &event(number)).await.expect(204);
    told.header("routemaster-event").unwrap().parse().unwrap()
}

/// What became of an event, as soon as `subscriber` has this fate.
async fn fate(client: &Client, position: u64, subscriber: &str, expected: &str) -> Value {
    let (trace, _) = eventually(&format!("{subscriber} has {expected}"), async || {
        let told = client.get(&format!("/events/{position}")).await;
        let trace = if told.status == 200 { told.json() } else { Value::Null };
        let is_so = of(&trace, subscriber)["fate"] == expected;
        is_so.then_some(trace)
    })
    .await;
    trace
}

fn of<'a>(trace: &'a Value, subscriber: &str) -> &'a Value {
    let all = trace["subscribers"].as_array().into_iter().flatten();
    let mut found = all.filter(|one| one["subscriber"] == subscriber);
    found.next().unwrap_or(&Value::Null)
}

fn names(trace: &Value) -> Vec<&str> {
    let all = trace["subscribers"].as_array().unwrap().iter();
    let mut names: Vec<_> = all.map(|one| one["subscriber"].as_str().unwrap()).collect();
    names.sort_unstable();
    names
}

on_both_stores!(an_event_is_followed_to_each_subscriber, |store| async move {
    let bus = Bus::new(&store);
    let (web, _worker) = (bus.web().await, bus.worker().await);
    let (demo, alice, bob) = (web.client("demo"), web.client("alice"), web.client("bob"));
    let (orders, root) = (web.client(ORDERS), web.client(ROOT));
    demo.claims("widgets").await;
    let (good, bad) = (bus.receiver().await, bus.receiver().await);
    alice.subscribes(&good, &["widgets"], json!({"timeout": 0})).await;
    bob.subscribes(&bad, &["widgets"], json!({"timeout": 0, "max": 1})).await;
    bad.answer(Answer::Status(500));
    let first = publish(&demo, "widgets", 1).await;
    let second = publish(&demo, "widgets", 2).await;

    let trace = fate(&root, first, "alice", "delivered").await;
    assert_eq!((&trace["topic"], &trace["position"]), (&json!("widgets"), &json!(first)));
    let attempt = &of(&trace, "alice")["attempts"][0];
    assert_eq!((&attempt["status"], &attempt["failed"]), (&json!(200), &json!(false)));
    let delivered = good.attempts(1).await;
    assert_eq!(delivered[0].header("webhook-id"), attempt["batch"].as_str());

    let (trace, _) = eventually("bob has failed twice", async || {
        let trace = root.get(&format!("/events/{first}")).await.expect(200).json();
        let bob = of(&trace, "bob");
        (bob["fate"] == "batch" && bob["attempts"].as_array()?.len() > 1).then_some(trace)
    })
    .await;
    let attempts = &of(&trace, "bob")["attempts"];
    assert_eq!((&attempts[0]["attempt"], &attempts[1]["attempt"]), (&json!(1), &json!(2)));
    assert!(attempts[0]["error"].as_str().unwrap().contains("500"), "{trace}");
    assert_eq!(trace["event"]["url"], json!(event(1)["url"]));

    // What waits behind it was not tried.
    let trace = fate(&root, second, "bob", "waiting").await;
    assert_eq!(of(&trace, "bob")["attempts"], json!([]));

    // The publisher sees where its event is, and not what others answered; a subscriber sees itself.
    let trace = fate(&demo, first, "bob", "batch").await;
    assert_eq!(names(&trace), ["alice", "bob"]);
    assert_eq!(of(&trace, "bob")["attempts"][0]["status"], 500);
    assert!(of(&trace, "bob")["attempts"][0]["error"].is_null(), "{trace}");
    let trace = alice.get(&format!("/events/{first}")).await.expect(200).json();
    assert_eq!(names(&trace), ["alice"]);
    assert!(trace["event"].is_null(), "it is delivered: {trace}");
    orders.get(&format!("/events/{first}")).await.expect(404);
    root.get(&format!("/events/{}", first + 1)).await.expect(404);
    root.get("/events/first").await.expect(400);

    root.post("/subscriptions/bob/skip", json!({"through": first}).to_string()).await.expect(200);
    let trace = fate(&root, first, "bob", "dead_letter").await;
    assert_eq!(trace["event"]["url"], json!(event(1)["url"]));
    // Brought back, it is the same event.
    bad.answer(Answer::Status(200));
    root.post(&format!("/dead_letters/{first}/retry?client=bob"), "").await.expect(204);
    fate(&root, first, "bob", "delivered").await;

    // One whose subscriber has gone was not delivered to it.
    bad.answer(Answer::Status(500));
    let third = publish(&demo, "widgets", 3).await;
    eventually("it is tried", async || {
        let trace = root.get(&format!("/events/{third}")).await;
        let trace = (trace.status == 200).then(|| trace.json())?;
        (of(&trace, "bob")["attempts"].as_array()?.len() > 1).then_some(())
    })
    .await;
    bob.delete("/subscription").await.expect(204);
    let trace = fate(&bob, third, "bob", "gone").await;
    assert_eq!(names(&trace), ["bob"]);
});

on_both_stores!(the_command_line_follows_an_event, |store| async move {
    let bus = Bus::new(&store);
    let server = bus.serve().await;
    let receiver = bus.receiver().await;
    server.client("demo").claims("widgets").await;
    server.client("demo").subscribes(&receiver, &["widgets"], json!({"timeout": 0})).await;
    let url = ["--url", server.base()];
    let publish = ["publish", "widgets", "create", "https://a.example/1"];
    let published = bus.run(&[&publish[..], &url].concat()).await;
    assert_eq!(published.code, Some(0), "{}", published.stderr);
    let position = published.stdout.trim().rsplit(' ').next().unwrap().to_owned();
    let (shown, _) = eventually("it is delivered", async || {
        let traced = bus.run(&[&["trace", &position][..], &url].concat()).await;
        traced.stdout.contains("delivered").then_some(traced.stdout)
    })
    .await;
    assert!(shown.starts_with("published to `widgets` "), "{shown}");
    assert!(
        shown.lines().any(|line| line.starts_with("demo  ") && line.contains("200")),
        "{shown}"
    );
    let unknown = bus.run(&[&["trace", "17"][..], &url].concat()).await;
    assert_eq!(unknown.code, Some(1));
    assert!(unknown.stderr.contains("nothing is known of this event"), "{}", unknown.stderr);
});
