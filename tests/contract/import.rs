//! `routemaster import`: moving in from a Ruby Routemaster, whose Redis a test fills as the original
//! does. It is read, never written to.

use rmpv::Value as Packed;
use serde_json::{Value, json};

use crate::support::ruby::{BEGUN_MS, RubyBus, entry_with, numbered_entry, packed};
use crate::support::{Bus, Process, Signal, Store, event, eventually, run, soon};

const PUBLISHER: &str = "shop--0123456789abcdef0123456789abcdef";

/// Runs an import that has to succeed; what it reports.
async fn import(bus: &Bus, ruby: &RubyBus, more: &[&str]) -> Value {
    let url = ruby.url();
    let ended = bus.run(&[&["import", "--json", "--from", &url], more].concat()).await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    serde_json::from_str(&ended.stdout).expect("one JSON object")
}

/// Found, imported, there already, skipped.
fn counts(report: &Value, what: &str) -> [u64; 4] {
    ["found", "imported", "present", "skipped"].map(|key| report[what][key].as_u64().unwrap())
}

/// How often something was noted.
fn noted(report: &Value, part: &str) -> u64 {
    let notes = report["notes"].as_array().unwrap().iter();
    let counts = notes.filter(|note| note["text"].as_str().unwrap().contains(part));
    counts.map(|note| note["count"].as_u64().unwrap()).sum()
}

fn entries(topic: &str, numbers: std::ops::RangeInclusive<u64>) -> Vec<Vec<u8>> {
    numbers.map(|number| numbered_entry(topic, number)).collect()
}

on_both_stores!(everything_moves_in_and_is_delivered_before_what_comes_after, |store| async move {
    let ruby = RubyBus::new();
    let bus = Bus::new(&store);
    let receiver = bus.receiver().await;
    ruby.topic("widgets", PUBLISHER, 1234);
    ruby.run(&["SADD", "topics", "Bad-Name", "free"]);
    ruby.run(&["HSET", "api_tokens:by_token", PUBLISHER, "shop", "BAD TOKEN", "mail"]);
    let settings = ["uuid", "s3cr3t", "timeout", "0", "max_events", "3", "health_points", "90"];
    let topics = ["widgets", "deleted", "Bad-Name"];
    ruby.subscriber("alice", &receiver.url(), &topics, &settings);
    // Two batches with the same time stand in the order of their ids, whichever came first; and an
    // event of a topic that is gone is still delivered.
    ruby.batch("bbbbbbbbbbbbbbbbbbbb", "alice", BEGUN_MS, &entries("widgets", 4..=6));
    ruby.batch("aaaaaaaaaaaaaaaaaaaa", "alice", BEGUN_MS, &entries("deleted", 1..=3));
    ruby.batch("00000000000000000000", "alice", BEGUN_MS + 1, &entries("widgets", 7..=9));
    ruby.run(&["SADD", "batches:current:alice", "00000000000000000000"]);

    let report = import(&bus, &ruby, &[]).await;
    assert_eq!(counts(&report, "topics"), [3, 2, 0, 1], "{report}");
    assert_eq!(counts(&report, "tokens"), [2, 1, 0, 1], "{report}");
    assert_eq!(counts(&report, "subscribers"), [1, 1, 0, 0], "{report}");
    assert_eq!(counts(&report, "batches"), [3, 3, 0, 0], "{report}");
    assert_eq!(counts(&report, "events"), [9, 9, 0, 0], "{report}");
    assert_eq!(noted(&report, "left out of subscriptions"), 2, "{report}");
    assert_eq!(noted(&report, "ROUTEMASTER_SUBSCRIBE_CREATES_TOPICS=true"), 1, "`free`: {report}");
    assert_eq!(report["complete"], true);
    assert!(!report.to_string().contains("BAD TOKEN"), "{report}");

    let server = bus.serve().await;
    let shop = server.client(PUBLISHER);
    assert_eq!(
        shop.topic("widgets").await,
        json!({
            "name": "widgets", "publisher": PUBLISHER, "events": 1234
        })
    );
    server.client("demo").publish("widgets", &event(10)).await.expect(403);
    shop.publish("widgets", &event(10)).await.expect(204);
    assert_eq!(receiver.numbers(10).await, (1..=10).collect::<Vec<_>>());
    let first = receiver.events(10).await[0].clone();
    assert_eq!(
        first,
        json!({
            "topic": "deleted", "type": "update", "url": "https://a.example/1", "t": BEGUN_MS + 1
        })
    );
    let attempts = receiver.attempts_so_far();
    assert!(attempts.iter().all(|attempt| attempt.events().len() <= 3), "{attempts:?}");
    assert!(attempts[0].headers.contains_key("authorization"), "the uuid came along");
    let alice = server.client("alice").subscription("alice").await;
    assert_eq!((&alice["uuid"], &alice["timeout"]), (&json!("s3cr3t"), &json!(0)), "{alice}");
    assert_eq!(alice["topics"], json!(["widgets"]));
});

on_both_stores!(what_is_garbled_is_counted_named_and_left_out, |store| async move {
    let ruby = RubyBus::new();
    let bus = Bus::new(&store);
    let receiver = bus.receiver().await;
    ruby.topic("widgets", "NOT A TOKEN", 5);
    ruby.run(&["SADD", "topics", "odd"]);
    ruby.run(&["SET", "topic:odd", "no hash"]);
    ruby.subscriber(
        "alice",
        &receiver.url(),
        &["widgets"],
        &["timeout", "soon", "max_events", "0"],
    );
    ruby.subscriber("bob", "http://a.example/plain", &["widgets"], &[]);
    ruby.subscriber("SHOUTING", "https://a.example/", &["widgets"], &[]);
    let data = |value: Packed| {
        entry_with("widgets", 1, |fields| {
            fields.insert("d", Packed::Map(vec![("x".into(), value)]));
        })
    };
    ruby.batch(
        "first",
        "alice",
        BEGUN_MS,
        &[
            numbered_entry("widgets", 1),
            b"\xc1garbage".to_vec(),
            numbered_entry("widgets", 2)[..20].to_vec(),
            packed(&Packed::Array(vec!["z".into(), Packed::Map(vec![])])),
            packed(&Packed::Array(vec!["k".into(), Packed::Map(vec![])])),
            packed(&Packed::Array(vec!["p".into(), Packed::Map(vec![])])),
            entry_with("widgets", 2, |fields| drop(fields.remove("u"))),
            entry_with("widgets", 2, |fields| drop(fields.insert("y", "explode".into()))),
            numbered_entry("Bad-Name", 2),
            data(f64::NAN.into()),
            data(Packed::Ext(7, vec![1])),
            data(u64::MAX.into()),
        ],
    );
    ruby.batch("nobodys", "carol", BEGUN_MS, &entries("widgets", 1..=2));
    ruby.batch("bobs", "bob", BEGUN_MS, &entries("widgets", 1..=3));
    ruby.batch("shouted", "SHOUTING", BEGUN_MS, &entries("widgets", 1..=4));
    ruby.batch("empty", "alice", BEGUN_MS, &[]);
    ruby.batch("headless", "alice", BEGUN_MS, &entries("widgets", 1..=1));
    ruby.run(&["LSET", "batches:headless", "1", "yesterday"]);
    ruby.run(&["ZADD", "batches:index", "1", "gone", "2", "no-list"]);
    ruby.run(&["SET", "batches:no-list", "x"]);

    let report = import(&bus, &ruby, &[]).await;
    assert_eq!(counts(&report, "topics"), [2, 2, 0, 0], "{report}");
    assert_eq!(counts(&report, "subscribers"), [3, 1, 0, 2], "{report}");
    assert_eq!(counts(&report, "batches"), [8, 1, 0, 7], "{report}");
    assert_eq!(counts(&report, "events"), [20, 2, 0, 18], "{report}");
    assert_eq!(report["control_messages"], 2, "{report}");
    for (part, count) in [
        ("not MessagePack", 2),
        ("kind is not known", 1),
        ("`url` is missing", 1),
        ("`type`", 1),
        ("no topic name", 1),
        ("NaN", 1),
        ("type that JSON lacks", 1),
        ("without their publisher", 1),
        ("garbled counter", 1),
        ("subscribers have a timeout", 1),
        ("start with https://", 1),
        ("their token is not allowed", 1),
        ("subscriber does not exist", 1),
        ("their subscriber is", 1),
        ("has no token that is allowed", 1),
        ("hold no events", 1),
        ("head is garbled", 1),
        ("are gone", 1),
        ("are no lists", 1),
    ] {
        assert_eq!(noted(&report, part), count, "{part}: {report}");
    }
    assert!(!report.to_string().contains("SHOUTING"), "{report}");
    let again = import(&bus, &ruby, &[]).await;
    assert_eq!(counts(&again, "events")[1..3], [0, 2], "{again}");

    let _server = bus.serve().await;
    let delivered = receiver.events(2).await;
    assert_eq!(delivered[1]["data"], json!({"x": u64::MAX}));
});

on_both_stores!(a_dry_run_tells_the_same_and_leaves_no_trace, |store| async move {
    let ruby = RubyBus::new();
    let bus = Bus::new(&store);
    ruby.topic("widgets", PUBLISHER, 7);
    ruby.run(&["HSET", "api_tokens:by_token", PUBLISHER, "shop"]);
    ruby.subscriber("alice", "https://a.example/", &["widgets"], &[]);
    ruby.batch(
        "one",
        "alice",
        BEGUN_MS,
        &[entries("widgets", 1..=250), vec![b"?".to_vec()]].concat(),
    );
    let same = |would: &Value, did: &Value| {
        for what in ["topics", "tokens", "subscribers", "batches", "events", "notes"] {
            assert_eq!(would[what], did[what], "{what}");
        }
    };
    let would = import(&bus, &ruby, &["--dry-run"]).await;
    match &store {
        Store::Sqlite => assert!(!bus.data_dir().join("routemaster.db").exists()),
        Store::Redis(redis) => assert_eq!(redis.command(&["DBSIZE"]).unwrap(), "0"),
    }
    let did = import(&bus, &ruby, &[]).await;
    same(&would, &did);
    assert_eq!(counts(&did, "events"), [251, 250, 0, 1]);
    ruby.grows("one", &entries("widgets", 251..=300));
    ruby.batch("two", "alice", BEGUN_MS, &entries("widgets", 301..=301));
    let would = import(&bus, &ruby, &["--dry-run"]).await;
    assert_eq!(counts(&would, "events"), [302, 51, 250, 1], "{would}");
    same(&would, &import(&bus, &ruby, &[]).await);
    let nothing = import(&bus, &ruby, &["--dry-run"]).await;
    assert_eq!(counts(&nothing, "batches"), [2, 0, 2, 0], "{nothing}");
    assert_eq!(counts(&nothing, "events"), [302, 0, 301, 1], "{nothing}");
});

on_both_stores!(a_run_beside_a_bus_adds_what_came_since_the_one_before, |store| async move {
    let ruby = RubyBus::new();
    let bus = Bus::new(&store);
    let (receiver, server) = (bus.receiver().await, bus.serve().await);
    ruby.topic("widgets", "demo", 7);
    ruby.topic("orders", "bob", 9);
    ruby.subscriber("alice", &receiver.url(), &["widgets", "orders"], &["timeout", "0"]);
    ruby.batch("one", "alice", BEGUN_MS, &entries("widgets", 1..=150));
    server.client("carol").claims("orders").await;

    let settings = import(&bus, &ruby, &["--skip-events"]).await;
    assert_eq!(counts(&settings, "batches"), [0; 4]);
    assert_eq!(noted(&settings, "another publisher here"), 1, "{settings}");
    assert_eq!(server.client("demo").topic("orders").await["publisher"], "carol");
    receiver.stays_quiet(std::time::Duration::from_millis(300)).await;
    let first = import(&bus, &ruby, &[]).await;
    assert_eq!(counts(&first, "subscribers"), [1, 0, 1, 0], "{first}");
    assert_eq!(receiver.numbers(150).await, (1..=150).collect::<Vec<_>>());
    // What was delivered meanwhile is not taken again; what has come since is.
    ruby.grows("one", &entries("widgets", 151..=155));
    ruby.batch("two", "alice", BEGUN_MS + 1, &entries("widgets", 156..=160));
    let second = import(&bus, &ruby, &[]).await;
    assert_eq!(counts(&second, "events"), [160, 10, 150, 0], "{second}");
    server.client("demo").publish("widgets", &event(161)).await.expect(204);
    assert_eq!(receiver.numbers(161).await, (1..=161).collect::<Vec<_>>());
});

on_both_stores!(an_import_that_is_killed_goes_on_where_it_was, |store| async move {
    const BATCHES: u64 = 1_500;
    const EVENTS: u64 = 20;
    let ruby = RubyBus::new();
    let bus = Bus::new(&store).set("ROUTEMASTER_REDIS_MAX_MEM", "1GB");
    ruby.topic("widgets", "demo", 0);
    for who in ["alice", "bob"] {
        ruby.subscriber(who, "https://a.example/", &["widgets"], &["max_events", "10000"]);
    }
    for batch in 0..BATCHES {
        let who = if batch % 3 == 0 { "bob" } else { "alice" };
        let from = batch * EVENTS;
        let entries = entries("widgets", from..=from + EVENTS - 1);
        ruby.batch(&format!("batch{batch:05}"), who, BEGUN_MS + batch / 700, &entries);
    }
    let (url, web) = (ruby.url(), bus.web().await);
    let queued = async || web.client("alice").queued("alice").await.unwrap_or(0);
    for (signal, code) in [(Signal::Kill, None), (Signal::Int, Some(1))] {
        let before = queued().await;
        let mut command = bus.command(&["import", "--from", &url]);
        let mut process = Process::spawn(&mut command, &bus.ca_path());
        let begun = async || (queued().await > before).then_some(());
        eventually("something is imported", begun).await;
        process.signal(signal);
        assert_eq!(process.exit().await.0, code, "it was cut off in the middle");
    }
    let last = import(&bus, &ruby, &[]).await;
    let [found, imported, present, _] = counts(&last, "events");
    assert_eq!((found, imported + present), (BATCHES * EVENTS, BATCHES * EVENTS), "{last}");
    assert!(imported > 0 && present > 0, "{last}");
    assert_eq!(counts(&import(&bus, &ruby, &[]).await, "events")[1], 0);

    let _worker = bus.worker().await;
    for (who, rest) in [("alice", [1, 2].as_slice()), ("bob", &[0])] {
        let receiver = bus.receiver().await;
        let expected: Vec<u64> =
            (0..BATCHES * EVENTS).filter(|number| rest.contains(&(number / EVENTS % 3))).collect();
        web.client(who).subscribes(&receiver, &[], json!({"max": 10000, "timeout": 0})).await;
        let received = receiver.numbers(expected.len()).await;
        assert!(received == expected, "{who} received another order, or other events");
    }
});

#[test]
fn the_source_is_only_read() {
    run(async {
        let ruby = RubyBus::new();
        let bus = Bus::new(&Store::sqlite());
        ruby.topic("widgets", PUBLISHER, 7);
        ruby.run(&["HSET", "api_tokens:by_token", PUBLISHER, "shop"]);
        ruby.subscriber("alice", "https://a.example/", &["widgets"], &[]);
        ruby.batch("one", "alice", BEGUN_MS, &entries("widgets", 1..=500));
        let rights = ["on", ">s3cr3t", "~*", "+@read", "+@connection"];
        ruby.run(&[&["ACL", "SETUSER", "reader"][..], &rights].concat());
        let (before, port) = (ruby.digest(), ruby.0.port());
        ruby.forget_commands();

        // As a user that may not write, whose password nobody gets to see.
        let url = format!("redis://reader:s3cr3t@127.0.0.1:{port}/0");
        let ended = bus.run(&["import", "--from", &url]).await;
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        assert!(ended.stdout.contains(&format!("redis://127.0.0.1:{port}/0")), "{}", ended.stdout);
        let said = ended.stdout + &ended.stderr;
        assert!(!said.contains("s3cr3t"), "{said}");
        let commands = ruby.commands();
        let reading = ["exists", "hmget", "hscan", "llen", "lrange", "sscan", "zcard", "zrange"];
        let connecting = ["auth", "select", "hello", "ping", "quit", "client|id"];
        let looking = ["config|resetstat", "info"];
        for command in &commands {
            let known = [&reading[..], &connecting, &looking].concat();
            assert!(known.contains(&command.as_str()), "{command} of {commands:?}");
        }
        assert!(reading.iter().all(|name| commands.iter().any(|it| it == name)), "{commands:?}");
        assert_eq!(ruby.digest(), before);
    });
}

#[test]
fn what_cannot_be_used_is_said_with_what_to_do_and_without_the_password() {
    run(async {
        let ruby = RubyBus::new();
        let bus = Bus::new(&Store::sqlite());
        ruby.run(&["CONFIG", "SET", "requirepass", "right"]);
        let at = |url: &str| format!("{url}@127.0.0.1:{}/0", ruby.0.port());
        for (url, expected) in [
            (at("amqp://:s3cr3t"), "must be a URL that starts with redis://"),
            (at("http://:s3cr3t"), "cannot be reached through the management plug-in"),
            ("s3cr3t".to_owned(), "must be a URL"),
            (
                "redis://:s3cr3t@127.0.0.1:1".to_owned(),
                "failed to connect to Redis, redis://127.0.0.1:1",
            ),
            (at("redis://:s3cr3t"), "WRONGPASS"),
            (ruby.url(), "NOAUTH"),
        ] {
            let ended = soon("it ends", bus.run(&["import", "--from", &url])).await;
            assert_eq!(ended.code, Some(1), "{}", ended.stderr);
            assert!(ended.stderr.contains(expected), "{expected}: {}", ended.stderr);
            let said = ended.stdout + &ended.stderr;
            assert!(!said.contains("s3cr3t"), "{said}");
        }
        let missing = bus.run(&["import"]).await;
        assert_eq!(missing.code, Some(2), "{}", missing.stderr);
        assert!(!bus.data_dir().join("routemaster.db").exists(), "nothing was made");
    });
}

on_both_stores!(an_import_stops_before_autodrop_would_drop_what_it_brings, |store| async move {
    let ruby = RubyBus::new();
    let bus = Bus::new(&store)
        .set("ROUTEMASTER_REDIS_MAX_MEM", "6MB")
        .set("ROUTEMASTER_REDIS_MIN_FREE", "2MB")
        .set("ROUTEMASTER_SQLITE_MAX_BYTES", "6MB")
        .set("ROUTEMASTER_SQLITE_MIN_FREE", "2MB");
    ruby.topic("widgets", "demo", 0);
    ruby.subscriber("alice", "https://a.example/", &["widgets"], &[]);
    let large = |number| {
        entry_with("widgets", number, |fields| drop(fields.insert("d", "x".repeat(1_000).into())))
    };
    for batch in 0..1_200u64 {
        let entries: Vec<_> = (0..10).map(|entry| large(10 * batch + entry)).collect();
        ruby.batch(&format!("batch{batch:04}"), "alice", BEGUN_MS, &entries);
    }
    let would = import(&bus, &ruby, &["--dry-run"]).await;
    assert_eq!(noted(&would, "the store would hold"), 1, "{would}");
    let url = ruby.url();
    let ended = bus.run(&["import", "--from", &url]).await;
    assert_eq!(ended.code, Some(1), "{}", ended.stdout);
    assert!(ended.stderr.contains("autodrop begins over 4.00 MB"), "{}", ended.stderr);
    let more = ["--redis-max-mem=100MB", "--sqlite-max-bytes=100MB"];
    let rest = import(&bus, &ruby, &more).await;
    let [found, imported, present, skipped] = counts(&rest, "events");
    assert_eq!((found, imported + present, skipped), (12_000, 12_000, 0), "{rest}");
    assert!(imported > 0 && present > 0, "{rest}");
});
