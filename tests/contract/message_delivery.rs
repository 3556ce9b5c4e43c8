//! Messages (§11): what Postoffice's clients send is forwarded to services, and what became of it is told.

use std::collections::BTreeSet;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Answer, Attempt, Bus, Client, ROOT, eventually, within};

/// Makes a topic.
pub async fn add_topic(client: &Client, name: &str) {
    let body = json!({"name": name, "origin_host": "http://shop.example"});
    client.post("/api/topics", body.to_string()).await.expect(201);
}

/// Makes an active publisher with what is named besides; its id.
pub async fn add_publisher(client: &Client, topic: &str, target: &str, more: Value) -> u64 {
    let mut body = json!({"topic": topic, "target": target, "type": "http", "active": true});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let reply = client.post("/api/publishers", body.to_string()).await.expect(201);
    reply.json()["data"]["id"].as_u64().unwrap()
}

/// Sends a message; what was answered.
pub async fn send(client: &Client, topic: &str, payload: Value) -> Value {
    let body = json!({"topic": topic, "payload": payload, "attributes": {"kind": "test"}});
    client.post("/api/messages", body.to_string()).await.expect(201).json()
}

pub async fn message(client: &Client, id: &Value) -> Value {
    client.get(&format!("/api/messages/{id}")).await.expect(200).json()["data"].clone()
}

/// The message once its first publisher is in this state with it.
async fn message_in_state(client: &Client, id: &Value, state: &str) -> Value {
    let what = format!("the message is {state}");
    eventually(&what, async || {
        let message = message(client, id).await;
        (message["publishers"][0]["state"] == state).then_some(message)
    })
    .await
    .0
}

async fn patch(client: &Client, publisher: u64, change: Value) {
    let path = format!("/api/publishers/{publisher}");
    client.try_send(Method::PATCH, &path, &[], change.to_string()).await.unwrap().expect(200);
}

fn numbers(attempts: &[Attempt]) -> Vec<u64> {
    let body = |attempt: &Attempt| serde_json::from_str::<Value>(&attempt.body).unwrap();
    attempts.iter().map(|attempt| body(attempt)["n"].as_u64().unwrap()).collect()
}

on_both_stores!(a_message_goes_to_each_publisher_as_postoffice_sent_it, |store| async move {
    let bus = Bus::new(&store);
    let server = bus.serve().await;
    let demo = server.client("demo");
    let (first, second) = (bus.receiver().await, bus.receiver().await);
    add_topic(&demo, "orders/ü").await;
    add_publisher(&demo, "orders/ü", &first.url(), json!({})).await;
    let secret = second.url().replace("https://", "https://user:s3cr3t%21@");
    add_publisher(&demo, "orders/ü", &secret, json!({})).await;

    let payload = r#"{"id": 1.50, "attributes": "replaced", "name": "ü"}"#;
    let body = format!(
        r#"{{"topic":"orders/ü","payload":{payload},"attributes":{{"a":"b"}},"target":"x"}}"#
    );
    let sent = demo.clone().beside_the_api().post("/api/messages/", body).await.expect(201);
    assert_eq!(sent.header("content-type"), Some("application/json; charset=utf-8"));
    let sent = sent.json();
    let (ids, number) = (sent["id"].as_array().unwrap().clone(), sent["message"].as_u64().unwrap());
    assert_eq!(ids.len(), 2);
    assert!(ids[0].as_u64() > ids[1].as_u64() && ids[0].as_u64().unwrap() < 1 << 53, "{sent}");

    for (receiver, id, authorization) in
        [(&first, &ids[1], None), (&second, &ids[0], Some("Basic dXNlcjpzM2NyM3Qh"))]
    {
        let made = receiver.attempts(1).await.remove(0);
        assert_eq!((made.method.as_str(), made.path.as_str()), ("POST", "/events"));
        assert_eq!(made.body, r#"{"id":1.50,"name":"ü","attributes":{"a":"b"}}"#);
        assert_eq!(made.header("content-type"), Some("application/json"));
        assert_eq!(made.header("message-id"), Some(&*id.to_string()));
        assert_eq!(made.header("routemaster-attempt"), Some("1"));
        assert_eq!(made.header("authorization"), authorization);
    }
    let done = eventually("both have it", async || {
        let message = message(&demo, &json!(number)).await;
        let publishers = message["publishers"].as_array().unwrap().clone();
        publishers.iter().all(|one| one["state"] == "done").then_some(message)
    })
    .await
    .0;
    assert_eq!(done["payload"].to_string(), r#"{"attributes":"replaced","id":1.5,"name":"ü"}"#);
    assert_eq!((&done["topic"], &done["sender"]), (&json!("orders/ü"), &json!("de…")));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64;
    let publisher = &done["publishers"][1];
    assert_eq!((&publisher["status"], &publisher["attempts"]), (&json!(200), &json!(1)));
    assert!(now - publisher["processed"].as_u64().unwrap() < 60_000, "{publisher}");
    assert_eq!((&publisher["error"], &publisher["next_try"]), (&Value::Null, &Value::Null));
    assert!(!done.to_string().contains("s3cr3t"), "{done}");
    eventually("the journal has the attempt", async || {
        let message = message(&demo, &ids[0]).await;
        assert_eq!(message["id"], number, "either number finds it");
        (message["publishers"][1]["journal"][0]["url"] == second.url()).then_some(())
    })
    .await;

    // An array is sent as it is; nobody to send to is no reason to refuse.
    send(&demo, "orders/ü", json!([1, {"a": 2}])).await;
    assert_eq!(first.attempts(2).await[1].body, r#"[1,{"a":2}]"#);
    add_topic(&demo, "nobody").await;
    let unheard = send(&demo, "nobody", json!({})).await;
    assert_eq!(unheard["id"], json!([]));
    assert_eq!(message(&demo, &unheard["message"]).await["publishers"], json!([]));
    let log = server.stderr.text();
    assert!(log.contains("forwarded a message") && !log.contains("s3cr3t"), "{log}");
});

on_both_stores!(a_request_is_not_multiplied_without_a_bound, |store| async move {
    let bus = Bus::new(&store);
    let server = bus.serve().await;
    let demo = server.client("demo").beside_the_api();
    add_topic(&demo, "t").await;
    for n in 0..11 {
        let target = format!("https://service-{n}.example/");
        add_publisher(&demo, "t", &target, json!({"active": false})).await;
    }
    let bulk = async |messages: usize, attribute: usize, status: u16| {
        let attributes = json!({"a": "x".repeat(attribute)});
        let body =
            json!({"topic": "t", "payload": vec![json!({}); messages], "attributes": attributes});
        demo.post("/api/bulk_messages", body.to_string()).await.expect(status).json()
    };
    let refused = bulk(1_000, 1_000_000, 413).await;
    assert!(refused["data"]["errors"].as_str().unwrap().contains("more than 16 MB"), "{refused}");
    let refused = bulk(2_728, 1, 406).await;
    assert!(refused["data"]["errors"].as_str().unwrap().ends_with("at most 2727"), "{refused}");
    let kept = bulk(2_727, 1, 201).await;
    assert_eq!(kept["result"].as_array().unwrap().len(), 2_727 * 11);
    assert_eq!(kept["messages"].as_array().unwrap().len(), 2_727);
});

on_both_stores!(many_messages_come_at_once_or_none, |store| async move {
    let bus = Bus::new(&store).set("MAX_BULK_MESSAGES", "3");
    let server = bus.serve().await;
    let demo = server.client("demo");
    let receiver = bus.receiver().await;
    add_topic(&demo, "t").await;
    add_publisher(&demo, "t", &receiver.url(), json!({})).await;
    let bulk = async |topic: &str, payload: Value, status: u16| {
        let body = json!({"topic": topic, "payload": payload, "attributes": {}}).to_string();
        demo.clone().beside_the_api().post("/api/bulk_messages/", body).await.expect(status).json()
    };
    let kept = bulk("t", json!([{"n": 1}, {"n": 2}, {"n": 3}]), 201).await;
    assert_eq!(
        (kept["result"].as_array().unwrap().len(), kept["messages"].as_array().unwrap().len()),
        (3, 3)
    );
    let mut got = numbers(&receiver.attempts(3).await);
    got.sort_unstable();
    assert_eq!(got, [1, 2, 3]);
    let too_many = bulk("t", json!([{}, {}, {}, {}]), 406).await;
    assert!(too_many["data"]["errors"].as_str().unwrap().contains("at most 3"), "{too_many}");
    let unknown = bulk("unknown", json!([{}]), 406).await;
    assert_eq!(unknown["data"]["errors"], "there is no such topic");
    let wrong = bulk("t", json!([{"n": 4}, 5]), 400).await;
    assert_eq!(wrong["data"]["errors"]["payload"], json!(["must have objects or arrays only"]));
    for (path, body, field) in [
        ("/api/messages", json!({"topic": "unknown", "payload": {}, "attributes": {}}), "topic"),
        ("/api/messages", json!({"topic": "t", "payload": "text", "attributes": {}}), "payload"),
        (
            "/api/messages",
            json!({"topic": "t", "payload": {}, "attributes": {"a": 1}}),
            "attributes",
        ),
        (
            "/api/schedule_messages",
            json!({"topic": "t", "payload": {}, "schedule_at": "2030-01-01T00:00:00"}),
            "schedule_at",
        ),
    ] {
        let reply = demo.post(path, body.to_string()).await.expect(400).json();
        assert!(reply["data"]["errors"][field][0].is_string(), "{reply}");
    }
    receiver.stays_quiet(Duration::from_millis(300)).await;
    let all = demo.get("/api/messages").await.expect(200).json();
    assert_eq!(all["data"].as_array().unwrap().len(), 3, "nothing of the refused is kept");
});

on_both_stores!(a_scheduled_message_goes_when_it_is_due, |store| async move {
    let bus = Bus::new(&store);
    let server = bus.serve().await;
    let demo = server.client("demo");
    let receiver = bus.receiver().await;
    add_topic(&demo, "t").await;
    add_publisher(&demo, "t", &receiver.url(), json!({})).await;
    let schedule = async |n: u64, at: &str| {
        let body = json!({"topic": "t", "payload": {"n": n}, "attributes": {}, "schedule_at": at});
        demo.clone()
            .beside_the_api()
            .post("/api/schedule_messages/", body.to_string())
            .await
            .expect(201)
            .json()
    };
    schedule(2, "2100-01-01T00:00:00+01:00").await;
    schedule(1, "2001-01-01T00:00:00Z").await;
    assert_eq!(numbers(&receiver.attempts(1).await), [1]);
    let waiting = demo.get("/api/messages?state=waiting").await.expect(200).json();
    assert_eq!(waiting["data"][0]["due"], 4_102_441_200_000u64);
    receiver.stays_quiet(Duration::from_millis(300)).await;
});

on_both_stores!(a_target_that_fails_is_tried_again_on_its_own_terms, |store| async move {
    let bus = Bus::new(&store);
    let server = bus.serve().await;
    let (demo, root) = (server.client("demo"), server.client(ROOT));
    let (down, well, other) = (bus.receiver().await, bus.receiver().await, bus.receiver().await);
    down.answer(Answer::Status(503));
    add_topic(&demo, "t").await;
    let terms = json!({"seconds_retry": "1"});
    let publisher = add_publisher(&demo, "t", &down.url(), terms).await;
    add_publisher(&demo, "t", &well.url(), json!({})).await;
    let sent = send(&demo, "t", json!({"n": 1})).await;
    well.attempts(1).await;
    let attempts = down.attempts(2).await;
    assert_eq!(attempts[0].header("message-id"), attempts[1].header("message-id"));
    assert_eq!(attempts[1].header("routemaster-attempt"), Some("2"));
    let pause = attempts[1].at - attempts[0].at;
    assert!((Duration::from_secs(1)..Duration::from_secs(3)).contains(&pause), "{pause:?}");
    let failing = message_in_state(&demo, &sent["message"], "failing").await;
    let told = &failing["publishers"][0];
    assert_eq!(told["status"], 503);
    assert!(told["error"].as_str().unwrap().contains("503"), "{told}");

    // Held, it uses up no attempt; and what waits goes where the publisher leads now.
    patch(&demo, publisher, json!({"active": false})).await;
    let held = send(&demo, "t", json!({"n": 2})).await;
    well.attempts(2).await;
    patch(&demo, publisher, json!({"active": true, "target": other.url(), "max_attempts": 1}))
        .await;
    let path = format!("/api/messages/{}/retry", sent["message"]);
    eventually("it is due", async || (demo.post(&path, "").await.status == 204).then_some(()))
        .await;
    let mut got = numbers(&other.attempts(2).await);
    got.sort_unstable();
    assert_eq!(got, [1, 2]);
    let first =
        other.attempts(2).await.into_iter().find(|one| numbers(std::slice::from_ref(one)) == [2]);
    assert_eq!(first.unwrap().header("routemaster-attempt"), Some("1"));
    message_in_state(&demo, &held["message"], "done").await;
    demo.post(&path, "").await.expect(409);

    // Given up, it is a dead letter until somebody says otherwise.
    other.answer(Answer::Status(500));
    let dead = send(&demo, "t", json!({"n": 3})).await;
    message_in_state(&demo, &dead["message"], "dead").await;
    let letters = root.get("/api/messages?state=dead").await.expect(200).json();
    assert_eq!(letters["data"][0]["id"], dead["message"]);
    other.answer(Answer::Status(200));
    let delivery = dead["id"][1].clone();
    demo.post(&format!("/api/messages/{delivery}/retry"), "").await.expect(204);
    message_in_state(&demo, &dead["message"], "done").await;
});

on_both_stores!(a_slow_publisher_holds_up_no_other_and_has_its_time_out, |store| async move {
    let bus = Bus::new(&store).set("ROUTEMASTER_MESSAGES_PER_PUBLISHER", "2");
    let server = bus.serve().await;
    let demo = server.client("demo");
    let (slow, well) = (bus.receiver().await, bus.receiver().await);
    slow.answer(Answer::Hang);
    add_topic(&demo, "t").await;
    add_publisher(&demo, "t", &slow.url(), json!({"seconds_timeout": 1})).await;
    add_publisher(&demo, "t", &well.url(), json!({})).await;
    let mut last = Value::Null;
    for n in 0..20 {
        last = send(&demo, "t", json!({"n": n})).await["message"].clone();
    }
    well.attempts(20).await;
    assert!(slow.attempts_so_far().len() <= 2, "two are on their way at most");
    let failing = eventually("the first are given back", async || {
        let page = demo.get("/api/messages?state=failing").await.expect(200).json();
        page["data"].as_array().unwrap().last().cloned()
    })
    .await
    .0;
    let error = failing["publishers"][0]["error"].as_str().unwrap().to_owned();
    assert!(error.contains("no answer within 1000 ms"), "{error}");
    assert_eq!(message(&demo, &last).await["publishers"][1]["state"], "done");
});

on_both_stores!(a_publisher_that_begins_in_the_past_gets_what_is_kept, |store| async move {
    let bus = Bus::new(&store);
    let server = bus.serve().await;
    let demo = server.client("demo");
    let (late, new) = (bus.receiver().await, bus.receiver().await);
    add_topic(&demo, "t").await;
    for n in 0..300 {
        send(&demo, "t", json!({"n": n})).await;
    }
    add_publisher(&demo, "t", &late.url(), json!({"from_now": "false"})).await;
    add_publisher(&demo, "t", &new.url(), json!({})).await;
    let sent = send(&demo, "t", json!({"n": 300})).await;
    assert_eq!(sent["id"].as_array().unwrap().len(), 2);
    let attempts = late.attempts(301).await;
    assert_eq!(numbers(&attempts).into_iter().collect::<BTreeSet<_>>(), (0..=300).collect());
    let last = attempts.iter().find(|one| numbers(std::slice::from_ref(one)) == [300]).unwrap();
    assert_eq!(last.header("message-id"), Some(&*sent["id"][1].to_string()));
    assert_eq!(numbers(&new.attempts(1).await), [300]);
    late.stays_quiet(Duration::from_millis(300)).await;
});

on_both_stores!(messages_are_found_and_erased, |store| async move {
    let bus = Bus::new(&store);
    let server = bus.serve().await;
    let (demo, alice, root) = (server.client("demo"), server.client("alice"), server.client(ROOT));
    let receiver = bus.receiver().await;
    add_topic(&demo, "t").await;
    add_topic(&alice, "other").await;
    let publisher = add_publisher(&alice, "t", &receiver.url(), json!({})).await;
    let first = send(&demo, "t", json!({"n": 1, "text": "Grüße aus Köln"})).await;
    let second = send(&demo, "t", json!({"n": 2, "text": "100% _"})).await;
    let third = send(&alice, "other", json!({"n": 3})).await;
    receiver.attempts(2).await;
    let found = async |client: &Client, query: &str| {
        let page = client.get(&format!("/api/messages?{query}")).await.expect(200).json();
        let data = page["data"].as_array().unwrap().clone();
        data.iter().map(|one| one["payload"]["n"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    eventually("both are forwarded", async || {
        (found(&demo, "state=done").await == [2, 1]).then_some(())
    })
    .await;
    assert_eq!(found(&root, "").await, [3, 2, 1]);
    assert_eq!(found(&demo, "").await, [2, 1], "what came to its topic");
    assert_eq!(found(&alice, "").await, [3, 2, 1], "what its publisher forwards, too");
    for (query, expected) in [
        ("topic=t", vec![2, 1]),
        ("topic=other", vec![3]),
        ("text=gr%C3%BC%C3%9Fe", vec![1]),
        ("text=%25%20_", vec![2]),
        ("text=nowhere", vec![]),
        ("state=waiting", vec![]),
        ("since=9000000000000", vec![]),
        ("until=1", vec![]),
        ("limit=1", vec![3]),
    ] {
        assert_eq!(found(&root, query).await, expected, "{query}");
    }
    assert_eq!(found(&root, &format!("publisher={publisher}&state=done")).await, [2, 1]);
    let next = root.get("/api/messages?limit=2").await.json()["next"].clone();
    assert_eq!(found(&root, &format!("after={next}")).await, [1]);
    root.get("/api/messages?topic=unknown").await.expect(400);
    root.get("/api/messages?state=gone").await.expect(400);

    // Whose topic it is may erase, and who sent it; the publisher's owner may not.
    let path = format!("/api/messages/{}", first["id"][0]);
    alice.delete(&path).await.expect(403);
    eventually("the journal has the attempt", async || {
        let page = root.get(&format!("/journal?id={}", first["id"][0])).await.json();
        (page["entries"].as_array().unwrap().len() == 1).then_some(())
    })
    .await;
    demo.delete(&path).await.expect(204);
    demo.get(&path).await.expect(404);
    let page = root.get(&format!("/journal?id={}", first["id"][0])).await.json();
    assert_eq!(page["entries"], json!([]), "its attempts are erased with it");

    let count = demo.get("/api/messages?topic=t&count=true").await.expect(200).json();
    assert_eq!(count["count"], 1);
    let wrong = demo.delete("/api/messages?topic=t&confirm=2").await.expect(409).json();
    let said = wrong["data"]["errors"]["detail"][0].as_str().unwrap().to_owned();
    assert!(said.contains("1 messages match"), "{said}");
    let until = &count["until"];
    let erased = demo.delete(&format!("/api/messages?topic=t&confirm=1&until={until}")).await;
    assert_eq!(erased.expect(200).json(), json!({"erased": 1, "next": null}));
    demo.get(&format!("/api/messages/{}", second["message"])).await.expect(404);
    root.get(&format!("/api/messages/{}", third["message"])).await.expect(200);
    let log = server.stderr.text();
    assert!(log.contains("erased a message") && log.contains("erased messages"), "{log}");
});

on_both_stores!(what_waits_for_a_removed_publisher_is_discarded, |store| async move {
    let bus = Bus::new(&store).set("METRIC_COLLECTION_SERVICE", "prometheus");
    let server = bus.serve().await;
    let (demo, root) = (server.client("demo"), server.client(ROOT));
    add_topic(&demo, "t").await;
    let publisher = add_publisher(&demo, "t", "https://a.example", json!({"active": false})).await;
    for n in 0..5 {
        send(&demo, "t", json!({"n": n})).await;
    }
    demo.delete(&format!("/api/publishers/{publisher}")).await.expect(204);
    eventually("they are discarded and counted", async || {
        let metrics = root.get("/metrics").await.expect(200).body;
        metrics.contains("routemaster_messages_discarded 5").then_some(())
    })
    .await;
    let messages = demo.get("/api/messages").await.expect(200).json();
    assert_eq!(messages["data"].as_array().unwrap().len(), 5, "history is kept");
    assert_eq!(messages["data"][0]["publishers"], json!([]));
});

on_both_stores!(history_is_cleaned_when_the_crontab_says, |store| async move {
    let bus = Bus::new(&store)
        .set("CLEAN_MESSAGES_THRESHOLD", "0")
        .set("CLEAN_MESSAGES_CRONTAB", "* * * * *");
    let server = bus.serve().await;
    let demo = server.client("demo");
    add_topic(&demo, "t").await;
    let old = send(&demo, "t", json!({})).await;
    add_publisher(&demo, "t", "https://a.example", json!({"active": false})).await;
    let waits = send(&demo, "t", json!({})).await;
    let path = format!("/api/messages/{}", old["message"]);
    within(Duration::from_secs(70), "the old one is removed", async {
        while demo.get(&path).await.status == 200 {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    })
    .await;
    message(&demo, &waits["message"]).await;
    assert!(server.stderr.text().contains("removed old messages"));
});

on_both_stores!(a_killed_bus_loses_no_message, |store| async move {
    let bus = Bus::new(&store);
    let mut server = bus.serve().await;
    let (first, second) = (bus.receiver().await, bus.receiver().await);
    let demo = server.client("demo");
    add_topic(&demo, "t").await;
    for receiver in [&first, &second] {
        receiver.answer(Answer::After(Duration::from_millis(3)));
        add_publisher(&demo, "t", &receiver.url(), json!({"seconds_retry": 1})).await;
    }
    let mut accepted = BTreeSet::new();
    for round in 0..4u64 {
        let sending: Vec<_> = (0..4)
            .map(|part| {
                let client = server.client("demo");
                tokio::spawn(async move {
                    let mut accepted = Vec::new();
                    for n in (round * 1_000 + part * 250)..(round * 1_000 + part * 250 + 250) {
                        let body = json!({"topic": "t", "payload": {"n": n}, "attributes": {}});
                        let sent = client
                            .try_send(Method::POST, "/api/messages", &[], body.to_string())
                            .await;
                        match sent {
                            Ok(reply) if reply.status == 201 => accepted.push(n),
                            _ => break,
                        }
                    }
                    accepted
                })
            })
            .collect();
        first.attempts(accepted.len() + 40).await;
        server.kill().await;
        for part in sending {
            accepted.extend(part.await.unwrap());
        }
        server = bus.serve().await;
    }
    assert!(accepted.len() >= 100, "{}", accepted.len());
    for receiver in [&first, &second] {
        let arrived = |all: &Vec<Attempt>| {
            let got: BTreeSet<u64> = numbers(all).into_iter().collect();
            accepted.is_subset(&got)
        };
        within(
            Duration::from_secs(40),
            "all accepted messages arrive",
            receiver.until("all", arrived),
        )
        .await;
    }
});

on_both_stores!(a_publisher_that_is_down_gets_everything_when_it_comes_back, |store| async move {
    let bus = Bus::new(&store);
    let server = bus.serve().await;
    let demo = server.client("demo");
    let receiver = bus.receiver().await;
    add_topic(&demo, "t").await;
    add_publisher(&demo, "t", &receiver.url(), json!({"seconds_retry": 1})).await;
    let port = receiver.close().await;
    for n in 0..50 {
        send(&demo, "t", json!({"n": n})).await;
    }
    eventually("it fails", async || {
        let page = demo.get("/api/messages?state=failing").await.expect(200).json();
        (!page["data"].as_array().unwrap().is_empty()).then_some(())
    })
    .await;
    let receiver = bus.receiver_on(port).await;
    let got: BTreeSet<u64> = numbers(&receiver.attempts(50).await).into_iter().collect();
    assert_eq!(got, (0..50).collect());
    assert!(server.stderr.text().contains("a publisher forwards messages again"));
});

on_both_stores!(what_waits_asks_for_more_workers, |store| async move {
    let bus = Bus::new(&store).set("ROUTEMASTER_SCALING_THRESHOLD", "5");
    let web = bus.web().await;
    let demo = web.client("demo");
    add_topic(&demo, "t").await;
    let publisher = add_publisher(&demo, "t", "https://a.example", json!({})).await;
    let took = async || {
        let asked = Instant::now();
        demo.get("/pulse/scaling").await.expect(204);
        asked.elapsed()
    };
    for n in 0..4 {
        send(&demo, "t", json!({"n": n})).await;
    }
    assert!(took().await < Duration::from_millis(900), "four are few");
    let call = json!({"url": "https://a.example"});
    demo.post("/calls", call.to_string()).await.expect(202);
    assert!(took().await >= Duration::from_secs(1), "with a call, they are five");
    patch(&demo, publisher, json!({"active": false})).await;
    assert!(took().await < Duration::from_millis(900), "what is held needs nobody");
});
