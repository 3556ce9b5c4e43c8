//! Stopping it (§0): what was accepted is finished, and nothing is lost.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::support::{
    Answer, Bus, Client, Process, Signal, Store, event, eventually, raw, run, soon, within,
};

/// Waits until the process takes no connection any more: it has noticed the signal.
async fn stops_accepting(process: &Process) {
    let port = process.port();
    eventually("no new connection is taken", async || (!raw::is_open(port).await).then_some(()))
        .await;
}

on_both_stores!(a_stop_ends_with_code_0, |store| async move {
    let bus = Bus::new(&store);
    for signal in [Signal::Term, Signal::Int] {
        for mut process in [bus.serve().await, bus.web().await, bus.worker().await] {
            process.signal(signal);
            let (code, took) = process.exit().await;
            assert_eq!(code, Some(0), "{signal:?}: {}", process.stderr.text());
            assert!(took < Duration::from_secs(5), "{signal:?} took {took:?}");
        }
    }
});

on_both_stores!(an_open_connection_without_a_request_does_not_delay_a_stop, |store| async move {
    let bus = Bus::new(&store);
    let mut server = bus.serve().await;
    // A client with a pooled connection, a handshake that never comes, and a bare connection.
    server.client("demo").claims("widgets").await;
    let _bare = raw::connect_tcp(server.port()).await;
    let _silent = server.connect().await;
    server.signal(Signal::Term);
    let (code, took) = server.exit().await;
    assert_eq!(code, Some(0));
    assert!(took < Duration::from_secs(5), "it took {took:?}");
});

on_both_stores!(a_delivery_in_flight_is_finished_before_the_end, |store| async move {
    let bus = Bus::new(&store);
    let mut server = bus.serve().await;
    let (demo, receiver) = (server.client("demo"), bus.receiver().await);
    demo.claims("widgets").await;
    demo.subscribes(&receiver, &["widgets"], json!({"timeout": 0, "max": 1})).await;
    receiver.answer_next([Answer::Held]);
    demo.publishes("widgets", 1..=2).await;
    receiver.attempts(1).await;
    server.signal(Signal::Term);
    stops_accepting(&server).await;
    assert!(server.is_running());
    receiver.release();
    assert_eq!(server.exit().await.0, Some(0));

    // It was acknowledged: the next process goes on behind it.
    let _server = bus.serve().await;
    let numbers = receiver.numbers(2).await;
    assert_eq!(numbers, [1, 2]);
});

on_both_stores!(a_publish_in_flight_is_answered_before_the_end, |store| async move {
    let bus = Bus::new(&store);
    let mut server = bus.web().await;
    let (demo, receiver) = (server.client("demo"), bus.receiver().await);
    demo.claims("widgets").await;
    demo.subscribes(&receiver, &["widgets"], json!({"timeout": 0})).await;
    let body = event(7).to_string();
    let (head, tail) = body.split_at(body.len() / 2);
    let mut stream = server.connect().await;
    let request = format!(
        "POST /topics/widgets HTTP/1.1\r\nHost: localhost\r\nAuthorization: {}\r\n\
         Content-Length: {}\r\n\r\n{head}",
        crate::support::basic("demo:x"),
        body.len(),
    );
    assert!(stream.send(&request).await);
    // A later request was answered, so this one is being read by now.
    demo.get("/topics").await.expect(200);
    server.signal(Signal::Term);
    stops_accepting(&server).await;
    assert!(stream.send(tail).await);
    assert_eq!(raw::status(&stream.read_head().await), Some(204));
    drop(stream);
    assert_eq!(server.exit().await.0, Some(0));
    let _worker = bus.worker().await;
    assert_eq!(receiver.numbers(1).await, [7]);
});

on_both_stores!(a_client_that_keeps_its_connection_is_told_to_leave, |store| async move {
    let bus = Bus::new(&store);
    let mut server = bus.web().await;
    let mut stream = server.connect().await;
    let request = format!(
        "GET /topics HTTP/1.1\r\nHost: localhost\r\nAuthorization: {}\r\n\r\n",
        crate::support::basic("demo:x"),
    );
    assert!(stream.send(&request).await);
    let answer = stream.read_head().await;
    assert_eq!(raw::header(&answer, "connection"), None, "{answer}");
    assert_eq!(raw::header(&answer, "content-length"), Some("2"), "{answer}");
    stream.read_exactly(2).await;
    server.signal(Signal::Term);
    soon("it stops", server.stderr.line_with("stopping")).await;
    // A new one is not taken up.
    assert!(raw::try_connect_tls(server.port(), &bus.ca_path()).await.is_err());
    // This one was idle when the stop came; it is answered all the same, for the last time.
    assert!(stream.send(&request).await);
    let answer = stream.read_to_end().await;
    assert_eq!(raw::status(&answer), Some(200), "{answer}");
    assert_eq!(raw::header(&answer, "connection"), Some("close"), "{answer}");
    let (code, took) = server.exit().await;
    assert_eq!(code, Some(0));
    assert!(took < Duration::from_secs(3), "it took {took:?}");
});

on_both_stores!(a_second_signal_ends_it_at_once, |store| async move {
    let bus = Bus::new(&store);
    let mut server = bus.serve().await;
    let (demo, receiver) = (server.client("demo"), bus.receiver().await);
    demo.claims("widgets").await;
    demo.subscribes(&receiver, &["widgets"], json!({"timeout": 0})).await;
    receiver.answer(Answer::Hang);
    demo.publishes("widgets", 1..=1).await;
    receiver.attempts(1).await;
    server.signal(Signal::Term);
    stops_accepting(&server).await;
    assert!(server.is_running());
    server.signal(Signal::Term);
    let (_, took) = server.exit().await;
    assert!(took < Duration::from_secs(2), "it took {took:?}");
});

on_both_stores!(a_delivery_that_hangs_delays_a_stop_by_the_limit_only, |store| async move {
    let bus = Bus::new(&store).set("ROUTEMASTER_SHUTDOWN_TIMEOUT", "0.5");
    let mut server = bus.serve().await;
    let (demo, receiver) = (server.client("demo"), bus.receiver().await);
    demo.claims("widgets").await;
    demo.subscribes(&receiver, &["widgets"], json!({"timeout": 0})).await;
    receiver.answer_next([Answer::Hang]);
    demo.publishes("widgets", 1..=1).await;
    receiver.attempts(1).await;
    server.signal(Signal::Term);
    let (code, took) = server.exit().await;
    assert_eq!(code, Some(0), "{}", server.stderr.text());
    assert!(took < Duration::from_secs(4), "it took {took:?}");

    let _server = bus.serve().await;
    assert_eq!(receiver.numbers(1).await, [1], "the batch is sent again, not lost");
});

on_both_stores!(a_log_that_nobody_reads_holds_nothing_up, |store| async move {
    let bus = Bus::new(&store).set("ROUTEMASTER_LOG_LEVEL", "trace");
    let mut child = bus.command(&["serve"]).spawn().expect("the binary starts");
    // Held open and not read: the pipe is full in no time.
    let _log = child.stderr.take().expect("a pipe");
    let mut stdout = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let base = loop {
        let line = soon("the bus says where it listens", stdout.next_line()).await.unwrap();
        let line = line.expect("it runs");
        if let Some(at) = line.find("https://") {
            break line[at..].split_whitespace().next().unwrap_or_default().to_owned();
        }
    };
    let client = |token: &str| Client::new(&base, &bus.ca_path()).with_token(token);
    let receiver = bus.receiver().await;
    client("demo").claims("widgets").await;
    client("alice").subscribes(&receiver, &["widgets"], json!({"timeout": 0})).await;
    let start = Instant::now();
    client("demo").publishes("widgets", 1..=300).await;
    assert_eq!(receiver.numbers(300).await, (1..=300).collect::<Vec<_>>());
    client("demo").get("/pulse").await.expect(204);
    let took = start.elapsed();
    assert!(took < Duration::from_secs(10), "it took {took:?}");
    let id = child.id().expect("it runs");
    let sent = std::process::Command::new("sh").args(["-c", &format!("kill -TERM {id}")]).status();
    assert!(sent.unwrap().success());
    let status = within(Duration::from_secs(4), "SIGTERM ends it", child.wait()).await.unwrap();
    assert_eq!(status.code(), Some(0));
});

#[test]
fn a_stop_waits_for_a_store_that_is_gone_once_and_not_for_each_chore() {
    run(async {
        let mut store = Store::redis();
        let bus = Bus::new(&store);
        let mut server = bus.serve().await;
        server.client("demo").claims("widgets").await;
        store.server().kill();
        soon("it is noticed", server.stderr.line_with("failed to reach the store")).await;
        server.signal(Signal::Term);
        let (code, took) = server.exit().await;
        assert_eq!(code, Some(0));
        assert!(took < Duration::from_secs(10), "it took {took:?}");
    });
}
