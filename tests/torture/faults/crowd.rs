//! Many subscribers and topics: the bus starts, serves and stops in bounded time and memory.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum_server::tls_rustls::RustlsConfig;
use futures_util::StreamExt;
use routemaster::tls::development::DevelopmentCa;
use serde_json::{Value, json};

use super::Order;
use crate::rig::{self, Row, peak_memory_kib};
use crate::support::{Client, Signal};

/// Subscribers and topics of a short run, and of one of a minute or more.
const SOME: (usize, usize) = (1_000, 100);
const MANY: (usize, usize) = (10_000, 1_000);
/// How many topics each subscriber has.
const TOPICS_EACH: usize = 10;
/// How many requests are made at once.
const AT_ONCE: usize = 16;
/// How long a start and a stop may take.
const START_MAX: Duration = Duration::from_secs(10);
const STOP_MAX: Duration = Duration::from_secs(10);
/// How long an event may take to everybody, for each of 1,000 deliveries.
const DELIVER_MAX: Duration = Duration::from_secs(10);
const MEMORY_MAX_KIB: u64 = 1024 * 1024;

pub async fn crowd(order: Order) -> Row {
    let (subscribers, topics) = if order.is_long() { MANY } else { SOME };
    let store = order.store.open();
    let tokens: Vec<String> = (0..subscribers).map(|index| format!("s{index}")).collect();
    let bus = rig::bus(&store).set("ROUTEMASTER_CLIENTS", &format!("demo,{}", tokens.join(",")));
    let received = Arc::new(AtomicU64::new(0));
    let ca = DevelopmentCa::open_or_create(&bus.data_dir()).unwrap();
    let port = receive(&ca, received.clone());
    let mut row = Row::default();

    let mut server = bus.serve().await;
    let names: Vec<String> = (0..topics).map(name).collect();
    let begun = Instant::now();
    let base = server.client("demo");
    each(&tokens, async |index, token| {
        let chosen: BTreeSet<&String> =
            (0..TOPICS_EACH).map(|nth| &names[(index * 7 + nth * 13) % topics]).collect();
        let callback = format!("https://localhost:{port}/{token}");
        let body = json!({"topics": chosen, "callback": callback, "timeout": 0});
        base.with_token(token).post("/subscription", body.to_string()).await.expect(204);
    })
    .await;
    let subscribed = begun.elapsed();
    server.signal(Signal::Term);
    server.exit().await;

    let begun = Instant::now();
    let mut server = bus.serve().await;
    let started = begun.elapsed();
    let demo = server.client("demo");
    let begun = Instant::now();
    each(&names, async |_, topic| publish(&demo, topic).await).await;
    let published = begun.elapsed();
    let expected = expected(&demo).await;
    let limit = DELIVER_MAX * (expected / 1_000 + 1) as u32;
    while received.load(Ordering::Relaxed) < expected && begun.elapsed() < limit {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let delivered = begun.elapsed();
    let begun = Instant::now();
    let listed = demo.get("/subscriptions").await.expect(200).json();
    let list_took = begun.elapsed();
    let memory = peak_memory_kib(&server).unwrap_or(u64::MAX);
    server.signal(Signal::Term);
    let (code, stopped) = server.exit().await;

    row.cycles = subscribers as u64;
    row.verdict.accepted = topics as u64;
    row.verdict.received = received.load(Ordering::Relaxed);
    row.verdict.lost = expected.saturating_sub(row.verdict.received);
    row.verdict.duplicated = row.verdict.received.saturating_sub(expected);
    // On a machine that is busy with other faults, a lease may run out.
    row.duplicates_max = expected / 100;
    row.notes.push(format!(
        "{subscribers} subscribers with {TOPICS_EACH} of {topics} topics each: subscribing took {:.1} s, \
         a start {:.1} s, one event to each topic {:.1} s, its {expected} deliveries {:.1} s, \
         listing {:.2} s, a stop {:.1} s; up to {} MiB (debug build)",
        subscribed.as_secs_f64(),
        started.as_secs_f64(),
        published.as_secs_f64(),
        delivered.as_secs_f64(),
        list_took.as_secs_f64(),
        stopped.as_secs_f64(),
        memory / 1024
    ));
    let listed = listed.as_array().map_or(0, Vec::len);
    for (wrong, what) in [
        (listed != subscribers, "not all subscriptions are listed"),
        (row.verdict.lost > 0, "not all events arrived in time"),
        (row.verdict.duplicated > expected / 100, "too many events arrived more than once"),
        (started > START_MAX, "the start took too long"),
        (stopped > STOP_MAX || code != Some(0), "the stop was not clean"),
        (memory > MEMORY_MAX_KIB, "it took too much memory"),
    ] {
        if wrong {
            row.violation(what);
        }
    }
    row
}

/// The name of a topic: letters and underscores only.
fn name(index: usize) -> String {
    let digits = index.to_string();
    let letters = digits.bytes().map(|digit| char::from(digit - b'0' + b'a'));
    format!("topic_{}", letters.collect::<String>())
}

async fn publish(client: &Client, topic: &str) {
    client.publish(topic, &json!({"type": "noop", "url": "https://a.example/"})).await.expect(204);
}

/// Does something for each, some at a time.
async fn each<T>(all: &[T], deed: impl AsyncFn(usize, &T)) {
    let deeds = futures_util::stream::iter(all.iter().enumerate());
    deeds.for_each_concurrent(AT_ONCE, |(index, one)| deed(index, one)).await;
}

/// How many deliveries of one event to each topic there must be.
async fn expected(client: &Client) -> u64 {
    let subscriptions = client.get("/subscriptions").await.expect(200).json();
    let topics = |entry: &Value| entry["topics"].as_array().map_or(0, Vec::len) as u64;
    subscriptions.as_array().into_iter().flatten().map(topics).sum()
}

/// One server for all subscribers, which counts the events.
fn receive(ca: &DevelopmentCa, received: Arc<AtomicU64>) -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    let tls = routemaster::tls::server::from_identity(&ca.issue().unwrap()).unwrap();
    let count = async |State(received): State<Arc<AtomicU64>>, body: String| {
        let events: Vec<Value> = serde_json::from_str(&body).unwrap();
        received.fetch_add(events.len() as u64, Ordering::Relaxed);
        StatusCode::OK
    };
    let app = axum::Router::new().fallback(count).with_state(received);
    let app = app.layer(DefaultBodyLimit::disable());
    let server = axum_server::from_tcp_rustls(listener, RustlsConfig::from_config(tls)).unwrap();
    tokio::spawn(server.serve(app.into_make_service()));
    port
}
