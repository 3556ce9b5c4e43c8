//! Calls (§9): accepted once, made until they succeed, looked after.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Answer, Bus, Client, Process, ROOT, Reply, eventually};

/// The original's key, and base64 of a hash made with it at a time long ago.
const KEY: &str = "yourauthorizationkey";
const HASH: &str = "NTRjMTVhOWVhMzBiNjgwZWUyNjRkMzRjZDk2ODhmN2RjOWQ1ZTkzM2VhMmNiYjRiODFjOGI1ZDNkMTk1NDUzMzoxNDgyOTM4MDk4";

async fn call(client: &Client, body: &Value) -> String {
    let reply = client.post("/calls", body.to_string()).await.expect(202);
    assert_eq!(reply.header("content-type"), Some("application/json; charset=UTF-8"));
    reply.json()["id"].as_str().unwrap().to_owned()
}

async fn show(client: &Client, id: &str) -> Value {
    client.get(&format!("/calls/{id}")).await.expect(200).json()
}

/// A call as soon as it is in this state.
async fn reaches(client: &Client, id: &str, state: &str) -> Value {
    let (call, _) = eventually(state, async || {
        let call = show(client, id).await;
        (call["state"] == state).then_some(call)
    })
    .await;
    call
}

async fn quick(bus: Bus) -> (Bus, Process) {
    let bus =
        bus.set("ROUTEMASTER_CALL_RETRY_MS", "50").set("ROUTEMASTER_CALL_RETRY_MAX_MS", "100");
    let server = bus.serve().await;
    (bus, server)
}

on_both_stores!(a_call_is_made_as_its_caller_wrote_it, |store| async move {
    let (bus, server) = quick(Bus::new(&store)).await;
    let (demo, receiver) = (server.client("demo"), bus.receiver().await);
    let reply = demo
        .post(
            "/calls",
            json!({
                "url": format!("{}/hook?a=b%20c", receiver.url().replace("https://", "https://bob:s3cr3t@")),
                "method": "put",
                "headers": {"X-Number": 7, "Content-Type": "text/plain", "X-Api-Key": "hidden"},
                "body": "anything",
            })
            .to_string(),
        )
        .await
        .expect(202);
    let id = reply.json()["id"].as_str().unwrap().to_owned();
    let expected = format!(r#"{{"error":false,"message":"Accepted","id":"{id}"}}"#);
    assert_eq!(reply.body, expected);
    let made = receiver.attempts(1).await.remove(0);
    assert_eq!((made.method, made.path.as_str()), (Method::PUT, "/events/hook?a=b%20c"));
    assert_eq!(made.body, "anything");
    for (name, value) in [
        ("x-number", "7"),
        ("content-type", "text/plain"),
        ("authorization", "Basic Ym9iOnMzY3IzdA=="),
        ("idempotency-key", &id),
        ("routemaster-attempt", "1"),
        ("user-agent", &format!("routemaster/{}", env!("CARGO_PKG_VERSION"))),
    ] {
        assert_eq!(made.headers.get(name).and_then(|v| v.to_str().ok()), Some(value), "{name}");
    }
    let done = reaches(&demo, &id, "done").await;
    assert_eq!((&done["attempts"], &done["status"]), (&json!(1), &json!(200)));
    assert_eq!((&done["method"], &done["client"]), (&json!("PUT"), &json!("demo")));
    let text = done.to_string();
    assert!(
        !text.contains("s3cr3t") && !text.contains("hidden") && !text.contains("Ym9i"),
        "{text}"
    );
    let log = server.stderr.text();
    assert!(log.contains("made a call") && !log.contains("s3cr3t"), "{log}");
});

on_both_stores!(a_call_that_fails_is_made_again_until_it_succeeds, |store| async move {
    let (bus, server) = quick(Bus::new(&store)).await;
    let (demo, receiver) = (server.client("demo"), bus.receiver().await);
    receiver.answer_next([500, 404, 302].map(Answer::Status));
    let id = call(&demo, &json!({"url": receiver.url(), "requeue": true})).await;
    let attempts = receiver.attempts(4).await;
    for (attempt, made) in (1..).zip(&attempts) {
        assert_eq!(made.header("routemaster-attempt"), Some(attempt.to_string().as_str()));
        assert_eq!(made.header("idempotency-key"), Some(id.as_str()));
    }
    reaches(&demo, &id, "done").await;
    // As with the original's clients, so it is with a call that does not say `requeue`.
    receiver.answer_next([Answer::Status(500)]);
    let id = call(&demo, &json!({"url": receiver.url()})).await;
    reaches(&demo, &id, "done").await;
    // With `false`, the first failure is the last.
    receiver.answer_next([Answer::Status(503)]);
    let id = call(&demo, &json!({"url": receiver.url(), "requeue": false})).await;
    let dead = reaches(&demo, &id, "dead").await;
    assert_eq!((&dead["status"], &dead["attempts"]), (&json!(503), &json!(1)));
    let letters = demo.get("/dead_letters").await.expect(200).json();
    assert_eq!(letters["dead_letters"][0]["id"], json!(id));
    assert!(letters["dead_letters"][0]["error"].as_str().unwrap().contains("503"));
    // It lives again when somebody retries it.
    demo.post(&format!("/calls/{id}/retry"), "").await.expect(204);
    reaches(&demo, &id, "done").await;
    demo.post(&format!("/calls/{id}/retry"), "").await.expect(409);
});

on_both_stores!(a_call_is_given_up_when_it_says_so, |store| async move {
    let (bus, server) = quick(Bus::new(&store)).await;
    let (demo, receiver) = (server.client("demo"), bus.receiver().await);
    receiver.answer(Answer::Status(500));
    let body = json!({"url": receiver.url(), "requeue": true, "max_attempts": 3});
    let id = call(&demo, &body).await;
    assert_eq!(reaches(&demo, &id, "dead").await["attempts"], json!(3));
    let body = json!({"url": receiver.url(), "requeue": true, "give_up_after": 300});
    let id = call(&demo, &body).await;
    assert!(reaches(&demo, &id, "dead").await["attempts"].as_u64().unwrap() >= 2);
    let body = json!({"url": receiver.url(), "requeue": true, "timeout": 200, "max_attempts": 1});
    receiver.answer(Answer::Hang);
    let id = call(&demo, &body).await;
    let dead = reaches(&demo, &id, "dead").await;
    assert_eq!(dead["error"], json!("no answer within 200 ms"));
});

on_both_stores!(redirects_are_followed_and_credentials_stay_at_home, |store| async move {
    let (bus, server) = quick(Bus::new(&store)).await;
    let (demo, home, away) = (server.client("demo"), bus.receiver().await, bus.receiver().await);
    home.answer_next([Answer::Redirect(format!("{}/there", away.url()))]);
    let body = json!({"url": home.url(), "method": "POST", "body": "{}",
        "headers": {"Authorization": "Bearer x", "Cookie": "a=b", "X-Other": "kept"}});
    let id = call(&demo, &body).await;
    let made = away.attempts(1).await.remove(0);
    assert_eq!(made.method, Method::GET, "as clients do after 302");
    assert_eq!((made.header("authorization"), made.header("cookie")), (None, None));
    assert_eq!((made.header("x-other"), made.body.as_str()), (Some("kept"), ""));
    reaches(&demo, &id, "done").await;
    // One that leads to itself, and one to where nobody may go.
    home.answer(Answer::Redirect(home.url()));
    let id = call(&demo, &json!({"url": home.url(), "requeue": false})).await;
    let dead = reaches(&demo, &id, "dead").await;
    assert_eq!(dead["error"], json!("redirected more than 10 times"));
    home.answer(Answer::Redirect("http://169.254.169.254/latest".into()));
    let id = call(&demo, &json!({"url": home.url(), "requeue": false})).await;
    let reason = reaches(&demo, &id, "dead").await["error"].to_string();
    assert!(reason.contains("169.254.169.254 is denied"), "{reason}");
});

on_both_stores!(what_comes_again_is_accepted_once, |store| async move {
    let (bus, server) = quick(Bus::new(&store)).await;
    let (demo, receiver) = (server.client("demo"), bus.receiver().await);
    let body = json!({"url": receiver.url(), "id": "order:17"});
    assert_eq!(call(&demo, &body).await, "order:17");
    assert_eq!(call(&demo, &body).await, "order:17");
    let other = json!({"url": receiver.url(), "id": "order:17", "method": "POST"});
    let refused = demo.post("/calls", other.to_string()).await.expect(422).json();
    assert_eq!(refused["error"], json!(true));
    // Another client's is another call.
    assert_eq!(call(&server.client("alice"), &other).await, "order:17");
    let keyed = async |body: &Value| {
        let headers = [("idempotency-key", "a key")];
        let sent = demo.try_send(Method::POST, "/calls", &headers, body.to_string()).await;
        sent.unwrap()
    };
    let (one, several) =
        (json!({"url": receiver.url()}), json!([{"url": receiver.url()}, {"url": receiver.url()}]));
    let first = keyed(&one).await.expect(202).json()["id"].clone();
    assert_eq!(keyed(&one).await.expect(202).json()["id"], first);
    keyed(&json!({"url": receiver.url(), "method": "POST"})).await.expect(422);
    let ids = keyed(&several).await.expect(202).json()["ids"].clone();
    assert_eq!(keyed(&several).await.expect(202).json()["ids"], ids);
    let attempts = receiver.attempts(5).await;
    receiver.stays_quiet(Duration::from_millis(300)).await;
    assert_eq!(attempts.len(), 5);
});

on_both_stores!(a_call_is_not_made_before_its_time, |store| async move {
    let (bus, server) = quick(Bus::new(&store)).await;
    let (demo, receiver) = (server.client("demo"), bus.receiver().await);
    let sent = std::time::Instant::now();
    let later = call(&demo, &json!({"url": receiver.url(), "delay": 700})).await;
    let at = json!({"url": receiver.url(), "at": "2020-01-01T00:00:00Z"});
    let at_once = call(&demo, &at).await;
    let attempts = receiver.attempts(2).await;
    assert_eq!(attempts[0].header("idempotency-key"), Some(at_once.as_str()));
    assert_eq!(attempts[1].header("idempotency-key"), Some(later.as_str()));
    assert!(attempts[1].at - sent >= Duration::from_millis(700));
});

on_both_stores!(a_receivers_retry_after_is_kept_to, |store| async move {
    let (bus, server) = quick(Bus::new(&store)).await;
    let demo = server.client("demo");
    let receiver = bus.receiver().await;
    receiver.answer_next([Answer::RetryAfter(429, "1")]);
    call(&demo, &json!({"url": receiver.url(), "requeue": true})).await;
    let attempts = receiver.attempts(2).await;
    assert!(attempts[1].at - attempts[0].at >= Duration::from_secs(1));
});

on_both_stores!(a_cancelled_call_is_never_made_again, |store| async move {
    let (bus, server) = quick(Bus::new(&store)).await;
    let (demo, receiver) = (server.client("demo"), bus.receiver().await);
    let body = json!({"url": receiver.url(), "delay": 3_600_000});
    let waiting = call(&demo, &body).await;
    demo.delete(&format!("/calls/{waiting}")).await.expect(204);
    demo.delete(&format!("/calls/{waiting}")).await.expect(404);
    receiver.answer(Answer::Held);
    let sending = call(&demo, &json!({"url": receiver.url(), "requeue": true})).await;
    receiver.attempts(1).await;
    demo.delete(&format!("/calls/{sending}")).await.expect(202);
    receiver.answer(Answer::Status(500));
    receiver.release();
    eventually("it is gone", async || {
        let gone = demo.get(&format!("/calls/{sending}")).await.status == 404;
        gone.then_some(())
    })
    .await;
    receiver.stays_quiet(Duration::from_millis(300)).await;
});

on_both_stores!(a_client_sees_its_own_and_root_sees_all, |store| async move {
    let (bus, server) = quick(Bus::new(&store).set("ROUTEMASTER_OPEN", "calls")).await;
    let (demo, alice, root) = (server.client("demo"), server.client("alice"), server.client(ROOT));
    let body = json!({"url": "https://a.example", "delay": 3_600_000, "id": "same"});
    for client in [&demo, &alice, &server.anonymous(), &root] {
        call(client, &body).await;
    }
    let clients = async |client: &Client, query: &str| {
        let list = client.get(&format!("/calls{query}")).await.expect(200).json();
        let calls = list["calls"].as_array().unwrap().clone();
        calls.iter().map(|call| call["client"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(clients(&demo, "").await, ["demo"]);
    root.clone().beside_the_api().get("/calls/").await.expect(200);
    assert_eq!(clients(&root, "").await, ["root", "open", "alice", "demo"], "the newest first");
    assert_eq!(clients(&root, "?client=alice&state=waiting").await, ["alice"]);
    assert!(clients(&root, "?state=dead").await.is_empty());
    demo.get("/calls?client=alice").await.expect(403);
    demo.get("/calls?state=lost").await.expect(400);
    root.get("/calls/same").await.expect(409);
    root.post("/calls/same/retry", "").await.expect(409);
    let one = call(&alice, &json!({"url": "https://a.example", "delay": 3_600_000})).await;
    assert_eq!(root.get(&format!("/calls/{one}")).await.expect(200).json()["client"], "alice");
    demo.get(&format!("/calls/{one}")).await.expect(404);
    root.delete(&format!("/calls/{one}")).await.expect(204);
    root.get(&format!("/calls/{one}")).await.expect(404);
    assert_eq!(root.get("/calls/same?client=alice").await.expect(200).json()["client"], "alice");
    // Page by page.
    let first = root.get("/calls?limit=3").await.expect(200).json();
    assert_eq!(first["calls"].as_array().unwrap().len(), 3);
    let next = first["next"].as_str().unwrap();
    assert_eq!(clients(&root, &format!("?after={next}")).await, ["demo"]);
    drop(bus);
});

on_both_stores!(what_is_done_to_many_needs_their_number, |store| async move {
    let (_bus, server) = quick(Bus::new(&store)).await;
    let (demo, alice) = (server.client("demo"), server.client("alice"));
    let calls: Vec<Value> = (0..700)
        .map(|n| json!({"url": format!("https://a.example/{n}"), "delay": 3_600_000}))
        .collect();
    demo.post("/calls", Value::Array(calls).to_string()).await.expect(202);
    call(&alice, &json!({"url": "https://a.example", "delay": 3_600_000})).await;
    let count = demo.get("/calls?state=waiting&count=true").await.expect(200).json();
    assert_eq!(count["count"], 700);
    let until = count["until"].as_u64().unwrap();
    let path = |confirm: u64| format!("/calls?state=waiting&confirm={confirm}&until={until}");
    let refused = demo.delete(&path(699)).await.expect(409).json();
    assert_eq!((&refused["count"], &refused["error"]), (&json!(700), &json!(true)));
    demo.delete("/calls?state=waiting").await.expect(409);
    assert_eq!(
        demo.delete(&path(700)).await.expect(200).json(),
        json!({"changed": 700, "next": null})
    );
    assert_eq!(demo.get("/calls").await.json()["calls"], json!([]));
    assert_eq!(alice.get("/calls").await.json()["calls"].as_array().unwrap().len(), 1);
});

on_both_stores!(a_hanging_destination_holds_up_no_other_and_no_event, |store| async move {
    let (bus, server) = quick(Bus::new(&store).set("ROUTEMASTER_CALLS_PER_DESTINATION", "3")).await;
    let (demo, slow, good) = (server.client("demo"), bus.receiver().await, bus.receiver().await);
    slow.answer(Answer::Hang);
    let many: Vec<Value> = (0..50).map(|_| json!({"url": slow.url()})).collect();
    demo.post("/calls", Value::Array(many).to_string()).await.expect(202);
    slow.attempts(3).await;
    let many: Vec<Value> = (0..50).map(|_| json!({"url": good.url()})).collect();
    demo.post("/calls", Value::Array(many).to_string()).await.expect(202);
    good.attempts(50).await;
    assert_eq!(slow.attempts_so_far().len(), 3, "no more than may be on their way");
    let events = bus.receiver().await;
    demo.claims("widgets").await;
    demo.subscribes(&events, &["widgets"], json!({"timeout": 0})).await;
    demo.publishes("widgets", 1..=3).await;
    assert_eq!(events.numbers(3).await, [1, 2, 3]);
});

on_both_stores!(calls_of_a_killed_worker_are_made_again_soon, |store| async move {
    let bus = Bus::new(&store);
    let web = bus.web().await;
    let mut worker = bus.worker().await;
    let (demo, receiver) = (web.client("demo"), bus.receiver().await);
    receiver.answer_next([Answer::Hang, Answer::Hang]);
    let body = json!([{"url": receiver.url()}, {"url": receiver.url()}]);
    demo.post("/calls", body.to_string()).await.expect(202);
    let first = receiver.attempts(2).await;
    worker.kill().await;
    let killed = std::time::Instant::now();
    let _other = bus.worker().await;
    let attempts = receiver.attempts(4).await;
    assert!(killed.elapsed() < Duration::from_secs(9), "{:?}", killed.elapsed());
    for again in &attempts[2..] {
        assert_eq!(again.header("routemaster-attempt"), Some("2"));
        let id = again.header("idempotency-key");
        assert!(first.iter().any(|attempt| attempt.header("idempotency-key") == id));
    }
});

on_both_stores!(the_originals_hash_lets_calls_in, |store| async move {
    let (bus, server) = quick(Bus::new(&store).set("AUTHORIZATION_KEY", KEY)).await;
    let receiver = bus.receiver().await;
    let body = json!({"url": receiver.url()}).to_string();
    let send = async |header: &str, value: &str| -> Reply {
        let anonymous = server.anonymous();
        anonymous.try_send(Method::POST, "/", &[(header, value)], body.clone()).await.unwrap()
    };
    send("x-authorization", HASH).await.expect(202);
    send("x-authorization", "wrong").await.expect(401);
    send("x-other", HASH).await.expect(401);
    assert_eq!(server.client(ROOT).get("/calls").await.json()["calls"][0]["client"], "calls-key");
    // Under its own name, the time counts.
    let bus = Bus::new(&store)
        .set("ROUTEMASTER_CALLS_KEY", KEY)
        .set("AUTHORIZATION_HEADER", "Authorization");
    let server = bus.web().await;
    let anonymous = server.anonymous();
    let sent = anonymous.with_authorization(HASH).post("/calls", body.clone()).await;
    assert_eq!(sent.expect(401).json()["error"], json!(true));
    server.client("demo").post("/calls", body).await.expect(202);
    drop(bus);
});

on_both_stores!(fast_mode_answers_at_once_and_tells_later, |store| async move {
    let (bus, server) = quick(Bus::new(&store).set("FAST_PUBLISH", "1")).await;
    let (demo, receiver) = (server.client("demo"), bus.receiver().await);
    assert_eq!(demo.post("/", "").await.expect(200).body, "");
    let good = json!({"url": receiver.url()}).to_string();
    assert_eq!(demo.post("/", good).await.expect(200).body, "");
    receiver.attempts(1).await;
    assert_eq!(demo.post("/", "no call").await.expect(200).body, "");
    let (letters, _) = eventually("a dead letter", async || {
        let letters = demo.get("/dead_letters").await.json()["dead_letters"].clone();
        (letters != json!([])).then_some(letters)
    })
    .await;
    assert_eq!(letters[0]["kind"], "unread");
    let reason = letters[0]["error"].as_str().unwrap();
    assert!(reason.starts_with("the body that was accepted holds no call"), "{reason}");
    let id = letters[0]["id"].as_str().unwrap();
    assert_eq!(show(&demo, id).await["request"]["body"], "no call");
    server.anonymous().post("/", "{}").await.expect(401);
});

on_both_stores!(each_fault_has_its_status_and_stores_nothing, |store| async move {
    let (_bus, server) = quick(Bus::new(&store).set("ROUTEMASTER_MAX_CALL", "2048")).await;
    let demo = server.client("demo");
    for (body, status, said) in [
        ("", 422, "empty"),
        ("nonsense", 422, ""),
        ("7", 422, "object"),
        ("{}", 400, "`url`"),
        (r#"{"url":"ftp://a"}"#, 400, "`url`"),
        (r#"{"url":"http://169.254.169.254/"}"#, 400, "`url`: 169.254.169.254 is denied"),
        (r#"{"url":"http://a","method":"FETCH","requeue":1}"#, 400, "`method`"),
        (r#"{"url":"http://a","headers":{"A":null}}"#, 400, "`A`"),
        (r#"{"url":"http://a","body":"neither"}"#, 400, "`body`"),
        (r#"{"url":"http://a","delay":1,"at":"2030-01-01T00:00:00Z"}"#, 400, "`delay`"),
        (r#"[{"url":"http://a"},{"url":"b"}]"#, 400, "[1]: `url`"),
        (r#"[{"url":"http://a"},7]"#, 400, "[1]: "),
        (r#"[{"url":"http://a"}"#, 422, ""),
    ] {
        let reply = demo.post("/calls", body).await.expect(status);
        let message = reply.json()["message"].as_str().unwrap().to_owned();
        assert!(
            message.contains(said) && reply.json()["error"] == json!(true),
            "{body}: {message}"
        );
    }
    let faults = demo.post("/", r#"{"url":"http://a","method":"FETCH","requeue":1}"#).await;
    assert_eq!(faults.expect(400).json()["message"].as_str().unwrap().lines().count(), 2);
    demo.post("/calls", vec![b' '; 3000]).await.expect(413);
    server.anonymous().post("/calls", "{}").await.expect(401);
    assert_eq!(demo.get("/calls?count=true").await.json()["count"], 0);
    // Ten thousand are the most.
    let bus = Bus::new(&store);
    let server = bus.web().await;
    let many = |count: usize| {
        format!("[{}]", vec![r#"{"url":"http://a.example","delay":9999999}"#; count].join(","))
    };
    server.client("demo").post("/calls", many(10_001)).await.expect(400);
    server.client("demo").post("/calls", many(10_000)).await.expect(202);
});

on_both_stores!(calls_have_room_of_their_own, |store| async move {
    let bus = Bus::new(&store).set("ROUTEMASTER_CALLS_MAX_BYTES", "50KB");
    let server = bus.serve().await;
    let demo = server.client("demo");
    let body =
        json!({"url": "https://a.example", "delay": 3_600_000, "body": {"a": "x".repeat(20_000)}});
    call(&demo, &body).await;
    call(&demo, &body).await;
    let refused = demo.post("/calls", body.to_string()).await.expect(503);
    assert!(refused.header("retry-after").is_some());
    assert_eq!(refused.json()["error"], json!(true));
    demo.claims("widgets").await;
    let id = demo.get("/calls").await.json()["calls"][0]["id"].as_str().unwrap().to_owned();
    demo.delete(&format!("/calls/{id}")).await.expect(204);
    call(&demo, &body).await;
});
