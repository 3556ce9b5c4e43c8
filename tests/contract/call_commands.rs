//! The commands about calls, each against a running bus.

use serde_json::{Value, json};

use crate::support::{Answer, Bus, Process, ROOT, Signal, eventually, soon};

/// Runs a command that must succeed; what it prints.
async fn output(bus: &Bus, server: &Process, arguments: &[&str]) -> String {
    let ended = bus.run(&[arguments, &["--url", server.base()]].concat()).await;
    assert_eq!(ended.code, Some(0), "{arguments:?}: {}{}", ended.stdout, ended.stderr);
    ended.stdout
}

async fn refused(bus: &Bus, server: &Process, arguments: &[&str]) -> (Option<i32>, String) {
    let ended = bus.run(&[arguments, &["--url", server.base()]].concat()).await;
    (ended.code, ended.stderr)
}

on_both_stores!(a_call_is_made_shown_and_found_in_the_journal, |store| async move {
    let bus = Bus::new(&store).set("REQUEUE_FAILED_AFTER_MILLISECONDS", "20");
    let server = bus.serve().await;
    let receiver = bus.receiver().await;
    receiver.answer_next([Answer::Status(503)]);
    let url = receiver.url();
    let call = ["call", &url, "-d", r#"{"a":1}"#, "-H", "X-A: b", "--id", "one"];
    assert_eq!(output(&bus, &server, &call).await, "one\n");
    let made = receiver.attempts(2).await.remove(1);
    assert_eq!((made.method.as_str(), made.body.as_str()), ("POST", r#"{"a":1}"#));
    assert_eq!(made.header("x-a"), Some("b"));
    let demo = server.client("demo");
    eventually("it is done", async || {
        (demo.get("/calls/one").await.json()["state"] == "done").then_some(())
    })
    .await;
    eventually("the journal has both attempts", async || {
        let entries = demo.get("/journal?id=one").await.json()["entries"].clone();
        (entries.as_array().unwrap().len() == 2).then_some(())
    })
    .await;
    let token = ["--token", "demo"];
    let shown = output(&bus, &server, &[&["calls", "show", "one"], &token[..]].concat()).await;
    assert!(shown.contains("done") && shown.contains("503"), "{shown}");
    let listed = output(&bus, &server, &["calls", "--json"]).await;
    let listed: Value = serde_json::from_str(&listed).unwrap();
    assert_eq!((&listed[0]["id"], &listed[0]["attempts"]), (&json!("one"), &json!(2)));
    let table = output(&bus, &server, &["calls", "list", "--state", "done"]).await;
    assert!(table.lines().nth(1).unwrap().starts_with("one"), "{table}");
    let journal = output(&bus, &server, &["journal", "--failed"]).await;
    assert_eq!(journal.lines().count(), 2, "{journal}");
    assert!(journal.contains("it answered 503"), "{journal}");
    let (code, said) = refused(&bus, &server, &["call", "ftp://a.example"]).await;
    assert!(code == Some(2) && said.contains("http:// or https://"), "{said}");
    let unknown = [&["calls", "show", "two"], &token[..]].concat();
    let (code, said) = refused(&bus, &server, &unknown).await;
    assert!(code == Some(1) && said.contains("no call two"), "{said}");
});

on_both_stores!(many_are_retried_and_purged, |store| async move {
    let bus = Bus::new(&store);
    let server = bus.serve().await;
    let (demo, receiver) = (server.client("demo"), bus.receiver().await);
    receiver.answer(Answer::Status(500));
    let many: Vec<Value> =
        (0..30).map(|_| json!({"url": receiver.url(), "requeue": false})).collect();
    demo.post("/calls", Value::Array(many).to_string()).await.expect(202);
    let dead = async |count: usize| {
        eventually("dead letters", async || {
            let letters = demo.get("/dead_letters").await.json()["dead_letters"].clone();
            (letters.as_array().unwrap().len() == count).then_some(())
        })
        .await;
    };
    dead(30).await;
    let letters = output(&bus, &server, &["dead-letters", "--json", "--limit", "0"]).await;
    assert_eq!(serde_json::from_str::<Value>(&letters).unwrap().as_array().unwrap().len(), 30);
    receiver.answer(Answer::Status(200));
    let retried = output(&bus, &server, &["calls", "retry", "--state", "dead", "--yes"]).await;
    assert_eq!(retried, "30 calls made due at once\n");
    dead(0).await;
    let purge = ["calls", "purge", "--state", "done", "--yes", "--json"];
    eventually("all are done", async || {
        let count = demo.get("/calls?state=done&count=true").await.json()["count"].clone();
        (count == 30).then_some(())
    })
    .await;
    assert_eq!(output(&bus, &server, &purge).await, "{\"changed\":30}\n");
    assert_eq!(demo.get("/calls").await.json()["calls"], json!([]));
    let (code, said) = refused(&bus, &server, &["calls", "purge", "--yes"]).await;
    assert!(code == Some(2) && said.contains("say which calls"), "{said}");
});

on_both_stores!(the_journal_is_followed, |store| async move {
    let bus = Bus::new(&store);
    let server = bus.serve().await;
    let receiver = bus.receiver().await;
    let arguments = ["journal", "--follow", "--json", "--token", ROOT, "--url", server.base()];
    let mut follower = Process::spawn(&mut bus.command(&arguments), &bus.ca_path());
    // It begins when it starts: until something is shown, calls are made.
    let made = async |id: &str| {
        let body = json!({"url": receiver.url(), "id": id});
        server.client("demo").post("/calls", body.to_string()).await.expect(202);
    };
    let mut number = 0;
    let (_, _) = eventually("a first line", async || {
        number += 1;
        made(&format!("early-{number}")).await;
        follower.stdout.text().contains("early-").then_some(())
    })
    .await;
    made("late").await;
    let line = soon("a line", follower.stdout.line_with("\"late\"")).await.unwrap();
    let entry: Value = serde_json::from_str(&line).unwrap();
    assert_eq!((&entry["kind"], &entry["status"]), (&json!("call"), &json!(200)));
    follower.signal(Signal::Int);
    follower.exit().await;
    let shown = follower.stdout.whole().await;
    assert_eq!(shown.matches("\"late\"").count(), 1, "{shown}");
});
