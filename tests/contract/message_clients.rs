//! Postoffice's own Django client, unchanged: what it configures, publishes, and keeps for recovery when the bus is away.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use crate::support::{
    Attempt, Bus, Client, PROJECT, Process, PubSubServer, ROOT, eventually, free_port, python,
    soon, within,
};

/// A Django project with the client.
struct Django {
    bus: String,
    port: u16,
    target: String,
    directory: tempfile::TempDir,
}

impl Django {
    fn new(target: String) -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self { bus: String::new(), port: free_port(), target, directory }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let python = python("python");
        assert!(python.exists(), "run ./scripts/test once: it installs Postoffice's Django client");
        let script =
            PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/clients/django_client.py");
        let mut command = Command::new(python);
        command.arg(script).arg(&self.bus).arg(self.port.to_string());
        command.arg(self.directory.path().join("db.sqlite3")).args(arguments);
        command.env("TARGET", &self.target).kill_on_drop(true).stdin(Stdio::null());
        command
    }

    async fn run(&self, arguments: &[&str]) -> String {
        let output =
            within(Duration::from_secs(60), "the client ends", self.command(arguments).output());
        let output = output.await.unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
        assert!(!text(&output.stderr).contains("cannot be created"), "{}", text(&output.stderr));
        text(&output.stdout)
    }

    /// What could not be sent, after a command.
    async fn errors_after(&self, arguments: &[&str]) -> Vec<Value> {
        serde_json::from_str(&self.run(arguments).await).unwrap()
    }

    /// Serves what could not be sent, from now on: the bus asks once, and then not again for half a minute.
    async fn serve(&self) -> Child {
        let mut command = self.command(&["serve"]);
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        eventually("the origin listens", async || {
            TcpStream::connect(("127.0.0.1", self.port)).await.ok()
        })
        .await;
        child
    }
}

/// The bus's plain listener, as the settings of the client name it.
async fn plain_address(server: &Process) -> String {
    soon("a plain listener", server.stdout.line_with("plain    http://")).await.unwrap();
    let text = server.stdout.text();
    let line = text.lines().find_map(|line| line.trim().strip_prefix("plain    ")).unwrap();
    line.split_whitespace().next().unwrap().trim_end_matches('/').to_owned()
}

fn numbers(attempts: &[Attempt]) -> BTreeSet<u64> {
    let body = |attempt: &Attempt| serde_json::from_str::<Value>(&attempt.body).unwrap();
    attempts.iter().map(|attempt| body(attempt)["n"].as_u64().unwrap()).collect()
}

on_both_stores!(the_django_client_works_unchanged, |store| async move {
    let emulator = PubSubServer::start().await;
    emulator.add_topic("another_topic").await;
    let listener = format!("127.0.0.1:{}", free_port());
    let bus = Bus::new(&store)
        .set("ROUTEMASTER_OPEN", "messages")
        .set("ROUTEMASTER_PLAIN_BIND", &listener)
        .set("PUBSUB_EMULATOR_HOST", &emulator.host())
        .set("GCLOUD_PUBSUB_PROJECT_ID", PROJECT);
    let mut server = bus.serve().await;
    let receiver = bus.receiver().await;
    let mut django = Django::new(receiver.url());
    django.bus = plain_address(&server).await;
    let root = server.client(ROOT);
    django.run(&["configure"]).await;
    // Each start of a service does it again.
    django.run(&["configure"]).await;
    let publishers = root.get("/api/publishers").await.expect(200).json();
    assert_eq!(publishers["data"].as_array().unwrap().len(), 2, "{publishers}");

    assert!(django.errors_after(&["publish", "1"]).await.is_empty());
    assert_eq!(numbers(&receiver.attempts(3).await), BTreeSet::from([1, 2, 3]));
    let made = receiver.attempts(3).await;
    let one = made.iter().find(|one| one.body.contains("\"count\"")).unwrap();
    assert_eq!(
        one.body,
        r#"{"n":1,"text":"Gr\u00fc\u00dfe","attributes":{"count":"1","kind":"one"}}"#
    );
    // Python escapes what is not ASCII, which nobody who searches thinks of.
    let found = root.get("/api/messages?text=GR%C3%BC%C3%9Fe").await.expect(200).json();
    assert_eq!(found["data"][0]["payload"]["text"], "Grüße");
    assert_eq!(emulator.pull("another_topic", 3).await.len(), 3);
    let waiting = root.get("/api/messages?state=waiting").await.expect(200).json();
    assert_eq!(waiting["data"][0]["payload"]["n"], 4, "in a minute");

    // What is refused, the client keeps with what it was told.
    let errors = django.errors_after(&["publish", "10", "unknown"]).await;
    let told: Vec<&str> = errors.iter().map(|e| e["error"].as_str().unwrap()).collect();
    let invalid = "{'topic': ['is invalid']}";
    assert_eq!(told, [invalid, "Unknown error", invalid]);

    // Away, the bus fetches what it has missed when it comes back.
    server.kill().await;
    assert_eq!(django.errors_after(&["publish", "20"]).await.len(), 6);
    let _origin = django.serve().await;
    let server = bus.serve().await;
    let arrived = |all: &Vec<Attempt>| BTreeSet::from([20, 21, 22, 23]).is_subset(&numbers(all));
    within(Duration::from_secs(50), "what was missed arrives", receiver.until("all", arrived))
        .await;
    eventually("the origin keeps what is for an unknown topic alone", async || {
        let errors = django.errors_after(&["errors"]).await;
        let topics = errors.iter().map(|error| error["topic"].clone());
        (topics.collect::<Vec<_>>() == vec![json!("unknown"); 3]).then_some(())
    })
    .await;
    let kept = Client::clone(&server.client(ROOT)).get("/api/messages?limit=200").await.json();
    let kept = kept["data"].as_array().unwrap();
    let of = |n: u64| kept.iter().filter(|one| one["payload"]["n"] == n).count();
    assert!((20..24).all(|n| of(n) == 1), "{kept:?}");
});

on_both_stores!(what_its_origin_does_not_give_up_is_taken_once, |store| async move {
    use axum::Json;
    use axum::http::StatusCode;
    use axum::routing::{delete, get};
    let deletes = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let element = json!([{"id": 7, "topic": "t", "payload": {"n": 7}, "attributes": {}}]);
    let counted = deletes.clone();
    let router = axum::Router::new().route("/lost/", get(async move || Json(element))).route(
        "/lost/7/",
        delete(async move || {
            counted.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            StatusCode::INTERNAL_SERVER_ERROR
        }),
    );
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://{}/lost/", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    let bus = Bus::new(&store);
    let receiver = bus.receiver().await;
    {
        let web = bus.web().await;
        let demo = web.client("demo");
        let topic = json!({"name": "t", "origin_host": origin, "recovery_enabled": true});
        demo.post("/api/topics", topic.to_string()).await.expect(201);
        let publisher =
            json!({"topic": "t", "target": receiver.url(), "type": "http", "active": true});
        demo.post("/api/publishers", publisher.to_string()).await.expect(201);
    }
    for round in 1..=2 {
        let mut server = bus.serve().await;
        eventually("it was asked to give it up", async || {
            (deletes.load(std::sync::atomic::Ordering::SeqCst) >= round).then_some(())
        })
        .await;
        server.signal(crate::support::Signal::Term);
        server.exit().await;
    }
    receiver.attempts(1).await;
    receiver.stays_quiet(Duration::from_millis(300)).await;
});
