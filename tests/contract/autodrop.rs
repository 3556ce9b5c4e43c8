//! Autodrop (§6): when the store runs out of room, the oldest events of the fullest queues go, nobody
//! pushes out another's, and the bus goes on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{
    Answer, Bus, Client, RedisServer, Store, event, eventually, run, soon, within,
};

const LOG_LINE: &str = "autodrop: the store ran out of room";
/// Events in an array. With their data they are about half a megabyte.
const CHUNK: u64 = 1_000;
/// Events for the fullest queue: more than will have to go.
const BOBS: u64 = 12 * CHUNK;

/// A bus whose store may hold 12 MB, of which 2 MB are to stay free.
fn small_bus(store: &Store) -> Bus {
    Bus::new(store)
        .set("ROUTEMASTER_SQLITE_MAX_BYTES", "12MB")
        .set("ROUTEMASTER_SQLITE_MIN_FREE", "2MB")
        .set("ROUTEMASTER_REDIS_MAX_MEM", "12MB")
        .set("ROUTEMASTER_REDIS_MIN_FREE", "2MB")
        // Whoever fails once is not tried again before the test is over, unless it asks for it.
        .set("ROUTEMASTER_HP_DAMAGE_RATE", "100")
        .set("ROUTEMASTER_TIMEOUT", "80")
}

/// A Redis that refuses to hold more than that.
fn redis_with(maxmemory: &str) -> Store {
    let options = ["--save", "", "--appendonly", "no", "--maxmemory", maxmemory];
    Store::Redis(RedisServer::start_with(&options))
}

/// Events from this number on, with data.
fn chunk(from: u64, count: u64) -> Value {
    let with_data = |number| {
        let mut event = event(number);
        event["data"] = json!("x".repeat(400));
        event
    };
    (from..from + count).map(with_data).collect()
}

async fn dropped(client: &Client, subscriber: &str) -> u64 {
    let events = client.subscription(subscriber).await["events"].clone();
    events["autodropped"].as_u64().unwrap_or(0)
}

async fn the_oldest_events_of_the_fullest_go(store: Store) {
    let bus = small_bus(&store);
    let server = bus.serve().await;
    let demo = server.client("demo");
    let receivers = [bus.receiver().await, bus.receiver().await, bus.receiver().await];
    let [alice, bob, carol] = &receivers;
    for (name, receiver) in ["alice", "bob", "carol"].into_iter().zip(&receivers) {
        demo.claims(name).await;
        receiver.answer(Answer::Status(500));
        let more = json!({"timeout": 0, "max": 100});
        server.client(name).subscribes(receiver, &[name], more).await;
    }
    // The oldest events of all: alice's, the first of them on their way while the rest is dropped.
    alice.answer(Answer::Held);
    demo.publish("alice", &chunk(0, 10)).await.expect(204);
    alice.attempts(1).await;
    demo.publish("alice", &chunk(10, CHUNK)).await.expect(204);
    for from in (0..BOBS / CHUNK).map(|number| number * CHUNK) {
        demo.publish("bob", &chunk(from, CHUNK)).await.expect(204);
    }

    // Others publish all the time, to somebody who receives it.
    let live = bus.receiver().await;
    demo.claims("live").await;
    server.client(crate::support::ORDERS).subscribes(&live, &["live"], json!({"timeout": 0})).await;
    let stop = Arc::new(AtomicBool::new(false));
    let publishing = tokio::spawn({
        let (demo, stop) = (demo.clone(), stop.clone());
        async move {
            let mut number = 0;
            while !stop.load(Ordering::SeqCst) {
                demo.publish("live", &event(number)).await.expect(204);
                number += 1;
            }
            number
        }
    });

    // Close to the mark at once, and then slowly past it.
    let mut carols = 0;
    while carols < 4 * CHUNK {
        demo.publish("carol", &chunk(carols, CHUNK)).await.expect(204);
        carols += CHUNK;
    }
    let ran = || server.stderr.line_with(LOG_LINE);
    while tokio::time::timeout(Duration::from_millis(500), ran()).await.is_err() {
        demo.publish("carol", &chunk(carols, CHUNK / 2)).await.expect(204);
        carols += CHUNK / 2;
        assert!(carols <= 40 * CHUNK, "the store should be full by now");
    }

    let line = soon("the run is logged", ran()).await.expect("the process runs");
    let logged: Value = serde_json::from_str(&line).expect("a line of JSON");
    let (bobs, carols_gone) = (dropped(&demo, "bob").await, dropped(&demo, "carol").await);
    assert_eq!(dropped(&demo, "alice").await, 0, "she has the oldest, and less than her share");
    assert!((CHUNK..BOBS).contains(&bobs), "the fullest gives: {bobs}");
    let left = (BOBS - bobs, carols - carols_gone);
    assert!(carols_gone == 0 || left.0.abs_diff(left.1) < CHUNK, "down to the next: {left:?}");
    assert_eq!(logged["events"], bobs + carols_gone, "{logged}");
    assert_eq!(logged["level"], "WARN");

    stop.store(true, Ordering::SeqCst);
    let published = soon("the last publish ends", publishing).await.unwrap();

    // What was not counted as dropped arrives, in order.
    for (name, receiver) in [("bob", bob), ("carol", carol)] {
        receiver.answer(Answer::Status(200));
        let elsewhere = receiver.url().replace("/events", "/again");
        let more = json!({"timeout": 0, "max": 1000, "callback": elsewhere});
        server.client(name).subscribes(receiver, &[name], more).await;
    }
    alice.release();
    let all_of = |from, to| (from..to).collect::<Vec<_>>();
    assert_eq!(alice.numbers(CHUNK as usize + 10).await, all_of(0, CHUNK + 10));
    assert_eq!(bob.numbers((BOBS - bobs) as usize).await, all_of(bobs, BOBS));
    let carols_left = (carols - carols_gone) as usize;
    assert_eq!(carol.numbers(carols_left).await, all_of(carols_gone, carols));
    assert_eq!(live.numbers(published as usize).await, all_of(0, published));
    let metric = server.stderr.line_with("routemaster.events.autodropped");
    soon("it is counted", metric).await.expect("a metric");
}

mod the_oldest_events_of_the_fullest_queues_go_and_nothing_else {
    use super::*;

    #[test]
    fn sqlite() {
        run(the_oldest_events_of_the_fullest_go(Store::sqlite()));
    }

    #[test]
    fn redis() {
        run(the_oldest_events_of_the_fullest_go(redis_with("12mb")));
    }
}

#[test]
fn what_else_fills_a_redis_costs_no_event() {
    run(async {
        let store = Store::redis();
        let bus = Bus::new(&store)
            .set("ROUTEMASTER_REDIS_MAX_MEM", "12MB")
            .set("ROUTEMASTER_REDIS_MIN_FREE", "2MB");
        let server = bus.serve().await;
        let (demo, receiver) = (server.client("demo"), bus.receiver().await);
        demo.claims("widgets").await;
        demo.subscribes(&receiver, &["widgets"], json!({"timeout": 3000})).await;
        demo.publishes("widgets", 1..=5).await;
        let Store::Redis(redis) = &store else { unreachable!() };
        redis.command(&["SETRANGE", "somebody-else", "30000000", "x"]).unwrap();
        let line = server.stderr.line_with("look what else fills it");
        soon("the operator is told", line).await.expect("a line of the log");
        assert_eq!(receiver.numbers(5).await, [1, 2, 3, 4, 5]);
        assert_eq!(dropped(&demo, "demo").await, 0);
    });
}

#[test]
fn what_a_removed_subscriber_has_left_costs_nobody_an_event() {
    run(async {
        let bus = small_bus(&Store::sqlite());
        let web = bus.web().await;
        let (demo, alice) = (web.client("demo"), web.client("alice"));
        for (client, name) in [(&alice, "alice"), (&demo, "demo")] {
            demo.claims(name).await;
            let body = json!({"topics": [name], "callback": "https://a.example/events"});
            client.post("/subscription", body.to_string()).await.expect(204);
        }
        for from in (0..15).map(|number| number * CHUNK) {
            demo.publish("alice", &chunk(from, CHUNK)).await.expect(204);
        }
        demo.publish("demo", &chunk(0, 4 * CHUNK / 4)).await.expect(204);
        alice.delete("/subscription").await.expect(204);
        for from in (1..10).map(|number| number * CHUNK) {
            demo.publish("demo", &chunk(from, CHUNK)).await.expect(204);
        }
        let used = async || {
            let ended = bus.run(&["autodrop", "--dry-run", "--json"]).await;
            let report: Value = serde_json::from_str(&ended.stdout).expect("one JSON object");
            (report["used"].as_u64()? < 9_000_000).then_some(())
        };
        eventually("it is taken away, though no worker runs", used).await;
        assert_eq!(dropped(&demo, "demo").await, 0);
    });
}

#[test]
fn a_redis_out_of_memory_is_a_503_and_makes_room_at_once() {
    run(async {
        // A publish takes so much that it is refused before the store holds more than it should.
        let store = redis_with("10mb");
        let bus = Bus::new(&store)
            .set("ROUTEMASTER_REDIS_MIN_FREE", "2500KB")
            .set("ROUTEMASTER_MAX_BODY", "8000000");
        let web = bus.web().await;
        let (demo, alice) = (web.client("demo"), web.client("alice"));
        demo.claims("widgets").await;
        let body = json!({"topics": ["widgets"], "callback": "https://a.example/events"});
        alice.post("/subscription", body.to_string()).await.expect(204);
        let mut number = 0;
        let refused = loop {
            let reply = demo.publish("widgets", &chunk(number, 10 * CHUNK)).await;
            if reply.status != 204 {
                break reply;
            }
            number += 10 * CHUNK;
            assert!(number < 100 * CHUNK, "10 MB are not that much");
        };
        assert!(refused.header("retry-after").is_some(), "{refused:?}");
        assert!(refused.expect_reason(503).contains("full"));
        let publish = async || demo.try_publish("widgets", &event(number)).await.then_some(());
        within(Duration::from_secs(5), "there is room again", eventually("room", publish)).await;
        // One that is small may find room before something was dropped.
        let (events, _) = eventually("something is dropped", async || {
            let events = alice.subscription("alice").await["events"].clone();
            events["autodropped"].is_u64().then_some(events)
        })
        .await;
        let (queued, dropped) = (events["queued"].as_u64(), events["autodropped"].as_u64());
        assert_eq!(queued.unwrap() + dropped.unwrap(), number + 1, "each one is counted");
    });
}

/// The flag that sets how much the store may hold.
fn limit(store: &Store, amount: &str) -> String {
    match store {
        Store::Sqlite => format!("--sqlite-max-bytes={amount}"),
        Store::Redis(_) => format!("--redis-max-mem={amount}"),
    }
}

on_both_stores!(the_command_tells_what_would_go_and_drops_it, |store| async move {
    let bus = Bus::new(&store).set("ROUTEMASTER_REDIS_MIN_FREE", "200KB");
    let web = bus.web().await;
    let demo = web.client("demo");
    for (name, chunks) in [("bob", 1), ("alice", 6)] {
        demo.claims(name).await;
        let body = json!({"topics": [name], "callback": "https://a.example/events"});
        web.client(name).post("/subscription", body.to_string()).await.expect(204);
        for from in (0..chunks).map(|number| number * CHUNK) {
            demo.publish(name, &chunk(from, CHUNK)).await.expect(204);
        }
    }
    let plenty = bus.run(&["autodrop", "--dry-run", &limit(&store, "1GB")]).await;
    assert_eq!(plenty.code, Some(0), "{}", plenty.stderr);
    assert!(plenty.stdout.contains("Nothing has to go."), "{}", plenty.stdout);

    let report = async |arguments: &[&str]| {
        let ended = bus.run(arguments).await;
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        serde_json::from_str::<Value>(&ended.stdout).expect("one JSON object")
    };
    let used = report(&["autodrop", "--dry-run", "--json"]).await["used"].as_u64().unwrap();
    let less = limit(&store, &(used - 300_000).to_string());
    let would = report(&["autodrop", &less, "--dry-run", "--json"]).await;
    assert_eq!((&would["dry_run"], &would["enough"]), (&json!(true), &json!(true)), "{would}");
    assert!(would["events"].as_u64().unwrap() > 0, "{would}");
    assert_eq!(
        would["subscribers"].as_array().unwrap().len(),
        1,
        "bob's are older and fewer: {would}"
    );
    assert_eq!(dropped(&demo, "alice").await, 0, "nothing was dropped yet");
    let readable = bus.run(&["autodrop", &less, "--dry-run"]).await.stdout;
    assert!(readable.contains("Would drop the oldest events:"), "{readable}");

    let did = report(&["autodrop", &less, "--json"]).await;
    let (would, did) = (would["events"].as_u64().unwrap(), did["events"].as_u64().unwrap());
    assert!(did >= would / 2 && did <= would * 2, "{did} went, where {would} were told");
    assert_eq!(dropped(&demo, "alice").await, did);
    assert_eq!(dropped(&demo, "bob").await, 0);
    let again = report(&["autodrop", &less, "--json"]).await;
    assert_eq!(again["events"], 0, "there is room now: {again}");
});

#[test]
fn the_command_says_when_it_cannot_help() {
    run(async {
        let bus = Bus::new(&Store::sqlite());
        let no_store = bus.run(&["autodrop"]).await;
        assert_eq!(no_store.code, Some(1));
        assert!(no_store.stderr.contains("ROUTEMASTER_DATA_DIR"), "{}", no_store.stderr);
        let _web = bus.web().await;
        let hopeless = bus.run(&["autodrop", "--sqlite-max-bytes", "1KB"]).await;
        assert_eq!(hopeless.code, Some(1));
        assert!(hopeless.stderr.contains("nothing more can be dropped"), "{}", hopeless.stderr);
        let wrong = bus.run(&["autodrop", "--sqlite-max-bytes", "a lot"]).await;
        assert_eq!(wrong.code, Some(2));
        assert!(wrong.stderr.contains("ROUTEMASTER_SQLITE_MAX_BYTES"), "{}", wrong.stderr);
    });
}
