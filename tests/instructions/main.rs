//! How many instructions one publish and one delivery take, in the binary as it is shipped: counted by `callgrind`, which
//! no other load on the machine disturbs. A change that makes them 10 % dearer fails here; one that is worth it is
//! recorded, by `UPDATE_INSTRUCTIONS=1`, in `recorded.json`.

// A harness fails by panicking: that is how it says what went wrong.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[macro_use]
#[path = "../contract/support/mod.rs"]
#[allow(dead_code, unused_imports, unused_macros, reason = "the contract tests use more of it")]
mod support;

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use support::{Bus, Process, Signal, Store, run, within};

/// By how much a figure may be larger than the recorded one.
const TOLERANCE: f64 = 0.10;
/// What is counted is the difference between so many and so many: starting and stopping is in both.
const FEW: u64 = 40;
const MANY: u64 = 240;
/// Everything takes some fifty times as long.
const LIMIT: Duration = Duration::from_secs(60);

fn recorded_path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/instructions/recorded.json")
}

/// The optimised binary, beside the one that tests run.
fn optimised() -> PathBuf {
    let tested = Path::new(env!("CARGO_BIN_EXE_routemaster"));
    let binary = tested.parent().unwrap().join("../release/routemaster");
    assert!(binary.exists(), "run `cargo build --release --locked` before, as ./scripts/test does");
    binary
}

/// A process of the bus whose instructions are counted.
struct Counted {
    process: Process,
    counts: PathBuf,
}

impl Counted {
    async fn start(bus: &Bus, role: &str, ready: &str) -> Self {
        let counts = bus.directory().join(format!("counts-{role}"));
        let mut command = bus.command_of("valgrind");
        command
            .args(["--tool=callgrind", "--quiet"])
            .arg(format!("--callgrind-out-file={}", counts.display()))
            .arg(optimised())
            .arg(role);
        Self { process: Process::start(command, &bus.ca_path(), ready).await, counts }
    }

    /// Ends it; how many instructions it took in all.
    async fn end(mut self) -> u64 {
        self.process.signal(Signal::Term);
        let (code, _) = within(LIMIT, "it ends", self.process.exit()).await;
        assert_eq!(code, Some(0));
        let text = std::fs::read_to_string(&self.counts).unwrap();
        let total = text.lines().find_map(|line| line.strip_prefix("summary: "));
        total.unwrap().trim().parse().unwrap()
    }
}

fn new_bus() -> Bus {
    // Whatever the machine has.
    Bus::new(&Store::sqlite()).set("TOKIO_WORKER_THREADS", "1")
}

async fn publishing(count: u64) -> u64 {
    let bus = new_bus();
    let web = Counted::start(&bus, "web", "listening on").await;
    let publisher = web.process.client("demo");
    within(LIMIT, "all is published", publisher.publishes("widgets", 0..count)).await;
    web.end().await
}

async fn delivering(count: u64) -> u64 {
    let bus = new_bus();
    let receiver = bus.receiver().await;
    let web = bus.web().await;
    let (publisher, subscriber) = (web.client("demo"), web.client("alice"));
    publisher.claims("widgets").await;
    subscriber.subscribes(&receiver, &["widgets"], json!({"max": 1, "timeout": 0})).await;
    publisher.publishes("widgets", 0..count).await;
    let worker = Counted::start(&bus, "worker", "worker is running").await;
    within(LIMIT, "all is delivered", receiver.attempts(count as usize)).await;
    worker.end().await
}

#[test]
fn a_publish_and_a_delivery_take_no_more_instructions_than_are_recorded() {
    let mut counted = Value::Null;
    run(async { counted["publish"] = (publishing(MANY).await - publishing(FEW).await).into() });
    run(async { counted["delivery"] = (delivering(MANY).await - delivering(FEW).await).into() });
    for (_, count) in counted.as_object_mut().unwrap() {
        *count = (count.as_u64().unwrap() / (MANY - FEW)).into();
    }
    println!("instructions: {counted}");
    if std::env::var_os("UPDATE_INSTRUCTIONS").is_some() {
        std::fs::write(recorded_path(), format!("{counted:#}\n")).unwrap();
        return;
    }
    let recorded: Value =
        serde_json::from_str(&std::fs::read_to_string(recorded_path()).unwrap()).unwrap();
    for (name, before) in recorded.as_object().unwrap() {
        let (before, now) = (before.as_f64().unwrap(), counted[name].as_f64().unwrap());
        assert!(
            now <= before * (1.0 + TOLERANCE),
            "a {name} takes {now} instructions; {before} are recorded. If it is worth that, \
             record it: UPDATE_INSTRUCTIONS=1 cargo test --test instructions"
        );
        if now < before * (1.0 - TOLERANCE) {
            println!("a {name} takes fewer than recorded: record it, so that it stays so");
        }
    }
}
