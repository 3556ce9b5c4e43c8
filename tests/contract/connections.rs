//! Connections (§1 and bad input): slow, silent and too many clients harm nobody else.

use std::time::{Duration, Instant};

use crate::support::{Bus, Client, Store, basic, event, eventually, raw, run};

/// More than a limit of half a second may take on a busy machine.
const PROMPTLY: Duration = Duration::from_secs(4);

/// Waits until the bus gives the connection up; returns what it said.
async fn given_up(mut stream: raw::Stream, what: &str) -> String {
    let start = Instant::now();
    let answer = stream.read_to_end().await;
    let took = start.elapsed();
    assert!(took < PROMPTLY, "{what}: it took {took:?}");
    assert!(raw::status(&answer).is_none_or(|status| status == 408), "{what}: {answer}");
    answer
}

on_both_stores!(a_connection_that_says_nothing_is_closed, |store| async move {
    let bus = Bus::new(&store).set("ROUTEMASTER_FIRST_REQUEST_TIMEOUT", "0.5");
    let server = bus.serve().await;
    given_up(raw::connect_tcp(server.port()).await, "no byte at all").await;
    let mut stream = raw::connect_tcp(server.port()).await;
    stream.send([0x16, 3, 1]).await;
    given_up(stream, "the beginning of a TLS handshake").await;
    let mut stream = raw::connect_tcp(server.port()).await;
    stream.send("GET /x HTTP/1.1\r\nHo").await;
    given_up(stream, "half of a header in plain text").await;
    given_up(server.connect().await, "no byte after the handshake").await;
    let mut stream = server.connect().await;
    stream.send("GET /topics HTTP/1.1\r\nHost: a\r\nX-Slow: ").await;
    given_up(stream, "half of a header").await;
});

on_both_stores!(a_header_that_drips_in_is_given_up, |store| async move {
    let bus = Bus::new(&store)
        .set("ROUTEMASTER_FIRST_REQUEST_TIMEOUT", "0.5")
        .set("ROUTEMASTER_IDLE_TIMEOUT", "0.5");
    let server = bus.serve().await;
    let mut stream = server.connect().await;
    assert!(stream.send("GET /topics HTTP/1.1\r\nHost: a\r\n").await);
    let start = Instant::now();
    let mut number = 0;
    // Each byte comes in time, the whole header never does.
    while stream.send(format!("X-{number}: y\r\n")).await {
        number += 1;
        assert!(start.elapsed() < PROMPTLY, "it was still taken after {:?}", start.elapsed());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
});

on_both_stores!(an_idle_connection_is_closed_after_its_time, |store| async move {
    let bus = Bus::new(&store).set("ROUTEMASTER_IDLE_TIMEOUT", "0.5");
    let server = bus.serve().await;
    let mut stream = server.connect().await;
    assert!(stream.send("GET /health HTTP/1.1\r\nHost: a\r\n\r\n").await);
    let answer = stream.read_head().await;
    assert_eq!(raw::status(&answer), Some(200), "{answer}");
    let start = Instant::now();
    stream.read_to_end().await;
    let took = start.elapsed();
    assert!(took >= Duration::from_millis(300) && took < PROMPTLY, "{took:?}");
});

on_both_stores!(a_body_that_does_not_come_is_given_up_and_not_stored, |store| async move {
    let bus = Bus::new(&store).set("ROUTEMASTER_BODY_TIMEOUT", "0.5");
    let server = bus.serve().await;
    let body = event(1).to_string();
    let mut stream = server.connect().await;
    let request = format!(
        "POST /topics/widgets HTTP/1.1\r\nHost: a\r\nAuthorization: {}\r\n\
         Connection: close\r\nContent-Length: {}\r\n\r\n{}",
        basic("demo:x"),
        body.len(),
        &body[..body.len() - 1],
    );
    assert!(stream.send(request).await);
    let start = Instant::now();
    let answer = stream.read_to_end().await;
    assert!(start.elapsed() < PROMPTLY, "it took {:?}", start.elapsed());
    let status = raw::status(&answer);
    assert!(status.is_none_or(|status| (400..500).contains(&status)), "{answer}");
    assert!(server.client("demo").topic("widgets").await.is_null());
});

on_both_stores!(connections_over_the_cap_are_closed_and_the_others_served, |store| async move {
    let bus = Bus::new(&store).set("ROUTEMASTER_MAX_CONNECTIONS", "3");
    let bus = bus.set("ROUTEMASTER_MAX_CONNECTIONS_PER_ADDRESS", "3");
    let server = bus.serve().await;
    let mut held = vec![];
    for _ in 0..3 {
        let mut stream = server.connect().await;
        assert!(stream.send("GET /health HTTP/1.1\r\nHost: a\r\n\r\n").await);
        assert_eq!(raw::status(&stream.read_head().await), Some(200));
        held.push(stream);
    }
    let start = Instant::now();
    assert!(raw::try_connect_tls(server.port(), &bus.ca_path()).await.is_err());
    assert!(start.elapsed() < PROMPTLY, "it took {:?}", start.elapsed());
    let first = held.pop().unwrap();
    drop(first);
    let connects = async || raw::try_connect_tls(server.port(), &bus.ca_path()).await.ok();
    let (mut stream, _) = eventually("there is room again", connects).await;
    assert!(stream.send("GET /health HTTP/1.1\r\nHost: a\r\n\r\n").await);
    assert_eq!(raw::status(&stream.read_head().await), Some(200));
});

on_both_stores!(slow_clients_do_not_delay_others, |store| async move {
    let bus = Bus::new(&store);
    let server = bus.serve().await;
    let mut slow = vec![];
    for _ in 0..50 {
        slow.push(raw::connect_tcp(server.port()).await);
        let mut stream = server.connect().await;
        stream.send("POST /topics/widgets HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n").await;
        slow.push(stream);
    }
    let start = Instant::now();
    let demo = server.client("demo");
    demo.publishes("widgets", 1..=10).await;
    assert!(start.elapsed() < PROMPTLY, "it took {:?}", start.elapsed());
});

#[test]
fn requests_one_after_the_other_share_a_connection() {
    run(async {
        let bus = Bus::new(&Store::sqlite());
        let server = bus.serve().await;
        let mut stream = server.connect().await;
        let request = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
        // Also when the second does not wait for the first, and after a refusal.
        let both = request("/topics") + &request("/nowhere");
        assert!(stream.send(both).await);
        let first = stream.read_head().await;
        assert_eq!(raw::status(&first), Some(401), "{first}");
        let other = Client::speaking(server.base(), &bus.ca_path(), b"h2");
        other.get("/health").await.expect(200);
    });
}
