//! Trouble with the store: what a client is told meanwhile, and that the bus heals by itself.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::{Bus, Client, Process, RedisServer, Signal, Store, event, eventually, run};

/// How long a publish may take to say that the store is away.
const REFUSAL_LIMIT: Duration = Duration::from_secs(5);

/// Requires a publish to be refused for now, in time and with a hint when to come back.
async fn is_refused_for_now(client: &Client, number: u64) {
    let start = Instant::now();
    let reply = client.publish("widgets", &event(number)).await;
    assert!(start.elapsed() <= REFUSAL_LIMIT, "the answer took {:?}", start.elapsed());
    assert_eq!(reply.status, 503, "{reply:?}");
    let seconds = reply.header("retry-after").and_then(|value| value.parse::<u32>().ok());
    assert!(seconds.is_some_and(|seconds| seconds > 0), "{reply:?}");
    reply.expect_reason(503);
}

/// Waits until a publish is accepted again.
async fn publishes_again(client: &Client, number: u64) {
    let publish =
        async || (client.publish("widgets", &event(number)).await.status == 204).then_some(());
    eventually("publishing works again", publish).await;
}

/// Everything else while the store is away: an answer in time, never a hang.
async fn the_rest_says_so(server: &Process) {
    let demo = server.client("demo");
    let started = Instant::now();
    let (nothing, anonymous) = (json!({}), server.anonymous());
    let (topics, subscriptions, delete, pulse, health, bad) = tokio::join!(
        demo.get("/topics"),
        demo.get("/subscriptions"),
        demo.delete("/topics/other"),
        demo.get("/pulse"),
        anonymous.get("/health"),
        demo.publish("widgets", &nothing),
    );
    for reply in [topics, subscriptions, delete] {
        assert_eq!(reply.status, 503, "{reply:?}");
        assert!(reply.header("retry-after").is_some(), "{reply:?}");
        assert!(!reply.body.contains("127.0.0.1"), "no internals for clients: {reply:?}");
    }
    pulse.expect(500);
    health.expect(200);
    bad.expect(400);
    assert!(started.elapsed() < REFUSAL_LIMIT * 2, "{:?}", started.elapsed());
}

#[test]
fn a_redis_that_is_gone_is_said_and_the_bus_goes_on_when_it_is_back() {
    run(async {
        let mut store = Store::redis_with_aof();
        let bus = Bus::new(&store);
        let (web, mut worker) = (bus.web().await, bus.worker().await);
        let (demo, receiver) = (web.client("demo"), bus.receiver().await);
        demo.claims("widgets").await;
        demo.subscribes(&receiver, &["widgets"], json!({"timeout": 0, "max": 1})).await;
        demo.publishes("widgets", 1..=2).await;
        receiver.numbers(2).await;

        store.server().kill();
        // Each of these may take its time, all of them must be answered in time.
        tokio::join!(
            is_refused_for_now(&demo, 97),
            is_refused_for_now(&demo, 98),
            the_rest_says_so(&web),
        );

        store.server().restart();
        publishes_again(&demo, 3).await;
        demo.publishes("widgets", 4..=5).await;
        assert_eq!(receiver.numbers(5).await, [1, 2, 3, 4, 5], "refused events were not stored");
        demo.get("/pulse").await.expect(204);
        assert!(worker.is_running());
    });
}

#[test]
fn events_that_were_accepted_before_redis_died_arrive() {
    run(async {
        let mut store = Store::redis_with_aof();
        let bus = Bus::new(&store);
        let server = bus.serve().await;
        let (demo, receiver) = (server.client("demo"), bus.receiver().await);
        demo.claims("widgets").await;
        demo.subscribes(&receiver, &["widgets"], json!({"timeout": 400, "max": 1000})).await;
        demo.publishes("widgets", 1..=20).await;
        store.server().kill();
        is_refused_for_now(&demo, 99).await;
        store.server().restart();
        assert_eq!(receiver.numbers(20).await, (1..=20).collect::<Vec<_>>());
    });
}

#[test]
fn a_redis_that_hangs_is_said_in_time_and_healed_from() {
    run(async {
        let mut store = Store::redis();
        let bus = Bus::new(&store);
        let server = bus.serve().await;
        let (demo, receiver) = (server.client("demo"), bus.receiver().await);
        demo.claims("widgets").await;
        demo.subscribes(&receiver, &["widgets"], json!({"timeout": 0})).await;
        store.server().pause();
        tokio::join!(is_refused_for_now(&demo, 1), the_rest_says_so(&server));
        store.server().resume();
        publishes_again(&demo, 2).await;
        receiver.arrival(2).await;
        demo.get("/pulse").await.expect(204);
    });
}

/// What publishers are refused while Redis hangs must not be in it when it answers again. `hang` lets it
/// hang while it publishes, and returns how many events were accepted.
fn stores_what_was_accepted_only(
    hang: impl AsyncFnOnce(&mut RedisServer, Client) -> u64 + 'static,
) {
    run(async {
        let mut store = Store::redis();
        let bus = Bus::new(&store);
        let web = bus.web().await;
        let demo = web.client("demo");
        demo.claims("widgets").await;
        let accepted = hang(store.server(), demo.clone()).await;
        publishes_again(&demo, 1).await;
        let expected = accepted + 2;
        assert_eq!(demo.topic("widgets").await["events"], expected, "the claim and event 1, too");
    });
}

#[test]
fn an_event_that_was_refused_while_redis_hung_is_not_stored_later() {
    stores_what_was_accepted_only(async |redis: &mut RedisServer, demo: Client| {
        redis.pause();
        // Some are under way to Redis when it hangs, some come while those wait.
        let publishers = (0..8u32).map(|index| {
            let demo = demo.clone();
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(250) * index).await;
                is_refused_for_now(&demo, 99).await;
            })
        });
        for publisher in publishers.collect::<Vec<_>>() {
            publisher.await.unwrap();
        }
        redis.resume();
        0
    });
}

#[test]
fn an_event_that_was_just_refused_is_not_stored_by_a_redis_that_wakes_up() {
    stores_what_was_accepted_only(async |redis: &mut RedisServer, demo: Client| {
        redis.pause();
        is_refused_for_now(&demo, 99).await;
        // The command still waits in front of it.
        redis.resume();
        0
    });
}

#[test]
fn nothing_is_refused_and_stored_when_redis_hangs_just_longer_than_a_call_may_take() {
    stores_what_was_accepted_only(async |redis: &mut RedisServer, demo: Client| {
        redis.pause();
        // The first one waits in vain and has another server looked for; the second one is under way then.
        let publishers = (0..2u32).map(|index| {
            let demo = demo.clone();
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_secs(2) * index).await;
                demo.publish("widgets", &event(1)).await.status
            })
        });
        let publishers: Vec<_> = publishers.collect();
        tokio::time::sleep(Duration::from_millis(4_300)).await;
        redis.resume();
        let mut accepted = 0;
        for publisher in publishers {
            accepted += u64::from(publisher.await.unwrap() == 204);
        }
        accepted
    });
}

#[test]
fn a_delivery_during_an_outage_is_not_lost() {
    run(async {
        let mut store = Store::redis_with_aof();
        let bus = Bus::new(&store);
        let server = bus.serve().await;
        let (demo, receiver) = (server.client("demo"), bus.receiver().await);
        demo.claims("widgets").await;
        demo.subscribes(&receiver, &["widgets"], json!({"timeout": 0, "max": 1})).await;
        receiver.answer_next([crate::support::Answer::Held]);
        demo.publishes("widgets", 1..=3).await;
        receiver.attempts(1).await;
        store.server().kill();
        receiver.release();
        is_refused_for_now(&demo, 99).await;
        store.server().restart();
        // The first may come twice: its acknowledgement could not be written down.
        let arrived =
            |all: &Vec<crate::support::Attempt>| all.iter().any(|attempt| attempt.numbers() == [3]);
        let attempts = receiver.until("all are delivered", arrived).await;
        let mut numbers: Vec<u64> = attempts.iter().flat_map(|a| a.numbers()).collect();
        numbers.dedup();
        assert_eq!(numbers, [1, 2, 3]);
    });
}

#[test]
fn a_redis_that_forgot_everything_needs_no_restart_of_the_bus() {
    run(async {
        let mut store = Store::redis();
        let bus = Bus::new(&store);
        let server = bus.serve().await;
        let (demo, receiver) = (server.client("demo"), bus.receiver().await);
        demo.publishes("widgets", [1]).await;
        // Scripts and data are gone.
        store.server().kill();
        store.server().restart();
        publishes_again(&demo, 2).await;
        demo.subscribes(&receiver, &["widgets"], json!({"timeout": 0})).await;
        demo.publishes("widgets", [3]).await;
        assert_eq!(receiver.numbers(1).await, [3]);
    });
}

#[test]
fn the_bus_stops_in_time_though_redis_hangs() {
    run(async {
        let mut store = Store::redis();
        let bus = Bus::new(&store).set("ROUTEMASTER_SHUTDOWN_TIMEOUT", "1");
        let mut server = bus.serve().await;
        server.client("demo").claims("widgets").await;
        store.server().pause();
        server.signal(Signal::Term);
        let (_, took) = server.exit().await;
        assert!(took < Duration::from_secs(8), "it took {took:?}");
        store.server().resume();
    });
}

#[test]
fn an_sqlite_file_that_somebody_locks_is_said_and_the_bus_goes_on() {
    run(async {
        let bus = Bus::new(&Store::sqlite());
        let server = bus.serve().await;
        let (demo, receiver) = (server.client("demo"), bus.receiver().await);
        demo.claims("widgets").await;
        demo.subscribes(&receiver, &["widgets"], json!({"timeout": 0})).await;
        let file = bus.data_dir().join("routemaster.db");
        let locker = rusqlite::Connection::open(file).unwrap();
        locker.busy_timeout(Duration::from_secs(5)).unwrap();
        locker.execute_batch("BEGIN IMMEDIATE").unwrap();
        let (_, _, pulse) = tokio::join!(
            is_refused_for_now(&demo, 98),
            is_refused_for_now(&demo, 99),
            demo.get("/pulse"),
        );
        pulse.expect(500);
        locker.execute_batch("ROLLBACK").unwrap();
        publishes_again(&demo, 1).await;
        assert_eq!(receiver.numbers(1).await, [1], "refused events were not stored");
        demo.get("/pulse").await.expect(204);
    });
}

#[test]
fn a_damaged_sqlite_file_is_refused_with_what_to_do() {
    run(async {
        let bus = Bus::new(&Store::sqlite());
        let file = bus.data_dir().join("routemaster.db");
        std::fs::create_dir_all(bus.data_dir()).unwrap();
        std::fs::write(&file, "this is no store ".repeat(1000)).unwrap();
        let ended = bus.run(&["serve"]).await;
        assert_eq!(ended.code, Some(1), "{}", ended.stderr);
        assert!(ended.stderr.contains("restore a backup"), "{}", ended.stderr);
    });
}

#[test]
fn an_sqlite_file_that_is_damaged_inside_accepts_nothing_and_says_what_to_do() {
    run(async {
        let bus = Bus::new(&Store::sqlite());
        let mut server = bus.serve().await;
        server.client("demo").publishes("widgets", 1..=3).await;
        server.signal(Signal::Term);
        server.exit().await;
        let file = bus.data_dir().join("routemaster.db");
        let root = "SELECT rootpage FROM sqlite_master WHERE name = 'topics'";
        let page: usize = {
            let connection = rusqlite::Connection::open(&file).unwrap();
            connection.query_row(root, [], |row| row.get(0)).unwrap()
        };
        let mut bytes = std::fs::read(&file).unwrap();
        bytes[(page - 1) * 4096..][..4096].fill(0xa5);
        std::fs::write(&file, bytes).unwrap();
        let server = bus.serve().await;
        let reply = server.client("demo").publish("widgets", &event(4)).await;
        assert_eq!(reply.status, 500, "{reply:?}");
        assert!(!reply.body.contains("routemaster.db"), "no internals for clients: {reply:?}");
        let line = server.stderr.line_with("restore a backup");
        crate::support::soon("the log says what to do", line).await;
    });
}

/// What is written into a file that was removed is gone when its process ends.
#[test]
fn a_data_directory_that_is_removed_ends_the_bus_and_nothing_is_accepted_any_more() {
    run(async {
        let bus = Bus::new(&Store::sqlite());
        let mut server = bus.serve().await;
        let demo = server.client("demo");
        demo.publishes("widgets", 1..=3).await;
        std::fs::remove_dir_all(bus.data_dir()).unwrap();
        let accepted = demo.try_publish("widgets", &event(4)).await;
        assert!(!accepted, "an event was accepted that nobody will find again");
        let (code, _) = server.exit().await;
        assert_eq!(code, Some(1));
        let text = server.stderr.text();
        assert!(text.contains("was removed"), "{text}");
    });
}
