//! A Pub/Sub for one test, on a free port: Google's own emulator, or where that is not installed, drongo, which speaks the
//! same REST.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use routemaster::egress::client::{self, ClientOptions};
use serde_json::{Value, json};

use super::redis_server::free_port;
use super::run::{soon, within};

/// Where the Cloud SDK's packages put it.
const EMULATORS: [&str; 2] = [
    "/usr/lib/google-cloud-sdk/platform/pubsub-emulator/bin/cloud-pubsub-emulator",
    "/usr/share/google-cloud-sdk/platform/pubsub-emulator/bin/cloud-pubsub-emulator",
];
const START: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(50);
const TRIES: u32 = 5;
/// The project that everything is in.
pub const PROJECT: &str = "test-project";

pub struct PubSubServer {
    process: Child,
    port: u16,
    client: reqwest::Client,
}

/// A message that a subscription got.
#[derive(Clone, Debug, PartialEq)]
pub struct Pulled {
    pub data: String,
    pub attributes: Value,
    pub ordering_key: String,
}

impl PubSubServer {
    pub async fn start() -> Self {
        Self::start_on(None).await
    }

    /// Starts one on a port that another had.
    pub async fn start_on(port: Option<u16>) -> Self {
        for _ in 0..TRIES {
            if let Some(server) = Self::try_start(port.unwrap_or_else(free_port)).await {
                return server;
            }
        }
        panic!("the Pub/Sub emulator did not start");
    }

    async fn try_start(port: u16) -> Option<Self> {
        let mut command = command(port);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        // Its shell has a child, which ends with the group.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let process = command.spawn().expect("the emulator can be started");
        let options = ClientOptions {
            ca_files: Vec::new(),
            connect_timeout: START,
            timeout: START,
            plain: true,
        };
        let mut server = Self { process, port, client: client::build(&options).unwrap() };
        let started = within(START, "the Pub/Sub emulator starts", async {
            loop {
                let topics = server.client.get(server.url("topics")).send().await;
                if topics.is_ok_and(|answer| answer.status().is_success()) {
                    return true;
                }
                if server.process.try_wait().unwrap().is_some() {
                    return false;
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        });
        started.await.then_some(server)
    }

    /// As `PUBSUB_EMULATOR_HOST` has it.
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}/v1/projects/{PROJECT}/{path}", self.port)
    }

    async fn send(&self, method: reqwest::Method, path: &str, body: Value) -> Value {
        let request = self.client.request(method, self.url(path)).body(body.to_string());
        let answer = request.header("content-type", "application/json").send().await.unwrap();
        let status = answer.status();
        let text = answer.text().await.unwrap();
        assert!(status.is_success(), "{path}: {status}: {text}");
        serde_json::from_str(&text).unwrap_or_default()
    }

    /// Makes a topic, and a subscription of the same name.
    pub async fn add_topic(&self, name: &str) {
        self.send(reqwest::Method::PUT, &format!("topics/{name}"), json!({})).await;
        let subscription = json!({
            "topic": format!("projects/{PROJECT}/topics/{name}"), "enableMessageOrdering": true,
        });
        self.send(reqwest::Method::PUT, &format!("subscriptions/{name}"), subscription).await;
    }

    /// The next messages of a topic's subscription: at least so many, in the order in which they came.
    pub async fn pull(&self, name: &str, count: usize) -> Vec<Pulled> {
        let mut pulled = Vec::new();
        let what = format!("{count} messages arrive in {name}");
        soon(&what, async {
            while pulled.len() < count {
                pulled.extend(self.pull_now(name).await);
                if pulled.len() < count {
                    tokio::time::sleep(LOOK_EVERY).await;
                }
            }
        })
        .await;
        pulled
    }

    /// What a topic's subscription has.
    pub async fn pull_now(&self, name: &str) -> Vec<Pulled> {
        let path = format!("subscriptions/{name}");
        let ask = json!({"maxMessages": 1000, "returnImmediately": true});
        let answer = self.send(reqwest::Method::POST, &format!("{path}:pull"), ask).await;
        let received = answer["receivedMessages"].as_array().cloned().unwrap_or_default();
        let ids: Vec<&Value> = received.iter().map(|one| &one["ackId"]).collect();
        if !ids.is_empty() {
            let path = format!("{path}:acknowledge");
            self.send(reqwest::Method::POST, &path, json!({"ackIds": ids})).await;
        }
        received.iter().map(|one| Pulled::read(&one["message"])).collect()
    }
}

impl Pulled {
    fn read(message: &Value) -> Self {
        let data = STANDARD.decode(message["data"].as_str().unwrap_or_default()).unwrap();
        Self {
            data: String::from_utf8(data).unwrap(),
            attributes: message.get("attributes").cloned().unwrap_or_else(|| json!({})),
            ordering_key: message["orderingKey"].as_str().unwrap_or_default().to_owned(),
        }
    }
}

/// What starts an emulator on a port.
fn command(port: u16) -> Command {
    if let Some(emulator) = EMULATORS.iter().find(|path| Path::new(path).exists()) {
        let mut command = Command::new(emulator);
        command.args(["--host=127.0.0.1", &format!("--port={port}")]);
        return command;
    }
    let drongo = python("drongo");
    assert!(
        drongo.exists(),
        "there is no Pub/Sub to test with: run ./scripts/test once, which installs drongo, or install the Cloud SDK's \
         pubsub-emulator"
    );
    let mut command = Command::new(drongo);
    command.args(["server", "--host", "127.0.0.1", "--port", &port.to_string()]);
    command
}

/// A program of the Python packages that `./scripts/test` installs.
pub fn python(program: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/python/bin").join(program)
}

impl Drop for PubSubServer {
    fn drop(&mut self) {
        let group = format!("-{}", self.process.id());
        let _ = Command::new("kill").args(["-KILL", "--", &group]).status();
        let _ = self.process.wait();
    }
}
