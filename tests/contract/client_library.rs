//! The Rust library `routemaster-client`, against the real bus: what its documentation promises.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use routemaster_client::{
    Batches, Bus as Library, Error, Event, EventKind, OnRefusal, Pull, SignatureError,
    SigningSecret, Subscription, Verifier,
};
use serde_json::json;

use crate::support::{Attempt, Bus, Process, ROOT, Signal, eventually, soon};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

fn library(bus: &Bus, server: &Process, token: &str) -> Library {
    Library::builder(server.base(), token).ca_file(bus.ca_path()).build().unwrap()
}

fn headers(attempt: &Attempt) -> HeaderMap {
    let names = ["webhook-id", "webhook-timestamp", "webhook-signature"];
    let header = |name: &'static str| {
        let value = HeaderValue::from_str(attempt.header(name).unwrap()).unwrap();
        (HeaderName::from_static(name), value)
    };
    names.map(header).into_iter().collect()
}

on_both_stores!(what_is_published_is_pulled_in_order_and_acknowledged, |store| async move {
    let bus = Bus::new(&store);
    let server = bus.serve().await;
    let (shop, search) = (library(&bus, &server, "demo"), library(&bus, &server, "alice"));
    let urls: Vec<_> = (1..=5).map(|n| format!("https://a.example/{n}")).collect();
    let data = serde_json::value::to_raw_value(&json!({"n": 1.50})).unwrap();
    shop.publish("orders", &Event::new(EventKind::Noop, "https://a.example/0")).await.unwrap();
    let pulling = Subscription { max: Some(2), ..Subscription::pull(["orders"]) };
    search.subscribe(&pulling).await.unwrap();

    let first = Event::new(EventKind::Create, &urls[0]).at(1_700_000_000_000).with_data(&data);
    let first = shop.publish("orders", &first).await.unwrap();
    let event = |url| Event::new(EventKind::Update, url);
    let others = [event(&urls[1]), event(&urls[2])];
    let second = shop.publish_all("orders", &others).await.unwrap();
    assert!(first < second, "{first:?} {second:?}");
    let last = [event(&urls[3]), event(&urls[4])];
    let once = shop.publish_once("orders", &last, "a key").await.unwrap();
    assert_eq!(shop.publish_once("orders", &last, "a key").await.unwrap(), once);
    let taken = shop.publish_once("orders", &others, "a key").await.unwrap_err();
    assert!(taken.status().is_some_and(|status| status == 422) && !taken.may_pass(), "{taken}");

    let wait = Duration::from_millis(300);
    let mut batches = Batches::new(search.clone(), Pull { wait, ..Pull::default() });
    let batch = batches.next().await.unwrap();
    let events = batch.events().unwrap();
    let created = &events[0];
    assert_eq!((created.topic.as_str(), created.kind), ("orders", EventKind::Create));
    assert_eq!((created.timestamp_ms, &created.url), (1_700_000_000_000, &urls[0]));
    assert_eq!(created.data.as_ref().unwrap().get(), data.get());
    assert_eq!((batch.attempt, events.len()), (1, 2));
    batches.release(&batch).await.unwrap();

    let mut seen = Vec::new();
    let again = batches.next().await.unwrap();
    assert_eq!((&again.id, again.attempt), (&batch.id, 2));
    let mut batch = again;
    loop {
        seen.extend(batch.events().unwrap().into_iter().map(|event| event.url));
        batches.acknowledge(&batch);
        if seen.len() == 5 {
            break;
        }
        batch = batches.next().await.unwrap();
    }
    assert_eq!(seen, urls);
    assert_eq!(server.client("alice").queued("alice").await, Some(1), "the last is not told yet");
    batches.end().await.unwrap();
    assert_eq!(server.client("alice").queued("alice").await, Some(0));
    let mut batches = Batches::new(search.clone(), Pull { wait, ..Pull::default() });
    assert!(batches.ask().await.unwrap().is_none(), "nothing waits");
    search.unsubscribe().await.unwrap();
    let gone = batches.ask().await.unwrap_err();
    assert_eq!(gone.status().map(|status| status.as_u16()), Some(404), "{gone}");
});

on_both_stores!(a_delivery_is_verified_and_a_forged_one_is_not, |store| async move {
    let bus = Bus::new(&store);
    let server = bus.serve().await;
    let demo = library(&bus, &server, "demo");
    let receiver = bus.receiver().await;
    server.client("demo").claims("orders").await;
    let subscription = Subscription {
        timeout: Some(0),
        secret: Some(vec![SECRET.into()]),
        on_refusal: Some(OnRefusal::Attempts(3)),
        ..Subscription::to(receiver.url(), ["orders"])
    };
    demo.subscribe(&subscription).await.unwrap();
    let own = server.client("demo").get("/subscription").await.json();
    assert_eq!(own["on_refusal"], json!({"attempts": 3}));
    demo.publish("orders", &Event::new(EventKind::Noop, "https://a.example/1")).await.unwrap();
    let attempt = receiver.attempts(1).await.remove(0);
    let verifier = Verifier::new([SigningSecret::parse(SECRET).unwrap()]);
    let headers = headers(&attempt);
    assert_eq!(verifier.verify(&headers, attempt.body.as_bytes()), Ok(()));
    let forged = attempt.body.replace("/1", "/2");
    assert_eq!(verifier.verify(&headers, forged.as_bytes()), Err(SignatureError::Wrong));
});

on_both_stores!(an_error_says_what_is_wrong_and_whether_to_try_again, |store| async move {
    let bus = Bus::new(&store);
    let mut server = bus.serve().await;
    let event = Event::new(EventKind::Noop, "https://a.example/1");
    let stranger = library(&bus, &server, "mallory");
    let error = stranger.publish("orders", &event).await.unwrap_err();
    assert_eq!(error.status().map(|status| status.as_u16()), Some(401));
    let root = library(&bus, &server, ROOT);
    let error = root.publish("orders", &event).await.unwrap_err();
    assert!(error.to_string().contains("403") && !error.to_string().contains(ROOT), "{error}");
    let untrusting = Library::builder(server.base(), "demo").build().unwrap();
    let error = untrusting.publish("orders", &event).await.unwrap_err();
    assert!(matches!(error, Error::Unanswered(_)), "{error}");
    server.signal(Signal::Term);
    server.exit().await;
    let demo = library(&bus, &server, "demo");
    let error = demo.publish("orders", &event).await.unwrap_err();
    assert!(error.may_pass() && error.status().is_none(), "{error}");
});

on_both_stores!(a_listener_with_a_secret_refuses_what_is_not_signed_with_it, |store| async move {
    let bus = Bus::new(&store);
    let server = bus.serve().await;
    let demo = server.client("demo");
    demo.claims("widgets").await;
    let file = bus.directory().join("secret.txt");
    std::fs::write(&file, SECRET).unwrap();
    let options = ["--secret-file", file.to_str().unwrap(), "--json"];
    let arguments = [&["listen", "widgets", "--url", server.base()][..], &options].concat();
    let listener = Process::spawn(&mut bus.command(&arguments), &bus.ca_path());
    soon("it is subscribed", listener.stderr.line_with("; Ctrl-C ends")).await;
    demo.publishes("widgets", [1]).await;
    soon("what is signed is shown", listener.stdout.line_with("a.example/1\"")).await;
    // Signed with another secret, it may be anybody's.
    let mut own = demo.get("/subscription").await.expect(200).json();
    own["secret"] = json!("whsec_c2l4dGVlbiBieXRlcyBhbmQgZWlnaHQgbW9yZQ==");
    let names = ["topics", "callback", "uuid", "timeout", "secret"];
    let body: serde_json::Map<_, _> =
        names.into_iter().map(|name| (name.to_owned(), own[name].take())).collect();
    demo.post("/subscription", json!(body).to_string()).await.expect(204);
    demo.publishes("widgets", [2]).await;
    soon("it is refused", listener.stderr.line_with("signature is not the bus's")).await;
    eventually("it waits", async || (demo.queued("demo").await == Some(1)).then_some(())).await;
});
