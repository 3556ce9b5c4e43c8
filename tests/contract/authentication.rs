//! Authentication (§1): who is let in, and what the others are told.

use reqwest::Method;
use serde_json::json;

use crate::support::{Bus, Client, ORDERS, ROOT, Store, basic, event, run};

/// Every route that asks who is there.
const ROUTES: [(Method, &str); 14] = [
    (Method::POST, "/topics/widgets"),
    (Method::GET, "/topics"),
    (Method::DELETE, "/topics/widgets"),
    (Method::DELETE, "/topic/widgets"),
    (Method::POST, "/subscription"),
    (Method::POST, "/subscriber"),
    (Method::GET, "/subscriptions"),
    (Method::GET, "/subscribers"),
    (Method::DELETE, "/subscriber"),
    (Method::DELETE, "/subscription"),
    (Method::DELETE, "/subscriber/topics/widgets"),
    (Method::GET, "/pulse"),
    (Method::GET, "/pulse/scaling"),
    (Method::GET, "/api_tokens"),
];

/// Requires a refusal as the contract describes it.
async fn is_refused(client: &Client, method: Method, path: &str) {
    let reply = client.request(method.clone(), path).await;
    assert_eq!(reply.status, 401, "{method} {path}: {reply:?}");
    let challenge = reply.header("www-authenticate").unwrap_or_default();
    let realm = challenge.strip_prefix("Basic realm=\"").and_then(|rest| rest.strip_suffix('"'));
    assert!(realm.is_some_and(|realm| !realm.is_empty()), "{reply:?}");
    assert!(reply.body.trim_end().lines().count() <= 1, "{reply:?}");
}

#[test]
fn every_route_but_health_asks_for_authentication() {
    run(async {
        let bus = Bus::new(&Store::sqlite());
        let server = bus.serve().await;
        for (method, path) in ROUTES {
            is_refused(&server.anonymous(), method.clone(), path).await;
            is_refused(&server.client("mallory"), method, path).await;
        }
        is_refused(&server.anonymous(), Method::POST, "/api_tokens").await;
        is_refused(&server.anonymous(), Method::DELETE, "/api_tokens/demo").await;
    });
}

on_both_stores!(malformed_and_unknown_credentials_are_refused, |store| async move {
    let bus = Bus::new(&store);
    let server = bus.serve().await;
    for authorization in [
        "",
        "Basic",
        "Basic ",
        "Basic !!!!",
        "Basic ZGVtbzp4=====",
        "ZGVtbzp4",
        "Bearer demo",
        "Bearer ZGVtbzp4",
        "Digest username=\"demo\"",
        &basic("mallory:x"),
        &basic(":demo"),
        &basic(":"),
        &basic("Demo:x"),
        &basic("demo :x"),
        &basic("dem:x"),
        &basic("demoo:x"),
        &basic("demo\0:x"),
        &basic("demo,alice:x"),
        &basic(&format!("{}:x", "d".repeat(10_000))),
    ] {
        let client = server.anonymous().with_authorization(authorization);
        is_refused(&client, Method::GET, "/topics").await;
    }
    // Bytes that are no text inside of the Base64.
    let client = server.anonymous().with_authorization("Basic //79OmQ=");
    is_refused(&client, Method::GET, "/topics").await;
    let publish = server.client("mallory").publish("widgets", &event(1)).await;
    assert_eq!(publish.status, 401);
    assert!(server.client("demo").topic("widgets").await.is_null());
});

on_both_stores!(
    an_allowed_token_is_the_user_name_and_the_password_is_ignored,
    |store| async move {
        let bus = Bus::new(&store);
        let server = bus.serve().await;
        for credentials in ["demo:x", "demo:", "demo:demo", "demo:a:b:c", "demo:\u{e9}"] {
            let client = server.anonymous().with_authorization(&basic(credentials));
            client.get("/topics").await.expect(200);
        }
        for token in ["demo", "alice", "bob", ORDERS] {
            server.client(token).get("/topics").await.expect(200);
        }
        // The scheme's name has no case.
        let lower = basic("demo:x").replace("Basic", "basic");
        server.anonymous().with_authorization(&lower).get("/topics").await.expect(200);
    }
);

on_both_stores!(a_token_may_hold_colons_and_is_still_compared_whole, |store| async move {
    let bus = Bus::new(&store).set("ROUTEMASTER_CLIENTS", "a:b:c, demo");
    let server = bus.serve().await;
    let get = async |credentials: &str| {
        let client = server.anonymous().with_authorization(&basic(credentials));
        client.get("/topics").await.status
    };
    for (credentials, status) in
        [("a:b:c:x", 200), ("a:b:c:", 200), ("a:b:x", 401), ("a:x", 401), ("b:x", 401)]
    {
        assert_eq!(get(credentials).await, status, "{credentials}");
    }
});

on_both_stores!(a_token_that_begins_like_another_one_is_not_taken_for_it, |store| async move {
    let bus = Bus::new(&store).set("ROUTEMASTER_CLIENTS", "a,a:b,root-key:reader");
    let server = bus.serve().await;
    let client = |credentials: &str| server.anonymous().with_authorization(&basic(credentials));
    client("a:b:").claims("widgets").await;
    client("a:").publish("widgets", &event(1)).await.expect(403);
    client("root-key:reader:").get("/api_tokens").await.expect(403);
    client("root-key:").get("/api_tokens").await.expect(200);
});

on_both_stores!(root_reads_monitoring_and_deletes_any_topic, |store| async move {
    let bus = Bus::new(&store);
    let server = bus.serve().await;
    let root = server.client(ROOT);
    server.client("demo").claims("widgets").await;
    root.get("/topics").await.expect(200);
    root.get("/subscriptions").await.expect(200);
    root.get("/pulse").await.expect(204);
    root.get("/api_tokens").await.expect(200);
    root.delete("/topics/widgets").await.expect(204);
    assert!(root.topic("widgets").await.is_null());
});

on_both_stores!(only_root_manages_tokens, |store| async move {
    let bus = Bus::new(&store);
    let server = bus.serve().await;
    let made = server.client(ROOT).post("/api_tokens", r#"{"name":"svc"}"#).await.expect(201);
    let made = made.json()["token"].as_str().unwrap().to_owned();
    for token in ["demo", &*made] {
        let client = server.client(token);
        for reply in [
            client.get("/api_tokens").await,
            client.post("/api_tokens", r#"{"name":"more"}"#).await,
            client.delete(&format!("/api_tokens/{made}")).await,
        ] {
            assert!([401, 403].contains(&reply.status), "{token}: {reply:?}");
            assert!(!reply.body.contains(&made), "{reply:?}");
        }
    }
    let listed = server.client(ROOT).made_tokens().await;
    assert_eq!(listed, [json!({"name": "svc", "token": made})]);
});

on_both_stores!(no_secret_appears_in_the_log, |store| async move {
    let bus = Bus::new(&store).set("ROUTEMASTER_LOG_LEVEL", "debug");
    let mut server = bus.serve().await;
    let (orders, receiver) = (server.client(ORDERS), bus.receiver().await);
    let made = server.client(ROOT).post("/api_tokens", r#"{"name":"svc"}"#).await.expect(201);
    let made = made.json()["token"].as_str().unwrap().to_owned();
    orders.claims("widgets").await;
    let uuid = "6b1d4f0e-secret-of-the-subscriber";
    orders.subscribes(&receiver, &["widgets"], json!({"timeout": 0, "uuid": uuid})).await;
    receiver.answer_next([crate::support::Answer::Status(500)]);
    orders.publishes("widgets", 1..=1).await;
    server.client(&made).publish("widgets", &event(2)).await.expect(403);
    server.client("unknown--feedfeedfeed").get("/topics").await.expect(401);
    receiver.numbers(1).await;
    orders.delete("/subscriber").await.expect(204);
    server.client(ROOT).delete(&format!("/api_tokens/{made}")).await.expect(204);
    server.kill().await;
    let log = server.stdout.whole().await + &server.stderr.whole().await;
    for secret in [ORDERS, ROOT, &*made, uuid, "feedfeedfeed", &basic(&format!("{ORDERS}:x"))] {
        assert!(!log.contains(secret), "`{secret}` is in the log:\n{log}");
    }
});
