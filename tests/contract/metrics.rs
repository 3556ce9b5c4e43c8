//! Metrics (§7): what is told to whom, under which names, and counted once.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::net::UdpSocket;

use crate::support::{
    Answer, Attempt, Bus, Client, ORDERS, Process, ROOT, Receiver, Signal, Store, event,
    eventually, run, soon,
};

/// A bus with a subscriber `orders` to the topic `widgets`, whose receiver fails once.
async fn subscribed(bus: &Bus, web: &Process) -> (Client, Receiver) {
    let (demo, receiver) = (web.client("demo"), bus.receiver().await);
    demo.claims("widgets").await;
    receiver.answer_next([Answer::Status(500)]);
    let more = json!({"timeout": 0, "max": 10});
    web.client(ORDERS).subscribes(&receiver, &["widgets"], more).await;
    (demo, receiver)
}

async fn stop(mut process: Process) -> String {
    process.signal(Signal::Term);
    assert_eq!(process.exit().await.0, Some(0));
    process.stderr.whole().await
}

/// What was told, summed up: counters by name and tags, gauges with the last value.
type Told = BTreeMap<(String, String), f64>;

/// The lines that `print` leaves in the log.
fn printed(log: &str) -> Told {
    let mut told = Told::new();
    let lines = log.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    for line in lines.filter(|line| line["message"] == "metric") {
        let text = |field: &str| line[field].as_str().expect("a string").to_owned();
        let value = line["value"].as_f64().expect("a number");
        let metric = text("metric");
        let counters = ["events.", "delivery.", "latency.", "process/"].map(|name| {
            metric
                .strip_prefix("routemaster.")
                .is_some_and(|metric| format!("{metric}/").starts_with(name))
        });
        let told = told.entry((metric, text("tags"))).or_default();
        *told = if counters.contains(&true) { *told + value } else { value };
    }
    told
}

fn told(told: &Told, name: &str, tags: &str) -> Option<f64> {
    told.get(&(format!("routemaster.{name}"), tags.to_owned())).copied()
}

/// Checks what a bus has told that took 13 events, 12 of them for one subscriber.
fn check_counters(all: &Told) {
    for (name, tags, expected) in [
        ("events.published", "topic:widgets", 13.0),
        ("events.added", "subscriber:orders", 12.0),
        ("events.removed", "subscriber:orders", 12.0),
        ("delivery.events", "status:success,subscriber:orders", 12.0),
        ("delivery.batches", "status:failure,subscriber:orders", 1.0),
        ("process", "status:start,type:web", 1.0),
        ("process", "status:stop,type:web", 1.0),
        ("process", "status:start,type:worker", 1.0),
        ("process", "status:stop,type:worker", 1.0),
    ] {
        assert_eq!(told(all, name, tags), Some(expected), "{name} {tags} in {all:#?}");
    }
    let batches = told(all, "delivery.batches", "status:success,subscriber:orders").unwrap();
    assert_eq!(told(all, "latency.batches.count", "subscriber:orders"), Some(batches));
    assert!(!all.keys().any(|(_, tags)| tags.contains(ORDERS)), "no token whole: {all:#?}");
}

on_both_stores!(metrics_are_printed_by_default, |store| async move {
    let bus = Bus::new(&store);
    let server = bus.serve().await;
    // What is measured later counts what happened since.
    soon("the store is measured", server.stderr.line_with("jobs.count")).await.unwrap();
    let (demo, receiver) = subscribed(&bus, &server).await;
    receiver.answer_next([Answer::After(Duration::from_millis(30))]);
    demo.publishes("widgets", 1..=12).await;
    receiver.events(12).await;
    let settled = async || (demo.queued("orders").await == Some(0)).then_some(());
    eventually("all are acknowledged", settled).await;
    let all = printed(&stop(server).await);
    check_counters(&all);
    let sum = |name: &str| told(&all, name, "status:success,subscriber:orders").unwrap();
    assert!(sum("delivery.time") >= 30.0, "{all:#?}");
    assert!(sum("delivery.time2") >= 900.0, "{all:#?}");
    for gauge in ["subscriber.queue.batches", "subscriber.queue.events"] {
        assert_eq!(told(&all, gauge, "subscriber:orders"), Some(0.0), "{gauge} in {all:#?}");
    }
    let names: &[&str] = match store {
        Store::Redis(_) => {
            &["bytes_used", "max_mem", "low_mark", "high_mark", "used_cpu_user", "used_cpu_sys"]
        }
        Store::Sqlite => &["bytes_used", "max_bytes", "low_mark", "high_mark"],
    };
    let engine = if store.url().is_some() { "redis" } else { "sqlite" };
    for name in names {
        assert!(told(&all, &format!("{engine}.{name}"), "").is_some(), "{name} in {all:#?}");
    }
    for (name, tags) in [
        ("jobs.count", "queue:main,status:instant"),
        ("jobs.count", "queue:main,status:scheduled"),
        ("scaling.due_batches", ""),
    ] {
        assert!(told(&all, name, tags).is_some(), "{name} in {all:#?}");
    }
    assert_eq!(told(&all, "scaling.threshold", ""), Some(100.0));
});

/// Reads DogStatsD until a metric arrives, and keeps all that came before.
struct Agent {
    socket: UdpSocket,
    told: Told,
    lines: Vec<String>,
}

impl Agent {
    async fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        Self { socket, told: Told::new(), lines: vec![] }
    }

    fn port(&self) -> String {
        self.socket.local_addr().unwrap().port().to_string()
    }

    async fn receive(&mut self) {
        let mut datagram = vec![0; 65_536];
        let length = soon("DogStatsD arrives", self.socket.recv(&mut datagram)).await.unwrap();
        assert!(length <= 1432, "a datagram of {length} bytes");
        for line in String::from_utf8(datagram[..length].to_vec()).unwrap().lines() {
            let (name, rest) = line.split_once(':').expect("name:value|kind|#tags");
            let mut parts = rest.split('|');
            let value: f64 = parts.next().unwrap().parse().expect("a number");
            let kind = parts.next().expect("a kind");
            let tags = parts.next().map_or("", |tags| tags.strip_prefix('#').expect("tags"));
            let told = self.told.entry((name.to_owned(), tags.to_owned())).or_default();
            match kind {
                "c" => *told += value,
                "g" => *told = value,
                other => panic!("`{other}` in {line}"),
            }
            self.lines.push(line.to_owned());
        }
    }

    async fn until_told(&mut self, name: &str, tags: &str) {
        while told(&self.told, name, tags).is_none() {
            self.receive().await;
        }
    }
}

on_both_stores!(a_datadog_agent_gets_each_thing_once_from_several_processes, |store| async move {
    let mut agent = Agent::start().await;
    let bus = Bus::new(&store)
        .set("METRIC_COLLECTION_SERVICE", "datadog")
        .set("DD_AGENT_HOST", "localhost")
        .set("DD_DOGSTATSD_PORT", &agent.port());
    let web = bus.web().await;
    agent.until_told("scaling.threshold", "").await;
    let worker = bus.worker().await;
    let (demo, receiver) = subscribed(&bus, &web).await;
    demo.publishes("widgets", 1..=12).await;
    receiver.events(12).await;
    let settled = async || (demo.queued("orders").await == Some(0)).then_some(());
    eventually("all are acknowledged", settled).await;
    for (process, role) in [(worker, "worker"), (web, "web")] {
        stop(process).await;
        agent.until_told("process", &format!("status:stop,type:{role}")).await;
    }
    // The process's last words come in some order.
    agent.until_told("subscriber.queue.events", "subscriber:orders").await;
    check_counters(&agent.told);
    assert!(agent.lines.iter().any(|line| line.ends_with("|g")), "gauges without tags as well");
});

fn series(attempt: &Attempt) -> Vec<Value> {
    let body: Value = serde_json::from_str(&attempt.body).expect("JSON");
    body["series"].as_array().expect("series").clone()
}

#[test]
fn datadogs_api_gets_what_an_agent_would_get() {
    run(async {
        let bus = Bus::new(&Store::sqlite()).trusting_receivers();
        let datadog = bus.receiver().await;
        datadog.answer(Answer::Status(202));
        let bus = bus
            .set("METRIC_COLLECTION_SERVICE", "datadog")
            .set("DATADOG_API_KEY", "the-key-of-datadog")
            .set("DATADOG_HOST", &format!("https://localhost:{}", datadog.port()));
        let server = bus.serve().await;
        datadog.attempts(1).await;
        server.client("demo").publishes("widgets", 1..=3).await;
        let log = stop(server).await;
        assert!(!log.contains("the-key-of-datadog"), "{log}");
        let attempts = datadog.attempts_so_far();
        for attempt in &attempts {
            assert_eq!((attempt.method.as_str(), &*attempt.path), ("POST", "/api/v2/series"));
            assert_eq!(attempt.header("dd-api-key"), Some("the-key-of-datadog"));
            assert_eq!(attempt.header("content-type"), Some("application/json"));
        }
        let all: Vec<Value> = attempts.iter().flat_map(series).collect();
        let of = |name: &str| all.iter().filter(|one| one["metric"] == name).collect::<Vec<_>>();
        let [published] = of("routemaster.events.published")[..] else { panic!("{all:#?}") };
        assert_eq!((&published["type"], &published["interval"]), (&json!(1), &json!(10)));
        assert_eq!(published["points"][0]["value"], 3.0);
        assert_eq!(published["tags"], json!(["topic:widgets"]));
        assert_eq!(published["resources"][0]["type"], "host");
        let at = published["points"][0]["timestamp"].as_u64().expect("seconds");
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        assert!(now.as_secs().abs_diff(at) < 60, "{at}");
        let gauges = of("routemaster.sqlite.bytes_used");
        assert!(!gauges.is_empty() && gauges.iter().all(|gauge| gauge["type"] == 3), "{all:#?}");
    });
}

#[test]
fn a_datadog_that_hangs_or_refuses_slows_nothing_down() {
    run(async {
        for answer in [Answer::Hang, Answer::Status(403)] {
            let bus = Bus::new(&Store::sqlite()).trusting_receivers();
            let datadog = bus.receiver().await;
            datadog.answer(answer.clone());
            let bus = bus
                .set("METRIC_COLLECTION_SERVICE", "datadog")
                .set("DATADOG_API_KEY", "key")
                .set("DATADOG_HOST", &format!("https://localhost:{}", datadog.port()));
            let server = bus.serve().await;
            datadog.attempts(1).await;
            let (demo, receiver) = subscribed(&bus, &server).await;
            let start = Instant::now();
            demo.publishes("widgets", 1..=5).await;
            receiver.events(5).await;
            assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
            let start = Instant::now();
            let log = stop(server).await;
            assert!(start.elapsed() < Duration::from_secs(6), "{:?}", start.elapsed());
            let said = ["failed to send metrics", "the last metrics were not reported in time"];
            assert!(said.iter().any(|line| log.contains(line)), "{answer:?}: {log}");
        }
    });
}

/// One line of Prometheus's text format.
#[derive(Debug)]
struct Line {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

/// Parses Prometheus's text format, and is strict: each metric is described once, with its type,
/// before its lines, and these stand together, each once.
fn parse(text: &str) -> Vec<Line> {
    let mut described: BTreeMap<String, &str> = BTreeMap::new();
    let mut lines: Vec<Line> = vec![];
    let mut families: Vec<String> = vec![];
    let mut seen = std::collections::BTreeSet::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        if let Some(comment) = line.strip_prefix("# ") {
            let mut words = comment.splitn(3, ' ');
            let (what, name) = (words.next().unwrap(), words.next().expect("a name"));
            let rest = words.next().expect("a type or a description");
            match what {
                "HELP" => assert!(!rest.is_empty(), "{line}"),
                "TYPE" => {
                    assert!(["counter", "gauge", "histogram"].contains(&rest), "{line}");
                    assert!(described.insert(name.to_owned(), rest).is_none(), "twice: {line}");
                }
                other => panic!("`{other}` in {line}"),
            }
            continue;
        }
        let (metric, value) = line.rsplit_once(' ').expect("a metric and its value");
        let (name, labels) = match metric.split_once('{') {
            None => (metric, ""),
            Some((name, labels)) => (name, labels.strip_suffix('}').expect("closed labels")),
        };
        let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
        assert!(name.chars().all(allowed), "{line}");
        let family = ["_bucket", "_sum", "_count"].iter().find_map(|part| {
            let family = name.strip_suffix(part)?;
            (described.get(family) == Some(&"histogram")).then_some(family)
        });
        let family = family.unwrap_or(name);
        assert!(described.contains_key(family), "no type before {line}");
        if families.last().is_none_or(|last| last != family) {
            assert!(!families.contains(&family.to_owned()), "apart from its like: {line}");
            families.push(family.to_owned());
        }
        assert!(seen.insert(metric.to_owned()), "twice: {line}");
        let pairs = labels.split("\",").filter(|pair| !pair.is_empty());
        let labels = pairs.map(|pair| {
            let (label, value) = pair.split_once("=\"").expect("label=\"value\"");
            (label.to_owned(), value.trim_end_matches('"').to_owned())
        });
        let value = value.parse().expect("a number");
        lines.push(Line { name: name.to_owned(), labels: labels.collect(), value });
    }
    lines
}

fn value(lines: &[Line], name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let found = lines.iter().find(|line| {
        line.name == format!("routemaster_{name}")
            && labels.iter().all(|(label, value)| line.labels[*label] == *value)
    });
    found.map(|line| line.value)
}

async fn scrape(client: &Client) -> Vec<Line> {
    let reply = client.get("/metrics").await.expect(200);
    assert_eq!(reply.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    assert!(!reply.body.contains(ORDERS), "no token whole: {}", reply.body);
    parse(&reply.body)
}

on_both_stores!(prometheus_reads_counters_gauges_and_times, |store| async move {
    let bus = Bus::new(&store).set("METRIC_COLLECTION_SERVICE", "prometheus");
    let server = bus.serve().await;
    for client in [server.anonymous(), server.client("mallory")] {
        client.get("/metrics").await.expect(401);
    }
    let measured = async || value(&scrape(&server.client("alice")).await, "scaling_threshold", &[]);
    eventually("the store is measured", measured).await;
    let (demo, receiver) = subscribed(&bus, &server).await;
    demo.publishes("widgets", 1..=12).await;
    demo.publish("widgets", &json!({})).await.expect(400);
    server.client("alice").publish("widgets", &event(1)).await.expect(403);
    receiver.events(12).await;

    let success = [("status", "success"), ("subscriber", "orders")];
    let root = server.client(ROOT);
    let delivered = async || {
        let lines = scrape(&root).await;
        let events = value(&lines, "delivery_events", &success);
        let removed = value(&lines, "events_removed", &[("subscriber", "orders")]);
        (events == Some(12.0) && removed == Some(12.0)).then_some(lines)
    };
    let (lines, _) = eventually("all is counted", delivered).await;
    assert_eq!(value(&lines, "events_published", &[("topic", "widgets")]), Some(13.0));
    let failure = [("status", "failure"), ("subscriber", "orders")];
    assert_eq!(value(&lines, "delivery_batches", &failure), Some(1.0));
    let orders = [("subscriber", "orders")];
    assert_eq!(value(&lines, "subscriber_queue_events", &orders), Some(0.0));
    assert_eq!(value(&lines, "process", &[("status", "start"), ("type", "web")]), Some(1.0));
    for (status, expected) in [("204", 13.0), ("400", 1.0), ("403", 1.0)] {
        let count = value(&lines, "publish_duration_seconds_count", &[("status", status)]);
        assert_eq!(count, Some(expected), "answers with {status}");
    }

    // A histogram's buckets are cumulative, and the last one has everything.
    let buckets = lines.iter().filter(|line| {
        line.name == "routemaster_publish_duration_seconds_bucket" && line.labels["status"] == "204"
    });
    let buckets: Vec<(f64, f64)> =
        buckets.map(|line| (line.labels["le"].parse().unwrap(), line.value)).collect();
    assert!(buckets.len() > 10 && buckets.is_sorted(), "{buckets:?}");
    assert!(buckets.is_sorted_by_key(|(_, count)| *count), "{buckets:?}");
    assert_eq!(buckets.last(), Some(&(f64::INFINITY, 13.0)));
    let sum = value(&lines, "publish_duration_seconds_sum", &[("status", "204")]).unwrap();
    assert!((0.0..10.0).contains(&sum) && sum > 0.0, "{sum} s");
});

on_both_stores!(a_worker_answers_prometheus_on_a_port_of_its_own, |store| async move {
    let bus = Bus::new(&store)
        .set("METRIC_COLLECTION_SERVICE", "prometheus")
        .set("ROUTEMASTER_METRICS_PORT", "0");
    let web = bus.web().await;
    let worker = bus.worker().await;
    let line = worker.stdout.line_with("/metrics").await.expect("it says where");
    let base = line.split_whitespace().last().unwrap().strip_suffix("/metrics").unwrap();
    let at_worker = Client::new(base, &bus.ca_path()).beside_the_api();
    at_worker.get("/metrics").await.expect(401);
    at_worker.get("/health").await.expect(200);
    let at_worker = at_worker.with_token("demo");
    at_worker.get("/topics").await.expect(404);
    at_worker.publish("gadgets", &event(1)).await.expect(404);
    let (demo, receiver) = subscribed(&bus, &web).await;
    demo.publishes("widgets", 1..=5).await;
    receiver.events(5).await;
    let success = [("status", "success"), ("subscriber", "orders")];
    let delivered = async || {
        let events = value(&scrape(&at_worker).await, "delivery_events", &success);
        (events == Some(5.0)).then_some(())
    };
    eventually("deliveries are counted by the worker", delivered).await;
    let lines = scrape(&demo).await;
    assert_eq!(value(&lines, "events_published", &[("topic", "widgets")]), Some(6.0));
    assert_eq!(value(&lines, "delivery_events", &success), None, "the web delivers nothing");

    // The store is measured by one of them; when that one is gone, by the other.
    assert_eq!(value(&scrape(&at_worker).await, "scaling_threshold", &[]), None);
    assert_eq!(value(&lines, "scaling_threshold", &[]), Some(100.0));
    stop(web).await;
    let measured = async || value(&scrape(&at_worker).await, "scaling_threshold", &[]);
    eventually("the worker measures now", measured).await;
});

#[test]
fn without_prometheus_there_is_nothing_to_read() {
    run(async {
        let bus = Bus::new(&Store::sqlite()).set("METRIC_COLLECTION_SERVICE", "none");
        let server = bus.serve().await;
        let reason = server.client("demo").get("/metrics").await.expect_reason(404);
        assert!(reason.contains("METRIC_COLLECTION_SERVICE=prometheus"), "{reason}");
        server.client("demo").publishes("widgets", 1..=3).await;
        assert_eq!(printed(&stop(server).await), Told::new());
    });
}

#[test]
fn a_statsd_server_gets_tags_as_part_of_the_name() {
    run(async {
        let mut agent = Agent::start().await;
        let bus = Bus::new(&Store::sqlite())
            .set("METRIC_COLLECTION_SERVICE", "statsd")
            .set("STATSD_HOST", "127.0.0.1")
            .set("STATSD_PORT", &agent.port());
        let server = bus.serve().await;
        server.client("demo").publishes("widgets", 1..=3).await;
        stop(server).await;
        let published = ("routemaster.events.published.widgets".to_owned(), String::new());
        while !agent.told.contains_key(&published) {
            agent.receive().await;
        }
        assert_eq!(agent.told[&published], 3.0);
        assert!(agent.told.keys().all(|(_, tags)| tags.is_empty()), "{:?}", agent.told);
    });
}
