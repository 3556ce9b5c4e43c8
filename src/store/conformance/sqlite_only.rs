//! What the embedded store promises beyond the trait: a file that outlives its processes, and
//! several processes on it.

use std::time::Duration;

use super::fixture::{
    Fixture, HOUR, LEASE, PUBLISHER, WholeStore, assert_due_after, client, numbers, plain,
    publication, soon, subscription, texts,
};
use crate::bus::tally::{Span, Subject, Tally};
use crate::bus::token::ApiToken;
use crate::store::{BatchOutcome, BatchSettled, IMPORT_MEMORY, Lane, Portion};

#[tokio::test]
async fn everything_is_there_after_a_restart() {
    let mut f = Fixture::sqlite();
    f.subscribe("alice", &["a", "b"], |terms| terms.max = 2).await;
    f.publish("a", &numbers(1, 5)).await;
    let leased = f.claim_one().await;
    f.settle(&leased.lease, BatchOutcome::Acknowledged).await;
    let held = f.claim_one().await;
    let token = ApiToken::new("booking".into(), client("booking--1"));
    f.store.add_api_token(&token).await.unwrap();
    let (topics, subscriptions) =
        (f.store.topics().await.unwrap(), f.store.subscriptions().await.unwrap());
    assert_eq!((subscriptions[0].sent, subscriptions[0].queued), (2, 3));

    f.reopen();
    assert_eq!(f.store.topics().await.unwrap(), topics);
    assert_eq!(f.store.subscriptions().await.unwrap(), subscriptions);
    assert_eq!(f.store.api_tokens().await.unwrap(), [token]);
    assert_due_after(f.claim_none().await, LEASE);
    assert!(matches!(f.settle(&held.lease, BatchOutcome::Returned).await, BatchSettled::Released));
    let again = f.claim_one().await;
    assert_eq!((again.batch.id, again.batch.attempt), (held.batch.id, 2));
    f.settle(&again.lease, BatchOutcome::Acknowledged).await;
    assert_eq!(f.drain().await["alice"], ["5"]);
}

#[tokio::test]
async fn a_removed_subscribers_events_leave_the_disk_bit_by_bit() {
    let f = Fixture::sqlite();
    f.subscribe("alice", &["a"], plain).await;
    let long = "x".repeat(2_000);
    for _ in 0..10 {
        f.publish("a", &vec![&long; 500]).await;
    }
    let pages = || {
        let db = rusqlite::Connection::open(f.path().join("routemaster.db")).unwrap();
        let items: u64 = db.query_row("SELECT count(*) FROM items", [], |row| row.get(0)).unwrap();
        let pages: u64 = db.pragma_query_value(None, "page_count", |row| row.get(0)).unwrap();
        (items, pages)
    };
    let (items, pages_before) = pages();
    assert_eq!(items, 5_000);
    assert!(f.store.unsubscribe(&client("alice")).await.unwrap());
    assert_eq!(f.store.subscriptions().await.unwrap(), []);
    let used = f.store.usage(Lane::HOME).await.unwrap().used;
    assert!(used < pages_before * 4096 / 2, "what goes by itself does not count: {used}");
    f.claim_none().await;
    assert!((1..5_000).contains(&pages().0), "a part of it goes with each claim");
    let tidied = async || {
        f.claim_none().await;
        let (items, pages) = pages();
        (items == 0 && pages < pages_before / 2).then_some(())
    };
    f.eventually("the file has shrunk", tidied).await;
}

#[tokio::test]
async fn what_was_imported_is_forgotten_after_its_time_or_with_its_queue() {
    let f = Fixture::sqlite();
    let remembered = || {
        let db = rusqlite::Connection::open(f.path().join("routemaster.db")).unwrap();
        let count = "SELECT (SELECT count(*) FROM imports) + count(*) FROM imported_batches";
        db.query_row(count, [], |row| row.get::<_, u64>(0)).unwrap()
    };
    let portion = |batch: usize| Portion {
        batch: format!("batch-{batch}"),
        created_ms: 0,
        from: 0,
        entries: 1,
        items: vec![],
    };
    f.claim_none().await;
    for who in ["alice", "bob"] {
        f.subscribe(who, &["a"], plain).await;
        let portions = (0..3_000).map(portion).collect();
        f.store.import_batches(&client(who), portions).await.unwrap();
    }
    f.claim_none().await;
    assert_eq!(remembered(), 6_002, "nothing is forgotten while it may be needed");
    assert!(f.store.unsubscribe(&client("alice")).await.unwrap());
    let tidied = async |expected| {
        f.claim_none().await;
        (remembered() == expected).then_some(())
    };
    f.eventually("alice's is forgotten", async || tidied(3_001).await).await;
    f.pass(IMPORT_MEMORY).await;
    f.eventually("bob's is forgotten", async || tidied(0).await).await;
    assert_eq!(f.store.subscriptions().await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_clock_that_is_set_back_holds_nothing_up() {
    let f = Fixture::sqlite();
    let second = Duration::from_secs(1);
    f.subscribe("alice", &["a"], |terms| terms.timeout = 10 * second).await;
    f.subscribe("bob", &["b"], plain).await;
    f.pass(2 * HOUR).await;
    f.publish("a", &["1"]).await;
    f.publish("b", &["2"]).await;
    let held = f.claim_one().await;
    f.set_back(HOUR);
    let before_ms = f.now_ms();
    let oldest_ms = f.status("alice").await.oldest_ms.unwrap();
    assert!((before_ms..=f.now_ms()).contains(&oldest_ms), "{oldest_ms}, since {before_ms}");
    assert_due_after(f.claim_none().await, 10 * second);
    f.pass(10 * second).await;
    assert_eq!(texts(&f.claim_one().await), ["1"]);
    f.pass(LEASE).await;
    let again = f.claim(10).await.batches;
    assert!(again.iter().any(|leased| leased.batch.id == held.batch.id), "{again:?}");
}

#[tokio::test]
async fn the_file_is_for_its_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let f = Fixture::sqlite();
    f.publish("a", &["1"]).await;
    for entry in std::fs::read_dir(f.path()).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{:?} has mode {mode:o}", entry.path());
    }
}

#[tokio::test]
async fn two_processes_on_one_file_see_everything_at_once() {
    let f = Fixture::sqlite();
    let other = f.open_another();
    other.subscribe(&client("alice"), &subscription(&["a"], plain).into(), true).await.unwrap();
    f.publish("a", &["1"]).await;
    other.publish(vec![publication(PUBLISHER, "a", &["2"])], soon()).await.unwrap();
    assert_eq!(other.topics().await.unwrap(), f.store.topics().await.unwrap());
    assert_eq!(other.subscriptions().await.unwrap(), f.store.subscriptions().await.unwrap());

    let leased = f.claim_one().await;
    assert_eq!(texts(&leased), ["1", "2"]);
    assert!(other.claim_all(10, LEASE).await.unwrap().batches.is_empty());
    assert_eq!(other.renew_all(std::slice::from_ref(&leased.lease), LEASE).await.unwrap(), []);
    f.settle(&leased.lease, BatchOutcome::Acknowledged).await;
    let [status] = &other.subscriptions().await.unwrap()[..] else { panic!("alice subscribed") };
    assert_eq!((status.sent, status.queued), (2, 0));
}

#[tokio::test]
async fn a_stored_callback_that_is_none_any_more_holds_up_its_own_subscriber_alone() {
    let f = Fixture::sqlite();
    f.subscribe("alice", &["a"], plain).await;
    f.subscribe("bob", &["a"], plain).await;
    f.publish("a", &["1"]).await;
    let file = rusqlite::Connection::open(f.path().join("routemaster.db")).unwrap();
    let bad = "UPDATE queues SET callback = 'gopher://a b' WHERE subscriber = 'alice'";
    file.execute(bad, []).unwrap();
    let batches = f.claim(10).await.batches;
    assert_eq!(batches.len(), 2);
    for leased in batches {
        let is_alice = leased.lease.subscriber == client("alice");
        assert_eq!(leased.terms.target.callback().unwrap().is_unusable(), is_alice);
    }
    assert_eq!(f.store.subscriptions().await.unwrap().len(), 2);
}

#[tokio::test]
async fn what_removed_subscribers_have_left_is_estimated_and_not_counted_as_room() {
    let f = Fixture::sqlite();
    f.subscribe("alice", &["a"], plain).await;
    let before = f.store.usage(Lane::HOME).await.unwrap().used;
    for _ in 0..10 {
        f.publish("a", &vec!["x".repeat(900); 1000]).await;
    }
    let full = f.store.usage(Lane::HOME).await.unwrap().used;
    assert!(full > before + 9_000_000, "{before} became {full}");
    f.store.unsubscribe(&client("alice")).await.unwrap();
    let left = f.store.usage(Lane::HOME).await.unwrap().used;
    assert!(left < before + 2_000_000, "{before} became {left}");
}

#[tokio::test]
async fn a_thread_that_ends_is_noticed() {
    let directory = tempfile::tempdir().unwrap();
    let store = crate::store::sqlite::SqliteStore::open(
        directory.path(),
        crate::bus::clock::Clock::system(),
    )
    .unwrap();
    let soon = Duration::from_millis(50);
    assert!(tokio::time::timeout(soon, crate::store::Store::broken(&store)).await.is_err());
    store.panic_in_the_writer().await;
    let error = tokio::time::timeout(HOUR, crate::store::Store::broken(&store)).await.unwrap();
    assert!(error.to_string().contains("sqlite-writer"), "{error}");
}

#[tokio::test]
async fn what_was_counted_long_ago_is_forgotten() {
    let f = Fixture::sqlite();
    let count = async |at_ms: u64| {
        let tally = Tally { volume: 1, ..Tally::default() };
        f.store.add_tallies(at_ms, vec![(Subject::Bus, tally)]).await.unwrap();
    };
    let left = || {
        let db = rusqlite::Connection::open(f.path().join("routemaster.db")).unwrap();
        let sql = "SELECT count(*) FROM tallies WHERE span_ms = ?1";
        Span::ALL
            .map(|span| -> u64 { db.query_row(sql, [span.length_ms()], |row| row.get(0)).unwrap() })
    };
    let first = 1_764_337_061_234;
    count(first).await;
    count(first + Span::Minute.kept() * Span::Minute.length_ms()).await;
    assert_eq!(left(), [1, 2, 1], "both are on one day, in two hours");
    count(first + Span::Hour.kept() * Span::Hour.length_ms()).await;
    assert_eq!(left(), [1, 2, 2]);
}
