//! Journal and messages' history in a PostgreSQL (§12): the same API, and no delivery waits for it.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::message_delivery::{add_publisher, add_topic, message, send};
use crate::support::{Attempt, Bus, Client, Postgres, ROOT, event, eventually, within};

fn numbers(attempts: &[Attempt]) -> BTreeSet<u64> {
    let body = |attempt: &Attempt| serde_json::from_str::<Value>(&attempt.body).unwrap();
    attempts.iter().map(|attempt| body(attempt)["n"].as_u64().unwrap()).collect()
}

async fn found(client: &Client, query: &str) -> Vec<u64> {
    let page = client.get(&format!("/api/messages?{query}")).await.expect(200).json();
    let data = page["data"].as_array().unwrap().clone();
    data.iter().map(|one| one["payload"]["n"].as_u64().unwrap()).collect()
}

/// How many messages are in PostgreSQL.
fn archived(postgres: &Postgres) -> u64 {
    let count = postgres.query("SELECT count(*) FROM routemaster.messages");
    count.ok().and_then(|count| count.parse().ok()).unwrap_or(0)
}

on_both_stores!(what_is_over_is_kept_in_postgresql_and_found_as_before, |store| async move {
    let postgres = Postgres::start();
    let bus = Bus::new(&store).set("ROUTEMASTER_HISTORY_URL", &postgres.url());
    let server = bus.serve().await;
    let (demo, root) = (server.client("demo"), server.client(ROOT));
    let (receiver, late) = (bus.receiver().await, bus.receiver().await);
    add_topic(&demo, "t").await;
    add_publisher(&demo, "t", &receiver.url(), json!({})).await;
    let held = json!({"active": false, "target": "https://a.example"});
    let mut sent = Vec::new();
    for n in 0..30 {
        sent.push(send(&demo, "t", json!({"n": n, "text": format!("Nummer {n:02} ü")})).await);
    }
    receiver.attempts(30).await;
    eventually("they are moved", async || (archived(&postgres) == 30).then_some(())).await;
    add_publisher(&demo, "t", "https://a.example", held).await;
    send(&demo, "t", json!({"n": 30})).await;
    receiver.attempts(31).await;
    // Store and history are one list.
    assert_eq!(found(&demo, "limit=200").await, (0..=30).rev().collect::<Vec<_>>());
    assert_eq!(found(&demo, "text=NUMMER%2007%20%C3%BC").await, [7]);
    assert_eq!(found(&demo, "state=waiting").await, [30]);
    assert_eq!(found(&demo, "topic=t&state=done&limit=2").await, [30, 29]);
    let next = demo.get("/api/messages?limit=3").await.json()["next"].clone();
    assert_eq!(found(&demo, &format!("limit=2&after={next}")).await, [27, 26]);
    eventually("the journal is there too", async || {
        let shown = message(&demo, &sent[3]["id"][0]).await;
        assert_eq!((&shown["id"], &shown["payload"]["n"]), (&sent[3]["message"], &json!(3)));
        let journal = &shown["publishers"][0]["journal"];
        (journal[0]["status"] == 200).then_some(())
    })
    .await;
    let page = root.get("/journal?kind=message&status=200&limit=5").await.expect(200).json();
    assert_eq!(page["entries"].as_array().unwrap().len(), 5);

    // Who begins in the past gets what is there, and then what is here.
    add_publisher(&demo, "t", &late.url(), json!({"from_now": false})).await;
    assert_eq!(numbers(&late.attempts(31).await), (0..=30).collect());
    late.stays_quiet(Duration::from_millis(300)).await;

    demo.delete(&format!("/api/messages/{}", sent[3]["message"])).await.expect(204);
    demo.get(&format!("/api/messages/{}", sent[3]["message"])).await.expect(404);
    let page = root.get(&format!("/journal?id={}", sent[3]["id"][0])).await.expect(200).json();
    assert_eq!(page["entries"], json!([]));
});

on_both_stores!(
    deliveries_go_on_while_history_is_killed_hangs_and_comes_back,
    |store| async move {
        let mut postgres = Postgres::start();
        let bus = Bus::new(&store)
            .set("ROUTEMASTER_HISTORY_URL", &postgres.url())
            .set("METRIC_COLLECTION_SERVICE", "prometheus");
        let server = bus.serve().await;
        let (demo, root) = (server.client("demo"), server.client(ROOT));
        let (receiver, subscriber) = (bus.receiver().await, bus.receiver().await);
        add_topic(&demo, "t").await;
        add_publisher(&demo, "t", &receiver.url(), json!({})).await;
        demo.claims("widgets").await;
        let more = json!({"timeout": 0});
        server.client("alice").subscribes(&subscriber, &["widgets"], more).await;
        let mut n = 0;
        let mut round = async |how: &str| {
            let started = Instant::now();
            for _ in 0..30 {
                send(&demo, "t", json!({"n": n})).await;
                demo.publish("widgets", &event(n)).await.expect(204);
                n += 1;
            }
            let all = |attempts: &Vec<Attempt>| numbers(attempts).len() as u64 == n;
            within(Duration::from_secs(10), how, receiver.until(how, all)).await;
            subscriber.events(n as usize).await;
            assert!(started.elapsed() < Duration::from_secs(8), "{how}: {:?}", started.elapsed());
        };
        round("well").await;
        eventually("they are moved", async || (archived(&postgres) >= 30).then_some(())).await;
        postgres.kill();
        round("killed").await;
        postgres.restart();
        round("restarted").await;
        eventually("all are moved", async || (archived(&postgres) == 90).then_some(())).await;
        postgres.signal("-STOP");
        round("hanging").await;
        let left_out = eventually("the journal says what it lacks", async || {
            let metrics = root.get("/metrics").await.expect(200).body;
            let line =
                metrics.lines().find(|line| line.starts_with("routemaster_journal_left_out"))?;
            line.rsplit(' ').next()?.parse::<u64>().ok().filter(|count| *count > 0)
        })
        .await
        .0;
        assert!(left_out > 0);
        postgres.signal("-CONT");
        within(Duration::from_secs(40), "nothing of the messages is lacking", async {
            while archived(&postgres) < 120 {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        })
        .await;
        assert_eq!(found(&demo, "limit=200").await, (0..120).rev().collect::<Vec<_>>());
    }
);
