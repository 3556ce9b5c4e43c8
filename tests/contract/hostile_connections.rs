//! Connections (§1) of clients that do not do their part: they hold the house no longer than they may, and
//! never take what deliveries need.

use std::process::Stdio;
use std::time::Duration;

use serde_json::json;
use tokio::process::Command;

use crate::support::{Bus, Process, Store, basic, event, eventually, raw, run, soon, within};

/// More than a limit of half a second may take on a busy machine.
const PROMPTLY: Duration = Duration::from_secs(6);
const FULL: &str = "closed a new connection";
/// The preface and settings of HTTP/2; with this one, no answer may be sent before it is asked for.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
const SETTINGS_WITHOUT_WINDOW: &[u8] = &[0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0];
const PING: &[u8] = &[0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];

/// A bus with room for four connections, all of them from one address.
fn small_house(store: &Store) -> Bus {
    Bus::new(store)
        .set("ROUTEMASTER_MAX_CONNECTIONS", "4")
        .set("ROUTEMASTER_MAX_CONNECTIONS_PER_ADDRESS", "4")
        .set("ROUTEMASTER_IDLE_TIMEOUT", "0.5")
}

/// A request on the stream 1 of HTTP/2, without a body.
fn http2_get(path: &str) -> Vec<u8> {
    let mut headers = vec![0x82, 0x87];
    for (name, value) in [(0x04, path), (0x01, "localhost")] {
        headers.extend([name, value.len() as u8]);
        headers.extend(value.bytes());
    }
    let mut frames = vec![0, 0, headers.len() as u8, 1, 0x05, 0, 0, 0, 1];
    frames.extend(headers);
    frames
}

/// Whether the house has room again before long, and has said that it was full.
async fn has_room_again(bus: &Bus, server: &Process) {
    assert!(raw::try_connect_tls(server.port(), &bus.ca_path()).await.is_err(), "it is full");
    soon("a full house is logged", server.stderr.line_with(FULL)).await.expect("a line");
    let connects = async || raw::try_connect_tls(server.port(), &bus.ca_path()).await.ok();
    let room = eventually("there is room again", connects);
    let waited = within(PROMPTLY, "those that do nothing are closed", Box::pin(room));
    let (mut stream, _) = waited.await;
    assert!(stream.send("GET /health HTTP/1.1\r\nHost: a\r\n\r\n").await);
    assert_eq!(raw::status(&stream.read_head().await), Some(200));
}

on_both_stores!(clients_that_read_no_answers_lose_their_places, |store| async move {
    let bus = small_house(&store);
    let server = bus.serve().await;
    let mut senders = Vec::new();
    for _ in 0..4 {
        let mut stream = server.connect().await;
        senders.push(tokio::spawn(async move {
            let many = "GET /openapi.json HTTP/1.1\r\nHost: a\r\n\r\n".repeat(1_000);
            while stream.send(&many).await {}
        }));
    }
    has_room_again(&bus, &server).await;
    for sender in senders {
        within(PROMPTLY, "the bus ends what nobody reads", sender).await.unwrap();
    }
});

on_both_stores!(clients_that_only_answer_pings_lose_their_places, |store| async move {
    let bus = small_house(&store);
    let server = bus.serve().await;
    let mut pinging = Vec::new();
    for (settings, path) in
        [(SETTINGS, "/health"), (SETTINGS_WITHOUT_WINDOW, "/openapi.json")].repeat(2)
    {
        let mut stream = server.connect_speaking(b"h2").await;
        assert!(stream.send([PREFACE, settings, &http2_get(path)].concat()).await);
        pinging.push(tokio::spawn(async move {
            while stream.send(PING).await {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }));
    }
    has_room_again(&bus, &server).await;
    for client in pinging {
        within(PROMPTLY, "the bus ends what asks for nothing", client).await.unwrap();
    }
});

#[test]
fn one_address_has_half_of_the_places_unless_it_is_trusted() {
    run(async {
        let bus = Bus::new(&Store::sqlite()).set("ROUTEMASTER_MAX_CONNECTIONS", "4");
        let ca = bus.ca_path();
        let from = |server: &Process, address: &'static str| {
            let (port, ca) = (server.port(), ca.clone());
            async move { raw::try_connect_tls_from(address, port, &ca).await }
        };
        let server = bus.serve().await;
        let _one = [from(&server, "127.0.0.1").await, from(&server, "127.0.0.1").await]
            .map(|stream| stream.expect("there is room"));
        assert!(from(&server, "127.0.0.1").await.is_err());
        soon("it is logged", server.stderr.line_with(FULL)).await.expect("a line");
        let _other = [from(&server, "127.0.0.2").await, from(&server, "127.0.0.2").await]
            .map(|stream| stream.expect("another address has its own"));
        assert!(from(&server, "127.0.0.3").await.is_err(), "all are taken");
        drop(server);

        let bus = bus.set("ROUTEMASTER_TRUSTED_NETWORKS", "10.0.0.0/8, 127.0.0.1");
        let server = bus.serve().await;
        let mut trusted = Vec::new();
        for _ in 0..4 {
            let port = server.port();
            trusted.push(raw::try_connect_tls_from("127.0.0.1", port, &ca).await.expect("room"));
        }
    });
}

/// The bus, with so many open files at most.
fn with_files(bus: &Bus, limit: u32) -> Command {
    let command = bus.command(&["serve"]);
    let command = command.as_std();
    let mut limited = Command::new("/bin/sh");
    limited
        .arg("-c")
        .arg(format!("ulimit -n {limit}; exec \"$0\" \"$@\""))
        .arg(command.get_program());
    limited.args(command.get_args()).env_clear();
    if let Some(directory) = command.get_current_dir() {
        limited.current_dir(directory);
    }
    limited.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    limited.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    limited
}

on_both_stores!(silent_connections_take_no_file_that_deliveries_need, |store| async move {
    let bus = Bus::new(&store)
        .set("ROUTEMASTER_CLIENTS", "demo,a,b,c,d,e")
        .set("ROUTEMASTER_FIRST_REQUEST_TIMEOUT", "60");
    let server = Process::start(with_files(&bus, 120), &bus.ca_path(), "listening on").await;
    soon("few files are told of", server.stderr.line_with("few files may be open"))
        .await
        .expect("a line");
    let demo = server.client("demo");
    // Each subscriber is connected to anew.
    let mut receivers = Vec::new();
    for subscriber in ["a", "b", "c", "d", "e"] {
        let receiver = bus.receiver().await;
        demo.claims(subscriber).await;
        server.client(subscriber).subscribes(&receiver, &[subscriber], json!({"timeout": 0})).await;
        receivers.push((subscriber, receiver));
    }
    let mut silent = Vec::new();
    for _ in 0..140 {
        silent.push(raw::connect_tcp_from("127.0.0.2", server.port()).await);
    }
    for (subscriber, receiver) in &receivers {
        demo.publishes(subscriber, 1..=3).await;
        assert_eq!(receiver.numbers(3).await, [1, 2, 3]);
    }
    let log = server.stderr.text();
    assert!(!log.contains("failed to deliver"), "{log}");
    assert!(!log.contains("certificate was renewed"), "{log}");
});

#[test]
fn a_bus_that_may_open_too_few_files_says_so() {
    run(async {
        let bus = Bus::new(&Store::sqlite());
        let ended = with_files(&bus, 32).output().await.unwrap();
        let text = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert_eq!(ended.status.code(), Some(1), "{text}");
        assert!(text.contains("32 files") && text.contains("ulimit -n"), "{text}");
    });
}

on_both_stores!(bodies_of_one_client_are_bounded_and_others_served, |store| async move {
    let bus = Bus::new(&store).set("ROUTEMASTER_MAX_BODY", "33554432");
    let server = bus.web().await;
    let head = format!(
        "POST /topics/widgets HTTP/1.1\r\nHost: a\r\nAuthorization: {}\r\nContent-Length: 33554432\r\n\r\n",
        basic("demo:x")
    );
    // Two bodies of 32 MiB are all that one client may have under way.
    let mut slow = Vec::new();
    for _ in 0..2 {
        let mut stream = server.connect().await;
        assert!(stream.send(&head).await && stream.send("[").await);
        slow.push(stream);
    }
    let refused = async || {
        let reply = server.client("demo").publish("widgets", &event(1)).await;
        (reply.status == 503).then_some(reply)
    };
    let (reply, _) = eventually("there is no room", refused).await;
    assert_eq!(reply.header("retry-after"), Some("1"));
    assert!(reply.expect_reason(503).contains("under way"));
    server.client("alice").publish("gadgets", &event(1)).await.expect(204);
    drop(slow);
    let publish =
        async || server.client("demo").try_publish("widgets", &event(1)).await.then_some(());
    eventually("there is room again", publish).await;
});
