//! Delivery (§4): what a subscriber's callback receives, byte by byte.

use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use reqwest::Method;
use routemaster::tls::development::DevelopmentCa;
use serde_json::json;

use crate::support::{
    Answer, Attempt, Bus, Layer, Process, Receiver, Signal, Store, basic, event, run,
};

on_both_stores!(a_batch_is_exactly_what_was_published_in_order, |store| async move {
    let bus = Bus::new(&store);
    let web = bus.web().await;
    let (demo, receiver) = (web.client("demo"), bus.receiver().await);
    demo.claims("widgets").await;
    demo.claims("gadgets").await;
    demo.subscribes(&receiver, &["widgets", "gadgets"], json!({"timeout": 0})).await;
    let numbers = r#"{"price":1.50,"big":18446744073709551617000,"e":1E+2,"z":-0.0}"#;
    for (topic, body) in [
        (
            "widgets",
            r#"{"type":"create","url":"https://a.example/1","timestamp":1,"data":NUMBERS}"#,
        ),
        (
            "gadgets",
            r#"{"timestamp":2,"url":"https://a.example/2?q=%20&r=\u00e9","type":"update"}"#,
        ),
        ("widgets", r#"{"type":"delete","url":"https://a.example/3","timestamp":3,"data":null}"#),
        (
            "widgets",
            "{\"type\":\"noop\",\"url\":\"https://a.example/4\",\"timestamp\":4,\"data\":\"é\\u00e9\\n\\\"😀\"}",
        ),
        ("widgets", r#"{"type":"noop","url":"https://a.example/5","timestamp":5,"data":[]}"#),
        ("widgets", r#"{"type":"noop","url":"https://a.example/6","timestamp":6,"data":false}"#),
        (
            "widgets",
            r#"{"type":"noop","url":"https://a.example/7","timestamp":7,"data":{"b":1,"a":2,"b":3}}"#,
        ),
    ] {
        let body = body.replace("NUMBERS", numbers);
        demo.post(&format!("/topics/{topic}"), body).await.expect(204);
    }
    let _worker = bus.worker().await;
    let attempt = receiver.attempts(1).await.remove(0);
    let expected = [
        r#"{"topic":"widgets","type":"create","url":"https://a.example/1","t":1,"data":NUMBERS}"#,
        r#"{"topic":"gadgets","type":"update","url":"https://a.example/2?q=%20&r=é","t":2}"#,
        r#"{"topic":"widgets","type":"delete","url":"https://a.example/3","t":3}"#,
        "{\"topic\":\"widgets\",\"type\":\"noop\",\"url\":\"https://a.example/4\",\"t\":4,\"data\":\"é\\u00e9\\n\\\"😀\"}",
        r#"{"topic":"widgets","type":"noop","url":"https://a.example/5","t":5,"data":[]}"#,
        r#"{"topic":"widgets","type":"noop","url":"https://a.example/6","t":6,"data":false}"#,
        r#"{"topic":"widgets","type":"noop","url":"https://a.example/7","t":7,"data":{"b":1,"a":2,"b":3}}"#,
    ];
    assert_eq!(attempt.body, format!("[{}]", expected.join(",").replace("NUMBERS", numbers)));
    assert_eq!((attempt.method, &*attempt.path), (Method::POST, "/events"));
});

on_both_stores!(the_headers_are_the_contracts, |store| async move {
    let bus = Bus::new(&store);
    let server = bus.serve().await;
    let (demo, receiver) = (server.client("demo"), bus.receiver().await);
    demo.claims("widgets").await;
    let uuid = "d1c2-\u{e9}:with:colons";
    demo.subscribes(&receiver, &["widgets"], json!({"timeout": 0, "uuid": uuid})).await;
    demo.publishes("widgets", [1]).await;
    let attempt = receiver.attempts(1).await.remove(0);
    assert_eq!(attempt.header("content-type"), Some("application/json"));
    // Both the user name and the password are the uuid.
    let expected = basic(&format!("{uuid}:{uuid}"));
    assert_eq!(attempt.header("authorization"), Some(&*expected));
    let agent = concat!("routemaster/", env!("CARGO_PKG_VERSION"));
    assert_eq!(attempt.header("user-agent"), Some(agent));
    assert_eq!(attempt.header("routemaster-attempt"), Some("1"));
    assert!(attempt.header("webhook-id").is_some_and(|id| !id.is_empty()));
    let sent: u64 = attempt.header("webhook-timestamp").unwrap().parse().unwrap();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    assert!((now - 30..=now + 1).contains(&sent), "seconds since the epoch: {sent}, now {now}");
    let length: usize = attempt.header("content-length").unwrap().parse().unwrap();
    assert_eq!(length, attempt.body.len());
});

on_both_stores!(without_a_uuid_there_is_no_authorization, |store| async move {
    let bus = Bus::new(&store);
    let server = bus.serve().await;
    let (demo, receiver) = (server.client("demo"), bus.receiver().await);
    demo.claims("widgets").await;
    demo.subscribes(&receiver, &["widgets"], json!({"timeout": 0})).await;
    demo.publishes("widgets", [1]).await;
    assert_eq!(receiver.attempts(1).await[0].header("authorization"), None);
});

on_both_stores!(
    a_batch_keeps_its_id_over_all_attempts_and_shares_it_with_none,
    |store| async move {
        let bus = Bus::new(&store);
        let server = bus.serve().await;
        let (demo, alice) = (server.client("demo"), server.client("alice"));
        let (receiver, other) = (bus.receiver().await, bus.receiver().await);
        demo.claims("widgets").await;
        demo.subscribes(&receiver, &["widgets"], json!({"timeout": 0, "max": 1})).await;
        alice.subscribes(&other, &["widgets"], json!({"timeout": 0, "max": 1})).await;
        receiver.answer_next([500, 503, 200, 500, 200].map(Answer::Status));
        demo.publishes("widgets", 1..=3).await;
        let attempts = receiver.attempts(6).await;
        let header = |name: &str| -> Vec<String> {
            attempts.iter().map(|attempt| attempt.header(name).unwrap().to_owned()).collect()
        };
        let bodies: Vec<_> = attempts.iter().flat_map(|attempt| attempt.numbers()).collect();
        assert_eq!(bodies, [1, 1, 1, 2, 2, 3]);
        assert_eq!(header("routemaster-attempt"), ["1", "2", "3", "1", "2", "1"]);
        let ids = header("webhook-id");
        assert!(ids[0] == ids[1] && ids[1] == ids[2] && ids[3] == ids[4], "{ids:?}");
        let mut distinct = vec![ids[0].clone(), ids[3].clone(), ids[5].clone()];
        for attempt in other.attempts(3).await {
            distinct.push(attempt.header("webhook-id").unwrap().to_owned());
        }
        distinct.sort();
        distinct.dedup();
        assert_eq!(distinct.len(), 6, "{distinct:?}");
    }
);

on_both_stores!(
    a_batch_that_is_tried_again_is_the_same_though_more_events_wait,
    |store| async move {
        let bus = Bus::new(&store);
        let server = bus.serve().await;
        let (demo, receiver) = (server.client("demo"), bus.receiver().await);
        demo.claims("widgets").await;
        demo.subscribes(&receiver, &["widgets"], json!({"timeout": 0, "max": 10})).await;
        receiver.answer_next([Answer::Held, Answer::Status(500)]);
        demo.publishes("widgets", [0]).await;
        receiver.attempts(1).await;
        demo.publishes("widgets", 1..=3).await;
        receiver.release();
        receiver.attempts(2).await;
        demo.publishes("widgets", 4..=5).await;
        assert_eq!(receiver.numbers(6).await, (0..=5).collect::<Vec<_>>());
        let attempts = receiver.attempts_so_far();
        assert_eq!(attempts[1].body, attempts[2].body);
        assert_eq!(attempts[1].header("webhook-id"), attempts[2].header("webhook-id"));
    }
);

on_both_stores!(connections_to_a_receiver_are_used_again, |store| async move {
    let bus = Bus::new(&store);
    let server = bus.serve().await;
    let (demo, receiver) = (server.client("demo"), bus.receiver().await);
    demo.claims("widgets").await;
    demo.subscribes(&receiver, &["widgets"], json!({"timeout": 0, "max": 1})).await;
    demo.publishes("widgets", 1..=20).await;
    receiver.numbers(20).await;
    assert_eq!(receiver.connections(), 1);
});

/// Stops a process by the rules, which gives its leases back.
async fn ends(mut server: Process) {
    server.signal(Signal::Term);
    assert_eq!(server.exit().await.0, Some(0));
}

on_both_stores!(the_callbacks_certificate_is_checked_unless_told_otherwise, |store| async move {
    let elsewhere = tempfile::tempdir().unwrap();
    let ca = DevelopmentCa::open_or_create(elsewhere.path()).unwrap();
    let stranger = Receiver::start(&ca.issue().unwrap()).await;
    let bus = Bus::new(&store);
    let server = bus.serve().await;
    let demo = server.client("demo");
    demo.claims("widgets").await;
    demo.subscribes(&stranger, &["widgets"], json!({"timeout": 0})).await;
    demo.publishes("widgets", [1]).await;
    let log = server.stderr.line_with("failed to deliver");
    crate::support::soon("a failure is logged", log).await;
    assert!(stranger.attempts_so_far().is_empty());
    assert_eq!(demo.queued("demo").await, Some(1));
    ends(server).await;

    // An authority that the operator trusts.
    let file = routemaster::tls::development::ca_path(elsewhere.path());
    let bus = bus.set("ROUTEMASTER_CALLBACK_CA_FILE", file.to_str().unwrap());
    let server = bus.serve().await;
    assert_eq!(stranger.numbers(1).await, [1]);
    ends(server).await;

    let bus = bus.unset("ROUTEMASTER_CALLBACK_CA_FILE").set("ROUTEMASTER_SSL_VERIFY", "no");
    let server = bus.serve().await;
    server.client("demo").publishes("widgets", [2]).await;
    assert_eq!(stranger.numbers(2).await, [1, 2]);
});

/// Contract §4: within 60 s, under steady traffic, though the old address still answers.
#[test]
fn a_receiver_whose_name_moves_is_followed() {
    run(async {
        let layer = Layer::build("contract/names").expect("a layer over name look-ups");
        let names = layer.path("names");
        std::fs::write(&names, "127.0.0.1").unwrap();
        let (preload, library) = layer.preload();
        let bus = Bus::new(&Store::sqlite())
            .set(&preload, &library)
            .set("NAMES_FILE", names.to_str().unwrap());
        let server = bus.serve().await;
        let old = bus.receiver().await;
        let address = SocketAddr::from(([127, 0, 0, 2], old.port()));
        let new = Receiver::start_at(address, &bus.identity()).await;
        let demo = server.client("demo");
        demo.claims("widgets").await;
        server.client("alice").subscribes(&old, &["widgets"], json!({"timeout": 0})).await;
        demo.publishes("widgets", 1..=3).await;
        assert_eq!(old.numbers(3).await, [1, 2, 3]);

        std::fs::write(&names, "127.0.0.2").unwrap();
        let moved = Instant::now();
        let mut number = 3;
        while new.attempts_so_far().is_empty() {
            assert!(moved.elapsed() < Duration::from_secs(60), "{number} went to the old address");
            number += 1;
            demo.publish("widgets", &event(number)).await.expect(204);
            // Steady traffic: the connection is never idle for long.
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        let last = number;
        let at_old = old.attempts_so_far().iter().flat_map(Attempt::numbers).max().unwrap();
        assert!(at_old < last, "from then on all goes to the new one");
    });
}
