//! Message topics and publishers (§11), as Postoffice's clients make them.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Bus, Client, ROOT, soon};

async fn patch(client: &Client, path: &str, body: &Value) -> crate::support::Reply {
    client.try_send(Method::PATCH, path, &[], body.to_string()).await.unwrap()
}

/// Sends what has to be refused with this status; the errors.
async fn refused(client: &Client, path: &str, body: &Value, status: u16) -> Value {
    let reply = client.post(path, body.to_string()).await.expect(status);
    assert_eq!(reply.header("content-type"), Some("application/json; charset=utf-8"));
    reply.json()["data"]["errors"].clone()
}

fn topic(name: &str) -> Value {
    json!({"name": name, "origin_host": "https://shop.example/messages/", "recovery_enabled": false})
}

fn publisher(topic: &str, target: &str) -> Value {
    json!({"active": true, "topic": topic, "target": target, "type": "http", "from_now": true})
}

on_both_stores!(what_the_django_client_sends_is_taken, |store| async move {
    let bus = Bus::new(&store)
        .set("ROUTEMASTER_OPEN", "messages")
        .set("ROUTEMASTER_PLAIN_BIND", "127.0.0.1:0");
    let server = bus.serve().await;
    soon("a plain listener", server.stdout.line_with("plain    http://")).await.unwrap();
    let text = server.stdout.text();
    let base = text.lines().find_map(|line| line.trim().strip_prefix("plain    ")).unwrap();
    // Its slash at the end, plain HTTP, and nobody's token.
    let client = Client::new(base, &bus.ca_path()).beside_the_api();
    let made = client.post("/api/topics/", topic("some_topic").to_string()).await.expect(201);
    assert_eq!(made.json(), json!({"data": {"id": 1, "name": "some_topic"}}));
    let again = refused(&client, "/api/topics/", &topic("some_topic"), 409).await;
    assert_eq!(again, json!({"name": ["has already been taken"]}));
    let with_terms = json!({"active": true, "target": "http://www.some_url.com", "topic": "some_topic",
        "type": "http", "seconds_timeout": 20, "seconds_retry": 60, "from_now": true});
    let made = client.post("/api/publishers/", with_terms.to_string()).await.expect(201);
    assert_eq!(made.json(), json!({"data": {"id": 1}}));
    let again = refused(&client, "/api/publishers/", &with_terms, 409).await;
    assert_eq!(again, json!({"target": ["has already been taken"]}));
    let pubsub = json!({"active": true, "target": "another_topic", "topic": "some_topic",
        "type": "pubsub", "from_now": true});
    client.post("/api/publishers/", pubsub.to_string()).await.expect(201);
    assert_eq!(client.get("/api/health").await.expect(200).json(), json!({"status": "ok"}));
    // Managing is for the bus's own port.
    client.get("/api/topics").await.expect(405);

    let root = server.client(ROOT);
    let shown = root.get("/api/publishers").await.expect(200).json();
    assert_eq!(shown["data"][0]["target"], "http://www.some_url.com/");
    assert_eq!(
        (&shown["data"][0]["seconds_timeout"], &shown["data"][0]["seconds_retry"]),
        (&json!(20), &json!(60))
    );
    assert_eq!((&shown["data"][1]["type"], &shown["next"]), (&json!("pubsub"), &Value::Null));
    client.delete("/api/publishers/1").await.expect(204);
    client.delete("/api/publishers/1/").await.expect(204);
    for unknown in ["3", "seven", "-1", "18446744073709551615"] {
        let reply = client.delete(&format!("/api/publishers/{unknown}")).await.expect(400);
        assert_eq!(reply.json()["data"]["errors"], "Publisher not found", "{unknown}");
    }
});

on_both_stores!(what_is_wrong_is_told_by_field, |store| async move {
    let bus = Bus::new(&store);
    let server = bus.serve().await;
    let demo = server.client("demo");
    for (path, body, errors) in [
        (
            "/api/topics",
            json!({}),
            json!({"name": ["can't be blank"], "origin_host": ["can't be blank"]}),
        ),
        (
            "/api/topics",
            json!({"name": "a", "origin_host": "ftp://a"}),
            json!({"origin_host": ["must be a http:// or https:// URL"]}),
        ),
        (
            "/api/publishers",
            json!({"topic": "none", "target": "a.example", "type": "http"}),
            json!({"topic": ["is invalid"]}),
        ),
        (
            "/api/publishers",
            json!({"topic": "t", "target": " ", "type": "ftp", "seconds_retry": "soon"}),
            json!({"target": ["can't be blank"], "type": ["is invalid"], "seconds_retry": ["is invalid"]}),
        ),
    ] {
        assert_eq!(refused(&demo, path, &body, 400).await, errors, "{body}");
    }
    let denied = json!({"name": "a", "origin_host": "169.254.169.254/latest"});
    let denied = refused(&demo, "/api/topics", &denied, 400).await;
    assert!(denied["origin_host"][0].as_str().unwrap().contains("is denied"), "{denied}");
    demo.post("/api/topics", topic("a").to_string()).await.expect(201);
    let denied =
        refused(&demo, "/api/publishers", &publisher("a", "http://169.254.169.254/"), 400).await;
    assert!(denied["target"][0].as_str().unwrap().contains("is denied"), "{denied}");
    for body in ["", "[]", "no json"] {
        let reply = demo.post("/api/topics", body).await.expect(400);
        assert!(reply.json()["data"]["errors"]["detail"][0].is_string(), "{}", reply.body);
    }
    let nobody = server.anonymous().post("/api/topics", topic("b").to_string()).await.expect(401);
    assert!(nobody.json()["data"]["errors"]["detail"][0].as_str().unwrap().contains("HTTP Basic"));
    demo.clone().beside_the_api().delete("/api/topics").await.expect(405);
    assert_eq!(demo.get("/api/publishers").await.json()["data"], json!([]), "nothing was made");
});

on_both_stores!(a_topic_and_a_publisher_belong_to_their_maker, |store| async move {
    let bus = Bus::new(&store).set("ROUTEMASTER_MAX_TOPICS_PER_CLIENT", "2");
    let server = bus.serve().await;
    let (demo, alice, root) = (server.client("demo"), server.client("alice"), server.client(ROOT));
    let id =
        demo.post("/api/topics", topic("a").to_string()).await.expect(201).json()["data"]["id"]
            .clone();
    let path = format!("/api/topics/{id}");
    // Others add publishers to it, and see their own.
    let secret = publisher("a", "https://user:s3cr3t@b.example/x");
    let own =
        alice.post("/api/publishers", secret.to_string()).await.expect(201).json()["data"]["id"]
            .clone();
    let own = format!("/api/publishers/{own}");
    assert_eq!(demo.get("/api/publishers").await.json()["data"], json!([]));
    demo.get(&own).await.expect(403);
    let shown = alice.get(&own).await.expect(200);
    assert_eq!(shown.json()["data"]["target"], "https://b.example/x");
    alice.get(&path).await.expect(200);
    assert_eq!(patch(&demo, &own, &json!({"active": false})).await.status, 403);
    demo.delete(&own).await.expect(403);
    alice.delete(&path).await.expect(403);
    demo.delete(&path).await.expect(409);

    let changed =
        patch(&alice, &own, &json!({"active": "false", "chunk_size": 5})).await.expect(200);
    assert_eq!(
        (&changed.json()["data"]["active"], &changed.json()["data"]["chunk_size"]),
        (&json!(false), &json!(5))
    );
    assert_eq!(changed.json()["data"]["target"], "https://b.example/x");
    assert_eq!(patch(&alice, &own, &json!({"chunk_size": 0})).await.status, 400);

    root.delete(&format!("{path}?cascade=true")).await.expect(204);
    alice.get(&own).await.expect(404);
    demo.get(&path).await.expect(404);
    for beyond in ["topics", "publishers"] {
        root.get(&format!("/api/{beyond}/18446744073709551615")).await.expect(404);
    }
    // A client has so many, and no more.
    for name in ["b", "c"] {
        demo.post("/api/topics", topic(name).to_string()).await.expect(201);
    }
    let errors = refused(&demo, "/api/topics", &topic("d"), 403).await;
    assert!(errors["detail"][0].as_str().unwrap().contains("2 topics"), "{errors}");
    alice.post("/api/topics", topic("d").to_string()).await.expect(201);
    let first = root.get("/api/topics?limit=2").await.expect(200).json();
    assert_eq!(first["data"].as_array().unwrap().len(), 2);
    let rest = root.get(&format!("/api/topics?after={}", first["next"])).await.expect(200).json();
    assert_eq!((&rest["data"][0]["name"], &rest["next"]), (&json!("d"), &Value::Null));
    let log = server.stderr.text();
    assert!(log.contains("made a message topic") && !log.contains("s3cr3t"), "{log}");
});
