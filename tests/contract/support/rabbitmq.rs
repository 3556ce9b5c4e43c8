//! A real RabbitMQ with its management plug-in for one test: on free ports, in a directory of its own.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use routemaster::egress::client::{self, ClientOptions};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::redis_server::free_port;
use super::run::within;

/// Debian's; what stands in the path wants to be another user.
const SERVER: &str = "/usr/lib/rabbitmq/bin/rabbitmq-server";
const START: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(100);
const TRIES: u32 = 5;

pub struct RabbitMq {
    process: Child,
    port: u16,
    management: u16,
    port_mapper: u16,
    client: reqwest::Client,
    _directory: TempDir,
}

impl RabbitMq {
    pub async fn start() -> Self {
        for _ in 0..TRIES {
            if let Some(server) = Self::try_start().await {
                return server;
            }
        }
        panic!("RabbitMQ did not start");
    }

    /// None if one of its ports was taken meanwhile.
    async fn try_start() -> Option<Self> {
        let directory = TempDir::new().unwrap();
        let path = |name: &str| directory.path().join(name);
        let [port, management, distribution, port_mapper] = [(); 4].map(|()| free_port());
        std::fs::write(path("plugins"), "[rabbitmq_management].\n").unwrap();
        let settings = format!(
            "listeners.tcp.default = 127.0.0.1:{port}\nmanagement.tcp.ip = 127.0.0.1\n\
             management.tcp.port = {management}\nlog.console = true\nlog.file = false\n"
        );
        std::fs::write(path("rabbitmq.conf"), settings).unwrap();
        let log = std::fs::File::create(path("log.txt")).unwrap();
        let mut command = Command::new(SERVER);
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", directory.path())
            .env("RABBITMQ_NODENAME", format!("bus{port}@localhost"))
            .env("RABBITMQ_DIST_PORT", distribution.to_string())
            .env("ERL_EPMD_PORT", port_mapper.to_string())
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            // So that it can be told to end while the server is still known to it.
            .env("ERL_EPMD_RELAXED_COMMAND_CHECK", "1")
            .env("RABBITMQ_MNESIA_BASE", path("mnesia"))
            .env("RABBITMQ_LOG_BASE", path("log"))
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", path("plugins"))
            .env("RABBITMQ_CONFIG_FILE", path("rabbitmq.conf"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        // Its shell has children, which end with the group.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let process = command.spawn().expect("rabbitmq-server is installed");
        let options = ClientOptions {
            ca_files: Vec::new(),
            connect_timeout: START,
            timeout: START,
            plain: true,
        };
        let client = client::build(&options).unwrap();
        let mut server =
            Self { process, port, management, port_mapper, client, _directory: directory };
        let started = within(START, "RabbitMQ starts", async {
            loop {
                let asked =
                    server.client.get(server.api("overview")).basic_auth("guest", Some("guest"));
                if asked.send().await.is_ok_and(|answer| answer.status().is_success()) {
                    return true;
                }
                if server.process.try_wait().unwrap().is_some() {
                    return false;
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        })
        .await;
        started.then_some(server)
    }

    fn api(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}/api/{path}", self.management)
    }

    /// Its management plug-in, as `--from` takes it.
    pub fn url(&self, password: &str) -> String {
        format!("http://guest:{password}@127.0.0.1:{}", self.management)
    }

    async fn send(&self, method: reqwest::Method, path: &str, body: Value) -> Value {
        let request = self.client.request(method, self.api(path));
        let request = request.basic_auth("guest", Some("guest")).body(body.to_string());
        let answer = request.header("content-type", "application/json").send().await.unwrap();
        assert!(answer.status().is_success(), "{path}: {}", answer.status());
        serde_json::from_str(&answer.text().await.unwrap()).unwrap_or_default()
    }

    pub async fn make_queue(&self, name: &str) {
        let path = format!("queues/%2F/{name}");
        self.send(reqwest::Method::PUT, &path, json!({"durable": true})).await;
    }

    /// As the call proxy does.
    pub async fn publish(&self, queue: &str, message: &str) {
        let body = json!({"properties": {"delivery_mode": 2}, "routing_key": queue,
            "payload": message, "payload_encoding": "string"});
        let answer = self.send(reqwest::Method::POST, "exchanges/%2F/amq.default/publish", body);
        assert_eq!(answer.await["routed"], true);
    }

    /// Somebody who takes a message of a queue, and keeps it for himself until he is dropped.
    pub fn consumer(&self, queue: &str) -> tokio::process::Child {
        let url = format!("amqp://guest:guest@127.0.0.1:{}", self.port);
        let mut command = tokio::process::Command::new("amqp-consume");
        command.args(["-u", &url, "-q", queue, "-p", "1", "cat"]).kill_on_drop(true);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("amqp-tools are installed")
    }

    /// What waits in a queue, at most a thousand of it.
    pub async fn waiting(&self, queue: &str) -> Vec<String> {
        let body = json!({"count": 1000, "ackmode": "ack_requeue_true", "encoding": "auto"});
        let path = format!("queues/%2F/{queue}/get");
        let messages = self.send(reqwest::Method::POST, &path, body).await;
        let payload = |message: &Value| message["payload"].as_str().unwrap().to_owned();
        messages.as_array().unwrap().iter().map(payload).collect()
    }
}

impl Drop for RabbitMq {
    fn drop(&mut self) {
        let group = format!("-{}", self.process.id());
        let _ = Command::new("kill").args(["-KILL", "--", &group]).status();
        let _ = self.process.wait();
        // The port mapper has left the group.
        let port = self.port_mapper.to_string();
        let mut stop = Command::new("epmd");
        let _ = stop.args(["-port", &port, "-kill"]).stdout(Stdio::null()).status();
    }
}
