//! Replay (§14): topics keep their events, for those who want them once more or begin in the past.

use serde_json::{Value, json};

use crate::support::{Bus, Client, Process, ROOT, eventually, now_ms, numbered};

const PLENTY: &str = r#"{"ms": 3600000, "bytes": 10000000}"#;

async fn keeps(client: &Client, topic: &str) {
    client.put(&format!("/topics/{topic}/keep"), PLENTY).await.expect(204);
}

/// Takes so many events of a subscriber that pulls; their numbers, and whether their batches were marked.
async fn pulled(client: &Client, count: usize) -> (Vec<u64>, Vec<bool>) {
    let (mut numbers, mut marked, mut last) = (Vec::new(), Vec::new(), String::new());
    while numbers.len() < count {
        let path = format!("/subscription/batch?wait=20000&ack={last}");
        let reply = client.post(path.trim_end_matches("&ack="), "").await.expect(200);
        numbers.extend(reply.json().as_array().unwrap().iter().map(numbered));
        marked.push(reply.header("routemaster-replay") == Some("true"));
        reply.header("webhook-id").unwrap().clone_into(&mut last);
    }
    client.delete(&format!("/subscription/batch/{last}")).await.expect(204);
    (numbers, marked)
}

async fn pulls(client: &Client, topics: &[&str], more: Value) -> u16 {
    let mut body = json!({"topics": topics, "pull": true, "timeout": 0});
    for (name, value) in more.as_object().unwrap() {
        body[name] = value.clone();
    }
    client.post("/subscription", body.to_string()).await.status
}

on_both_stores!(what_a_topic_keeps_is_said_by_its_publisher_and_shown, |store| async move {
    let bus = Bus::new(&store).set("ROUTEMASTER_KEEP_MAX_BYTES", "20MB");
    let server = bus.serve().await;
    let (demo, root) = (server.client("demo"), server.client(ROOT));
    demo.put("/topics/widgets/keep", PLENTY).await.expect_reason(404);
    demo.claims("widgets").await;
    demo.claims("gadgets").await;
    server.client("alice").put("/topics/widgets/keep", PLENTY).await.expect_reason(403);
    keeps(&demo, "widgets").await;
    keeps(&root, "gadgets").await;
    let too_much = r#"{"ms": 3600000, "bytes": 10000001}"#;
    demo.put("/topics/widgets/keep", too_much).await.expect_reason(409);
    for wrong in [
        "{}",
        r#"{"ms": 1}"#,
        r#"{"ms": 1, "bytes": 0}"#,
        r#"{"ms": 0, "bytes": 1}"#,
        r#"{"ms": 31536000001, "bytes": 1}"#,
        r#"{"ms": 1, "bytes": 1, "days": 1}"#,
    ] {
        demo.put("/topics/widgets/keep", wrong).await.expect_reason(400);
    }
    let kept = async || {
        let topics = demo.get("/topics").await.expect(200).json();
        let of = |name: &str| {
            let mut all = topics.as_array().unwrap().iter();
            all.find(|topic| topic["name"] == name).unwrap()["keep"].clone()
        };
        (of("widgets"), of("gadgets"))
    };
    let plenty: Value = serde_json::from_str(PLENTY).unwrap();
    assert_eq!(kept().await, (plenty.clone(), plenty.clone()));
    demo.put("/topics/widgets/keep", r#"{"ms": 0, "bytes": 0}"#).await.expect(204);
    assert_eq!(kept().await, (Value::Null, plenty));
});

on_both_stores!(what_is_kept_is_delivered_once_more_in_order_and_marked, |store| async move {
    let bus = Bus::new(&store);
    let server = bus.serve().await;
    let (demo, alice) = (server.client("demo"), server.client("alice"));
    alice.post("/subscription/replay", r#"{"since": 0}"#).await.expect_reason(404);
    for topic in ["widgets", "gadgets", "others"] {
        demo.claims(topic).await;
        keeps(&demo, topic).await;
    }
    assert_eq!(pulls(&alice, &["widgets", "gadgets"], json!({})).await, 204);
    demo.publishes("widgets", 1..=3).await;
    demo.publishes("gadgets", 4..=5).await;
    demo.publishes("others", 6..=6).await;
    let between = now_ms();
    eventually("the clock goes on", async || (now_ms() > between + 1).then_some(())).await;
    demo.publishes("widgets", 7..=8).await;
    assert_eq!(pulled(&alice, 7).await.0, [1, 2, 3, 4, 5, 7, 8]);

    let replay = async |body: Value| {
        alice.post("/subscription/replay", body.to_string()).await.expect(200).json()
    };
    assert_eq!(replay(json!({"since": 0})).await["replayed"], 7);
    let (numbers, marked) = pulled(&alice, 7).await;
    assert_eq!((numbers, marked), (vec![1, 2, 3, 4, 5, 7, 8], vec![true]));
    let early = json!({"since": 0, "until": between, "topics": ["widgets"]});
    assert_eq!(replay(early).await["replayed"], 3);
    assert_eq!(replay(json!({"since": between + 1})).await["replayed"], 2);
    assert_eq!(replay(json!({"since": now_ms() + 60_000})).await["replayed"], 0);
    assert_eq!(pulled(&alice, 5).await.0, [1, 2, 3, 7, 8]);
    for (wrong, status) in [
        (json!({}), 400),
        (json!({"since": -1}), 400),
        (json!({"since": 0, "topics": ["others"]}), 400),
        (json!({"since": 0, "topics": ["no topic"]}), 400),
    ] {
        alice.post("/subscription/replay", wrong.to_string()).await.expect_reason(status);
    }
    server.client(ROOT).post("/subscription/replay", r#"{"since": 0}"#).await.expect_reason(403);

    // The same from the command line, whose times may be told as people do.
    let as_alice = ["--token", "alice", "--url", server.base()];
    let command = [&["replay", "widgets", "--since", "1h"][..], &as_alice].concat();
    let said = bus.run(&command).await;
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    assert_eq!(said.stdout, "5 events put into the queue once more\n");
    assert_eq!(pulled(&alice, 5).await.0, [1, 2, 3, 7, 8]);
});

/// Publishes in the background until it is told to stop; how many were published.
fn publish_on(
    server: &Process,
) -> (tokio::sync::oneshot::Sender<()>, tokio::task::JoinHandle<u64>) {
    let (stop, mut stopped) = tokio::sync::oneshot::channel();
    let demo = server.client("demo");
    let publishing = tokio::spawn(async move {
        let mut last = 3_000;
        while stopped.try_recv().is_err() {
            last += 1;
            demo.publishes("widgets", last..=last).await;
        }
        last
    });
    (stop, publishing)
}

on_both_stores!(a_subscription_begins_in_the_past_without_a_seam, |store| async move {
    let bus = Bus::new(&store);
    let server = bus.serve().await;
    let (demo, alice) = (server.client("demo"), server.client("alice"));
    demo.claims("widgets").await;
    assert_eq!(pulls(&alice, &["widgets"], json!({"since": 0})).await, 400, "it keeps nothing");
    assert_eq!(pulls(&alice, &["unknown"], json!({"since": 0})).await, 404);
    keeps(&demo, "widgets").await;
    for first in (1..=3_000).step_by(500) {
        let events: Vec<Value> = (first..first + 500).map(crate::support::event).collect();
        demo.publish("widgets", &json!(events)).await.expect(204);
    }
    let (stop, publishing) = publish_on(&server);
    assert_eq!(pulls(&alice, &["widgets"], json!({"since": 0})).await, 204);
    let (numbers, marked) = pulled(&alice, 3_050).await;
    stop.send(()).unwrap();
    let last = publishing.await.unwrap();
    let rest = usize::try_from(last).unwrap() - numbers.len();
    let rest = if rest > 0 { pulled(&alice, rest).await.0 } else { Vec::new() };
    let all = [numbers, rest].concat();
    assert!(all.iter().copied().eq(1..=last), "each once, in order: {all:?}");
    assert!(marked.iter().all(|marked| !marked), "it is no replay for whoever is new");

    // One that is there already goes on where it is.
    assert_eq!(pulls(&alice, &["widgets"], json!({"since": 0})).await, 204);
    assert_eq!(alice.subscription("alice").await["events"]["queued"], 0);
});
