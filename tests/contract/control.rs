//! Control (§14): a queue is looked into, held, and rid of what is in the way.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{
    Answer, Attempt, Bus, Client, ORDERS, Process, ROOT, event, eventually, now_ms,
};

/// Runs a command that must succeed; what it prints.
async fn output(bus: &Bus, server: &Process, arguments: &[&str]) -> String {
    let ended = bus.run(&[arguments, &["--url", server.base()]].concat()).await;
    assert_eq!(ended.code, Some(0), "{arguments:?}: {}{}", ended.stdout, ended.stderr);
    ended.stdout
}

async fn detail(client: &Client, subscriber: &str) -> Value {
    client.get(&format!("/subscriptions/{subscriber}")).await.expect(200).json()
}

async fn state(client: &Client, subscriber: &str, expected: &str) -> Value {
    let (shown, _) = eventually(&format!("{subscriber} is {expected}"), async || {
        let shown = detail(client, subscriber).await;
        (shown["status"] == expected).then_some(shown)
    })
    .await;
    shown
}

/// The numbers of the events that wait, with their positions.
async fn waiting(client: &Client, subscriber: &str) -> Vec<(u64, u64)> {
    let page = client.get(&format!("/subscriptions/{subscriber}/queue?limit=500")).await;
    let page = page.expect(200).json();
    let rows = page["events"].as_array().unwrap().iter();
    rows.map(|row| {
        let url = row["event"]["url"].as_str().unwrap();
        (url.rsplit('/').next().unwrap().parse().unwrap(), row["position"].as_u64().unwrap())
    })
    .collect()
}

on_both_stores!(a_paused_queue_sends_nothing_and_keeps_everything, |store| async move {
    let bus = Bus::new(&store);
    let server = bus.serve().await;
    let (demo, root, receiver) = (server.client("demo"), server.client(ROOT), bus.receiver().await);
    demo.claims("widgets").await;
    demo.subscribes(&receiver, &["widgets"], json!({"timeout": 0})).await;
    demo.post("/subscriptions/demo/pause", "").await.expect(204);
    demo.post("/subscriptions/demo/pause", "").await.expect(204);
    demo.publishes("widgets", 1..=3).await;
    let shown = detail(&demo, "demo").await;
    assert_eq!(
        (&shown["status"], &shown["paused"]["by"]),
        (&json!("paused"), &json!("subscriber"))
    );
    assert_eq!(server.client("alice").subscription("demo").await["paused"]["by"], "subscriber");
    root.post("/subscriptions/demo/retry", "").await.expect_reason(409);
    receiver.stays_quiet(Duration::from_millis(500)).await;
    // It is no matter of the process.
    drop(server);
    let server = bus.serve().await;
    let (demo, root) = (server.client("demo"), server.client(ROOT));
    demo.subscribes(&receiver, &["widgets"], json!({"timeout": 0})).await;
    receiver.stays_quiet(Duration::from_millis(300)).await;
    root.post("/subscriptions/demo/resume", "").await.expect(204);
    assert_eq!(receiver.numbers(3).await, [1, 2, 3]);
    assert!(detail(&demo, "demo").await["paused"].is_null());
});

on_both_stores!(a_callback_that_is_gone_pauses_its_subscription, |store| async move {
    let bus = Bus::new(&store);
    let server = bus.serve().await;
    let (demo, receiver) = (server.client("demo"), bus.receiver().await);
    demo.claims("widgets").await;
    demo.subscribes(&receiver, &["widgets"], json!({"timeout": 0})).await;
    receiver.answer_next([Answer::Status(410)]);
    demo.publishes("widgets", [1]).await;
    let shown = state(&demo, "demo", "paused").await;
    assert_eq!(shown["paused"]["by"], "callback");
    assert_eq!((&shown["last_error"]["status"], &shown["next_try"]), (&json!(410), &Value::Null));
    demo.publishes("widgets", [2]).await;
    receiver.stays_quiet(Duration::from_millis(400)).await;
    demo.subscribes(&receiver, &["widgets"], json!({"timeout": 0})).await;
    assert_eq!(receiver.numbers(2).await, [1, 2]);
});

on_both_stores!(a_receiver_that_asks_for_time_gets_it, |store| async move {
    let bus = Bus::new(&store);
    let server = bus.serve().await;
    let (demo, receiver) = (server.client("demo"), bus.receiver().await);
    demo.claims("widgets").await;
    demo.subscribes(&receiver, &["widgets"], json!({"timeout": 0})).await;
    receiver.answer_next([Answer::RetryAfter(503, "2"), Answer::RetryAfter(500, "60")]);
    demo.publishes("widgets", [1]).await;
    let attempts = receiver.attempts(3).await;
    assert!(attempts[1].at - attempts[0].at >= Duration::from_secs(2));
    assert!(attempts[2].at - attempts[1].at < Duration::from_secs(30), "500 asks for nothing");
    // Whoever knows better does not wait.
    state(&demo, "demo", "idle").await;
    receiver.answer_next([Answer::RetryAfter(429, "3600")]);
    demo.publishes("widgets", [2]).await;
    let (shown, _) = eventually("it waits", async || {
        let shown = detail(&demo, "demo").await;
        // Until it is sent for the first time, it has a time as well.
        (shown["status"] == "failing").then_some(shown)
    })
    .await;
    assert!(shown["next_try"].as_u64() > Some(now_ms() + 3_500_000), "{shown}");
    demo.post("/subscriptions/demo/retry", "").await.expect(204);
    assert_eq!(receiver.numbers(2).await, [1, 2]);
});

on_both_stores!(a_queue_is_looked_into_without_touching_it, |store| async move {
    let bus = Bus::new(&store);
    let server = bus.serve().await;
    let (orders, root, receiver) =
        (server.client(ORDERS), server.client(ROOT), bus.receiver().await);
    orders.claims("widgets").await;
    orders.subscribes(&receiver, &["widgets"], json!({"timeout": 0, "max": 2})).await;
    receiver.answer(Answer::Status(500));
    let mut positions = vec![];
    for number in 1..=3 {
        let told = orders.publish("widgets", &event(number)).await.expect(204);
        positions.push((number, told.header("routemaster-event").unwrap().parse::<u64>().unwrap()));
    }
    let shown = state(&orders, ORDERS, "failing").await;
    assert_eq!(waiting(&orders, ORDERS).await, positions);
    assert!(positions.is_sorted_by(|one, next| one.1 < next.1), "{positions:?}");
    let by_name = root.get("/subscriptions/orders/queue?limit=1").await.expect(200).json();
    assert_eq!(
        (&by_name["events"][0]["in_batch"], &by_name["next"]),
        (&json!(true), &json!(positions[0].1))
    );
    let after = format!("/subscriptions/orders/queue?after={}", positions[1].1);
    let rest = root.get(&after).await.expect(200).json();
    assert_eq!(
        (&rest["events"][0]["position"], &rest["next"]),
        (&json!(positions[2].1), &Value::Null)
    );
    assert!(shown["last_error"]["reason"].as_str().unwrap().contains("500"), "{shown}");
    // Others see that it fails, and neither what waits nor why.
    let alice = server.client("alice");
    let seen = detail(&alice, "orders").await;
    assert_eq!((&seen["status"], &seen["last_error"]), (&json!("failing"), &Value::Null));
    alice.get("/subscriptions/orders/queue").await.expect_reason(403);
    for action in ["pause", "resume", "retry"] {
        alice.post(&format!("/subscriptions/orders/{action}"), "").await.expect_reason(403);
    }
    alice.post("/subscriptions/orders/skip", r#"{"through":1}"#).await.expect_reason(403);
    alice.get(&format!("/subscriptions/{ORDERS}")).await.expect_reason(404);
    root.get("/subscriptions/nobody").await.expect_reason(404);
    receiver.answer(Answer::Status(200));
    orders.post(&format!("/subscriptions/{ORDERS}/retry"), "").await.expect(204);
    assert_eq!(receiver.numbers(3).await, [1, 2, 3]);
});

on_both_stores!(what_is_skipped_is_a_dead_letter_and_can_be_put_back, |store| async move {
    let bus = Bus::new(&store).set("ROUTEMASTER_TOKEN", "demo");
    let server = bus.serve().await;
    let (demo, root, receiver) = (server.client("demo"), server.client(ROOT), bus.receiver().await);
    demo.claims("widgets").await;
    demo.subscribes(&receiver, &["widgets"], json!({"timeout": 0, "max": 2})).await;
    receiver.answer(Answer::Status(500));
    demo.publishes("widgets", 1..=6).await;
    let shown = state(&demo, "demo", "failing").await;
    let positions = waiting(&demo, "demo").await;
    let wrong = json!({"batch": "another-1"}).to_string();
    demo.post("/subscriptions/demo/skip", wrong).await.expect_reason(409);
    for wrong in ["{}", r#"{"through":1,"batch":"a"}"#, r#"{"through":"x"}"#, r#"{"all":true}"#] {
        demo.post("/subscriptions/demo/skip", wrong).await.expect_reason(400);
    }
    // The batch in hand has two events; then one more goes.
    let batch = json!({"batch": shown["batch"]["id"]}).to_string();
    let skipped = demo.post("/subscriptions/demo/skip", batch).await.expect(200).json();
    assert_eq!(skipped["skipped"], shown["batch"]["events"]);
    let through = json!({"through": positions[2].1}).to_string();
    root.post("/subscriptions/demo/skip", through).await.expect(200);
    receiver.answer(Answer::Status(200));
    root.post("/subscriptions/demo/retry", "").await.expect(204);
    assert_eq!(receiver.numbers(3).await, [4, 5, 6]);
    let dead = demo.get("/dead_letters?kind=event").await.expect(200).json();
    let dead = dead["dead_letters"].as_array().unwrap().clone();
    let ids: Vec<String> = dead.iter().map(|one| one["id"].as_str().unwrap().to_owned()).collect();
    let expected: Vec<_> = [2, 1, 0].map(|index: usize| positions[index].1.to_string()).into();
    assert_eq!(ids, expected);
    let of_batch = &dead[2];
    assert_eq!((&of_batch["cause"], &of_batch["status"]), (&json!("skipped"), &json!(500)));
    assert!(server.client("alice").get("/dead_letters").await.json()["dead_letters"] == json!([]));
    // Page by page, and by command.
    let first = demo.get("/dead_letters?limit=2").await.expect(200).json();
    let next = first["next"].as_str().unwrap();
    let rest = demo.get(&format!("/dead_letters?limit=2&after={next}")).await.expect(200).json();
    assert_eq!(
        (&rest["dead_letters"][0]["id"], &rest["next"]),
        (&json!(expected[2]), &Value::Null)
    );
    let listed = output(&bus, &server, &["dead-letters"]).await;
    assert!(listed.contains(&expected[0]) && listed.contains("skipped"), "{listed}");

    output(&bus, &server, &["dead-letters", "retry", &expected[2]]).await;
    let is_again = |attempt: &Attempt| {
        attempt.numbers() == [1] && attempt.header("routemaster-replay") == Some("true")
    };
    let comes = |attempts: &Vec<Attempt>| attempts.iter().any(is_again);
    let attempts = receiver.until("it comes again, marked", comes).await;
    assert!(attempts.iter().any(|attempt| attempt.header("routemaster-replay").is_none()));
    output(&bus, &server, &["dead-letters", "delete", &expected[1]]).await;
    let gone = format!("/dead_letters/{}", expected[1]);
    assert_eq!(demo.delete(&gone).await.status, 404);
    let left = demo.get("/dead_letters").await.json();
    assert_eq!(left["dead_letters"].as_array().unwrap().len(), 1, "{left}");
    // All at once, in the order in which they were published.
    receiver.answer(Answer::Status(500));
    demo.publishes("widgets", 21..=25).await;
    state(&demo, "demo", "failing").await;
    let last = waiting(&demo, "demo").await.last().unwrap().1;
    let everything = json!({"through": last}).to_string();
    root.post("/subscriptions/demo/skip", everything).await.expect(200);
    receiver.answer(Answer::Status(200));
    let arguments = ["dead-letters", "retry", "--all", "--url", server.base()];
    let asked = bus.run(&arguments).await;
    assert_eq!(asked.code, Some(2), "nobody can be asked: {}", asked.stderr);
    let before = receiver.attempts_so_far().len();
    // Root does so for everybody.
    let by_root = ["dead-letters", "retry", "--all", "--yes", "--token", ROOT];
    let told = output(&bus, &server, &by_root).await;
    assert_eq!(told, "retried 6 events\n");
    let (numbers, _) = eventually("all of them come", async || {
        let attempts = receiver.attempts_so_far().split_off(before);
        let numbers: Vec<_> = attempts.iter().flat_map(Attempt::numbers).collect();
        (numbers.len() >= 6).then_some(numbers)
    })
    .await;
    assert_eq!(numbers, [3, 21, 22, 23, 24, 25]);
    // What has come is acknowledged a moment later, and would be skipped until then.
    eventually("all is acknowledged", async || {
        waiting(&demo, "demo").await.is_empty().then_some(())
    })
    .await;
    demo.post("/subscriptions/demo/pause", "").await.expect(204);
    demo.publishes("widgets", [31]).await;
    let last = waiting(&demo, "demo").await.last().unwrap().1;
    let everything = json!({"through": last}).to_string();
    root.post("/subscriptions/demo/skip", everything).await.expect(200);
    let own = output(&bus, &server, &["dead-letters", "delete", "--all", "--yes"]).await;
    assert_eq!(own, "deleted 1 event\n");
    let nothing = output(&bus, &server, &["dead-letters", "delete", "--all"]).await;
    assert_eq!(nothing, "deleted 0 events\n");
});

on_both_stores!(a_poison_event_is_found_and_everything_else_arrives_in_order, |store| async move {
    let bus = Bus::new(&store).set("ROUTEMASTER_MAX_BACKOFF_MS", "20");
    let server = bus.serve().await;
    let (demo, receiver) = (server.client("demo"), bus.receiver().await);
    demo.claims("widgets").await;
    let terms = json!({"timeout": 300, "max": 20, "on_refusal": {"attempts": 2}});
    demo.subscribes(&receiver, &["widgets"], terms).await;
    receiver.refuse_number(13);
    demo.publishes("widgets", 1..=50).await;
    let numbers = receiver.numbers(49).await;
    let expected: Vec<u64> = (1..=50).filter(|number| *number != 13).collect();
    assert_eq!(numbers, expected);
    let dead = demo.get("/dead_letters").await.expect(200).json();
    let dead = dead["dead_letters"].as_array().unwrap().clone();
    assert_eq!(dead.len(), 1, "{dead:?}");
    assert_eq!((&dead[0]["cause"], &dead[0]["status"]), (&json!("refused"), &json!(422)));
    assert!(dead[0]["event"]["url"].as_str().unwrap().ends_with("/13"), "{dead:?}");
    let alone = receiver.attempts_so_far().into_iter().filter(|one| one.numbers() == [13]);
    assert_eq!(alone.count(), 2, "alone it is tried as often as asked");
    // Held, it would be tried for ever.
    demo.subscribes(&receiver, &["widgets"], json!({"timeout": 0, "on_refusal": "hold"})).await;
    assert!(detail(&demo, "demo").await["on_refusal"].is_null());
});

on_both_stores!(the_commands_tell_how_a_subscriber_does_and_hold_it, |store| async move {
    let bus = Bus::new(&store).set("ROUTEMASTER_TOKEN", ORDERS);
    let server = bus.serve().await;
    let (orders, receiver) = (server.client(ORDERS), bus.receiver().await);
    orders.claims("widgets").await;
    orders.subscribes(&receiver, &["widgets"], json!({"timeout": 0})).await;
    // It waits for long, so that no attempt is on its way meanwhile.
    receiver.answer(Answer::RetryAfter(503, "600"));
    orders.publishes("widgets", [1]).await;
    state(&orders, ORDERS, "failing").await;
    let shown = output(&bus, &server, &["subscriptions", "orders"]).await;
    for expected in ["failing", "answered 503", "1 event", "next try"] {
        assert!(shown.contains(expected), "{expected}: {shown}");
    }
    assert!(!shown.contains("0123456789abcdef"), "{shown}");
    let queue = output(&bus, &server, &["queue"]).await;
    assert!(queue.contains("widgets") && queue.contains('*'), "{queue}");
    assert!(output(&bus, &server, &["pause"]).await.contains("orders is paused"));
    let listed = output(&bus, &server, &["subscriptions", "orders"]).await;
    assert!(listed.contains("paused"), "{listed}");
    receiver.answer(Answer::Status(200));
    assert!(output(&bus, &server, &["resume"]).await.contains("orders is not paused"));
    assert_eq!(receiver.numbers(1).await, [1]);
    receiver.answer(Answer::Status(500));
    orders.publishes("widgets", [2]).await;
    state(&orders, ORDERS, "failing").await;
    let ended = bus.run(&["skip", "--batch", "--url", server.base()]).await;
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
    assert!(ended.stderr.contains("--yes"), "{}", ended.stderr);
    let said = output(&bus, &server, &["skip", "--batch", "--yes"]).await;
    assert!(said.contains("skipped 1 event of orders"), "{said}");
    state(&orders, ORDERS, "idle").await;
});
