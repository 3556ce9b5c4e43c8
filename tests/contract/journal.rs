//! The journal (§12): every attempt, found again, and no secret in it.

use serde_json::{Value, json};

use crate::support::{Answer, Bus, Client, ROOT, eventually};

/// Entries as soon as there are so many.
async fn entries(client: &Client, query: &str, count: usize) -> Vec<Value> {
    let (entries, _) = eventually("entries", async || {
        let page = client.get(&format!("/journal{query}")).await.expect(200).json();
        let entries = page["entries"].as_array().unwrap().clone();
        (entries.len() >= count).then_some(entries)
    })
    .await;
    assert_eq!(entries.len(), count, "{entries:?}");
    entries
}

on_both_stores!(every_attempt_stands_in_the_journal, |store| async move {
    let bus = Bus::new(&store).set("REQUEUE_FAILED_AFTER_MILLISECONDS", "20");
    let server = bus.serve().await;
    let (demo, alice, root) = (server.client("demo"), server.client("alice"), server.client(ROOT));
    let (events, calls) = (bus.receiver().await, bus.receiver().await);
    demo.claims("widgets").await;
    events.answer_next([Answer::Status(503)]);
    let more = json!({"timeout": 0, "uuid": "s3cr3t-uuid"});
    alice.subscribes(&events, &["widgets"], more).await;
    demo.publishes("widgets", [1]).await;
    calls.answer_next([Answer::Status(500)]);
    let body = json!({"url": calls.url(), "requeue": true, "id": "one", "body": {"a": 1},
        "headers": {"Authorization": "Bearer s3cr3t-token"}});
    demo.post("/calls", body.to_string()).await.expect(202);

    let batches = entries(&alice, "", 2).await;
    assert_eq!((&batches[0]["failed"], &batches[1]["failed"]), (&json!(false), &json!(true)));
    assert_eq!((&batches[1]["status"], &batches[1]["attempt"]), (&json!(503), &json!(1)));
    assert_eq!(batches[0]["id"], batches[1]["id"]);
    assert!(batches[1]["next_try"].as_u64() >= batches[1]["at"].as_u64());
    let made = entries(&demo, "?id=one", 2).await;
    assert_eq!((&made[0]["kind"], &made[0]["attempt"]), (&json!("call"), &json!(2)));
    assert_eq!((&made[1]["status"], &made[1]["bytes"]), (&json!(500), &json!(7)));
    assert_eq!(made[1]["url"], json!(calls.url()));
    let all = entries(&root, "", 4).await;
    let text = Value::Array(all).to_string();
    assert!(!text.contains("s3cr3t"), "{text}");
    entries(&root, "?failed=true", 2).await;
    entries(&root, "?subscriber=alice", 2).await;
    entries(&root, "?client=demo&status=500", 1).await;
    entries(&demo, "?kind=batch", 0).await;
    entries(&root, "?text=internal%20server", 1).await;
    demo.get("/journal?client=alice").await.expect(403);
    demo.get("/journal?kind=letter").await.expect(400);
    demo.get("/journal?after=nowhere").await.expect(400);
    // A call tells its own.
    let call = demo.get("/calls/one").await.expect(200).json();
    let attempts: Vec<&Value> =
        call["history"].as_array().unwrap().iter().map(|attempt| &attempt["attempt"]).collect();
    assert_eq!(attempts, [&json!(1), &json!(2)]);
});

on_both_stores!(it_keeps_what_the_settings_say, |store| async move {
    let bus = Bus::new(&store)
        .set("ROUTEMASTER_JOURNAL", "failures")
        .set("REQUEUE_FAILED_AFTER_MILLISECONDS", "20");
    let server = bus.serve().await;
    let (demo, receiver) = (server.client("demo"), bus.receiver().await);
    receiver.answer_next([Answer::Status(500)]);
    demo.post("/calls", json!({"url": receiver.url(), "requeue": true}).to_string()).await;
    receiver.attempts(2).await;
    let failed = entries(&demo, "", 1).await;
    assert_eq!(failed[0]["status"], 500);
});
