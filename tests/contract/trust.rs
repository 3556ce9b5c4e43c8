//! Trust (§14): what a receiver can check, and what a publisher can be sure of. Signatures and CloudEvents are read
//! by the official libraries.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Answer, Attempt, Bus, Client, Receiver, Reply, event, python};

const OLD: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const NEW: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

/// Runs a program of `tests/clients` on this input; what it prints.
fn ask(program: &Path, arguments: &[&str], input: &str) -> String {
    let clients = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/clients");
    let mut child = Command::new(program)
        .args(arguments)
        .current_dir(clients)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{program:?} cannot be run: {error}; run ./scripts/test"));
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    said.trim().to_owned()
}

/// What the official libraries say of a delivery, in Python and in JavaScript.
fn verdicts(secret: &str, attempt: &Attempt, body: &str) -> [String; 2] {
    let names = ["webhook-id", "webhook-timestamp", "webhook-signature"];
    let headers = names.map(|name| (name, attempt.header(name).unwrap_or_default()));
    let headers: std::collections::BTreeMap<_, _> = headers.into();
    let input = json!({ "secret": secret, "headers": headers, "body": body }).to_string();
    let packages = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/node");
    let packages = packages.to_str().unwrap();
    [
        ask(&python("python"), &["verify.py"], &input),
        ask(Path::new("node"), &["verify.js", packages], &input),
    ]
}

async fn subscribed(bus: &Bus, demo: &Client, more: Value) -> Receiver {
    let receiver = bus.receiver().await;
    demo.claims("widgets").await;
    demo.subscribes(&receiver, &["widgets"], more).await;
    receiver
}

on_both_stores!(deliveries_are_signed_as_the_official_libraries_verify, |store| async move {
    let bus = Bus::new(&store);
    let server = bus.serve().await;
    let demo = server.client("demo");
    let receiver = subscribed(&bus, &demo, json!({"timeout": 0, "secret": OLD})).await;
    receiver.answer_next([Answer::Status(500)]);
    demo.publishes("widgets", [1]).await;
    let attempts = receiver.attempts(2).await;
    assert_eq!(attempts[0].header("webhook-id"), attempts[1].header("webhook-id"));
    for attempt in &attempts {
        assert_eq!(verdicts(OLD, attempt, &attempt.body), ["verified", "verified"]);
        let forged = attempt.body.replace("/1", "/2");
        let refused = verdicts(OLD, attempt, &forged);
        assert!(refused.iter().all(|said| said.starts_with("refused")), "{refused:?}");
    }
    // An old client subscribes again at each start, and knows of no secret.
    demo.subscribes(&receiver, &["widgets"], json!({"timeout": 0})).await;
    // While it goes over from one secret to another, both are good.
    demo.subscribes(&receiver, &["widgets"], json!({"timeout": 0, "secret": [NEW, OLD]})).await;
    demo.publishes("widgets", [2]).await;
    let attempt = receiver.attempts(3).await.remove(2);
    for secret in [OLD, NEW] {
        assert_eq!(verdicts(secret, &attempt, &attempt.body), ["verified", "verified"]);
    }
    // Its owner and root may see it.
    assert_eq!(demo.get("/subscription").await.json()["secret"], json!([NEW, OLD]));
    assert!(server.client("alice").subscription("demo").await["secret"].is_null());
    for wrong in [json!("whsec_short"), json!(7), json!([OLD, NEW, OLD]), json!("MfKQ9r8GKYqrTw")] {
        let body = json!({"topics": [], "callback": receiver.url(), "secret": wrong}).to_string();
        let reason = demo.post("/subscription", body).await.expect_reason(400);
        assert!(reason.contains("`secret`") && !reason.contains("MfKQ9r8GKYqrTw"), "{reason}");
    }
    demo.subscribes(&receiver, &["widgets"], json!({"timeout": 0, "secret": ""})).await;
    demo.publishes("widgets", [3]).await;
    let attempt = receiver.attempts(4).await.remove(3);
    assert_eq!(attempt.header("webhook-signature"), None);
});

on_both_stores!(cloud_events_are_read_by_the_official_sdk, |store| async move {
    let bus = Bus::new(&store);
    let server = bus.serve().await;
    let demo = server.client("demo");
    let more = json!({"timeout": 300, "format": "cloudevents", "secret": OLD});
    let receiver = subscribed(&bus, &demo, more).await;
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let first = json!({
        "type": "update", "url": "https://a.example/\"1\"", "timestamp": 1764000000250u64, "data": {"n": 1.5}
    });
    let told = send(&demo, &first, &[("traceparent", trace)]).await.expect(204);
    let position = told.header("routemaster-event").unwrap().to_owned();
    send(&demo, &event(2), &[("traceparent", "00-broken")]).await.expect(204);
    let attempt = receiver.attempts(1).await.remove(0);
    assert_eq!(attempt.header("content-type"), Some("application/cloudevents-batch+json"));
    assert_eq!(verdicts(OLD, &attempt, &attempt.body), ["verified", "verified"]);
    let read = ask(&python("python"), &["cloudevents_batch.py"], &attempt.body);
    let read: Vec<Value> = read.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let expected = json!([
        position, "/topics/widgets", "routemaster.update", "https://a.example/\"1\"", {"n": 1.5}, 1764000000.25
    ]);
    assert_eq!(read[0].as_array().unwrap()[..6], expected.as_array().unwrap()[..]);
    let carried = read[0][6].as_str().unwrap();
    assert!(carried.starts_with(&trace[..36]) && carried != trace, "{carried}");
    assert_eq!((&read[1][2], &read[1][6]), (&json!("routemaster.update"), &Value::Null));
    // Another subscriber gets the same events as ever.
    let plain = bus.receiver().await;
    let alice = server.client("alice");
    alice.subscribes(&plain, &["widgets"], json!({"timeout": 0})).await;
    send(&demo, &event(3), &[("traceparent", trace)]).await.expect(204);
    assert_eq!(plain.numbers(1).await, [3]);
    let body = json!({"topics": [], "pubsub": "widgets", "format": "cloudevents"}).to_string();
    alice.post("/subscription", body).await.expect_reason(400);
});

async fn send(client: &Client, event: &Value, headers: &[(&str, &str)]) -> Reply {
    let headers = [headers, &[("content-type", "application/json")]].concat();
    let sent = client.try_send(Method::POST, "/topics/widgets", &headers, event.to_string()).await;
    sent.expect("an answer")
}

on_both_stores!(a_publish_that_comes_again_under_its_key_is_stored_once, |store| async move {
    let bus = Bus::new(&store);
    let server = bus.serve().await;
    let demo = server.client("demo");
    let receiver = subscribed(&bus, &demo, json!({"timeout": 200})).await;
    let key = [("idempotency-key", "order:17")];
    let first = send(&demo, &event(1), &key).await.expect(204);
    let again = send(&demo, &event(1), &key).await.expect(204);
    assert_eq!(first.header("routemaster-event"), again.header("routemaster-event"));
    send(&demo, &event(2), &key).await.expect_reason(422);
    // A process that is new knows it as well; another client's key is another one.
    let other = bus.web().await;
    send(&other.client("demo"), &event(1), &key).await.expect(204);
    send(&demo, &event(3), &[("idempotency-key", "order:18")]).await.expect(204);
    assert_eq!(receiver.numbers(2).await, [1, 3]);
    let alice = server.client("alice");
    send(&alice, &event(1), &key).await.expect_reason(403);
    for wrong in ["", "ü"] {
        let wrong = [("idempotency-key", wrong)];
        send(&demo, &event(4), &wrong).await.expect_reason(400);
    }
    receiver.stays_quiet(std::time::Duration::from_millis(400)).await;
});

on_both_stores!(
    calls_are_signed_with_their_client_s_secret_and_carry_the_trace,
    |store| async move {
        let bus = Bus::new(&store);
        let server = bus.serve().await;
        let (demo, receiver) = (server.client("demo"), bus.receiver().await);
        let set = async |secret: Value| {
            let body = json!({ "secret": secret }).to_string();
            demo.put("/client/secret", body).await
        };
        set(json!([NEW, OLD])).await.expect(204);
        assert_eq!(
            demo.get("/client/secret").await.expect(200).json()["secret"],
            json!([NEW, OLD])
        );
        assert_eq!(server.client("alice").get("/client/secret").await.json()["secret"], json!([]));
        set(json!("MfKQ9r8GKYqrTw")).await.expect_reason(400);
        let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let call = json!({"url": receiver.url(), "method": "POST", "body": "{\"a\":1}", "id": "one",
        "headers": {"content-type": "application/json"}});
        let headers = [("content-type", "application/json"), ("traceparent", trace)];
        let sent = demo.try_send(Method::POST, "/calls", &headers, call.to_string()).await.unwrap();
        sent.expect(202);
        // The same in another trace is the same.
        demo.post("/calls", call.to_string()).await.expect(202);
        let attempt = receiver.attempts(1).await.remove(0);
        assert_eq!(attempt.header("webhook-id"), Some("one"));
        for secret in [OLD, NEW] {
            assert_eq!(verdicts(secret, &attempt, &attempt.body), ["verified", "verified"]);
        }
        let carried = attempt.header("traceparent").unwrap();
        assert!(carried.starts_with(&trace[..36]) && carried != trace, "{carried}");
        // Messages by the secret of their publisher.
        demo.post("/api/topics", r#"{"name":"t","origin_host":"a.example"}"#).await.expect(201);
        let publisher = json!({"topic": "t", "target": receiver.url(), "type": "http", "active": true, "secret": OLD});
        let made = demo.post("/api/publishers", publisher.to_string()).await.expect(201).json();
        let shown = demo.get(&format!("/api/publishers/{}", made["data"]["id"])).await.expect(200);
        assert_eq!(shown.json()["data"]["secret"], json!([OLD]));
        let message = r#"{"topic":"t","payload":{"b":2},"attributes":{}}"#;
        let sent = demo.try_send(Method::POST, "/api/messages", &headers, message.to_owned()).await;
        sent.unwrap().expect(201);
        let attempt = receiver.attempts(2).await.remove(1);
        assert_eq!(attempt.header("webhook-id"), attempt.header("message-id"));
        assert_eq!(verdicts(OLD, &attempt, &attempt.body), ["verified", "verified"]);
        assert!(attempt.header("traceparent").unwrap().starts_with(&trace[..36]));
        assert_eq!(attempt.body, r#"{"b":2,"attributes":{}}"#);
        receiver.stays_quiet(std::time::Duration::from_millis(300)).await;
    }
);

on_both_stores!(the_bus_publishes_its_own_news, |store| async move {
    let bus = Bus::new(&store)
        .set("ROUTEMASTER_MAX_BACKOFF_MS", "20")
        .set("ROUTEMASTER_PUBLIC_URL", "https://bus.example");
    let server = bus.serve().await;
    let (demo, alice) = (server.client("demo"), server.client("alice"));
    let reader = bus.receiver().await;
    alice.subscribes(&reader, &["routemaster_news"], json!({"timeout": 0})).await;
    let receiver = subscribed(&bus, &demo, json!({"timeout": 0})).await;
    receiver.answer_next([500, 500, 200, 410].map(Answer::Status));
    demo.publishes("widgets", [1]).await;
    receiver.attempts(3).await;
    demo.publishes("widgets", [2]).await;
    let news: Vec<Value> = reader.events(3).await;
    let told: Vec<_> = news.iter().map(|event| event["data"]["news"].as_str().unwrap()).collect();
    assert_eq!(told, ["subscriber_stalled", "subscriber_recovered", "subscriber_paused"]);
    assert_eq!(
        (&news[0]["data"]["status"], &news[0]["topic"]),
        (&json!(500), &json!("routemaster_news"))
    );
    assert!(news[0]["url"].as_str().unwrap().starts_with("https://bus.example/subscriptions/"));
    // A call that is given up.
    let call = json!({"url": receiver.url(), "requeue": false}).to_string();
    receiver.answer(Answer::Status(500));
    demo.post("/calls", call).await.expect(202);
    let news = reader.events(5).await;
    let told: Vec<_> =
        news[3..].iter().map(|event| event["data"]["news"].as_str().unwrap()).collect();
    assert_eq!(told, ["destination_failing", "dead_letter"]);
    // Nobody else publishes there, and it is no topic of anybody who has not asked.
    demo.publish("routemaster_news", &event(1)).await.expect_reason(403);
    let topics = demo.get("/topics").await.expect(200).json();
    let own = topics.as_array().unwrap().iter().find(|topic| topic["name"] == "routemaster_news");
    assert_eq!(own.unwrap()["publisher"], "routemaster_news");
});

on_both_stores!(an_event_that_is_given_up_is_news, |store| async move {
    let bus = Bus::new(&store).set("ROUTEMASTER_MAX_BACKOFF_MS", "20");
    let server = bus.serve().await;
    let (demo, alice) = (server.client("demo"), server.client("alice"));
    let reader = bus.receiver().await;
    alice.subscribes(&reader, &["routemaster_news"], json!({"timeout": 0})).await;
    let more = json!({"timeout": 0, "on_refusal": {"attempts": 2}});
    let receiver = subscribed(&bus, &demo, more).await;
    receiver.refuse_number(7);
    demo.publishes("widgets", [7]).await;
    let is_told = |event: &Value| {
        let data = &event["data"];
        data["news"] == "dead_letter" && data["kind"] == "event" && data["status"] == 422
    };
    let told =
        |attempts: &Vec<Attempt>| attempts.iter().flat_map(Attempt::events).any(|e| is_told(&e));
    reader.until("it is told", told).await;
});
