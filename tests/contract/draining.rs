//! A worker is drained from afar (§14): it finishes, begins nothing more, and others deliver meanwhile.

use serde_json::{Value, json};

use crate::support::{Answer, Bus, Client, ROOT, eventually};

async fn workers(client: &Client) -> Vec<Value> {
    let all = client.get("/processes").await.expect(200).json();
    let all = all.as_array().unwrap().iter();
    all.filter(|process| process["role"] == "worker").cloned().collect()
}

/// The worker that makes a delivery just now.
async fn busy(client: &Client) -> Value {
    let (busy, _) = eventually("a worker says that it is busy", async || {
        let mut all = workers(client).await.into_iter();
        all.find(|worker| worker["deliveries"]["used"] == 1)
    })
    .await;
    busy
}

on_both_stores!(a_worker_is_drained_and_others_deliver_meanwhile, |store| async move {
    let bus = Bus::new(&store);
    let (web, _one, _other) = (bus.web().await, bus.worker().await, bus.worker().await);
    let (demo, alice, root) = (web.client("demo"), web.client("alice"), web.client(ROOT));
    demo.claims("widgets").await;
    let receiver = bus.receiver().await;
    demo.subscribes(&receiver, &["widgets"], json!({"timeout": 0, "max": 1})).await;
    receiver.answer(Answer::Held);
    demo.publishes("widgets", [1, 2]).await;
    receiver.attempts(1).await;
    let id = busy(&root).await["id"].as_str().unwrap().to_owned();

    alice.post(&format!("/processes/{id}/drain"), "").await.expect_reason(403);
    root.post("/processes/nobody/drain", "").await.expect_reason(404);
    let server = web.base().to_owned();
    let command = |more: &[&str]| {
        let arguments = [&["drain", &id[..8], "--url", &server][..], more].concat();
        arguments.into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let run = async |more: &[&str]| {
        let arguments = command(more);
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        bus.run(&arguments).await
    };
    let asked = run(&["--wait", "0"]).await;
    assert_eq!(asked.code, Some(0), "{}", asked.stderr);
    let (_, _) = eventually("it says that it is drained", async || {
        let all = workers(&root).await;
        let one = all.iter().find(|worker| worker["id"] == json!(id))?;
        (one["draining"] == true && one["deliveries"]["used"] == 1).then_some(())
    })
    .await;
    // What it has begun, it finishes; the rest is the other's.
    receiver.answer(Answer::Status(200));
    receiver.release();
    assert_eq!(receiver.numbers(2).await, [1, 2]);
    let finished = run(&["--wait", "30", "--json"]).await;
    assert_eq!(finished.code, Some(0), "{}", finished.stderr);
    let told: Value = serde_json::from_str(&finished.stdout).unwrap();
    assert_eq!(told, json!({"id": id, "draining": true, "finished": true}));
    receiver.answer(Answer::Hang);
    demo.publishes("widgets", [3]).await;
    assert_ne!(busy(&root).await["id"], json!(id), "the other one delivers");
    let listed = bus.run(&["ps", "--url", &server]).await.stdout;
    assert!(listed.contains("worker, draining"), "{listed}");

    let resumed = run(&["--resume"]).await;
    assert!(resumed.stdout.contains("delivers again"), "{}{}", resumed.stdout, resumed.stderr);
    eventually("it delivers again", async || {
        let all = workers(&root).await;
        all.iter().all(|worker| worker["draining"].is_null()).then_some(())
    })
    .await;
    let unknown = bus.run(&["drain", "xyz", "--url", &server]).await;
    assert_eq!(unknown.code, Some(1));
    assert!(unknown.stderr.contains("no process begins with `xyz`"), "{}", unknown.stderr);
});
