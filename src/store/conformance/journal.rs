//! The journal: what is written is found by each filter, the newest first; the oldest go where there are too many.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tempfile::TempDir;

use super::fixture::client;
use super::redis_server::RedisServer;
use crate::bus::position::EventPosition;
use crate::journal::{
    CarriedEvents, Entry, EntryKind, Journal, JournalBounds, JournalError, JournalQuery, Owner,
    SqliteJournal,
};
use crate::store::redis::{RedisOptions, RedisStore};

const PLENTY: JournalBounds =
    JournalBounds { retention: Duration::from_secs(3600), max_bytes: 1 << 30 };

/// What keeps a journal alive.
enum Backend {
    Sqlite {
        _directory: TempDir,
    },
    Redis {
        _server: RedisServer,
    },
    #[cfg(feature = "postgres")]
    Postgres {
        _server: super::postgres_server::Postgres,
    },
}

macro_rules! on_both_journals {
    ($($name:ident),+ $(,)?) => { $(
        mod $name {
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn sqlite() {
                let (journal, _backend) = super::sqlite();
                super::$name(&*journal).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn redis() {
                let (journal, _backend) = super::redis();
                super::$name(&*journal).await;
            }
        }
    )+ };
}

/// As [`on_both_journals`], and in PostgreSQL.
macro_rules! on_all_journals {
    ($($name:ident),+ $(,)?) => {
        on_both_journals!($($name),+);

        #[cfg(feature = "postgres")]
        mod in_postgres {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    let (journal, _backend) = super::postgres();
                    super::$name(&*journal).await;
                }
            )+
        }
    };
}

on_all_journals!(
    each_filter_finds_what_it_is_for,
    pages_follow_each_other_without_a_gap,
    text_is_found_wherever_it_stands,
    what_is_erased_is_gone,
);

// PostgreSQL forgets whole days: see `history`.
on_both_journals!(what_is_too_old_or_too_much_goes);

fn sqlite() -> (Arc<dyn Journal>, Backend) {
    let directory = tempfile::tempdir().unwrap();
    let journal = SqliteJournal::open(directory.path()).unwrap();
    (Arc::new(journal), Backend::Sqlite { _directory: directory })
}

fn redis() -> (Arc<dyn Journal>, Backend) {
    let server = RedisServer::start();
    let journal = RedisStore::open(&RedisOptions::plain(&server.url())).unwrap();
    (Arc::new(journal), Backend::Redis { _server: server })
}

#[cfg(feature = "postgres")]
fn postgres() -> (Arc<dyn Journal>, Backend) {
    let (history, server) = super::history_fixture::postgres();
    (history, Backend::Postgres { _server: server })
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64
}

pub fn entry(id: &str) -> Entry {
    Entry {
        at_ms: now_ms(),
        kind: EntryKind::Call,
        id: id.into(),
        owner: Owner::of(&client("shop")),
        client: "shop".into(),
        target: "https://a.example:443".into(),
        title: format!("POST https://a.example/{id}"),
        attempt: 1,
        failed: false,
        status: Some(200),
        error: String::new(),
        took_ms: 7,
        bytes: 3,
        answer: "all is well".into(),
        next_ms: None,
        events: None,
    }
}

async fn ids(journal: &dyn Journal, query: JournalQuery) -> Vec<String> {
    let page = journal.find(&query, None, 100).await.unwrap();
    assert_eq!(page.next, None);
    page.entries.into_iter().map(|entry| entry.id).collect()
}

async fn each_filter_finds_what_it_is_for(journal: &dyn Journal) {
    let failed = Entry {
        failed: true,
        status: None,
        error: "no answer within 200 ms".into(),
        next_ms: Some(now_ms()),
        ..entry("failed")
    };
    let batch = Entry {
        kind: EntryKind::Batch,
        owner: Owner::of(&client("bob")),
        target: "bob".into(),
        events: Some(CarriedEvents { first: 100, last: 200, list: "widgets 100 50 50".into() }),
        ..entry("batch")
    };
    let early = Entry { at_ms: now_ms() - 100_000, status: Some(503), ..entry("early") };
    let all = vec![early.clone(), entry("one"), failed.clone(), batch.clone()];
    journal.append(all, PLENTY).await.unwrap();
    let any = JournalQuery::default;
    for (query, expected) in [
        (any(), &["batch", "failed", "one", "early"][..]),
        (JournalQuery { kind: Some(EntryKind::Batch), ..any() }, &["batch"]),
        (JournalQuery { owner: Some(Owner::of(&client("bob"))), ..any() }, &["batch"]),
        (JournalQuery { target: Some("bob".into()), ..any() }, &["batch"]),
        (JournalQuery { id: Some("one".into()), ..any() }, &["one"]),
        (JournalQuery { status: Some(503), ..any() }, &["early"]),
        (JournalQuery { failed: Some(true), ..any() }, &["failed"]),
        (JournalQuery { failed: Some(false), ..any() }, &["batch", "one", "early"]),
        (JournalQuery { until_ms: Some(now_ms() - 50_000), ..any() }, &["early"]),
        (JournalQuery { since_ms: Some(now_ms() - 50_000), ..any() }, &["batch", "failed", "one"]),
        (JournalQuery { id: Some("one".into()), failed: Some(true), ..any() }, &[]),
        (JournalQuery { event: Some(EventPosition::new(100)), ..any() }, &["batch"]),
        (JournalQuery { event: Some(EventPosition::new(200)), ..any() }, &["batch"]),
        (JournalQuery { event: Some(EventPosition::new(99)), ..any() }, &[]),
        (JournalQuery { event: Some(EventPosition::new(201)), ..any() }, &[]),
    ] {
        assert_eq!(ids(journal, query.clone()).await, expected, "{query:?}");
    }
    let query = JournalQuery { id: Some("failed".into()), ..any() };
    assert_eq!(journal.find(&query, None, 1).await.unwrap().entries, [failed]);
    let query = JournalQuery { id: Some("batch".into()), ..any() };
    assert_eq!(journal.find(&query, None, 1).await.unwrap().entries, [batch]);
}

async fn pages_follow_each_other_without_a_gap(journal: &dyn Journal) {
    let all = (0..25).map(|n| Entry { failed: n % 2 == 0, ..entry(&n.to_string()) }).collect();
    journal.append(all, PLENTY).await.unwrap();
    let query = JournalQuery { failed: Some(true), ..JournalQuery::default() };
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let page = journal.find(&query, after.as_deref(), 3).await.unwrap();
        found.extend(page.entries.into_iter().map(|entry| entry.id));
        match page.next {
            Some(next) => after = Some(next),
            None => break,
        }
    }
    let expected: Vec<String> =
        (0..25).rev().filter(|n| n % 2 == 0).map(|n| n.to_string()).collect();
    assert_eq!(found, expected);
    let nowhere = journal.find(&query, Some("nowhere"), 3).await.unwrap_err();
    assert_eq!(nowhere, JournalError::NoPlace);
}

async fn text_is_found_wherever_it_stands(journal: &dyn Journal) {
    let all = vec![
        Entry { answer: "Teapots: 100% \"short\" and_stout".into(), ..entry("answer") },
        Entry { error: "the teapot is empty".into(), ..entry("error") },
        entry("teapot"),
        Entry { answer: "pot tea".into(), ..entry("other") },
    ];
    journal.append(all, PLENTY).await.unwrap();
    for (text, expected) in [
        ("teapot", &["teapot", "error", "answer"][..]),
        ("TEAPOT", &["teapot", "error", "answer"]),
        ("eapots", &["answer"]),
        ("100% \"", &["answer"]),
        ("and_s", &["answer"]),
        ("and-s", &[]),
        ("te", &["other", "teapot", "error", "answer"]),
        ("pot tea", &["other"]),
        ("coffee", &[]),
    ] {
        let query = JournalQuery { text: Some(text.into()), ..JournalQuery::default() };
        assert_eq!(ids(journal, query).await, expected, "{text}");
    }
}

async fn what_is_too_old_or_too_much_goes(journal: &dyn Journal) {
    let heavy = |n: u32| Entry { answer: "x".repeat(1_000), ..entry(&n.to_string()) };
    let tight = JournalBounds { max_bytes: 500_000, ..PLENTY };
    for group in 0..30 {
        let group = (0..100).map(|n| heavy(group * 100 + n)).collect();
        journal.append(group, tight).await.unwrap();
    }
    let count = async || {
        let (mut count, mut after) = (0, None);
        loop {
            let page = journal.find(&JournalQuery::default(), after.as_deref(), 500).await.unwrap();
            count += page.entries.len();
            match page.next {
                Some(next) => after = Some(next),
                None => return count,
            }
        }
    };
    let kept = count().await;
    assert!((100..1_000).contains(&kept), "{kept} of 3000 are kept");
    assert_eq!(ids_of_first(journal).await, "2999", "the newest stay");
    tokio::time::sleep(Duration::from_millis(20)).await;
    let forgetful = JournalBounds { retention: Duration::from_millis(10), ..PLENTY };
    for _ in 0..20 {
        journal.append(vec![entry("last")], forgetful).await.unwrap();
    }
    let kept = count().await;
    assert!(kept < 200, "{kept} are kept");
}

async fn ids_of_first(journal: &dyn Journal) -> String {
    let page = journal.find(&JournalQuery::default(), None, 1).await.unwrap();
    page.entries[0].id.clone()
}

async fn what_is_erased_is_gone(journal: &dyn Journal) {
    let message = |id: &str| Entry { kind: EntryKind::Message, ..entry(id) };
    let entries = vec![message("1"), message("2"), entry("1"), message("1")];
    journal.append(entries, PLENTY).await.unwrap();
    journal.erase_messages(vec!["1".into(), "7".into()]).await.unwrap();
    let page = journal.find(&JournalQuery::default(), None, 10).await.unwrap();
    let left: Vec<_> = page.entries.iter().map(|one| (one.kind, one.id.as_str())).collect();
    assert_eq!(left, [(EntryKind::Call, "1"), (EntryKind::Message, "2")]);
}
