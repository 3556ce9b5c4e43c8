//! A network with no way out but an HTTP proxy (`ROUTEMASTER_OUTBOUND_PROXY`), here tinyproxy.

use std::path::PathBuf;
use std::process::Stdio;

use serde_json::json;
use tempfile::TempDir;
use tokio::process::Command;

use crate::support::{Bus, Process, Signal, Store, event, eventually, free_port, run, soon};

/// A tinyproxy that lets in who has the password.
struct Tinyproxy {
    process: Process,
    port: u16,
    _directory: TempDir,
}

impl Tinyproxy {
    async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file: PathBuf = directory.path().join("tinyproxy.conf");
        // Between the choice of a free port and its use another test may take it.
        for _ in 0..10 {
            let port = free_port();
            let settings = format!(
                "Port {port}\nListen 127.0.0.1\nAllow 127.0.0.1\nTimeout 60\nLogLevel Info\n\
                 BasicAuth bus s3cr3t\n"
            );
            std::fs::write(&file, settings).unwrap();
            let mut command = Command::new("tinyproxy");
            command.arg("-d").arg("-c").arg(&file).kill_on_drop(true);
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
            let mut process = Process::spawn(&mut command, &file);
            if soon("tinyproxy starts", process.stdout.line_with("Accepting connections"))
                .await
                .is_some()
            {
                return Self { process, port, _directory: directory };
            }
            process.exit().await;
        }
        panic!("tinyproxy started on no port");
    }

    fn url(&self, user: &str) -> String {
        format!("http://{user}@127.0.0.1:{}", self.port)
    }

    async fn was_asked_for(&self, request: &str) {
        soon(request, self.process.stdout.line_with(request)).await.expect("tinyproxy runs");
    }

    async fn stop(mut self) {
        self.process.signal(Signal::Term);
        self.process.exit().await;
    }
}

on_both_stores!(batches_and_calls_go_through_a_proxy, |store| async move {
    let proxy = Tinyproxy::start().await;
    let bus = Bus::new(&store)
        .set("ROUTEMASTER_OUTBOUND_PROXY", &proxy.url("bus:s3cr3t"))
        .set("ROUTEMASTER_PLAIN_BIND", "127.0.0.1:0")
        .set("ROUTEMASTER_CALLBACK_DENY", "127.0.0.7");
    let server = bus.serve().await;
    let (demo, receiver) = (server.client("demo"), bus.receiver().await);
    let subscription = json!({"topics": ["widgets"], "callback": receiver.url(), "timeout": 0});
    demo.post("/topics/widgets", event(1).to_string()).await.expect(204);
    demo.post("/subscription", subscription.to_string()).await.expect(204);
    demo.post("/topics/widgets", event(2).to_string()).await.expect(204);
    receiver.numbers(1).await;
    proxy.was_asked_for(&format!("CONNECT localhost:{} HTTP/1.1", receiver.port())).await;

    // A plain one is given to the proxy as it is, with the password for it and without it beyond.
    soon("a plain listener", server.stdout.line_with("plain    http://")).await.unwrap();
    let plain = server.stdout.text();
    let plain = plain.lines().find_map(|line| line.trim().strip_prefix("plain    ")).unwrap();
    let health = format!("{plain}/health");
    let body = json!({"url": health}).to_string();
    let id = demo.post("/calls", body).await.expect(202).json()["id"].as_str().unwrap().to_owned();
    let state = async || {
        let call = demo.get(&format!("/calls/{id}")).await.json();
        (call["state"] == "done").then_some(call)
    };
    eventually("the call is done", state).await;
    proxy.was_asked_for(&format!("GET {health} HTTP/1.1")).await;

    // The rules hold for what a name stands for here.
    let denied = json!({"url": "http://127.0.0.7:9/"}).to_string();
    demo.post("/calls", denied).await.expect(400);
    assert!(!server.stderr.text().contains("s3cr3t"));
    proxy.stop().await;
});

#[test]
fn a_name_with_a_denied_address_is_not_given_to_the_proxy() {
    run(async {
        let proxy = Tinyproxy::start().await;
        let bus = Bus::new(&Store::sqlite())
            .set("ROUTEMASTER_OUTBOUND_PROXY", &proxy.url("bus:s3cr3t"))
            .set("ROUTEMASTER_CALLBACK_DENY", "127.0.0.1");
        let server = bus.serve().await;
        let receiver = bus.receiver().await;
        let body = json!({"url": receiver.url()}).to_string();
        server.client("demo").post("/calls", body).await.expect(202);
        let line =
            soon("it fails", server.stderr.line_with("not every address of localhost")).await;
        assert!(line.unwrap().contains("ROUTEMASTER_CALLBACK_DENY"));
        assert!(!proxy.process.stdout.text().contains("CONNECT localhost"));
        proxy.stop().await;
    });
}

#[test]
fn what_the_proxy_refuses_is_told() {
    run(async {
        let proxy = Tinyproxy::start().await;
        let receiver = Bus::new(&Store::sqlite()).receiver().await;
        let body = json!({"url": receiver.url()}).to_string();
        let nobody = format!("http://127.0.0.1:{}", free_port());
        for (url, told) in [
            (proxy.url("bus:wrong"), "or the user of ROUTEMASTER_OUTBOUND_PROXY"),
            (nobody.clone(), "Connection refused"),
        ] {
            let bus = Bus::new(&Store::sqlite()).set("ROUTEMASTER_OUTBOUND_PROXY", &url);
            let server = bus.serve().await;
            server.client("demo").post("/calls", body.clone()).await.expect(202);
            let line = soon(told, server.stderr.line_with("through the proxy 127.0.0.1:")).await;
            let line = line.unwrap();
            assert!(line.contains(told) && !line.contains("wrong"), "{line}");
        }

        let refused = Bus::new(&Store::sqlite())
            .set("ROUTEMASTER_OUTBOUND_PROXY", "socks5://bus:s3cr3t@127.0.0.1:1");
        let ended = refused.run(&["serve"]).await;
        assert_eq!(ended.code, Some(2));
        let told = ended.stderr;
        assert!(told.contains("ROUTEMASTER_OUTBOUND_PROXY") && !told.contains("s3cr3t"), "{told}");
        proxy.stop().await;
    });
}
