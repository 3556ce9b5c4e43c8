//! The console (§15), as a browser without a script sees it: who may look, what they see, and what they can do.

use std::time::Duration;

use serde_json::json;

use crate::support::{
    Answer, Bus, Client, ORDERS, Process, ROOT, Receiver, Store, Visitor, event, eventually,
    now_ms, run,
};

/// The path of a subscription's page.
async fn page_of(visitor: &Visitor, subscriber: &str) -> String {
    let (path, _) = eventually(&format!("{subscriber} is listed"), async || {
        let list = visitor.page("/console/subscriptions").await;
        links(&list).into_iter().find(|(_, name)| name == subscriber).map(|(path, _)| path)
    })
    .await;
    path
}

/// The links of a page's rows: where each leads, and what it says.
fn links(page: &str) -> Vec<(String, String)> {
    let rows = page.split("<a class=\"row\" href=\"").skip(1);
    rows.map(|row| {
        let (path, rest) = row.split_once('"').unwrap();
        let text = rest.split_once('>').unwrap().1.split_once("</a>").unwrap().0;
        (path.replace("&amp;", "&"), without_tags(text))
    })
    .collect()
}

fn without_tags(markup: &str) -> String {
    let parts = markup.split('<').map(|part| part.split_once('>').map_or(part, |(_, text)| text));
    parts.collect::<String>().trim().to_owned()
}

#[test]
fn nobody_sees_a_page_without_signing_in() {
    run(async {
        let bus = Bus::new(&Store::sqlite());
        let server = bus.serve().await;
        let visitor = Visitor::new(&server);
        for path in [
            "/console/subscriptions?state=failing",
            "/console/journal",
            "/console/changes?of=/console",
        ] {
            let reply = visitor.get(path).await;
            assert!(!reply.body.contains("demo"), "{reply:?}");
            assert!(reply.status == 303 || reply.body.starts_with("event: over"), "{reply:?}");
        }
        let reply = visitor.get("/console/subscriptions?state=failing").await.expect(303);
        let sign_in = reply.header("location").unwrap().to_owned();
        assert_eq!(sign_in, "/console/sign-in?then=/console/subscriptions%3Fstate%3Dfailing");

        let refused = visitor.sign_in("nobody--s", "").await.expect(403);
        assert!(refused.body.contains("Nobody has this token"), "{refused:?}");
        let reply =
            visitor.sign_in("demo", "/console/subscriptions?state=failing").await.expect(303);
        assert_eq!(reply.header("location"), Some("/console/subscriptions?state=failing"));
        let cookie = reply.headers.get_all("set-cookie").iter().next().unwrap().to_str().unwrap();
        for part in
            ["__Host-routemaster=", "; HttpOnly", "; Secure", "; SameSite=Strict", "; Path=/"]
        {
            assert!(cookie.contains(part), "{part} in {cookie}");
        }
        let page = visitor.get("/console").await.expect(200);
        assert!(page.body.contains("Signed in as <strong>demo</strong>"), "{}", page.body);
        let policy = page.header("content-security-policy").unwrap();
        assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
        assert_eq!(page.header("cache-control"), Some("no-store"));
        // As curl wants it, with a colon.
        Visitor::new(&server).sign_in("demo:", "").await.expect(303);
        Visitor::signed_in(&server, "demo:").await.page("/console").await;
        let elsewhere = Visitor::new(&server).sign_in("demo", "https://evil.example/").await;
        assert_eq!(elsewhere.header("location"), Some("/console"), "{elsewhere:?}");

        visitor.submit("/console", "/console/sign-out", &[]).await.expect(303);
        visitor.get("/console").await.expect(303);
    });
}

on_both_stores!(a_session_ends_with_its_token_at_every_process, |store| async move {
    let bus = Bus::new(&store);
    let (one, other) = (bus.web().await, bus.web().await);
    let root = one.client(ROOT);
    let made = root.post("/api_tokens", json!({"name": "booking"}).to_string()).await.expect(201);
    let token = made.json()["token"].as_str().unwrap().to_owned();
    let visitor = Visitor::signed_in(&one, &token).await;
    let there = visitor.at(&other);
    assert!(visitor.page("/console").await.contains("<strong>booking</strong>"));
    assert!(there.page("/console").await.contains("<strong>booking</strong>"));
    root.delete(&format!("/api_tokens/{token}")).await.expect(204);
    visitor.get("/console").await.expect(303);
    let (_, took) = eventually("it is over at the other process", async || {
        (there.get("/console").await.status == 303).then_some(())
    })
    .await;
    assert!(took < Duration::from_secs(1), "{took:?}");
});

#[test]
fn trying_tokens_is_limited_as_it_is_for_the_api() {
    run(async {
        let bus = Bus::new(&Store::sqlite());
        let server = bus.web().await;
        let visitor = Visitor::new(&server);
        let (mut refused, mut limited) = (0, 0);
        while limited == 0 && refused < 200 {
            match visitor.sign_in(&format!("guess--{refused}"), "").await.status {
                403 => refused += 1,
                429 => limited += 1,
                other => panic!("{other}"),
            }
        }
        assert!((90..150).contains(&refused), "{refused}");
        // Cookies that are made up count as well.
        let guess = server.anonymous().beside_the_api();
        let until = now_ms() / 1000 + 3600;
        let cookie = format!("__Host-routemaster={until}.{}.{}", "0".repeat(32), "0".repeat(64));
        let mut statuses = vec![];
        for _ in 0..20 {
            let headers = [("cookie", &*cookie)];
            statuses
                .push(guess.request_with(reqwest::Method::GET, "/console", &headers).await.status);
        }
        assert!(statuses.contains(&429), "{statuses:?}");
        // Who knows a token gets in all the same.
        visitor.sign_in("demo", "").await.expect(303);
    });
}

#[test]
fn a_form_without_the_code_of_its_session_does_nothing() {
    run(async {
        let bus = Bus::new(&Store::sqlite());
        let server = bus.serve().await;
        let (demo, receiver) = (server.client("demo"), bus.receiver().await);
        demo.claims("widgets").await;
        demo.subscribes(&receiver, &["widgets"], json!({})).await;
        let (visitor, alice) =
            (Visitor::signed_in(&server, "demo").await, Visitor::signed_in(&server, "alice").await);
        let page = page_of(&visitor, "demo").await;
        let pause = format!("{page}/pause");
        let code = |page: &str| {
            page.split_once("name=\"code\" value=\"")
                .unwrap()
                .1
                .split_once('"')
                .unwrap()
                .0
                .to_owned()
        };
        let others = code(&alice.page("/console").await);
        for bad in ["", "0", &others] {
            let reply = visitor.send_form(&pause, bad, &[]).await.expect(403);
            assert!(reply.body.contains("not of your session"), "{reply:?}");
        }
        assert_eq!(demo.subscription("demo").await.get("paused"), None);
        let own = code(&visitor.page("/console").await);
        visitor.send_form(&pause, &own, &[]).await.expect(303);
        assert!(demo.subscription("demo").await.get("paused").is_some());
        // The form for signing in has one of its own.
        let reply =
            Visitor::new(&server).send_form("/console/sign-in", &own, &[("token", "demo")]).await;
        assert!(
            reply
                .expect(403)
                .headers
                .get_all("set-cookie")
                .iter()
                .all(|cookie| { !cookie.to_str().unwrap().starts_with("__Host-routemaster=") })
        );
    });
}

on_both_stores!(a_client_sees_and_does_what_is_its_own, |store| async move {
    let bus = Bus::new(&store);
    let server = bus.serve().await;
    let (demo, orders, receiver) =
        (server.client("demo"), server.client(ORDERS), bus.receiver().await);
    receiver.answer(Answer::Status(500));
    demo.claims("widgets").await;
    demo.subscribes(&receiver, &["widgets"], json!({"timeout": 0})).await;
    orders.subscribes(&receiver, &["widgets"], json!({"timeout": 0})).await;
    demo.publishes("widgets", 1..=2).await;
    receiver.attempts(2).await;
    let call = json!({"url": format!("{}/x", receiver.url()), "requeue": true, "headers": {"authorization": "Bearer s3same"}});
    let call = orders.post("/calls", call.to_string()).await.expect(202).json();
    let id = call["id"].as_str().unwrap().to_owned();

    let (root, alice) =
        (Visitor::signed_in(&server, ROOT).await, Visitor::signed_in(&server, "alice").await);
    let own = Visitor::signed_in(&server, ORDERS).await;
    let path = page_of(&root, "orders").await;
    assert_eq!(page_of(&own, "orders").await, path);
    let listed = links(&own.page("/console/subscriptions").await);
    assert_eq!(listed.len(), 1, "{listed:?}");
    assert!(links(&alice.page("/console/subscriptions").await).is_empty());
    alice.get(&path).await.expect(404);
    alice.submit("/console", &format!("{path}/pause"), &[]).await;
    assert_eq!(orders.subscription(ORDERS).await.get("paused"), None);
    let calls = eventually("the call is listed", async || {
        let found = links(&own.page("/console/calls").await);
        (!found.is_empty()).then_some(found)
    })
    .await
    .0;
    assert!(calls[0].0.ends_with(&id), "{calls:?}");
    assert!(links(&alice.page("/console/calls").await).is_empty());
    assert_ne!(alice.get(&calls[0].0).await.status, 200);
    eventually("the journal has them", async || {
        let found = links(&own.page("/console/journal").await);
        (found.len() >= 2).then_some(())
    })
    .await;
    assert!(links(&alice.page("/console/journal").await).is_empty());
    for page in
        ["/console/processes", "/console/topics", "/console/messages", "/console/dead-letters"]
    {
        alice.page(page).await;
    }
    // Neither address nor page has anybody's secret, whoever looks.
    let secret = ORDERS.split_once("--").unwrap().1;
    for (visitor, paths) in [
        (
            &root,
            vec![
                "/console",
                "/console/subscriptions",
                &path,
                "/console/calls",
                &calls[0].0,
                "/console/journal",
                "/console/topics/widgets",
            ],
        ),
        (&own, vec!["/console", &path, &calls[0].0]),
    ] {
        for path in paths {
            let page = visitor.page(path).await;
            assert!(!path.contains(secret) && !page.contains(secret), "{path}: {page}");
            assert!(!page.contains("s3same"), "{path}: {page}");
        }
    }
});

on_both_stores!(
    what_is_a_clients_stays_in_reach_when_its_token_is_another_one,
    |store| async move {
        let bus = Bus::new(&store);
        let server = bus.serve().await;
        let (root, receiver) = (server.client(ROOT), bus.receiver().await);
        let made =
            root.post("/api_tokens", json!({"name": "booking"}).to_string()).await.expect(201);
        let token = made.json()["token"].as_str().unwrap().to_owned();
        let call = json!({"url": format!("{}/x", receiver.url()), "requeue": true});
        server.client(&token).post("/calls", call.to_string()).await.expect(202);
        let rotated =
            root.post(&format!("/api_tokens/{token}/rotate"), "").await.expect(201).json();
        let now = rotated["token"].as_str().unwrap().to_owned();
        for visitor in
            [Visitor::signed_in(&server, ROOT).await, Visitor::signed_in(&server, &now).await]
        {
            let (calls, _) = eventually("the call is listed", async || {
                let found = links(&visitor.page("/console/calls").await);
                (found.len() == 1).then_some(found)
            })
            .await;
            let page = visitor.page(&calls[0].0).await;
            assert!(page.contains("<dd>booking</dd>"), "{page}");
            visitor.page("/console/journal?client=booking").await;
        }
    }
);

/// A subscriber that refuses what it gets, and its page.
async fn refusing(bus: &Bus, server: &Process, visitor: &Visitor) -> (Client, Receiver, String) {
    let (demo, receiver) = (server.client("demo"), bus.receiver().await);
    receiver.answer(Answer::Status(500));
    demo.claims("widgets").await;
    demo.put("/topics/widgets/keep", json!({"ms": 3_600_000, "bytes": 1_000_000}).to_string())
        .await
        .expect(204);
    demo.subscribes(&receiver, &["widgets"], json!({"timeout": 0, "max": 1})).await;
    demo.publishes("widgets", 1..=3).await;
    receiver.attempts(1).await;
    let path = page_of(visitor, "demo").await;
    (demo, receiver, path)
}

on_both_stores!(what_is_done_on_a_subscription_works_and_is_told_in_the_log, |store| async move {
    let bus = Bus::new(&store);
    let server = bus.serve().await;
    let visitor = Visitor::signed_in(&server, ROOT).await;
    let (demo, receiver, path) = refusing(&bus, &server, &visitor).await;
    let act = async |act: &str, fields: &[(&str, &str)]| {
        visitor.acts(&path, &format!("{path}/{act}"), fields).await
    };
    eventually("it says why", async || {
        visitor.page(&path).await.contains("the callback answered 500").then_some(())
    })
    .await;

    assert!(act("pause", &[]).await.contains("nothing is sent"));
    assert!(visitor.page(&path).await.contains("the operator has paused it"), "it says who");
    assert!(act("resume", &[]).await.contains("goes out now"));
    let before = receiver.attempts_so_far().len();
    act("retry", &[]).await;
    receiver.attempts(before + 1).await;

    // The first event, and then the batch behind it.
    let position = links(&visitor.page(&path).await)
        .into_iter()
        .find_map(|(path, _)| path.strip_prefix("/console/events/").map(str::to_owned))
        .unwrap();
    let trace = visitor.page(&format!("/console/events/{position}")).await;
    assert!(trace.contains("widgets") && trace.contains(">demo<"), "{trace}");
    assert!(act("skip", &[("through", &position)]).await.starts_with("1 event is skipped"));
    let batch = eventually("another batch is out", async || {
        let shown = demo.get("/subscriptions/demo").await.expect(200).json();
        shown["batch"]["id"].as_str().map(str::to_owned)
    })
    .await
    .0;
    act("skip", &[("batch", &batch)]).await;
    receiver.answer(Answer::Status(204));
    act("retry", &[]).await;
    receiver.numbers(1).await;

    assert!(act("test", &[]).await.contains("test event of widgets"));
    let (test, _) = eventually("the test event arrives", async || {
        let all = receiver.attempts_so_far();
        all.iter().flat_map(|attempt| attempt.events()).find(|event| event["type"] == "noop")
    })
    .await;
    assert_eq!(test["data"], json!({"test": true}));
    assert!(act("replay", &[("since", "2020-01-01T00:00")]).await.contains("into the queue again"));
    eventually("what was skipped is replayed", async || {
        let all = receiver.attempts_so_far();
        all.iter().any(|attempt| attempt.header("routemaster-replay").is_some()).then_some(())
    })
    .await;

    let letters = visitor.page("/console/dead-letters").await;
    let retry = letters.split("action=\"").find(|form| form.contains("/retry\"")).unwrap();
    let retry = retry.split_once('"').unwrap().0.to_owned();
    let told = visitor.acts("/console/dead-letters", &retry, &[]).await;
    assert!(told.contains("end of its subscriber"), "{told}");
    let letters = visitor.page("/console/dead-letters").await;
    let delete = letters.split("action=\"").find(|form| form.contains("/delete\"")).unwrap();
    let delete = delete.split_once('"').unwrap().0.to_owned();
    visitor.acts("/console/dead-letters", &delete, &[]).await;
    assert!(links(&visitor.page("/console/dead-letters").await).is_empty());

    let told = act("delete", &[]).await;
    assert!(told.contains("gone"), "{told}");
    demo.get("/subscription").await.expect(404);
    for what in [
        "signed in",
        "paused a subscription",
        "resumed a subscription",
        "made a subscription's queue due",
        "skipped events",
        "sent a test event",
        "replayed events",
        "retried a dead letter",
        "deleted a dead letter",
    ] {
        let line = server.stderr.line_with(&format!("\"what\":\"{what}\"")).await.expect(what);
        assert!(
            line.contains("\"by\":\"root\"") && line.contains("\"from\":\"127.0.0.1\""),
            "{line}"
        );
    }
});

on_both_stores!(
    calls_are_made_retried_and_deleted_one_by_one_and_all_that_match,
    |store| async move {
        let bus = Bus::new(&store);
        let server = bus.serve().await;
        let receiver = bus.receiver().await;
        receiver.answer(Answer::Status(500));
        let visitor = Visitor::signed_in(&server, "demo").await;
        let url = format!("{}/hook", receiver.url());
        let fields = [
            ("method", "PUT"),
            ("url", &*url),
            ("headers", "X-Kind: a\r\nAuthorization: Bearer s3same"),
            ("body", "{\"n\":1}"),
            ("requeue", "true"),
            ("max_attempts", "1"),
        ];
        for _ in 0..3 {
            let told = visitor.acts("/console/calls/new", "/console/calls/new", &fields).await;
            assert_eq!(told, "The call is accepted.");
        }
        let bad = visitor
            .submit(
                "/console/calls/new",
                "/console/calls/new",
                &[("method", "PUT"), ("url", "nowhere")],
            )
            .await;
        let bad = bad.expect(422).body;
        assert!(bad.contains("role=\"alert\"") && bad.contains("value=\"nowhere\""), "{bad}");
        let (calls, _) = eventually("all are dead", async || {
            let found = links(&visitor.page("/console/calls?state=dead").await);
            (found.len() == 3).then_some(found)
        })
        .await;
        let page = visitor.page(&calls[0].0).await;
        assert!(page.contains("PUT") && page.contains("500"), "{page}");
        let (attempt, _) = eventually("the journal has its attempt", async || {
            let page = visitor.page(&calls[0].0).await;
            let is_attempt = |path: &String| path.starts_with("/console/journal/attempt");
            links(&page).into_iter().map(|(path, _)| path).find(is_attempt)
        })
        .await;
        let attempt = visitor.page(&attempt).await;
        let curl = attempt.split_once("curl --globoff -X PUT").expect("a command").1;
        assert!(
            curl.contains("authorization: &lt;secret&gt;") && curl.contains("x-kind: a"),
            "{curl}"
        );
        assert!(curl.contains("--data-raw"), "{curl}");

        receiver.answer(Answer::Status(204));
        visitor.acts(&calls[0].0, &format!("{}/retry", calls[0].0), &[]).await;
        eventually("it is done", async || {
            (links(&visitor.page("/console/calls?state=done").await).len() == 1).then_some(())
        })
        .await;
        visitor.acts(&calls[1].0, &format!("{}/delete", calls[1].0), &[]).await;
        let all = visitor.page("/console/calls?state=dead&act=all").await;
        assert!(all.contains("1 call matches"), "{all}");
        let value = |name: &str| {
            let (_, rest) = all.split_once(&format!("name=\"{name}\" value=\"")).unwrap();
            rest.split_once('"').unwrap().0.to_owned()
        };
        let (confirm, until) = (value("confirm"), value("until"));
        let fields = [("confirm", &*confirm), ("until", &*until), ("state", "dead")];
        let told = visitor.acts("/console/calls", "/console/calls/all/retry", &fields).await;
        assert!(told.starts_with("1 call is made again"), "{told}");
        let wrong = [("confirm", "7"), ("until", &*until), ("state", "done")];
        let reply =
            visitor.submit("/console/calls", "/console/calls/all/delete", &wrong).await.expect(303);
        let page = visitor.page(reply.header("location").unwrap()).await;
        assert!(page.contains("notice failed") && page.contains("calls match"), "{page}");
    }
);

on_both_stores!(topics_publishers_and_messages_are_made_looked_at_and_ended, |store| async move {
    let bus = Bus::new(&store);
    let server = bus.serve().await;
    let receiver = bus.receiver().await;
    let visitor = Visitor::signed_in(&server, "demo").await;
    let new = "/console/message-topics/new";
    let taken = [("name", "orders"), ("origin_host", "https://orders.example")];
    visitor.acts(new, new, &taken).await;
    let again = visitor.submit(new, new, &taken).await.expect(422).body;
    assert!(again.contains("already been taken") && again.contains("value=\"orders\""), "{again}");
    let topic = links(&visitor.page("/console/message-topics").await).remove(0).0;
    let new = "/console/publishers/new";
    let target = format!("{}/orders", receiver.url());
    let fields = [
        ("topic", "orders"),
        ("type", "http"),
        ("target", &*target),
        ("active", "true"),
        ("seconds_retry", "1"),
    ];
    visitor.acts(new, new, &fields).await;
    let publisher = links(&visitor.page(&topic).await).remove(0).0;

    let demo = server.client("demo");
    let message = json!({"topic": "orders", "payload": {"order": 7, "note": "pine tree"}, "attributes": {"region": "eu"}});
    demo.post("/api/messages", message.to_string()).await.expect(201);
    let (messages, _) = eventually("it is forwarded", async || {
        let page = visitor.page("/console/messages?text=pine&state=done").await;
        Some(links(&page)).filter(|found| found.len() == 1)
    })
    .await;
    assert!(links(&visitor.page("/console/messages?text=oak").await).is_empty());
    let page = visitor.page(&messages[0].0).await;
    assert!(
        page.contains("pine tree") && page.contains("region") && page.contains(">200<"),
        "{page}"
    );

    visitor.acts(&publisher, &format!("{publisher}/deactivate"), &[]).await;
    assert!(visitor.page(&publisher).await.contains("inactive"));
    visitor.acts(&publisher, &format!("{publisher}/activate"), &[]).await;
    visitor
        .acts(
            &publisher,
            &publisher,
            &[("seconds_timeout", "7"), ("seconds_retry", "2"), ("chunk_size", "1")],
        )
        .await;
    assert!(
        visitor
            .page(&publisher)
            .await
            .contains("name=\"seconds_timeout\" type=\"number\" value=\"7\"")
    );
    let wrong =
        visitor.submit(&publisher, &publisher, &[("seconds_timeout", "many")]).await.expect(422);
    assert!(wrong.body.contains("seconds_timeout"), "{wrong:?}");

    visitor.acts(&messages[0].0, &format!("{}/delete", messages[0].0), &[]).await;
    visitor.get(&messages[0].0).await.expect(404);
    let full = visitor.submit(&topic, &format!("{topic}/delete"), &[]).await.expect(303);
    assert!(visitor.page(full.header("location").unwrap()).await.contains("notice failed"));
    visitor.acts(&publisher, &format!("{publisher}/delete"), &[]).await;
    visitor.acts(&topic, &format!("{topic}/delete"), &[]).await;
    assert!(links(&visitor.page("/console/message-topics").await).is_empty());
});

#[test]
fn a_worker_is_drained_and_a_topic_kept_and_deleted() {
    run(async {
        let bus = Bus::new(&Store::sqlite());
        let server = bus.serve().await;
        server.client("demo").claims("widgets").await;
        let visitor = Visitor::signed_in(&server, ROOT).await;
        let (page, _) = eventually("the process is there", async || {
            let page = visitor.page("/console/processes").await;
            page.contains("/drain\"").then_some(page)
        })
        .await;
        let drain = page.split("action=\"").find(|form| form.contains("/drain\"")).unwrap();
        let drain = drain.split_once('"').unwrap().0.to_owned();
        visitor.acts("/console/processes", &drain, &[]).await;
        eventually("it is drained", async || {
            visitor.page("/console/processes").await.contains("draining").then_some(())
        })
        .await;
        let topic = "/console/topics/widgets";
        visitor.acts(topic, &format!("{topic}/keep"), &[("ms", "60000"), ("bytes", "1000")]).await;
        assert!(visitor.page("/console/topics").await.contains("60 s, 1.0 kB"));
        visitor.acts(topic, &format!("{topic}/delete"), &[]).await;
        visitor.get(topic).await.expect(404);
    });
}

/// The largest number that an address can name is one, wherever a number is expected.
#[test]
fn the_largest_number_in_an_address_is_answered() {
    run(async {
        let bus = Bus::new(&Store::sqlite());
        let server = bus.serve().await;
        let root = Visitor::signed_in(&server, ROOT).await;
        let most = u64::MAX;
        for (path, status) in [
            (format!("/console/subscriptions?after={most}"), 200),
            (format!("/console/topics?after={most}"), 200),
            (format!("/console/journal/attempt?kind=call&id=1&attempt=1&at={most}"), 400),
        ] {
            root.get(&path).await.expect(status);
        }
    });
}

#[test]
fn without_the_console_there_is_nothing_of_it() {
    run(async {
        let bus = Bus::new(&Store::sqlite()).set("ROUTEMASTER_CONSOLE", "off");
        let server = bus.serve().await;
        let client = server.anonymous().beside_the_api();
        for path in ["/console", "/console/sign-in", "/console/assets/x.console.css"] {
            client.get(path).await.expect(404);
        }
        let html = [("accept", "text/html")];
        client.request_with(reqwest::Method::GET, "/", &html).await.expect(405);
        assert!(!server.stdout.text().contains("console"), "{}", server.stdout.text());

        let bus = Bus::new(&Store::sqlite());
        let server = bus.serve().await;
        let client = server.anonymous().beside_the_api();
        let found = client.request_with(reqwest::Method::GET, "/", &html).await.expect(303);
        assert_eq!(found.header("location"), Some("/console"));
        let program = client.get("/").await.expect(405);
        assert_eq!(
            (program.header("allow"), &program.json()["error"]),
            (Some("POST"), &json!(true))
        );
    });
}

#[test]
fn the_first_start_prints_a_link_that_signs_in_once() {
    run(async {
        let bus = Bus::new(&Store::sqlite()).set("ROUTEMASTER_CLIENTS", "demo");
        let server = bus.serve().await;
        let line = server.stdout.line_with("/console/sign-in?once=").await.unwrap();
        let link = line.split_once("/console/sign-in?once=").unwrap();
        let path = format!("/console/sign-in?once={}", link.1.trim());
        let visitor = Visitor::new(&server);
        visitor.get(&path).await.expect(303);
        let page = visitor.page("/console").await;
        assert!(page.contains("<strong>demo</strong>"), "{page}");
        // It says what to do first, ready to paste.
        assert!(
            page.contains("Begin here") && page.contains("-u &#39;demo:&#39;")
                || page.contains("-u 'demo:'"),
            "{page}"
        );
        let again = Visitor::new(&server).get(&path).await.expect(403);
        assert!(again.body.contains("has been used"), "{again:?}");
        server.client("demo").claims("widgets").await;
        eventually("what to do first is done", async || {
            (!visitor.page("/console").await.contains("Begin here")).then_some(())
        })
        .await;
    });
}

on_both_stores!(what_passed_is_charted_and_a_page_that_is_followed_changes, |store| async move {
    let bus = Bus::new(&store);
    let server = bus.serve().await;
    let (demo, receiver) = (server.client("demo"), bus.receiver().await);
    demo.claims("widgets").await;
    demo.subscribes(&receiver, &["widgets"], json!({"timeout": 0})).await;
    let visitor = Visitor::signed_in(&server, "demo").await;
    let cookie = visitor.cookie();
    let stream = server.anonymous().beside_the_api();
    let mut stream =
        stream.stream_with("/console/changes?of=/console/live", &[("cookie", &cookie)]).await;
    assert_eq!(stream.next().await, "event: parts");
    stream.next().await;
    demo.publishes("widgets", 1..=5).await;
    receiver.numbers(5).await;
    let followed = async {
        loop {
            let line = stream.next().await;
            if line.starts_with("data: ") && line.contains("batch") && line.contains(">200<") {
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(10), followed).await.expect("it is seen soon");
    let path = page_of(&visitor, "demo").await;
    for path in ["/console", &path, "/console?range=day", "/console?range=quarter"] {
        eventually("the chart shows them", async || {
            visitor.page(path).await.contains("got through: at most 5, last 5").then_some(())
        })
        .await;
    }
});

/// What would run, or break out of where it stands, if it were not escaped.
const HOSTILE: &str = "\"'><script>alert(1)</script><img src=x onerror=alert(2)>";

on_both_stores!(what_others_write_is_shown_as_text, |store| async move {
    let bus = Bus::new(&store);
    let server = bus.serve().await;
    let (demo, receiver) = (server.client("demo"), bus.receiver().await);
    receiver.answer(Answer::Text(500, HOSTILE.into()));
    demo.claims("widgets").await;
    demo.subscribes(&receiver, &["widgets"], json!({"timeout": 0})).await;
    let mut hostile = event(1);
    hostile["data"] = json!({ HOSTILE: [HOSTILE, "</pre></code>"] });
    demo.publish("widgets", &hostile).await.expect(204);
    let call = json!({
        "url": format!("{}/{}", receiver.url(), "?q=%22%3E%3Cscript%3E'"), "body": json!({"x": HOSTILE}).to_string(), "id": "a'b",
        "headers": {"x-hostile": HOSTILE}, "requeue": true,
    });
    let called = demo.post("/calls", call.to_string()).await;
    assert!(matches!(called.status, 202 | 400), "{called:?}");
    let call = json!({"url": format!("{}/x", receiver.url()), "body": json!({"x": HOSTILE}).to_string(), "headers": {"x-hostile": HOSTILE}, "requeue": true});
    demo.post("/calls", call.to_string()).await.expect(202);
    demo.post(
        "/api/topics",
        json!({"name": "orders", "origin_host": "https://o.example"}).to_string(),
    )
    .await
    .expect(201);
    let message =
        json!({"topic": "orders", "payload": {"x": HOSTILE}, "attributes": {"a": HOSTILE}});
    demo.post("/api/messages", message.to_string()).await.expect(201);
    receiver.attempts(2).await;
    let visitor = Visitor::signed_in(&server, ROOT).await;
    let path = page_of(&visitor, "demo").await;
    let mut seen = std::collections::BTreeSet::new();
    let mut left: Vec<String> = [
        "/console",
        "/console/live",
        "/console/topics",
        "/console/calls",
        "/console/messages",
        "/console/journal",
        "/console/dead-letters",
        "/console/processes",
        &path,
    ]
    .map(str::to_owned)
    .into();
    let query = url::form_urlencoded::byte_serialize(HOSTILE.as_bytes()).collect::<String>();
    for list in ["journal", "messages", "subscriptions", "topics", "live"] {
        left.push(format!("/console/{list}?text={query}&name={query}&topic=widgets"));
    }
    left.push(format!("/console/journal?client={query}"));
    left.push(format!("/console/sign-in?then={query}"));
    left.push(format!("/console/calls?destination={query}&act=all"));
    let mut shown = 0;
    while let Some(path) = left.pop() {
        if !seen.insert(path.clone()) || seen.len() > 60 {
            continue;
        }
        let page = visitor.get(&path).await.body;
        shown += usize::from(page.contains("&lt;script&gt;alert(1)"));
        for bad in ["<script>alert", "<img", "</pre></code>\"", "onerror=alert(2)>"] {
            assert!(!page.contains(bad), "{path} has {bad}: {page}");
        }
        left.extend(links(&page).into_iter().map(|(path, _)| path));
    }
    assert!(shown > 5, "it is looked at where it stands: {shown} of {} pages", seen.len());
});
