//! The API's description of itself: that it is well-formed, that nothing in it is made up, and that
//! its schemas and the bus's parsers agree. That all answers are as it says is checked in every
//! other test, too ([`crate::support::Client`]).

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::description::{Description, description};
use crate::support::{Answer, Bus, Client, ROOT, Reply, Store, event, run};

#[test]
fn it_is_an_openapi_3_1_document() {
    let description = description();
    let document = &description.document;
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1."));
    assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
    check_references(description, document);

    let mut ids = BTreeSet::new();
    let webhooks = document["webhooks"].as_object().unwrap().values();
    let webhooks = webhooks.map(|item| ("post", "", &item["post"]));
    for (method, path, operation) in description.operations().chain(webhooks) {
        assert!(["get", "post", "put", "patch", "delete"].contains(&method), "{method} {path}");
        let id = operation["operationId"].as_str().unwrap();
        assert!(ids.insert(id), "two operations are called {id}");
        assert!(operation["summary"].is_string(), "{id} has no summary");
        let tag = &operation["tags"][0];
        let tags = document["tags"].as_array().unwrap();
        assert!(tags.iter().any(|known| known["name"] == *tag), "{id} has the tag {tag}");
        let parameters = operation["parameters"].as_array().into_iter().flatten();
        let in_path = parameters.filter(|parameter| parameter["in"] == "path");
        let named: Vec<_> = in_path.map(|parameter| parameter["name"].as_str().unwrap()).collect();
        let braced = path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
        assert_eq!(named, braced.collect::<Vec<_>>(), "{id}");
        for (status, response) in operation["responses"].as_object().unwrap() {
            let text = response["description"].as_str();
            let text = text.or(description.resolve(response)["description"].as_str());
            assert!(text.is_some_and(|text| !text.is_empty()), "{id} does not explain {status}");
        }
    }
    for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
        let valid = jsonschema::draft202012::meta::validate(schema);
        assert!(valid.is_ok(), "{name} is no JSON Schema: {}", valid.unwrap_err());
    }
}

/// Requires that each reference leads somewhere, and that all is used that is there to be used.
fn check_references(description: &Description, document: &Value) {
    fn collect<'a>(value: &'a Value, found: &mut BTreeSet<&'a str>) {
        match value {
            Value::Array(items) => items.iter().for_each(|item| collect(item, found)),
            Value::Object(fields) => {
                found.extend(fields.get("$ref").and_then(Value::as_str));
                fields.values().for_each(|field| collect(field, found));
            }
            _ => {}
        }
    }
    let mut references = BTreeSet::new();
    collect(document, &mut references);
    for reference in &references {
        description.resolve(&json!({"$ref": reference}));
    }
    for kind in ["schemas", "responses"] {
        for name in document["components"][kind].as_object().unwrap().keys() {
            let reference = format!("#/components/{kind}/{name}");
            assert!(references.contains(&*reference), "nothing refers to {reference}");
        }
    }
}

#[test]
fn whoever_asks_gets_it() {
    run(async {
        let bus = Bus::new(&Store::sqlite());
        let server = bus.serve().await;
        let reply = server.anonymous().get("/openapi.json").await.expect(200);
        assert_eq!(reply.header("content-type"), Some("application/json"));
        assert_eq!(reply.body, routemaster::api::openapi_document().unwrap());
    });
}

on_both_stores!(every_operation_is_there_and_succeeds_as_described, |store| async move {
    let bus = Bus::new(&store).set("METRIC_COLLECTION_SERVICE", "prometheus");
    let server = bus.serve().await;
    let subscription = json!({"topics": ["widgets"], "callback": "https://a.example/events"});
    let token = json!({"name": "billing", "token": "billing--1"});
    let call = json!({"url": "https://a.example", "id": "one", "delay": 3_600_000});
    let postbacks = json!({"endpoint": {"method": "GET", "url": "https://a.example"}, "data": []});
    let message_topic = json!({"name": "news", "origin_host": "a.example"});
    let publisher = json!({"topic": "news", "type": "http", "target": "a.example"});
    let change = json!({"active": true});
    let message = json!({"topic": "news", "payload": {}, "attributes": {}});
    let messages = json!({"topic": "news", "payload": [{}], "attributes": {}});
    let scheduled = json!({"topic": "news", "payload": {}, "attributes": {}, "schedule_at": "2100-01-01T00:00:00Z"});
    let mut sent = 0;
    let hanging = bus.receiver().await;
    hanging.answer(Answer::Hang);
    let hanging_call = json!({"url": hanging.url(), "id": "two"});
    let everything = json!({"through": (1u64 << 53) - 1});
    let secret = json!({"secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"});
    let publisher_of_topic = json!({"publisher": "demo"});
    let pulling = json!({"topics": ["widgets"], "pull": true});
    let keep = json!({"ms": 3_600_000, "bytes": 100_000});
    let everything_kept = json!({"since": 0});
    let (mut dead, mut rotated, mut batch) = (String::new(), String::new(), String::new());
    let mut process = String::new();
    let mut seen = BTreeSet::new();
    for (method, path, token, body, status) in [
        ("get", "/health", "", None, 200),
        ("get", "/health/ping", "", None, 200),
        ("get", "/health/ping.json", "", None, 200),
        ("get", "/openapi.json", "", None, 200),
        ("get", "/processes", "demo", None, 200),
        ("post", "/processes/{process}/drain", ROOT, None, 204),
        ("post", "/processes/{process}/resume", ROOT, None, 204),
        ("get", "/journal", "demo", None, 200),
        ("get", "/pulse", "demo", None, 204),
        ("get", "/pulse/scaling", "demo", None, 204),
        ("get", "/metrics", "demo", None, 200),
        ("get", "/profile?seconds=1", ROOT, None, 200),
        ("post", "/api_tokens", ROOT, Some(&token), 201),
        ("get", "/api_tokens", ROOT, None, 200),
        ("post", "/api_tokens/billing--1/rotate", ROOT, None, 201),
        ("delete", "/api_tokens/billing--1", ROOT, None, 204),
        ("delete", "/api_tokens/{rotated}", ROOT, None, 204),
        ("post", "/topics/widgets", "demo", Some(&event(1)), 204),
        ("get", "/topics", "demo", None, 200),
        ("post", "/subscription", "alice", Some(&subscription), 204),
        ("post", "/subscriber", "alice", Some(&subscription), 204),
        ("get", "/subscription", "alice", None, 200),
        ("get", "/subscriber", "alice", None, 200),
        ("get", "/subscriptions", "demo", None, 200),
        ("get", "/subscribers", "demo", None, 200),
        ("delete", "/subscription/topics/widgets", "alice", None, 204),
        ("post", "/subscription", "alice", Some(&subscription), 204),
        ("delete", "/subscriber/topics/widgets", "alice", None, 204),
        ("delete", "/subscription", "alice", None, 204),
        ("post", "/subscription", "alice", Some(&subscription), 204),
        ("delete", "/subscriber", "alice", None, 204),
        ("post", "/subscription", "alice", Some(&subscription), 204),
        ("get", "/subscriptions/alice", "alice", None, 200),
        ("get", "/subscribers/alice", "alice", None, 200),
        ("post", "/subscriptions/alice/pause", "alice", None, 204),
        ("post", "/subscribers/alice/pause", "alice", None, 204),
        ("post", "/topics/widgets", "demo", Some(&event(4)), 204),
        ("get", "/subscriptions/alice/queue", "alice", None, 200),
        ("get", "/subscribers/alice/queue", "alice", None, 200),
        ("post", "/subscriptions/alice/skip", "alice", Some(&everything), 200),
        ("post", "/subscribers/alice/skip", "alice", Some(&everything), 200),
        ("post", "/subscriptions/alice/resume", "alice", None, 204),
        ("post", "/subscribers/alice/resume", "alice", None, 204),
        ("post", "/subscriptions/alice/retry", "alice", None, 204),
        ("post", "/subscribers/alice/retry", "alice", None, 204),
        ("get", "/dead_letters", "alice", None, 200),
        ("post", "/dead_letters/{dead}/retry", "alice", None, 204),
        ("post", "/subscriptions/alice/pause", "alice", None, 204),
        ("post", "/topics/widgets", "demo", Some(&event(5)), 204),
        ("post", "/subscriptions/alice/skip", "alice", Some(&everything), 200),
        ("get", "/dead_letters", "alice", None, 200),
        ("get", "/events/{dead}", "alice", None, 200),
        ("delete", "/dead_letters/{dead}", "alice", None, 204),
        ("put", "/client/secret", "demo", Some(&secret), 204),
        ("get", "/client/secret", "demo", None, 200),
        ("put", "/topics/widgets/keep", "demo", Some(&keep), 204),
        ("post", "/topics/widgets", "demo", Some(&event(6)), 204),
        ("get", "/topics", "demo", None, 200),
        ("post", "/subscription/replay", "alice", Some(&everything_kept), 200),
        ("post", "/subscriber/replay", "alice", Some(&everything_kept), 200),
        ("post", "/subscriptions/alice/replay", ROOT, Some(&everything_kept), 200),
        ("post", "/subscribers/alice/replay", "alice", Some(&everything_kept), 200),
        ("post", "/subscriptions/alice/test", ROOT, Some(&json!({})), 200),
        ("post", "/subscribers/alice/test", "alice", Some(&json!({})), 200),
        ("put", "/topics/widgets/publisher", ROOT, Some(&publisher_of_topic), 204),
        ("delete", "/subscriptions/alice", "alice", None, 204),
        ("post", "/subscription", "alice", Some(&subscription), 204),
        ("delete", "/subscribers/alice", ROOT, None, 204),
        ("post", "/subscription", "bob", Some(&pulling), 204),
        ("get", "/subscription/batch", "bob", None, 204),
        ("post", "/subscription/batch", "bob", None, 204),
        ("post", "/topics/widgets", "demo", Some(&event(7)), 204),
        ("post", "/subscription/batch", "bob", None, 200),
        ("post", "/subscription/batch/{batch}/release", "bob", None, 204),
        ("get", "/subscription/batch", "bob", None, 200),
        ("delete", "/subscription/batch/{batch}", "bob", None, 204),
        ("post", "/subscription", "bob", Some(&pulling), 204),
        ("get", "/subscriber/batch", "bob", None, 204),
        ("post", "/subscriber/batch", "bob", None, 204),
        ("post", "/topics/widgets", "demo", Some(&event(7)), 204),
        ("post", "/subscriber/batch", "bob", None, 200),
        ("post", "/subscriber/batch/{batch}/release", "bob", None, 204),
        ("get", "/subscriber/batch", "bob", None, 200),
        ("delete", "/subscriber/batch/{batch}", "bob", None, 204),
        ("delete", "/subscription", "bob", None, 204),
        ("delete", "/topics/widgets", "demo", None, 204),
        ("post", "/topics/widgets", "demo", Some(&event(2)), 204),
        ("delete", "/topic/widgets", "demo", None, 204),
        ("post", "/", "demo", Some(&call), 202),
        ("post", "/calls", "demo", Some(&call), 202),
        ("get", "/calls", "demo", None, 200),
        ("get", "/destinations", ROOT, None, 200),
        ("get", "/calls/one", "demo", None, 200),
        ("delete", "/calls/one", "demo", None, 204),
        ("post", "/calls", "demo", Some(&call), 202),
        ("post", "/calls/one/retry", "demo", None, 204),
        ("post", "/calls", "demo", Some(&hanging_call), 202),
        ("get", "/dead_letters", "demo", None, 200),
        ("post", "/calls/retry?confirm=0&until=0", "demo", None, 200),
        ("delete", "/calls?confirm=0&until=0", "demo", None, 200),
        ("post", "/ingest.php", "demo", Some(&postbacks), 200),
        ("post", "/postbacks", "demo", Some(&postbacks), 200),
        ("delete", "/calls/two", "demo", None, 202),
        ("get", "/api/health", "", None, 200),
        ("post", "/api/topics", "demo", Some(&message_topic), 201),
        ("get", "/api/topics", "demo", None, 200),
        ("get", "/api/topics/1", "demo", None, 200),
        ("post", "/api/publishers", "demo", Some(&publisher), 201),
        ("get", "/api/publishers", "demo", None, 200),
        ("get", "/api/publishers/1", "demo", None, 200),
        ("post", "/api/bulk_messages", "demo", Some(&messages), 201),
        ("post", "/api/schedule_messages", "demo", Some(&scheduled), 201),
        ("post", "/api/messages", "demo", Some(&message), 201),
        ("get", "/api/messages", "demo", None, 200),
        ("get", "/api/messages/{message}", "demo", None, 200),
        ("post", "/api/messages/{message}/retry", "demo", None, 204),
        ("delete", "/api/messages/{message}", "demo", None, 204),
        ("delete", "/api/messages?confirm=0&until=0", "demo", None, 200),
        ("patch", "/api/publishers/1", "demo", Some(&change), 200),
        ("delete", "/api/publishers/1", "demo", None, 204),
        ("delete", "/api/topics/1", "demo", None, 204),
    ] {
        if (method, path) == ("delete", "/calls/two") {
            hanging.attempts(1).await;
        }
        let client = if token.is_empty() { server.anonymous() } else { server.client(token) };
        let path = path.replace("{message}", &sent.to_string()).replace("{dead}", &dead);
        let path = path.replace("{process}", &process);
        let path = path.replace("{rotated}", &rotated).replace("{batch}", &batch);
        let reply = send(&client, method, &path, body).await.expect(status);
        if (method, &*path) == ("post", "/api/messages") {
            sent = reply.json()["message"].as_u64().unwrap();
        }
        if path == "/processes" {
            process = reply.json()[0]["id"].as_str().unwrap().to_owned();
        }
        if let Some(id) = reply.header("webhook-id") {
            id.clone_into(&mut batch);
        }
        if path.ends_with("/rotate") {
            rotated = reply.json()["token"].as_str().unwrap().to_owned();
        }
        if (method, &*path) == ("get", "/dead_letters") {
            let letters = reply.json()["dead_letters"].clone();
            dead = letters[0]["id"].as_str().unwrap_or_default().to_owned();
        }
        let path = description().path_of(&path).unwrap_or_else(|| panic!("{path}: no such path"));
        seen.insert((method.to_owned(), path.to_owned(), status.to_string()));
    }
    // What only other settings bring about.
    for (name, value, method, path, token, body, status) in [
        ("ROUTEMASTER_CLIENTS", "", "get", "/api_tokens", ROOT, None, 204),
        (
            "ROUTEMASTER_PUBLISH_STATUS",
            "200",
            "post",
            "/topics/widgets",
            "demo",
            Some(&event(3)),
            200,
        ),
        ("ROUTEMASTER_CALLS_FAST", "yes", "post", "/", "demo", Some(&call), 200),
    ] {
        let bus = Bus::new(&store).set(name, value);
        let server = bus.serve().await;
        send(&server.client(token), method, path, body).await.expect(status);
        let path = description().path_of(path).unwrap();
        seen.insert((method.to_owned(), path.to_owned(), status.to_string()));
    }
    // What does not end is read elsewhere: `pulling.rs`.
    for path in ["/subscription/stream", "/subscriber/stream"] {
        seen.insert(("get".to_owned(), path.to_owned(), "200".to_owned()));
    }
    let mut described = BTreeSet::new();
    for (method, path, operation) in description().operations() {
        for status in operation["responses"].as_object().unwrap().keys() {
            if status.starts_with('2') {
                described.insert((method.to_owned(), path.to_owned(), status.clone()));
            }
        }
    }
    assert_eq!(seen, described, "what succeeded, and what is described to");

    // Who needs no token is told so, and nobody else.
    for (method, path, operation) in description().operations() {
        let path = path.replace("{name}", "x").replace("{topic}", "x").replace("{token}", "x");
        let path = path.replace("{id}", "x").replace("{subscriber}", "x");
        let open = operation["security"] == json!([{}]);
        let status = if open { 200 } else { 401 };
        send(&server.anonymous(), method, &path, None).await.expect(status);
    }
});

async fn send(client: &Client, method: &str, path: &str, body: Option<&Value>) -> Reply {
    let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
    let body = body.map(Value::to_string).unwrap_or_default();
    client.try_send(method, path, &[], body).await.expect("an answer")
}

/// What any field is tried with.
fn anything() -> Vec<Value> {
    let long = |length: usize| "a".repeat(length);
    vec![
        json!(null),
        json!(true),
        json!(-1),
        json!(0),
        json!(1),
        json!(1.5),
        json!(999),
        json!(1000),
        json!(10_000),
        json!(10_001),
        json!(3_600_000),
        json!(3_600_001),
        json!(31_536_000_000u64),
        json!(31_536_000_001u64),
        json!(i64::MAX),
        json!(u64::MAX),
        json!(1e30),
        json!(""),
        json!("create"),
        json!("Create"),
        json!("noop"),
        json!("a-b"),
        json!("a--b"),
        json!("-"),
        json!("é"),
        json!("a\u{7f}b"),
        json!(long(30)),
        json!(long(31)),
        json!(long(64)),
        json!(long(65)),
        json!("https://a.example"),
        json!("HTTPS://a.example/1?x=y#z"),
        json!("https://a.example/é?x"),
        json!("http://a.example"),
        json!("https://"),
        json!("https:///a"),
        json!("https://?a"),
        json!("https://a b"),
        json!("https://a.example/\\"),
        json!("https://a.example/\n"),
        json!(format!("https://a.example/{}", long(1024 - 18))),
        json!(format!("https://a.example/{}", long(1025 - 18))),
        json!([]),
        json!(["widgets"]),
        json!(["widgets", "Widgets"]),
        json!([1]),
        json!({}),
        json!({"any": ["json", 1.50]}),
    ]
}

/// Tries a body with each of its fields left out, and replaced by anything; and with one more.
/// Requires that the route accepts what the schema accepts, and answers anything else with 400.
async fn agree(client: &Client, path: &str, good: Value) {
    let described = description().path_of(path).expect("a described path");
    let operation = &description().document["paths"][described]["post"];
    let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
    let mut bodies = vec![good.clone()];
    bodies.extend([json!(null), json!(1), json!("x"), json!([]), json!([[]]), json!([1])]);
    for field in good.as_object().unwrap().keys().map(String::as_str).chain(["unknown"]) {
        for value in anything() {
            let mut body = good.clone();
            body[field] = value;
            bodies.push(body);
        }
        let mut body = good.clone();
        body.as_object_mut().unwrap().remove(field);
        bodies.push(body);
    }
    let (mut accepted, mut refused) = (0, 0);
    for body in bodies {
        let objection = description().objection(schema, &body);
        let reply = client.post(path, body.to_string()).await;
        let as_described = if objection.is_some() { 400..=400 } else { 201..=204 };
        let answered = as_described.contains(&reply.status);
        assert!(answered, "{path} {body}: the schema says {objection:?}, but {reply:?}");
        if objection.is_some() { refused += 1 } else { accepted += 1 }
    }
    assert!(accepted > 5 && refused > 50, "{path}: {accepted} accepted, {refused} refused");
}

#[test]
fn the_schemas_of_bodies_and_the_parsers_agree() {
    run(async {
        let bus = Bus::new(&Store::sqlite())
            .set("ROUTEMASTER_SUBSCRIBE_CREATES_TOPICS", "true")
            .set("ROUTEMASTER_TOPIC_NAME_MAX", "64");
        let server = bus.web().await;
        let event =
            json!({"type": "create", "url": "https://a.example", "timestamp": 1, "data": 1});
        agree(&server.client("demo"), "/topics/widgets", event).await;
        let subscription = json!({
            "topics": ["widgets"], "callback": "https://a.example", "uuid": "u", "timeout": 0,
            "max": 1, "retention": 31_536_000_000u64, "max_queued": 1,
        });
        agree(&server.client("alice"), "/subscription", subscription).await;
        let pubsub = json!({"topics": ["widgets"], "pubsub": "widget-events", "timeout": 0});
        agree(&server.client("alice"), "/subscription", pubsub).await;
        let token = json!({"name": "billing", "token": "billing"});
        agree(&server.client(ROOT), "/api_tokens", token).await;

        let demo = server.client("demo");
        for (length, status) in [(1, 204), (10_000, 204), (10_001, 400)] {
            let events = Value::Array(vec![json!({"type": "noop", "url": "https://a"}); length]);
            let schema = json!({"$ref": "#/components/schemas/Publish"});
            let fits = description().objection(&schema, &events).is_none();
            assert_eq!(fits, status == 204, "{length} events");
            demo.post("/topics/widgets", events.to_string()).await.expect(status);
        }
    });
}

on_both_stores!(deliveries_are_as_described, |store| async move {
    let bus = Bus::new(&store);
    let server = bus.serve().await;
    let demo = server.client("demo");
    demo.claims("widgets").await;
    let receiver = bus.receiver().await;
    receiver.answer_next([Answer::Status(500)]);
    let more = json!({"uuid": "secret", "timeout": 0, "max": 2});
    server.client("alice").subscribes(&receiver, &["widgets"], more).await;
    let full =
        json!({"type": "delete", "url": "https://a.example/\"", "timestamp": 0, "data": [1.50]});
    demo.publish("widgets", &json!([event(1), full, event(3)])).await.expect(204);
    receiver.events(3).await;

    let delivery = &description().document["webhooks"]["delivery"]["post"];
    let schema = &delivery["requestBody"]["content"]["application/json"]["schema"];
    for attempt in receiver.attempts_so_far() {
        let body = serde_json::from_str(&attempt.body).unwrap();
        assert_eq!(description().objection(schema, &body), None, "{attempt:?}");
        for parameter in delivery["parameters"].as_array().unwrap() {
            let Some(value) = attempt.header(parameter["name"].as_str().unwrap()) else {
                assert_eq!(parameter["required"], false, "{parameter}");
                continue;
            };
            let number = parameter["schema"]["type"] == "integer";
            assert!(!number || value.parse::<u64>().is_ok(), "{parameter}: {value}");
        }
    }
});
