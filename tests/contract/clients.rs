//! Clients in use, unchanged: what they really send, over the libraries that they really use. The
//! programs are in `tests/clients`.

use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::process::{Child, ChildStdin, Command};

use crate::support::{
    Bus, Output, Process, ROOT, Signal, Store, eventually, free_port, raw, run, soon,
};

/// One of the programs, with what it needs to know of a bus.
fn program(bus: &Bus, base: &str, interpreter: &str, file: &str) -> Command {
    let mut command = Command::new(interpreter);
    command
        .arg(format!("{}/../tests/clients/{file}", env!("CARGO_MANIFEST_DIR")))
        .env("BUS_URL", base)
        .env("BUS_CA", bus.ca_path())
        .env("BUS_ROOT", ROOT)
        .env("BUS_TOKEN", "demo")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// A program that runs beside the test; killed when it is dropped.
struct Beside {
    _child: Child,
    /// Until this is closed, it goes on.
    stdin: ChildStdin,
    stdout: Output,
    stderr: Output,
}

impl Beside {
    fn start(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap_or_else(|error| {
            let program = command.as_std().get_program();
            panic!("{program:?} cannot be run ({error}): ./scripts/test installs what is missing")
        });
        Self {
            stdin: child.stdin.take().unwrap(),
            stdout: Output::of(child.stdout.take().unwrap()),
            stderr: Output::of(child.stderr.take().unwrap()),
            _child: child,
        }
    }

    /// Waits until it prints this.
    async fn says(&self, what: &str) {
        let said = soon(what, self.stdout.line_with(what)).await;
        assert!(said.is_some(), "it never said `{what}`: {}", self.stderr.whole().await);
    }
}

on_both_stores!(the_originals_ruby_clients_and_its_drain_work_unchanged, |store| async move {
    let bus = Bus::new(&store);
    let server = bus.serve().await;
    let receiver = bus.identity();
    for (file, content) in [("cert.pem", receiver.certificate), ("key.pem", receiver.key)] {
        std::fs::write(bus.directory().join(file), content).unwrap();
    }
    let mut tests = program(&bus, server.base(), "ruby", "ruby_clients_test.rb");
    tests
        .env("RECEIVER_CERT", bus.directory().join("cert.pem"))
        .env("RECEIVER_KEY", bus.directory().join("key.pem"))
        .stdin(Stdio::null());
    let ended = tests.output().await.expect("ruby runs: ./scripts/test installs it");
    let (said, failed) = (ended.stdout, ended.stderr);
    let said = format!("{}{}", String::from_utf8_lossy(&said), String::from_utf8_lossy(&failed));
    assert!(ended.status.success(), "{said}");
    assert!(said.contains("11 runs") && said.contains("0 skips"), "{said}");
});

on_both_stores!(a_ruby_client_that_is_idle_survives_a_restart_of_the_bus, |store| async move {
    let bus = Bus::new(&store).set("PORT", &free_port().to_string());
    let mut server = bus.serve().await;
    let mut client = Beside::start(program(&bus, server.base(), "ruby", "ruby_restart.rb"));
    client.says("published").await;
    server.signal(Signal::Term);
    let (code, took) = server.exit().await;
    assert_eq!(code, Some(0));
    assert!(took < Duration::from_secs(1), "it took {took:?}");
    let server = bus.serve().await;
    client.stdin.write_all(b"\n").await.unwrap();
    client.says("published again").await;
    assert_eq!(server.client("demo").topic("widgets").await["events"], 2);
});

/// The receiver in README that is written in a language.
fn receiver_of_readme(language: &str) -> &'static str {
    let readme = include_str!("../../README.md");
    let (_, from) = readme.split_once(&format!("```{language}\n")).expect("it is in README");
    from.split_once("```").expect("it ends").0
}

#[test]
fn the_receivers_of_readme_receive_and_acknowledge() {
    run(async {
        for (interpreter, language, ending) in [
            ("/usr/bin/python3", "python", "py"),
            ("node", "javascript", "mjs"),
            ("ruby", "ruby", "rb"),
        ] {
            let bus = Bus::new(&Store::sqlite());
            let server = bus.serve().await;
            let alice = server.client("alice");
            alice.claims("widgets").await;
            let source = receiver_of_readme(language);
            assert!(source.lines().count() <= 20, "{language} is short");
            let file = bus.directory().join(format!("receiver.{ending}"));
            let source = source.replace("https://localhost:17890", server.base());
            std::fs::write(&file, source).unwrap();
            let mut command = Command::new(interpreter);
            command
                .arg(&file)
                .env("SSL_CERT_FILE", bus.ca_path())
                .env("NODE_EXTRA_CA_CERTS", bus.ca_path())
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .kill_on_drop(true);
            let receiver = Beside::start(command);
            eventually("it has subscribed", async || {
                let shown = server.client("demo").get("/subscription").await;
                (shown.status == 200).then_some(())
            })
            .await;
            for number in 1..=3 {
                alice.publishes("widgets", [number]).await;
                receiver.says(&format!("update https://a.example/{number}")).await;
            }
            eventually("what it received is acknowledged", async || {
                let events = server.client("demo").subscription("demo").await["events"].clone();
                (events["sent"] == 3 && events["queued"] == 0).then_some(())
            })
            .await;
        }
    });
}

/// The preface, settings, and one request for `/health`, as frames of HTTP/2.
fn http2_request() -> Vec<u8> {
    const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
    // GET and https by the static table, the path and the authority by themselves.
    let mut headers = vec![0x82, 0x87];
    for (name, value) in [(0x04, "/health"), (0x01, "localhost")] {
        headers.extend([name, value.len() as u8]);
        headers.extend(value.bytes());
    }
    let mut frames = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    frames.extend(SETTINGS);
    // The end of the headers and of the stream 1.
    frames.extend([0, 0, headers.len() as u8, 1, 0x05, 0, 0, 0, 1]);
    frames.extend(headers);
    frames
}

/// Connections whose client reads one answer, and nothing after it.
async fn idle_frames(server: &Process) -> Vec<raw::Stream> {
    let mut idle = Vec::new();
    for _ in 0..5 {
        let mut stream = server.connect_speaking(b"h2").await;
        assert!(stream.send(http2_request()).await);
        stream.read_until(b"{}").await;
        idle.push(stream);
    }
    idle
}

on_both_stores!(twenty_idle_clients_over_http_2_do_not_hold_a_stop_up, |store| async move {
    let bus = Bus::new(&store);
    for role in ["web", "serve"] {
        let mut server = bus.start(&[role]).await;
        let programs = [("ruby", "idle.rb"), ("/usr/bin/python3", "idle.py"), ("node", "idle.js")];
        let programs = programs.map(|(interpreter, file)| {
            Beside::start(program(&bus, server.base(), interpreter, file))
        });
        for program in &programs {
            program.says("idle 5").await;
        }
        let _frames = idle_frames(&server).await;
        server.signal(Signal::Term);
        let (code, took) = server.exit().await;
        assert_eq!(code, Some(0), "{}", server.stderr.text());
        assert!(took < Duration::from_secs(1), "{role}: it took {took:?}");
    }
});

#[test]
fn an_answer_that_is_given_before_the_body_was_read_arrives_whole() {
    run(async {
        let bus = Bus::new(&Store::sqlite());
        let server = bus.web().await;
        for (interpreter, file, answers) in [
            ("ruby", "early.rb", "answers 96"),
            ("/usr/bin/python3", "early.py", "answers 48"),
            ("node", "early.js", "answers 48"),
        ] {
            let mut command = program(&bus, server.base(), interpreter, file);
            let ended = command.stdin(Stdio::null()).output().await;
            let ended = ended.expect("it runs: ./scripts/test installs it");
            let (said, failed) = (ended.stdout, ended.stderr);
            let (said, failed) = (String::from_utf8_lossy(&said), String::from_utf8_lossy(&failed));
            assert_eq!(said.trim(), answers, "{file}: {failed}");
        }
    });
}
