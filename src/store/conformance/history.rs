//! History in PostgreSQL: what is kept is found by each filter, the newest first, and goes by days.

use std::time::Duration;

use bytes::Bytes;

use super::fixture::client;
use super::history_fixture::{options, postgres};
use super::journal::entry;
use crate::bus::call::CallState;
use crate::bus::clock::Clock;
use crate::bus::message::MessageText;
use crate::history::postgres::PostgresHistory;
use crate::history::{HistoryQuery, MessageHistory};
use crate::journal::{Entry, Journal, JournalBounds, JournalQuery};
use crate::store::{MessageDelivery, MessageRecord};

const DAY_MS: u64 = 24 * 3600 * 1000;
/// Some day.
const NOW_MS: u64 = 20_000 * DAY_MS + 1000;

fn message(number: u64, topic_id: u64, received_ms: u64, text: &str) -> MessageRecord {
    let delivery = MessageDelivery {
        number: number + 1,
        publisher_id: 10 * topic_id,
        state: CallState::Done,
        attempts: 2,
        due_ms: None,
        ended_ms: Some(received_ms + 5),
        status: Some(204),
        reason: String::new(),
    };
    MessageRecord {
        number,
        topic_id,
        sender: client("bob"),
        received_ms,
        due_ms: received_ms,
        content: Bytes::from(format!(r#"{{"payload":{{"text":"{text}"}},"attributes":{{}}}}"#)),
        deliveries: vec![delivery],
    }
}

fn numbers(found: &[MessageRecord]) -> Vec<u64> {
    found.iter().map(|message| message.number).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_are_found_by_each_filter() {
    let (history, _server) = postgres();
    let all = vec![
        message(100, 1, NOW_MS - 2 * DAY_MS, "Grüße aus Köln"),
        message(200, 2, NOW_MS - DAY_MS, "100% _ \\\\ sure"),
        message(300, 1, NOW_MS, "last"),
    ];
    history.add(all.clone()).await.unwrap();
    history.add(all.clone()).await.unwrap();
    let find = async |query: HistoryQuery| {
        numbers(&history.find_messages(&query, u64::MAX, 10).await.unwrap())
    };
    let any = HistoryQuery::default;
    assert_eq!(find(any()).await, [300, 200, 100], "each once");
    for (query, expected) in [
        (HistoryQuery { topic_id: Some(1), ..any() }, vec![300, 100]),
        (HistoryQuery { publisher_id: Some(20), ..any() }, vec![200]),
        (
            HistoryQuery { state: Some(CallState::Done), publisher_id: Some(10), ..any() },
            vec![300, 100],
        ),
        (HistoryQuery { state: Some(CallState::Dead), ..any() }, vec![]),
        (HistoryQuery { text: Some(MessageText::new("GRÜSSE")), ..any() }, vec![]),
        (HistoryQuery { text: Some(MessageText::new("grüße")), ..any() }, vec![100]),
        (HistoryQuery { text: Some(MessageText::new("% _ ")), ..any() }, vec![200]),
        (HistoryQuery { since_ms: Some(NOW_MS - DAY_MS), ..any() }, vec![300, 200]),
        (HistoryQuery { until_ms: Some(NOW_MS), ..any() }, vec![200, 100]),
    ] {
        assert_eq!(find(query.clone()).await, expected, "{query:?}");
    }
    assert_eq!(numbers(&history.find_messages(&any(), 300, 1).await.unwrap()), [200]);
    assert_eq!(numbers(&history.after(1, 100, 10).await.unwrap()), [300]);
    for number in [200, 201] {
        assert_eq!(history.message(number).await.unwrap().as_ref(), Some(&all[1]));
    }
    assert_eq!(history.message(202).await.unwrap(), None);

    assert_eq!(history.erase(&[200, 7]).await.unwrap(), [true, false]);
    assert_eq!(history.message(201).await.unwrap(), None);
    history.remove_before(NOW_MS - DAY_MS).await.unwrap();
    assert_eq!(find(any()).await, [300], "a day goes as a whole");
    history.add(vec![all[0].clone()]).await.unwrap();
    assert_eq!(find(any()).await, [300, 100], "its table is made again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_went_away_is_found_again() {
    let (history, mut server) = postgres();
    history.add(vec![message(1, 1, NOW_MS, "a")]).await.unwrap();
    server.kill();
    assert!(history.add(vec![message(2, 1, NOW_MS, "b")]).await.is_err());
    server.restart();
    // What failed a moment ago is not tried again at once.
    let mut tries = 0;
    while history.add(vec![message(2, 1, NOW_MS, "b")]).await.is_err() {
        tries += 1;
        assert!(tries < 100, "it is not found again");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let found = history.find_messages(&HistoryQuery::default(), u64::MAX, 10).await.unwrap();
    assert_eq!(numbers(&found), [2, 1]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_journal_forgets_what_is_too_old_and_whole_days_that_are_too_much() {
    let (history, server) = postgres();
    let now_ms = Clock::system().now_ms();
    let at = |id: &str, days: u64| Entry { at_ms: now_ms - days * DAY_MS, ..entry(id) };
    let ids = async |bounds: JournalBounds| {
        history.append(vec![at("new", 0)], bounds).await.unwrap();
        let page = history.find(&JournalQuery::default(), None, 100).await.unwrap();
        page.entries.into_iter().map(|entry| entry.id).collect::<Vec<_>>()
    };
    let entries = vec![at("old", 9), at("less old", 5), at("yesterday", 1)];
    let bounds = JournalBounds { retention: Duration::from_secs(6 * 86_400), max_bytes: u64::MAX };
    history.append(entries, bounds).await.unwrap();
    assert_eq!(ids(bounds).await, ["new", "yesterday", "less old"], "cleaned with the first group");
    // Another process, which cleans with its first group too.
    let again = PostgresHistory::new(options(&server));
    let little = JournalBounds { max_bytes: 1, ..bounds };
    again.append(vec![at("last", 0)], little).await.unwrap();
    let page = again.find(&JournalQuery::default(), None, 100).await.unwrap();
    let left: Vec<_> = page.entries.iter().map(|entry| entry.id.as_str()).collect();
    assert_eq!(left, ["last", "new"], "today stays");
}
