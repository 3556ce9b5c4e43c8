//! Postbacks (§10): one endpoint, many objects, a call for each.

use serde_json::{Value, json};

use crate::support::{Answer, Bus, ROOT, Store, eventually, run};

on_both_stores!(each_object_becomes_a_call, |store| async move {
    let bus = Bus::new(&store).set("ROUTEMASTER_OPEN", "postbacks");
    let server = bus.serve().await;
    let receiver = bus.receiver().await;
    let url = format!("{}/data?title={{mascot}}&image={{location}}&foo={{bar}}", receiver.url());
    let body = json!({
        "endpoint": {"method": "get", "url": url},
        "data": [{"mascot": "Gopher", "location": "https://blog.golang.org/gopher/gopher.png"}],
    });
    let reply = server.anonymous().post("/ingest.php", body.to_string()).await.expect(200);
    assert_eq!(reply.body, r#"{"redis_is_connected":"+PONG","postback_queue_size":1}"#);
    let made = receiver.attempts(1).await.remove(0);
    let expected =
        "/events/data?title=Gopher&image=https%3A%2F%2Fblog.golang.org%2Fgopher%2Fgopher.png&foo=";
    assert_eq!((made.method.as_str(), made.path.as_str()), ("GET", expected));
    assert_eq!(made.body, "");
    let data: Vec<Value> = (0..100).map(|n| json!({"n": n, "more": ["ü"]})).collect();
    let endpoint = json!({"method": "POST", "url": format!("{}/{{n}}", receiver.url())});
    let body = json!({"endpoint": endpoint, "data": data});
    server.client("demo").beside_the_api().post("/postbacks/", body.to_string()).await.expect(200);
    let attempts = receiver.attempts(101).await;
    for n in 0..100 {
        let path = format!("/events/{n}");
        let made = attempts.iter().find(|attempt| attempt.path == path).expect("each has a call");
        assert_eq!(made.body, json!({"n": n, "more": ["ü"]}).to_string());
        assert_eq!(made.header("content-type"), Some("application/json"));
    }
    let owners = server.client(ROOT).get("/calls?client=open").await.json();
    assert_eq!(owners["calls"].as_array().unwrap().len(), 1);
});

on_both_stores!(requests_at_the_same_moment_stay_within_the_bound_too, |store| async move {
    let bus = Bus::new(&store).set("ROUTEMASTER_POSTBACK_QUEUE_MAX", "9");
    let server = bus.web().await;
    let demo = server.client("demo");
    let endpoint = json!({"method": "GET", "url": "http://a.example/"});
    let body = json!({"endpoint": endpoint, "data": [{}, {}]}).to_string();
    let sent = (0..20).map(|_| demo.post("/ingest.php", body.clone()));
    let replies = futures_util::future::join_all(sent).await;
    let taken = replies.iter().filter(|reply| reply.status == 200).count();
    assert!((1..=4).contains(&taken), "{taken} of 20");
    // Whoever was refused finds room for what is left.
    for _ in taken..4 {
        demo.post("/ingest.php", body.clone()).await.expect(200);
    }
    demo.post("/ingest.php", body).await.expect(503);
});

on_both_stores!(what_is_wrong_is_told_and_nothing_of_it_is_stored, |store| async move {
    let bus = Bus::new(&store).set("ROUTEMASTER_POSTBACK_QUEUE_MAX", "3");
    let server = bus.web().await;
    let demo = server.client("demo");
    let send = async |data: Value| {
        let endpoint = json!({"method": "GET", "url": "http://a.example/{x}"});
        demo.post("/ingest.php", json!({"endpoint": endpoint, "data": data}).to_string()).await
    };
    for (data, said) in
        [(json!([{}, {"x": []}]), "data[1]"), (json!({}), "data"), (json!([1]), "data[0]")]
    {
        let refused = send(data).await.expect(400).json();
        assert!(refused["error"].as_str().unwrap().contains(said), "{refused}");
    }
    let bad = json!({"endpoint": {"method": "GET", "url": "http://169.254.169.254/"}, "data": []});
    demo.post("/ingest.php", bad.to_string()).await.expect(400);
    demo.post("/ingest.php", "").await.expect(400);
    server.anonymous().post("/ingest.php", "{}").await.expect(401);
    assert_eq!(send(json!([])).await.expect(200).json()["postback_queue_size"], 0);
    assert_eq!(send(json!([{}, {}])).await.expect(200).json()["postback_queue_size"], 2);
    let full = send(json!([{}, {}])).await.expect(503);
    assert_eq!(full.header("retry-after"), Some("10"));
    let expected = json!({"redis_is_connected": "+PONG", "postback_queue_size": 2,
        "error": "MAX_QUEUE_SIZE 3 reached"});
    assert_eq!(full.json(), expected);
    assert_eq!(send(json!([{}])).await.expect(200).json()["postback_queue_size"], 3);
});

on_both_stores!(a_postback_is_tried_so_often_and_then_given_up, |store| async move {
    let bus = Bus::new(&store)
        .set("ROUTEMASTER_POSTBACK_ATTEMPTS", "3")
        .set("REQUEUE_FAILED_AFTER_MILLISECONDS", "20");
    let server = bus.serve().await;
    let (demo, receiver) = (server.client("demo"), bus.receiver().await);
    receiver.answer(Answer::Status(500));
    let endpoint = json!({"method": "GET", "url": format!("{}/{{x}}", receiver.url())});
    let body = json!({"endpoint": endpoint, "data": [{"x": "a b"}]});
    demo.post("/ingest.php", body.to_string()).await.expect(200);
    let (letter, _) = eventually("a dead letter", async || {
        let letters = demo.get("/dead_letters").await.json()["dead_letters"].clone();
        letters.get(0).cloned()
    })
    .await;
    assert_eq!((&letter["attempts"], &letter["kind"]), (&json!(3), &json!("postback")));
    assert_eq!(receiver.attempts_so_far().len(), 3);
    let shown = demo.get(&format!("/calls/{}", letter["id"].as_str().unwrap())).await.json();
    assert!(shown["url"].as_str().unwrap().ends_with("/a%20b"), "{shown}");
});

#[test]
fn without_its_store_the_bus_says_so() {
    run(async {
        let mut store = Store::redis();
        let bus = Bus::new(&store).set("ROUTEMASTER_OPEN", "postbacks");
        let server = bus.web().await;
        store.server().kill();
        let body = json!({"endpoint": {"method": "GET", "url": "http://a.example"}, "data": [{}]});
        let refused = server.anonymous().post("/ingest.php", body.to_string()).await.expect(503);
        assert_eq!(refused.json()["redis_is_connected"], "");
        assert!(refused.json()["error"].is_string());
    });
}
