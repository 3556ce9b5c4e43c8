//! Tokens made through `/api_tokens` (§5): their life from one request to the other.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Bus, Client, ROOT, Store, event, eventually, run};

async fn make(root: &Client, body: Value) -> String {
    let reply = root.post("/api_tokens", body.to_string()).await.expect(201);
    assert_eq!(reply.json()["name"], body["name"], "{reply:?}");
    reply.json()["token"].as_str().expect("a token").to_owned()
}

on_both_stores!(a_token_is_made_listed_used_and_deleted, |store| async move {
    let bus = Bus::new(&store);
    let server = bus.serve().await;
    let root = server.client(ROOT);
    let made = make(&root, json!({"name": "booking"})).await;
    let digits = made.strip_prefix("booking--").expect("<name>--<32 hex>");
    assert!(digits.len() == 32 && digits.bytes().all(|b| b.is_ascii_hexdigit()), "{made}");
    let given = make(&root, json!({"name": "billing", "token": "billing--given"})).await;
    assert_eq!(given, "billing--given");

    let expected =
        [json!({"name": "billing", "token": given}), json!({"name": "booking", "token": made})];
    assert_eq!(root.made_tokens().await, expected);

    for token in [&made, &given] {
        server.client(token).get("/topics").await.expect(200);
    }
    server.client(&made).claims("bookings").await;
    let deleted = root.delete(&format!("/api_tokens/{made}")).await.expect(204);
    assert!(deleted.body.is_empty());
    assert_eq!(root.made_tokens().await, [json!({"name": "billing", "token": given})]);
    server.client(&given).get("/topics").await.expect(200);
});

on_both_stores!(deleting_a_token_always_answers_204, |store| async move {
    let bus = Bus::new(&store);
    let server = bus.serve().await;
    let root = server.client(ROOT);
    let made = make(&root, json!({"name": "booking"})).await;
    for token in [&*made, &*made, "never-was", "Not%20A%20Token"] {
        root.delete(&format!("/api_tokens/{token}")).await.expect(204);
    }
    assert!(root.made_tokens().await.is_empty());
});

on_both_stores!(
    tokens_of_the_settings_are_listed_beside_those_that_were_made,
    |store| async move {
        let bus = Bus::new(&store).set("ROUTEMASTER_CLIENTS", "demo,shop--0123");
        let server = bus.web().await;
        let root = server.client(ROOT);
        make(&root, json!({"name": "billing", "token": "billing--given"})).await;
        let listed = root.get("/api_tokens").await.expect(200).json();
        let expected = json!([
            {"name": "billing", "token": "billing--given"},
            {"name": "demo", "token": "demo"},
            {"name": "shop", "token": "shop--0123"},
        ]);
        assert_eq!(listed, expected);
        root.delete("/api_tokens/demo").await.expect(204);
        assert_eq!(
            root.get("/api_tokens").await.expect(200).json(),
            expected,
            "it stands in the settings"
        );
        drop(server);

        let none = Bus::new(&Store::sqlite()).set("ROUTEMASTER_CLIENTS", "");
        let server = none.web().await;
        let reply = server.client(ROOT).get("/api_tokens").await.expect(204);
        assert!(reply.body.is_empty(), "{reply:?}");
    }
);

on_both_stores!(a_subscription_goes_with_its_token_unless_it_is_to_stay, |store| async move {
    let bus = Bus::new(&store);
    let server = bus.web().await;
    let (root, demo) = (server.client(ROOT), server.client("demo"));
    demo.claims("widgets").await;
    let subscribe = async |name: &str| {
        let token = make(&root, json!({"name": name})).await;
        let body = json!({"topics": ["widgets"], "callback": "https://a.example/"}).to_string();
        server.client(&token).post("/subscription", body).await.expect(204);
        token
    };
    let (goes, stays) = (subscribe("goes").await, subscribe("stays").await);
    demo.publishes("widgets", 1..=2).await;
    root.delete(&format!("/api_tokens/{stays}?keep=maybe")).await.expect_reason(400);
    root.delete(&format!("/api_tokens/{goes}")).await.expect(204);
    root.delete(&format!("/api_tokens/{stays}?keep=true")).await.expect(204);
    assert!(root.subscription(&goes).await.is_null());
    assert_eq!(root.queued(&stays).await, Some(2));
    // A client of the settings stays, with what is its own.
    let body = json!({"topics": ["widgets"], "callback": "https://a.example/"}).to_string();
    demo.post("/subscription", body).await.expect(204);
    root.delete("/api_tokens/demo").await.expect(204);
    assert!(!root.subscription("demo").await.is_null());
});

on_both_stores!(
    a_token_that_is_given_may_have_any_name_of_a_tokens_characters,
    |store| async move {
        let bus = Bus::new(&store);
        let server = bus.web().await;
        let root = server.client(ROOT);
        for name in ["a--b", &"n".repeat(31), &"n".repeat(64)] {
            make(&root, json!({"name": name, "token": "given"})).await;
            let reason = root.post("/api_tokens", json!({"name": name}).to_string()).await;
            assert!(reason.expect_reason(400).contains("give the token as well"), "{name}");
        }
        assert_eq!(make(&root, json!({"name": "svc", "token": null})).await.len(), 37);
    }
);

on_both_stores!(a_bad_request_for_a_token_makes_none, |store| async move {
    let bus = Bus::new(&store);
    let server = bus.serve().await;
    let root = server.client(ROOT);
    for body in [
        "",
        "{",
        "[]",
        "{}",
        r#"{"token":"a"}"#,
        r#"{"name":""}"#,
        r#"{"name":7}"#,
        r#"{"name":"Not A Name"}"#,
        r#"{"name":"svc","token":"Not A Token"}"#,
        r#"{"name":"svc","token":""}"#,
        r#"{"name":"svc","token":7}"#,
        r#"{"name":"svc","name":"svc"}"#,
        r#"{"name":"svc","more":1}"#,
        &format!(r#"{{"name":"svc","token":"{}"}}"#, "a".repeat(65)),
        &format!(r#"{{"name":"{}"}}"#, "a".repeat(65)),
    ] {
        root.post("/api_tokens", body.to_owned()).await.expect_reason(400);
    }
    assert!(root.made_tokens().await.is_empty());
});

on_both_stores!(a_revoked_token_is_refused_by_every_web_process_within_1_s, |store| async move {
    let bus = Bus::new(&store);
    let (first, second) = (bus.web().await, bus.web().await);
    let root = first.client(ROOT);
    let made = make(&root, json!({"name": "booking"})).await;
    let (here, there) = (first.client(&made), second.client(&made));
    here.get("/topics").await.expect(200);
    let known = async || (there.get("/topics").await.status == 200).then_some(());
    eventually("the other process knows the new token", known).await;

    root.delete(&format!("/api_tokens/{made}")).await.expect(204);
    for client in [&here, &there] {
        let refused = async || (client.get("/topics").await.status == 401).then_some(());
        let (_, took) = eventually("the revoked token is refused", refused).await;
        assert!(took <= Duration::from_secs(1), "it was refused after {took:?} only");
    }
});

on_both_stores!(tokens_survive_a_restart, |store| async move {
    let bus = Bus::new(&store);
    let mut server = bus.serve().await;
    let made = make(&server.client(ROOT), json!({"name": "booking"})).await;
    server.kill().await;
    let server = bus.serve().await;
    server.client(&made).get("/topics").await.expect(200);
    server.client(ROOT).delete(&format!("/api_tokens/{made}")).await.expect(204);
});

on_both_stores!(
    a_token_without_a_name_in_it_is_shown_by_what_it_was_made_for,
    |store| async move {
        let bus = Bus::new(&store);
        let server = bus.serve().await;
        let root = server.client(ROOT);
        let secret = make(&root, json!({"name": "billing", "token": "s3cret-without-name"})).await;
        let billing = server.client(&secret);
        billing.claims("bills").await;
        let receiver = bus.receiver().await;
        billing.subscribes(&receiver, &["bills"], json!({})).await;
        let demo = server.client("demo");
        let seen_by = async |client: &Client| {
            let (topics, subscriptions) =
                (client.get("/topics").await, client.get("/subscriptions").await);
            let (topics, subscriptions) =
                (topics.expect(200).json(), subscriptions.expect(200).json());
            (topics[0]["publisher"].clone(), subscriptions[0]["subscriber"].clone())
        };
        assert_eq!(seen_by(&demo).await, (json!("billing"), json!("billing")));
        for whole in [&billing, &root] {
            assert_eq!(seen_by(whole).await, (json!(secret), json!(secret)));
        }
        // Nobody knows any more what it was made for.
        root.delete(&format!("/api_tokens/{secret}?keep=true")).await.expect(204);
        assert_eq!(seen_by(&demo).await, (json!("s3cr…"), json!("s3cr…")));
        // One of the settings is its own name, as in the original.
        demo.claims("demos").await;
        let topics = server.client("alice").get("/topics").await.expect(200).json();
        assert_eq!(topics[1]["publisher"], "demo");
    }
);

#[test]
fn a_name_that_is_the_buss_own_is_no_token() {
    run(async {
        let bus = Bus::new(&Store::sqlite());
        let server = bus.web().await;
        for token in ["open", "calls-key", "root"] {
            let body = json!({"name": "billing", "token": token}).to_string();
            let refused = server.client(ROOT).post("/api_tokens", body).await;
            assert!(refused.expect_reason(400).contains("choose another one"), "{token}");
        }
    });
}

on_both_stores!(a_token_is_rotated_and_its_client_keeps_what_it_has, |store| async move {
    let bus = Bus::new(&store);
    let server = bus.serve().await;
    let root = server.client(ROOT);
    let made = root.post("/api_tokens", r#"{"name":"shop"}"#).await.expect(201).json();
    let first = made["token"].as_str().unwrap().to_owned();
    let (old, receiver) = (server.client(&first), bus.receiver().await);
    old.claims("widgets").await;
    old.subscribes(&receiver, &["widgets"], json!({"timeout": 0})).await;
    let path = format!("/api_tokens/{first}/rotate");
    old.post(&path, "{}").await.expect_reason(403);
    root.post("/api_tokens/nobody/rotate", "{}").await.expect_reason(404);
    root.post(&path, r#"{"grace":-1}"#).await.expect_reason(400);
    let rotated = root.post(&path, r#"{"grace":3000}"#).await.expect(201).json();
    let second = rotated["token"].as_str().unwrap().to_owned();
    assert!(rotated["name"] == "shop" && second.starts_with("shop--") && second != first);
    let new = server.client(&second);
    // Both are the same client: its topic, its subscription, its queue.
    old.publishes("widgets", [1]).await;
    new.publishes("widgets", [2]).await;
    assert_eq!(receiver.numbers(2).await, [1, 2]);
    assert_eq!(new.get("/subscription").await.expect(200).json()["subscriber"], json!(second));
    root.get(&format!("/subscriptions/{second}")).await.expect(200);
    root.post(&path, "{}").await.expect_reason(404);
    eventually("the grace is over", async || {
        (old.get("/topics").await.status == 401).then_some(())
    })
    .await;
    new.publishes("widgets", [3]).await;
    assert_eq!(receiver.numbers(3).await, [1, 2, 3]);
    let listed = root.get("/api_tokens").await.expect(200).json();
    let listed: Vec<_> =
        listed.as_array().unwrap().iter().filter(|row| row["name"] == "shop").collect();
    assert_eq!(listed.len(), 1, "{listed:?}");
    // Revoked, it is gone, and kept if that is asked for: then it is paused.
    root.delete(&format!("/api_tokens/{second}?keep=true")).await.expect(204);
    assert_eq!(
        root.get("/subscriptions/shop").await.expect(200).json()["paused"]["by"],
        "revocation"
    );
    // One of the settings too.
    let rotated = root.post("/api_tokens/alice/rotate", r#"{"grace":0}"#).await.expect(201).json();
    let alice = server.client("alice");
    eventually("the configured one is refused", async || {
        (alice.get("/topics").await.status == 401).then_some(())
    })
    .await;
    let token = rotated["token"].as_str().unwrap();
    server.client(token).claims("gadgets").await;
    drop(server);
    let server = bus.serve().await;
    server.client("alice").get("/topics").await.expect(401);
    server.client(token).publishes("gadgets", [1]).await;
});

on_both_stores!(a_topic_is_given_to_another_publisher, |store| async move {
    let bus = Bus::new(&store);
    let server = bus.serve().await;
    let (demo, alice, root) = (server.client("demo"), server.client("alice"), server.client(ROOT));
    demo.claims("widgets").await;
    let path = "/topics/widgets/publisher";
    let to = |token: &str| json!({ "publisher": token }).to_string();
    demo.put(path, to("alice")).await.expect_reason(403);
    root.put(path, to("nobody")).await.expect_reason(400);
    root.put(path, "{}").await.expect_reason(400);
    let unknown = "/topics/unknown/publisher";
    root.put(unknown, to("alice")).await.expect_reason(404);
    root.put(path, to("alice")).await.expect(204);
    demo.publish("widgets", &event(1)).await.expect_reason(403);
    alice.publishes("widgets", [1]).await;
});

on_both_stores!(the_monitoring_key_looks_and_does_nothing_else, |store| async move {
    let bus = Bus::new(&store)
        .set("ROUTEMASTER_MONITOR_KEY", "look-only")
        .set("METRIC_COLLECTION_SERVICE", "prometheus");
    let server = bus.serve().await;
    let (demo, receiver) = (server.client("demo"), bus.receiver().await);
    demo.claims("widgets").await;
    demo.subscribes(&receiver, &["widgets"], json!({"uuid": "s3cr3t"})).await;
    let monitor = server.client("look-only");
    for path in ["/topics", "/subscriptions", "/subscriptions/demo", "/processes", "/metrics"] {
        let seen = monitor.get(path).await.expect(200);
        assert!(!seen.body.contains("s3cr3t"), "{path}");
    }
    monitor.get("/pulse").await.expect(204);
    for path in [
        "/subscription",
        "/journal",
        "/calls",
        "/calls/one",
        "/dead_letters",
        "/api_tokens",
        "/subscriptions/demo/queue",
        "/api/messages",
        "/api/topics",
        "/client/secret",
    ] {
        assert_eq!(monitor.get(path).await.status, 403, "{path}");
    }
    for path in [
        "/topics/widgets",
        "/subscription",
        "/calls",
        "/postbacks",
        "/api/messages",
        "/api/topics",
        "/api_tokens",
        "/subscriptions/demo/pause",
        "/dead_letters/1/retry",
    ] {
        assert_eq!(monitor.post(path, "{}").await.status, 403, "{path}");
    }
    for path in ["/topics/widgets", "/subscriptions/demo", "/subscription", "/dead_letters/1"] {
        assert_eq!(monitor.delete(path).await.status, 403, "{path}");
    }
});
