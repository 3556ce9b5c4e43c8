//! What the log says (§0): who changed what from where, who was refused, and failures summed up.

use serde_json::{Value, json};

use crate::support::{Answer, Bus, Process, ROOT, event, eventually, soon};

/// The next line with this text, which the log must have.
async fn line(server: &Process, text: &str) -> Value {
    let line = soon("the log says so", server.stderr.line_with(text)).await;
    serde_json::from_str(&line.expect("the process runs")).expect("a line of JSON")
}

on_both_stores!(each_act_that_changes_what_is_kept_is_a_line, |store| async move {
    let bus = Bus::new(&store);
    let server = bus.serve().await;
    let (root, demo, alice) = (server.client(ROOT), server.client("demo"), server.client("alice"));
    let receiver = bus.receiver().await;
    demo.claims("widgets").await;
    let made = json!({"name": "billing", "token": "billing--s3cret"}).to_string();
    root.post("/api_tokens", made).await.expect(201);
    alice.subscribes(&receiver, &["widgets"], json!({"uuid": "s3cret"})).await;
    alice.delete("/subscriber/topics/widgets").await.expect(204);
    alice.delete("/subscriber").await.expect(204);
    demo.delete("/topics/widgets").await.expect(204);
    root.delete("/api_tokens/billing--s3cret").await.expect(204);
    for (by, what, of) in [
        ("root", "made a token", "billing"),
        ("al…", "subscribed", "1 topics at localhost"),
        ("al…", "unsubscribed from a topic", "widgets"),
        ("al…", "removed a subscription with its queue", "al…"),
        ("de…", "deleted a topic", "widgets"),
        ("root", "deleted a token", "billing"),
    ] {
        let line = line(&server, what).await;
        assert_eq!((&line["by"], &line["from"]), (&json!(by), &json!("127.0.0.1")), "{line}");
        assert!(line["of"].as_str().unwrap().starts_with(of), "{line}");
    }
    let log = server.stderr.text();
    assert!(!log.contains("s3cret"), "{log}");
});

on_both_stores!(a_refused_sign_in_is_a_line, |store| async move {
    let bus = Bus::new(&store);
    let server = bus.serve().await;
    server.client("no-such-token").get("/topics").await.expect(401);
    let line = line(&server, "refused a sign-in").await;
    assert_eq!(line["from"], "127.0.0.1");
    assert!(!server.stderr.text().contains("no-such-token"), "{}", server.stderr.text());
    // Whoever says nothing of who he is has not tried.
    server.anonymous().get("/topics").await.expect(401);
    server.client("demo").get("/topics").await.expect(200);
    assert_eq!(server.stderr.text().matches("refused a sign-in").count(), 1);
});

on_both_stores!(failures_in_a_row_are_summed_up_and_a_recovery_is_told, |store| async move {
    let bus = Bus::new(&store).set("ROUTEMASTER_MAX_BACKOFF_MS", "20");
    let server = bus.serve().await;
    let (demo, receiver) = (server.client("demo"), bus.receiver().await);
    demo.claims("widgets").await;
    server.client("alice").subscribes(&receiver, &["widgets"], json!({"timeout": 0})).await;
    receiver.answer(Answer::Status(500));
    demo.publish("widgets", &event(1)).await.expect(204);
    receiver.attempts(20).await;
    let failures = server.stderr.text().matches("failed to deliver").count();
    assert_eq!(failures, 3, "the first ones, and then not each of them");
    receiver.answer(Answer::Status(200));
    let recovery = line(&server, "delivers again").await;
    assert!(recovery["failures"].as_u64().unwrap() >= 20, "{recovery}");
    let done = async || (demo.queued("alice").await == Some(0)).then_some(());
    eventually("it is acknowledged", done).await;
});
