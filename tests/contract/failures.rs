//! Failed deliveries (§4): the batch stays at the head, is sent again, and nothing overtakes it.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Answer, Bus, eventually, soon};

on_both_stores!(only_200_and_204_acknowledge, |store| async move {
    let bus = Bus::new(&store).set("ROUTEMASTER_MAX_BACKOFF_MS", "20");
    let server = bus.serve().await;
    let (demo, receiver, trap) =
        (server.client("demo"), bus.receiver().await, bus.receiver().await);
    demo.claims("widgets").await;
    demo.subscribes(&receiver, &["widgets"], json!({"timeout": 0, "max": 1})).await;
    let refusals = [201, 202, 203, 205, 206, 301, 304, 400, 401, 404, 408, 429, 500, 503];
    receiver.answer_next(refusals.map(Answer::Status));
    receiver.answer_next([Answer::Redirect(trap.url())]);
    receiver.answer_next([200, 204].map(Answer::Status));
    demo.publishes("widgets", 1..=2).await;
    let count = refusals.len() + 3;
    let attempts = receiver.attempts(count).await;
    let numbers: Vec<u64> = attempts.iter().flat_map(|attempt| attempt.numbers()).collect();
    let mut expected = vec![1; count - 1];
    expected.push(2);
    assert_eq!(numbers, expected);
    let counts: Vec<_> =
        attempts.iter().map(|attempt| attempt.header("routemaster-attempt").unwrap()).collect();
    assert_eq!(counts[count - 2], (count - 1).to_string());
    assert!(trap.attempts_so_far().is_empty(), "a redirect was followed");
    receiver.stays_quiet(Duration::from_millis(300)).await;
});

on_both_stores!(failures_in_a_row_are_ever_further_apart_from_the_first_on, |store| async move {
    let bus = Bus::new(&store);
    let server = bus.serve().await;
    let (demo, receiver) = (server.client("demo"), bus.receiver().await);
    demo.claims("widgets").await;
    demo.subscribes(&receiver, &["widgets"], json!({"timeout": 0})).await;
    receiver.answer(Answer::Status(500));
    demo.publishes("widgets", [1]).await;
    let attempts = receiver.attempts(5).await;
    let pauses: Vec<_> = attempts.windows(2).map(|pair| pair[1].at - pair[0].at).collect();
    for (pause, least) in pauses.iter().zip([100, 200, 400, 800]) {
        assert!(*pause >= Duration::from_millis(least), "{pauses:?}");
    }
});

on_both_stores!(a_success_that_is_no_acknowledgement_is_told_as_what_it_is, |store| async move {
    let bus = Bus::new(&store);
    let server = bus.serve().await;
    let (demo, receiver) = (server.client("demo"), bus.receiver().await);
    demo.claims("widgets").await;
    demo.subscribes(&receiver, &["widgets"], json!({"timeout": 0})).await;
    receiver.answer(Answer::Status(202));
    demo.publishes("widgets", [1]).await;
    let line = soon("a line", server.stderr.line_with("which is no acknowledgement")).await;
    assert!(line.expect("the process runs").contains("ROUTEMASTER_ACK=2xx"));
    let own = async || {
        let own = demo.get("/subscription").await.expect(200).json();
        (!own["last_error"].is_null()).then(|| own["last_error"].clone())
    };
    let (error, _) = eventually("its subscriber can see it", own).await;
    assert_eq!(error["status"], 202, "{error}");
    assert!(server.client("alice").subscription("demo").await["last_error"].is_null());

    let ended = bus.run(&["doctor", "--url", server.base(), "--token", "demo"]).await;
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    let said = ended.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(said.contains("202 Accepted, which is no acknowledgement"), "{said}");

    receiver.answer(Answer::Status(204));
    let healed = async || {
        let own = demo.get("/subscription").await.expect(200).json();
        own["last_error"].is_null().then_some(())
    };
    eventually("it is over with the next acknowledgement", healed).await;
});

on_both_stores!(any_success_can_be_taken_for_an_acknowledgement, |store| async move {
    let bus = Bus::new(&store).set("ROUTEMASTER_ACK", "2xx");
    let server = bus.serve().await;
    let (demo, receiver) = (server.client("demo"), bus.receiver().await);
    demo.claims("widgets").await;
    demo.subscribes(&receiver, &["widgets"], json!({"timeout": 0, "max": 1})).await;
    receiver.answer_next([201, 202, 206, 299, 300, 204].map(Answer::Status));
    demo.publishes("widgets", 1..=5).await;
    let attempts = receiver.attempts(6).await;
    let numbers: Vec<u64> = attempts.iter().flat_map(|attempt| attempt.numbers()).collect();
    assert_eq!(numbers, [1, 2, 3, 4, 5, 5]);
});

on_both_stores!(a_refused_batch_is_never_overtaken, |store| async move {
    let bus = Bus::new(&store);
    let server = bus.serve().await;
    let (demo, receiver) = (server.client("demo"), bus.receiver().await);
    demo.claims("widgets").await;
    demo.subscribes(&receiver, &["widgets"], json!({"timeout": 0, "max": 3})).await;
    receiver.fail_share(0.3, 4711);
    demo.publishes("widgets", 1..=60).await;
    assert_eq!(receiver.numbers(60).await, (1..=60).collect::<Vec<_>>());
});

on_both_stores!(a_callback_that_does_not_answer_in_time_has_failed, |store| async move {
    let bus = Bus::new(&store).set("ROUTEMASTER_TIMEOUT", "0.4");
    let server = bus.serve().await;
    let (demo, receiver) = (server.client("demo"), bus.receiver().await);
    demo.claims("widgets").await;
    demo.subscribes(&receiver, &["widgets"], json!({"timeout": 0})).await;
    receiver.answer_next([Answer::Hang]);
    demo.publishes("widgets", [1]).await;
    assert_eq!(receiver.numbers(1).await, [1]);
    let attempts = receiver.attempts_so_far();
    assert_eq!(attempts.len(), 2);
    // The bus tells it better than the receiver, to which a connection takes some of the time.
    let line = soon("the failure is logged", server.stderr.line_with("failed to deliver")).await;
    let line: Value = serde_json::from_str(&line.expect("the process runs")).expect("JSON");
    let took_ms = line["took_ms"].as_u64().expect("a number");
    assert!((390..=3_000).contains(&took_ms), "it was given up after {took_ms} ms");
});

on_both_stores!(a_callback_that_accepts_no_connection_in_time_has_failed, |store| async move {
    // It takes TCP connections and never says a word of TLS.
    let silent = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = silent.local_addr().unwrap().port();
    let bus = Bus::new(&store).set("ROUTEMASTER_CONNECT_TIMEOUT", "0.3");
    let server = bus.serve().await;
    let (demo, receiver) = (server.client("demo"), bus.receiver().await);
    demo.claims("widgets").await;
    let callback = format!("https://localhost:{port}/events");
    demo.subscribes(&receiver, &["widgets"], json!({"timeout": 0, "callback": callback})).await;
    demo.publishes("widgets", [1]).await;
    // It comes back, which it does only after it has given up.
    let mut connections = vec![];
    for _ in 0..2 {
        let (stream, _) = soon("a connection", silent.accept()).await.unwrap();
        connections.push((stream, std::time::Instant::now()));
    }
    let waited = connections[1].1 - connections[0].1;
    assert!(waited <= Duration::from_secs(3), "it was given up after {waited:?} only");
    // A subscriber that moves gets its batch at the new place.
    demo.subscribes(&receiver, &["widgets"], json!({"timeout": 0})).await;
    assert_eq!(receiver.numbers(1).await, [1]);
});

on_both_stores!(a_receiver_that_comes_back_gets_all_it_missed, |store| async move {
    let bus = Bus::new(&store);
    let server = bus.serve().await;
    let (demo, receiver) = (server.client("demo"), bus.receiver().await);
    demo.claims("widgets").await;
    demo.subscribes(&receiver, &["widgets"], json!({"timeout": 0, "max": 5})).await;
    let port = receiver.close().await;
    demo.publishes("widgets", 1..=12).await;
    soon("a failure", server.stderr.line_with("failed to deliver")).await;
    let receiver = bus.receiver_on(port).await;
    assert_eq!(receiver.numbers(12).await, (1..=12).collect::<Vec<_>>());
});

on_both_stores!(a_failed_batch_waits_for_at_least_the_subscribers_timeout, |store| async move {
    let bus = Bus::new(&store);
    let server = bus.serve().await;
    let (demo, receiver) = (server.client("demo"), bus.receiver().await);
    demo.claims("widgets").await;
    demo.subscribes(&receiver, &["widgets"], json!({"timeout": 600, "max": 1})).await;
    receiver.answer_next([Answer::Status(500)]);
    demo.publishes("widgets", [1]).await;
    let attempts = receiver.attempts(2).await;
    let pause = attempts[1].at - attempts[0].at;
    assert!(pause >= Duration::from_millis(590), "it was sent again after {pause:?}");
    assert!(pause < Duration::from_millis(2_600), "it was sent again after {pause:?} only");
});

on_both_stores!(the_pause_grows_as_health_falls, |store| async move {
    // 100 points; one failure takes 100 of them, so that the longest pause follows at once.
    let bus = Bus::new(&store)
        .set("ROUTEMASTER_HP_DAMAGE_RATE", "100")
        .set("ROUTEMASTER_HP_HEAL_RATE", "100")
        .set("ROUTEMASTER_MAX_BACKOFF_MS", "700");
    let server = bus.serve().await;
    let (demo, receiver) = (server.client("demo"), bus.receiver().await);
    demo.claims("widgets").await;
    demo.subscribes(&receiver, &["widgets"], json!({"timeout": 0, "max": 1})).await;
    receiver.answer_next([500, 500, 200, 500, 200].map(Answer::Status));
    demo.publishes("widgets", 1..=2).await;
    let attempts = receiver.attempts(5).await;
    let pause = |from: usize| (attempts[from + 1].at - attempts[from].at).as_millis();
    for from in [0, 1, 3] {
        // The pause and up to one half of it at random.
        assert!((690..=2_500).contains(&pause(from)), "pause {from}: {} ms", pause(from));
    }
    assert!(pause(2) < 600, "a success heals: {} ms", pause(2));
});

on_both_stores!(a_healthy_subscriber_is_tried_again_soon, |store| async move {
    let bus = Bus::new(&store);
    let server = bus.serve().await;
    let (demo, receiver) = (server.client("demo"), bus.receiver().await);
    demo.claims("widgets").await;
    demo.subscribes(&receiver, &["widgets"], json!({"timeout": 0})).await;
    receiver.answer_next([Answer::Status(500)]);
    demo.publishes("widgets", [1]).await;
    let attempts = receiver.attempts(2).await;
    let pause = attempts[1].at - attempts[0].at;
    assert!(pause < Duration::from_secs(2), "{pause:?}");
});

on_both_stores!(health_is_remembered_over_a_restart, |store| async move {
    let bus = Bus::new(&store)
        .set("ROUTEMASTER_HP_DAMAGE_RATE", "100")
        .set("ROUTEMASTER_MAX_BACKOFF_MS", "86400000");
    let mut server = bus.serve().await;
    let (demo, receiver) = (server.client("demo"), bus.receiver().await);
    demo.claims("widgets").await;
    demo.subscribes(&receiver, &["widgets"], json!({"timeout": 0})).await;
    receiver.answer_next([Answer::Status(500)]);
    demo.publishes("widgets", [1]).await;
    soon("a failure", server.stderr.line_with("failed to deliver")).await;
    server.signal(crate::support::Signal::Term);
    assert_eq!(server.exit().await.0, Some(0));
    let server = bus.serve().await;
    receiver.stays_quiet(Duration::from_millis(400)).await;
    // Who moves starts afresh.
    let demo = server.client("demo");
    let elsewhere = bus.receiver().await;
    demo.subscribes(&elsewhere, &["widgets"], json!({"timeout": 0})).await;
    assert_eq!(elsewhere.numbers(1).await, [1]);
});
