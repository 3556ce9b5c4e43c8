//! What each event goes through, piece by piece: `cargo bench`. `routemaster bench` measures the whole.
//!
//! The Redis part starts a `redis-server` of its own, and is left out where there is none.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a benchmark that cannot be set up has nothing to tell"
)]

#[path = "../tests/support/redis_server.rs"]
mod redis_server;

use std::hint::black_box;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use redis_server::RedisServer;
use routemaster::bus::batch::{Batch, BatchId};
use routemaster::bus::clock::Clock;
use routemaster::bus::event::{DataLimits, parse_publish};
use routemaster::bus::item::{Item, QueuedItem};
use routemaster::bus::position::EventPosition;
use routemaster::bus::subscription::options::DeliveryOptions;
use routemaster::bus::subscription::{CallbackUrl, Retention, Subscription, Target, Terms};
use routemaster::bus::token::ClientToken;
use routemaster::bus::topic::TopicName;
use routemaster::http::authentication::Tokens;
use routemaster::store::redis::{RedisOptions, RedisStore};
use routemaster::store::sqlite::SqliteStore;
use routemaster::store::{Publication, Store};
use tokio::runtime::Runtime;

const EVENT: &str = r#"{"type":"update","url":"https://shop.example/bookings/1729","timestamp":1764070000000,"data":{"state":"confirmed","guests":3}}"#;
const LIMITS: DataLimits = DataLimits { bytes: 8192, depth: 60 };
/// Events in a group that is committed, and in a batch.
const GROUP: usize = 100;

fn topic() -> TopicName {
    TopicName::parse("bookings", TopicName::MAX).unwrap()
}

fn client(token: &str) -> ClientToken {
    ClientToken::parse(token).unwrap()
}

fn items(count: usize) -> Vec<Item> {
    let array = format!("[{}]", vec![EVENT; count].join(","));
    parse_publish(array.as_bytes(), &topic(), 0, LIMITS).unwrap()
}

fn parse(c: &mut Criterion) {
    let topic = topic();
    c.bench_function("parse and validate an event", |b| {
        b.iter(|| parse_publish(black_box(EVENT.as_bytes()), &topic, 0, LIMITS).unwrap());
    });
}

fn authenticate(c: &mut Criterion) {
    let directory = tempfile::tempdir().unwrap();
    let clients = (0..100).map(|number| client(&format!("service-{number}--secret"))).collect();
    let store = Arc::new(SqliteStore::open(directory.path(), Clock::system()).unwrap());
    let tokens = Tokens::new(None, clients, store);
    // `service-17--secret:x`
    let authorization = b"Basic c2VydmljZS0xNy0tc2VjcmV0Ong=";
    c.bench_function("authenticate one of 100 clients", |b| {
        b.iter(|| tokens.known(black_box(authorization)).unwrap());
    });
}

fn build_batch(c: &mut Criterion) {
    let id = BatchId { queue: "q".into(), number: 1 };
    let position = EventPosition::BEFORE_ALL;
    let items = items(GROUP).into_iter().map(|item| QueuedItem { position, item }).collect();
    let batch = Batch { id, attempt: 1, items };
    let mut group = c.benchmark_group("build the body of a batch of 100");
    group.throughput(Throughput::Elements(GROUP as u64));
    group.bench_function("to JSON", |b| b.iter(|| black_box(&batch).to_json()));
    group.finish();
}

/// One commit of [`GROUP`] events, each a publication of its own, to one subscriber.
fn commit(c: &mut Criterion, name: &str, runtime: &Runtime, store: &dyn Store) {
    let subscription = Subscription {
        topics: [topic()].into(),
        terms: Terms {
            target: Target::Callback(CallbackUrl::parse("https://localhost/callback").unwrap()),
            uuid: None,
            timeout: Duration::from_secs(3600),
            max: 10_000,
        },
        retention: Retention { age: None, count: None },
        options: DeliveryOptions::default(),
    };
    runtime.block_on(store.subscribe(&client("subscriber"), &subscription.into(), true)).unwrap();
    let item = items(1).remove(0);
    let publication = Publication {
        topic: topic(),
        publisher: client("publisher"),
        items: vec![item],
        key: None,
    };
    let publications = vec![publication; GROUP];
    let mut group = c.benchmark_group("one commit of 100 events");
    group.throughput(Throughput::Elements(GROUP as u64));
    group.bench_function(name, |b| {
        b.iter_batched(
            || publications.clone(),
            |publications| {
                let give_up = Instant::now() + Duration::from_secs(4);
                runtime.block_on(store.publish(publications, give_up.into())).unwrap()
            },
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

fn commit_to_sqlite(c: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(directory.path(), Clock::system()).unwrap();
    commit(c, "SQLite", &runtime, &store);
}

fn commit_to_redis(c: &mut Criterion) {
    if Command::new("redis-server").arg("--version").output().is_err() {
        eprintln!("left out: there is no redis-server here");
        return;
    }
    let server = RedisServer::start_with(&["--save", "", "--appendonly", "yes"]);
    let runtime = Runtime::new().unwrap();
    let _inside = runtime.enter();
    let store = RedisStore::open(&RedisOptions::plain(&server.url())).unwrap();
    commit(c, "Redis", &runtime, &store);
}

criterion_group!(hot_path, parse, authenticate, build_batch, commit_to_sqlite, commit_to_redis);
criterion_main!(hot_path);
