//! `routemaster import` from a Postoffice: a real PostgreSQL with its tables as its migrations make them.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::support::{Bus, PROJECT, Postgres, PubSubServer, ROOT, soon};

/// As far as an import looks at them.
const TABLES: &str = "
    CREATE TABLE topics (
        id bigserial PRIMARY KEY, name text UNIQUE, origin_host text, recovery_enabled boolean DEFAULT false,
        inserted_at timestamp NOT NULL DEFAULT now(), updated_at timestamp NOT NULL DEFAULT now());
    CREATE TABLE publishers (
        id bigserial PRIMARY KEY, topic_id bigint REFERENCES topics, active boolean DEFAULT false, target text,
        type text, initial_message integer, seconds_timeout integer DEFAULT 5, seconds_retry integer DEFAULT 5,
        chunk_size integer, deleted boolean DEFAULT false,
        inserted_at timestamp NOT NULL DEFAULT now(), updated_at timestamp NOT NULL DEFAULT now());
    CREATE TYPE oban_job_state AS ENUM ('available', 'scheduled', 'executing', 'retryable', 'completed',
        'discarded', 'cancelled');
    CREATE TABLE oban_jobs (
        id bigserial PRIMARY KEY, state oban_job_state NOT NULL DEFAULT 'available', queue text NOT NULL DEFAULT 'http',
        worker text NOT NULL DEFAULT 'Postoffice.HttpWorker', args jsonb NOT NULL, attempt integer NOT NULL DEFAULT 0,
        max_attempts integer NOT NULL DEFAULT 100, inserted_at timestamp NOT NULL DEFAULT timezone('UTC', now()),
        scheduled_at timestamp NOT NULL DEFAULT timezone('UTC', now()));";

fn job(state: &str, publisher: u32, payload: Value, at: &str) -> String {
    let args = json!({"consumer_id": publisher, "target": "old", "topic": "t", "timeout": 5,
        "payload": payload, "attributes": {"a": "b"}});
    format!(
        "INSERT INTO oban_jobs (state, args, scheduled_at) VALUES ('{state}', '{args}', '{at}');"
    )
}

async fn import(bus: &Bus, arguments: &[&str]) -> Value {
    let ended = bus.run(&[&["import", "--json"], arguments].concat()).await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    serde_json::from_str(&ended.stdout).expect("one JSON object")
}

fn counts(report: &Value, what: &str) -> [u64; 4] {
    ["found", "imported", "known", "skipped"].map(|name| report[what][name].as_u64().unwrap())
}

on_both_stores!(topics_publishers_and_what_they_still_have_to_do_move_in, |store| async move {
    let postgres = Postgres::start();
    let emulator = PubSubServer::start().await;
    emulator.add_topic("orders").await;
    let bus = Bus::new(&store)
        .set("PUBSUB_EMULATOR_HOST", &emulator.host())
        .set("GCLOUD_PUBSUB_PROJECT_ID", PROJECT);
    let receiver = bus.receiver().await;
    postgres.query(TABLES).unwrap();
    postgres
        .query(&format!(
            "INSERT INTO topics (name, origin_host, recovery_enabled) VALUES
                 ('t', 'http://shop.example/messages/', true), ('no origin', NULL, true);
             INSERT INTO publishers (topic_id, active, target, type, seconds_timeout, seconds_retry, chunk_size, deleted)
             VALUES (1, true, '{}', 'http', 7, 9, NULL, false), (1, true, 'orders', 'pubsub', 5, 5, 10, false),
                 (1, true, 'http://gone.example', 'http', 5, 5, NULL, true),
                 (2, false, 'http://held.example', 'http', 5, 5, NULL, false);",
            receiver.url()
        ))
        .unwrap();
    let past = "2020-01-01 00:00:00";
    let jobs = [
        job("available", 1, json!({"n": 1}), past),
        job("retryable", 1, json!({"n": 2}), "2100-01-01 00:00:00"),
        job("executing", 1, json!({"n": 3}), past),
        job("scheduled", 1, json!({"n": 4}), "2100-01-01 00:00:00"),
        job("completed", 1, json!({"n": 5}), past),
        job("discarded", 1, json!({"n": 6}), past),
        job("available", 2, json!([{"n": 7}, {"n": 8}]), past),
        job("available", 3, json!({"n": 9}), past),
        job("available", 4, json!({"n": 10}), past),
    ];
    postgres.query(&jobs.concat()).unwrap();

    let url = postgres.url();
    let looked = import(&bus, &["--from", &url, "--dry-run"]).await;
    assert_eq!(counts(&looked, "topics"), [2, 2, 0, 0]);
    assert_eq!(counts(&looked, "publishers"), [4, 3, 0, 1]);
    assert_eq!(counts(&looked, "jobs"), [7, 6, 0, 1]);
    let moved = import(&bus, &["--from", &url]).await;
    assert_eq!(counts(&moved, "jobs"), [7, 6, 0, 1], "{moved}");
    assert_eq!(moved["publisher_ids"], json!([[1, 1], [2, 2], [4, 3]]));
    assert!(!moved.to_string().contains("s3cr3t"), "{moved}");
    let again = import(&bus, &["--from", &url]).await;
    assert_eq!(counts(&again, "topics"), [2, 0, 2, 0]);
    assert_eq!(counts(&again, "publishers"), [4, 0, 3, 1]);
    assert_eq!(counts(&again, "jobs"), [7, 0, 6, 1], "a job is taken once");
    assert_eq!(postgres.query("SELECT count(*) FROM oban_jobs").unwrap(), "9", "it is only read");

    let server = bus.serve().await;
    let attempts = receiver.attempts(3).await;
    let bodies: BTreeSet<String> = attempts.iter().map(|made| made.body.clone()).collect();
    let expected = [1, 2, 3].map(|n| format!(r#"{{"n":{n},"attributes":{{"a":"b"}}}}"#));
    assert_eq!(bodies, BTreeSet::from(expected));
    let pulled = soon("Pub/Sub has its two", emulator.pull("orders", 2)).await;
    assert_eq!(pulled.len(), 2);
    let root = server.client(ROOT);
    let waiting = root.get("/api/messages?state=waiting").await.expect(200).json();
    let mut waiting: Vec<u64> = waiting["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["payload"]["n"].as_u64().unwrap())
        .collect();
    waiting.sort_unstable();
    assert_eq!(waiting, [4, 10], "one for later, one whose publisher is not active");
    let publisher = root.get("/api/publishers/1").await.expect(200).json();
    assert_eq!(
        (&publisher["data"]["seconds_timeout"], &publisher["data"]["seconds_retry"]),
        (&json!(7), &json!(9))
    );
    let topics = root.get("/api/topics").await.expect(200).json();
    assert_eq!(topics["data"][1]["recovery_enabled"], false, "nobody can be asked");

    let wrong = bus.run(&["import", "--from", &url.replace("s3cr3t", "other")]).await;
    assert_eq!(wrong.code, Some(1));
    assert!(wrong.stderr.contains("password authentication failed"), "{}", wrong.stderr);
    assert!(!wrong.stderr.contains("other-of"), "{}", wrong.stderr);
});
