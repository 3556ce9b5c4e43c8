//! Messages: each waits once for each publisher that its topic has, also for one that begins in the past, and is kept as
//! history until it is forgotten.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::fixture::{Fixture, LEASE, client, on_all_stores, on_both_stores, soon};
use crate::bus::call::{CallKind, CallState};
use crate::bus::message::{
    MessageText, MessageTopicName, NewPublisher, NewTopic, PublisherChange, TargetKind,
};
use crate::store::{
    AcceptedMessage, CallOutcome, CallSettled, CallSettlement, DestinationLimits, Lane, LeasedCall,
    MESSAGES_AT_ONCE, MessageRecord, MessagesAccepted, NewMessageGroup, PublisherAdded, Store,
};

on_all_stores!(
    a_message_waits_once_for_each_publisher_of_its_topic,
    a_message_to_a_topic_that_nobody_made_is_not_kept,
    a_message_is_found_by_its_number_and_by_those_of_its_deliveries,
    a_scheduled_message_waits_for_its_time,
    a_publisher_that_is_not_active_holds_what_it_has,
    a_publisher_has_so_many_requests_on_their_way,
    what_waits_for_a_publisher_goes_with_it,
    a_dead_delivery_lives_again_as_long_as_its_publisher_is_there,
    only_what_waits_for_nobody_is_forgotten,
    history_makes_room_and_what_waits_does_not,
    an_erased_message_is_not_forwarded_and_what_is_on_its_way_not_again,
    messages_are_listed_the_newest_first,
    a_publisher_that_begins_in_the_past_gets_everything_once,
    a_publisher_that_comes_under_load_misses_nothing_and_gets_nothing_twice,
    what_is_closed_is_moved_away_and_comes_back_for_who_begins_in_the_past,
    what_is_to_be_kept_once_is,
    a_text_is_found_whether_it_is_indexed_or_not,
);

const LIMITS: DestinationLimits = DestinationLimits { in_flight: 16, probes: 2, per_publisher: 4 };
const MANY: DestinationLimits =
    DestinationLimits { in_flight: 16, probes: 100, per_publisher: 10_000 };
const PLENTY: u64 = 1 << 30;

async fn add_topic(f: &Fixture, name: &str) -> u64 {
    let json = format!(r#"{{"name":"{name}","origin_host":"a.example"}}"#);
    let new = NewTopic::parse(json.as_bytes()).unwrap();
    f.store.add_message_topic(&new, &client("alice"), 100).await.unwrap();
    f.store.message_topics().await.unwrap().iter().find(|t| t.name.as_str() == name).unwrap().id
}

async fn add(f: &Fixture, topic: &str, target: &str, more: &str) -> u64 {
    add_to(&f.store, topic, target, more).await
}

async fn add_to(store: &Arc<dyn Store>, topic: &str, target: &str, more: &str) -> u64 {
    let json =
        format!(r#"{{"topic":"{topic}","target":"{target}","type":"http","active":true{more}}}"#);
    let new = NewPublisher::parse(json.as_bytes()).unwrap();
    match store.add_message_publisher(&new, &client("alice"), 100).await.unwrap() {
        PublisherAdded::Added(id) => id,
        other => panic!("{other:?}"),
    }
}

fn group(topic: &str, texts: &[&str]) -> NewMessageGroup {
    NewMessageGroup {
        topic: MessageTopicName::from_checked(topic),
        sender: client("bob"),
        contents: texts.iter().map(|text| Bytes::copy_from_slice(text.as_bytes())).collect(),
        at_ms: None,
        once: None,
        only: None,
    }
}

async fn send(f: &Fixture, topic: &str, texts: &[&str]) -> Vec<AcceptedMessage> {
    let accepted = f.store.accept_messages(vec![group(topic, texts)], PLENTY, soon()).await;
    match accepted.unwrap().groups.remove(0) {
        MessagesAccepted::Kept(messages) => messages,
        other => panic!("{other:?}"),
    }
}

async fn claim_with(f: &Fixture, limits: DestinationLimits) -> Vec<LeasedCall> {
    f.store.claim_calls(Lane::HOME, 10_000, limits, LEASE).await.unwrap().calls
}

async fn claim(f: &Fixture) -> Vec<LeasedCall> {
    claim_with(f, MANY).await
}

fn texts(calls: &[LeasedCall]) -> Vec<String> {
    calls.iter().map(|call| String::from_utf8(call.content.to_vec()).unwrap()).collect()
}

async fn settle_all(f: &Fixture, calls: &[LeasedCall], outcome: CallOutcome) -> Vec<CallSettled> {
    let settlements = calls.iter().map(|call| CallSettlement {
        status: Some(if outcome == CallOutcome::Done { 200 } else { 503 }),
        ..CallSettlement::new(call, outcome)
    });
    f.store.settle_calls(Lane::HOME, settlements.collect()).await.unwrap()
}

async fn message(f: &Fixture, number: u64) -> Option<MessageRecord> {
    f.store.message(number).await.unwrap()
}

async fn kept(f: &Fixture) -> u64 {
    f.store.message_counts().await.unwrap().messages
}

/// Gives each publisher that is behind some of what it lacks; how much in all.
async fn catch_up(f: &Fixture) -> usize {
    let mut given = 0;
    for behind in f.store.publishers_behind().await.unwrap() {
        given += f.store.catch_up(behind.publisher, Vec::new()).await.unwrap();
    }
    given
}

fn change(json: &str) -> PublisherChange {
    PublisherChange::parse(json.as_bytes(), TargetKind::Http).unwrap()
}

async fn a_message_waits_once_for_each_publisher_of_its_topic(f: &Fixture) {
    add_topic(f, "t").await;
    add_topic(f, "other").await;
    let first = add(f, "t", "http://a.example/1", "").await;
    let second = add(f, "t", "http://a.example/2", "").await;
    add(f, "other", "http://a.example/3", "").await;
    let sent = send(f, "t", &["one", "two"]).await;
    assert!(sent.iter().all(|message| message.deliveries.len() == 2), "{sent:?}");
    let calls = claim(f).await;
    let mut got: Vec<(u64, String)> = calls
        .iter()
        .map(|call| {
            (call.publisher.as_ref().unwrap().id, texts(std::slice::from_ref(call)).remove(0))
        })
        .collect();
    got.sort();
    let expected = [first, second].map(|id| [(id, "one".into()), (id, "two".to_owned())]);
    assert_eq!(got, expected.concat());
    assert!(calls.iter().all(|call| call.kind == CallKind::Message && call.attempt == 1));
    let told: HashSet<u64> = sent.iter().flat_map(|message| message.deliveries.clone()).collect();
    let ids = calls.iter().map(|call| call.lease.key.id.as_str().parse::<u64>().unwrap());
    assert_eq!(ids.collect::<HashSet<_>>(), told);
    assert_eq!(f.store.call_counts(CallKind::Message).await.unwrap().waiting, 4);
    assert!(
        settle_all(f, &calls, CallOutcome::Done).await.iter().all(|s| *s == CallSettled::Recorded)
    );
    assert_eq!(f.store.call_counts(CallKind::Message).await.unwrap().waiting, 0);
    assert!(claim(f).await.is_empty());
    assert!(f.store.calls_before(u64::MAX, 10).await.unwrap().is_empty(), "they are no calls");
}

async fn a_message_to_a_topic_that_nobody_made_is_not_kept(f: &Fixture) {
    add_topic(f, "t").await;
    let groups = vec![group("unknown", &["a"]), group("t", &["b"])];
    let accepted = f.store.accept_messages(groups, PLENTY, soon()).await.unwrap().groups;
    assert_eq!(accepted[0], MessagesAccepted::UnknownTopic);
    assert!(matches!(&accepted[1], MessagesAccepted::Kept(kept) if kept[0].deliveries.is_empty()));
    assert_eq!(kept(f).await, 1);
}

async fn a_message_is_found_by_its_number_and_by_those_of_its_deliveries(f: &Fixture) {
    let topic_id = add_topic(f, "t").await;
    let publisher = add(f, "t", "http://a.example/1", "").await;
    let before_ms = f.now_ms();
    let sent = send(f, "t", &["one"]).await.remove(0);
    let again = send(f, "t", &["two"]).await.remove(0);
    assert!(again.number > sent.deliveries[0] && again.deliveries[0] < 1 << 53, "{again:?}");
    for number in [sent.number, sent.deliveries[0]] {
        let found = message(f, number).await.unwrap();
        assert_eq!((found.number, found.topic_id), (sent.number, topic_id));
        assert_eq!((found.sender, &found.content[..]), (client("bob"), &b"one"[..]));
        assert!((before_ms..=f.now_ms() + 1).contains(&found.received_ms));
        let delivery = &found.deliveries[0];
        assert_eq!((delivery.number, delivery.publisher_id), (sent.deliveries[0], publisher));
        assert_eq!((delivery.state, delivery.attempts), (CallState::Waiting, 0));
    }
    assert_eq!(message(f, sent.number - 1).await, None);
    assert_eq!(message(f, u64::MAX).await, None);
    let calls = claim(f).await;
    settle_all(f, &calls[..1], CallOutcome::Done).await;
    let retry_in = Duration::from_secs(60);
    settle_all(f, &calls[1..], CallOutcome::Failed { retry_in }).await;
    let done = message(f, sent.number).await.unwrap().deliveries.remove(0);
    assert_eq!((done.state, done.status, done.due_ms), (CallState::Done, Some(200), None));
    assert!((before_ms..=f.now_ms() + 1).contains(&done.ended_ms.unwrap()));
    let failing = message(f, again.number).await.unwrap().deliveries.remove(0);
    assert_eq!(
        (failing.state, failing.status, failing.ended_ms),
        (CallState::Failing, Some(503), None)
    );
    assert!(failing.due_ms.unwrap() > f.now_ms() + 50_000);
}

async fn a_scheduled_message_waits_for_its_time(f: &Fixture) {
    add_topic(f, "t").await;
    add(f, "t", "http://a.example/1", "").await;
    let at_ms = f.now_ms() + 500;
    let groups = vec![
        NewMessageGroup { at_ms: Some(at_ms), ..group("t", &["later"]) },
        NewMessageGroup { at_ms: Some(1), ..group("t", &["past"]) },
    ];
    f.store.accept_messages(groups, PLENTY, soon()).await.unwrap();
    assert_eq!(texts(&claim(f).await), ["past"]);
    f.pass(Duration::from_millis(600)).await;
    assert_eq!(texts(&claim(f).await), ["later"]);
}

async fn a_publisher_that_is_not_active_holds_what_it_has(f: &Fixture) {
    add_topic(f, "t").await;
    let id = add(f, "t", "http://a.example/1", "").await;
    f.store.change_message_publisher(id, &change(r#"{"active":false}"#)).await.unwrap();
    send(f, "t", &["one"]).await;
    let claimed = f.store.claim_calls(Lane::HOME, 10, LIMITS, LEASE).await.unwrap();
    assert!(claimed.calls.is_empty() && claimed.next_due.is_none(), "{claimed:?}");
    let json = r#"{"active":true,"target":"http://b.example/"}"#;
    f.store.change_message_publisher(id, &change(json)).await.unwrap();
    let claimed = claim(f).await;
    assert_eq!((texts(&claimed), claimed[0].attempt), (vec!["one".to_owned()], 1));
    assert_eq!(claimed[0].publisher.as_ref().unwrap().target, "http://b.example/");
}

async fn a_publisher_has_so_many_requests_on_their_way(f: &Fixture) {
    add_topic(f, "t").await;
    add(f, "t", "http://a.example/1", "").await;
    let json = r#"{"topic":"t","target":"orders","type":"pubsub","active":true,"chunk_size":3}"#;
    let new = NewPublisher::parse(json.as_bytes()).unwrap();
    f.store.add_message_publisher(&new, &client("alice"), 100).await.unwrap();
    let all: Vec<String> = (0..30).map(|n| n.to_string()).collect();
    send(f, "t", &all.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let calls = claim_with(f, LIMITS).await;
    let to = |kind| calls.iter().filter(|c| c.publisher.as_ref().unwrap().kind == kind).count();
    assert_eq!((to(TargetKind::Http), to(TargetKind::PubSub)), (4, 12));
    assert!(claim_with(f, LIMITS).await.is_empty());
    let is_http = |c: &&LeasedCall| c.publisher.as_ref().unwrap().kind == TargetKind::Http;
    let http: Vec<LeasedCall> = calls.iter().filter(is_http).cloned().collect();
    let due = async |at_most| f.store.due_calls(Duration::ZERO, LIMITS, at_most).await.unwrap();
    assert_eq!(due(1000).await, 0, "more workers would be of no use");
    settle_all(f, &http, CallOutcome::Failed { retry_in: Duration::ZERO }).await;
    assert_eq!((due(1000).await, due(7).await), (30, 7), "one publisher's, whose other is full");
    assert_eq!(claim_with(f, LIMITS).await.len(), 2, "as many as probe");
}

async fn what_waits_for_a_publisher_goes_with_it(f: &Fixture) {
    add_topic(f, "t").await;
    let goes = add(f, "t", "http://a.example/1", "").await;
    let stays = add(f, "t", "http://a.example/2", "").await;
    let sent = send(f, "t", &["one"]).await.remove(0);
    let on_its_way = claim(f).await;
    let many = vec!["x"; MESSAGES_AT_ONCE + 5];
    send(f, "t", &many).await;
    f.store.remove_message_publisher(goes).await.unwrap();
    let mut discarded = 0;
    loop {
        match f.store.discard_deliveries().await.unwrap() {
            0 => break,
            portion => discarded += portion,
        }
    }
    assert_eq!(discarded, many.len() as u64);
    let left = claim(f).await;
    assert_eq!(left.len(), many.len());
    assert!(left.iter().all(|call| call.publisher.as_ref().unwrap().id == stays));
    settle_all(f, &on_its_way, CallOutcome::Failed { retry_in: Duration::ZERO }).await;
    let again = claim(f).await;
    assert!(again.iter().all(|call| call.publisher.as_ref().unwrap().id == stays), "{again:?}");
    let deliveries = message(f, sent.number).await.unwrap().deliveries;
    assert_eq!(deliveries.iter().map(|one| one.publisher_id).collect::<Vec<_>>(), [stays]);
}

async fn a_dead_delivery_lives_again_as_long_as_its_publisher_is_there(f: &Fixture) {
    add_topic(f, "t").await;
    let publisher = add(f, "t", "http://a.example/1", "").await;
    let sent = send(f, "t", &["one", "two"]).await;
    settle_all(f, &claim(f).await, CallOutcome::Dead).await;
    assert_eq!(f.store.call_counts(CallKind::Message).await.unwrap().dead, 2);
    let key = |index: usize| crate::store::delivery_key(sent[index].deliveries[0]);
    assert_eq!(f.store.retry_calls(&[key(0)]).await.unwrap(), [true]);
    assert_eq!(f.store.forget_messages(u64::MAX).await.unwrap().messages, 1, "one waits again");
    let again = claim(f).await;
    assert_eq!((texts(&again), again[0].attempt), (vec!["one".to_owned()], 2));
    settle_all(f, &again, CallOutcome::Dead).await;
    f.store.remove_message_publisher(publisher).await.unwrap();
    assert_eq!(f.store.retry_calls(&[key(0)]).await.unwrap(), [false]);
}

async fn only_what_waits_for_nobody_is_forgotten(f: &Fixture) {
    add_topic(f, "t").await;
    let unheard = send(f, "t", &["unheard"]).await.remove(0);
    add(f, "t", "http://a.example/1", "").await;
    let waits = send(f, "t", &["waits"]).await.remove(0);
    assert_eq!(f.store.forget_messages(0).await.unwrap().messages, 0, "nothing is so old");
    let forgotten = f.store.forget_messages(u64::MAX).await.unwrap();
    assert_eq!((forgotten.messages, forgotten.dead), (1, 0));
    assert_eq!(message(f, unheard.number).await, None);
    assert!(message(f, waits.number).await.is_some());
    settle_all(f, &claim(f).await, CallOutcome::Dead).await;
    let forgotten = f.store.forget_messages(u64::MAX).await.unwrap();
    assert_eq!((forgotten.messages, forgotten.dead), (1, 1));
    assert_eq!(f.store.message_counts().await.unwrap(), Default::default());
    assert_eq!(f.store.call_counts(CallKind::Message).await.unwrap(), Default::default());
    assert_eq!(message(f, waits.deliveries[0]).await, None);
}

async fn history_makes_room_and_what_waits_does_not(f: &Fixture) {
    let taken = async || f.store.message_counts().await.unwrap().bytes;
    add_topic(f, "t").await;
    let first = send(f, "t", &["one"]).await.remove(0);
    let unheard = taken().await;
    add(f, "t", "http://a.example/1", "").await;
    let waits = send(f, "t", &["two"]).await.remove(0);
    // One more that waits fits if what nobody waits for goes.
    let room = 2 * taken().await - unheard - 1;
    let send_into = async |text: &str| {
        let groups = vec![group("t", &[text])];
        f.store.accept_messages(groups, room, soon()).await.unwrap()
    };
    let accepted = send_into("six").await;
    assert!(matches!(accepted.groups[0], MessagesAccepted::Kept(_)), "{accepted:?}");
    assert_eq!(accepted.forgotten.messages, 1);
    assert_eq!(message(f, first.number).await, None);
    let accepted = send_into("ten").await;
    assert_eq!(
        (accepted.groups[0].clone(), accepted.forgotten.messages),
        (MessagesAccepted::Full, 0)
    );
    assert!(message(f, waits.number).await.is_some());
    settle_all(f, &claim(f).await[..1], CallOutcome::Done).await;
    let accepted = send_into("ten").await;
    assert!(matches!(accepted.groups[0], MessagesAccepted::Kept(_)), "{accepted:?}");
}

async fn an_erased_message_is_not_forwarded_and_what_is_on_its_way_not_again(f: &Fixture) {
    add_topic(f, "t").await;
    add(f, "t", "http://a.example/1", "").await;
    let on_its_way = send(f, "t", &["on its way"]).await.remove(0);
    let calls = claim(f).await;
    let waits = send(f, "t", &["waits"]).await.remove(0);
    let erased = f.store.erase_messages(&[on_its_way.number, waits.number, 7]).await.unwrap();
    assert_eq!(erased, [true, true, false]);
    assert_eq!(kept(f).await, 0);
    assert!(claim(f).await.is_empty());
    settle_all(f, &calls, CallOutcome::Failed { retry_in: Duration::ZERO }).await;
    assert!(claim(f).await.is_empty());
    assert_eq!(f.store.call_counts(CallKind::Message).await.unwrap(), Default::default());
    assert_eq!(f.store.message_counts().await.unwrap(), Default::default());
}

async fn messages_are_listed_the_newest_first(f: &Fixture) {
    let topic_id = add_topic(f, "t").await;
    add_topic(f, "other").await;
    for (topic, text) in [("t", "1"), ("other", "2"), ("t", "3"), ("t", "4")] {
        send(f, topic, &[text]).await;
    }
    let list = async |before: u64, topic: Option<u64>, at_most: usize| {
        let found = f.store.messages_before(before, topic, None, at_most).await.unwrap();
        let text = |one: &MessageRecord| String::from_utf8(one.content.to_vec()).unwrap();
        (found.iter().map(text).collect::<Vec<_>>(), found.last().map(|last| last.number))
    };
    assert_eq!(list(u64::MAX, None, 10).await.0, ["4", "3", "2", "1"]);
    let (newest, next) = list(u64::MAX, Some(topic_id), 2).await;
    assert_eq!(newest, ["4", "3"]);
    assert_eq!(list(next.unwrap(), Some(topic_id), 2).await.0, ["1"]);
    assert!(list(u64::MAX, Some(99), 10).await.0.is_empty());
}

/// On SQLite, whose time can be moved.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_came_before_the_clock_was_set_back_is_no_scheduled_message() {
    let f = &Fixture::sqlite();
    let hour = Duration::from_secs(3600);
    f.pass(hour).await;
    add_topic(f, "t").await;
    send(f, "t", &["old"]).await;
    f.set_back(hour);
    assert!(claim(f).await.is_empty());
    add(f, "t", "http://a.example/1", r#","from_now":false"#).await;
    assert_eq!(catch_up(f).await, 1);
    assert_eq!(texts(&claim(f).await), ["old"]);
}

async fn a_publisher_that_begins_in_the_past_gets_everything_once(f: &Fixture) {
    add_topic(f, "t").await;
    add_topic(f, "other").await;
    let old: Vec<String> = (0..MESSAGES_AT_ONCE + 50).map(|n| format!("{n:04}")).collect();
    send(f, "t", &old.iter().map(String::as_str).collect::<Vec<_>>()).await;
    send(f, "other", &["not for it"]).await;
    add(f, "t", "http://a.example/1", r#","from_now":false"#).await;
    let new = send(f, "t", &["new"]).await.remove(0);
    assert_eq!(new.deliveries.len(), 1, "its number is told before it waits");
    assert_eq!(f.store.forget_messages(u64::MAX).await.unwrap().messages, 1, "what it lacks stays");
    let mut got = Vec::new();
    while catch_up(f).await > 0 {
        let calls = claim(f).await;
        got.extend(calls.iter().map(|call| texts(std::slice::from_ref(call)).remove(0)));
        if texts(&calls).contains(&"new".to_owned()) {
            let found = message(f, new.deliveries[0]).await.unwrap();
            assert_eq!(found.number, new.number);
        }
        settle_all(f, &calls, CallOutcome::Done).await;
    }
    assert_eq!(got, [old, vec!["new".to_owned()]].concat());
    send(f, "t", &["live"]).await;
    assert_eq!(texts(&claim(f).await), ["live"], "it has caught up");
}

async fn a_publisher_that_comes_under_load_misses_nothing_and_gets_nothing_twice(f: &Fixture) {
    const MESSAGES: usize = 400;
    add_topic(f, "t").await;
    send(f, "t", &["before"]).await;
    let store = f.store.clone();
    let sending = tokio::spawn(async move {
        for n in 0..MESSAGES {
            let groups = vec![group("t", &[&n.to_string()])];
            store.accept_messages(groups, PLENTY, soon()).await.unwrap();
        }
    });
    let seed = fastrand::u64(..);
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut got: BTreeMap<u64, Vec<String>> = BTreeMap::new();
    let mut publishers = 0;
    let mut is_over = false;
    loop {
        let was_over = is_over;
        is_over = sending.is_finished();
        if publishers < 4 && (rng.u8(..4) == 0 || is_over) {
            publishers += 1;
            let target = format!("http://a.example/{publishers}");
            let id = add_to(&f.store, "t", &target, r#","from_now":false"#).await;
            got.insert(id, Vec::new());
        }
        let given = catch_up(f).await;
        let calls = claim(f).await;
        for call in &calls {
            let id = call.publisher.as_ref().unwrap().id;
            got.get_mut(&id).unwrap().push(texts(std::slice::from_ref(call)).remove(0));
        }
        settle_all(f, &calls, CallOutcome::Done).await;
        if was_over && publishers == 4 && given == 0 && calls.is_empty() {
            break;
        }
    }
    sending.await.unwrap();
    let all: Vec<String> =
        std::iter::once("before".to_owned()).chain((0..MESSAGES).map(|n| n.to_string())).collect();
    // Those of one millisecond have no order.
    let sorted = |texts: &[String]| {
        let mut texts = texts.to_vec();
        texts.sort();
        texts
    };
    for (publisher, texts) in got {
        assert_eq!(texts[0], "before", "publisher {publisher}, seed {seed}");
        assert_eq!(sorted(&texts), sorted(&all), "publisher {publisher}, seed {seed}");
    }
}

async fn what_is_closed_is_moved_away_and_comes_back_for_who_begins_in_the_past(f: &Fixture) {
    let topic_id = add_topic(f, "t").await;
    add(f, "t", "http://a.example/1", "").await;
    let sent = send(f, "t", &["done", "dead", "waits"]).await;
    let calls = claim(f).await;
    settle_all(f, &calls[..1], CallOutcome::Done).await;
    settle_all(f, &calls[1..2], CallOutcome::Dead).await;
    let numbers = |found: &[MessageRecord]| found.iter().map(|one| one.number).collect::<Vec<_>>();
    let closed = f.store.closed_messages(0).await.unwrap();
    assert_eq!(numbers(&closed), [sent[0].number], "one is a dead letter, one waits");
    assert_eq!(closed[0].deliveries[0].state, CallState::Done);
    assert!(f.store.closed_messages(sent[0].number).await.unwrap().is_empty());
    // Whoever begins in the past wants it first.
    let late = add(f, "t", "http://a.example/2", r#","from_now":false"#).await;
    assert!(f.store.closed_messages(0).await.unwrap().is_empty());
    assert_eq!(f.store.forget_closed(&[sent[0].number]).await.unwrap(), 0);
    while catch_up(f).await > 0 {}
    let behind = f.store.publishers_behind().await.unwrap();
    assert!(behind.is_empty(), "{behind:?}");
    settle_all(f, &claim(f).await, CallOutcome::Done).await;
    settle_all(f, &calls[2..], CallOutcome::Done).await;
    let closed = f.store.closed_messages(0).await.unwrap();
    assert_eq!(numbers(&closed), [sent[0].number, sent[2].number]);
    assert_eq!(f.store.forget_closed(&[sent[0].number, sent[1].number, 7]).await.unwrap(), 2);
    assert_eq!(message(f, sent[0].number).await, None);

    // What is brought back is given first, and after it what is here.
    let last = add(f, "t", "http://a.example/3", r#","from_now":false"#).await;
    let behind = f.store.publishers_behind().await.unwrap();
    assert_eq!(
        (behind[0].publisher, behind[0].topic_id, behind[0].caught_up_to),
        (last, topic_id, 0)
    );
    assert_eq!(f.store.catch_up(last, closed[..1].to_vec()).await.unwrap(), 1);
    let behind = f.store.publishers_behind().await.unwrap();
    assert_eq!(behind[0].caught_up_to, sent[0].number);
    assert_eq!(f.store.catch_up(last, Vec::new()).await.unwrap(), 1);
    let calls = claim(f).await;
    assert_eq!(texts(&calls), ["done", "waits"]);
    assert!(calls.iter().all(|call| call.publisher.as_ref().unwrap().id == last && late != last));
    assert_eq!(message(f, sent[0].number).await.unwrap().deliveries.len(), 1);
}

async fn what_is_to_be_kept_once_is(f: &Fixture) {
    add_topic(f, "t").await;
    let once = || NewMessageGroup { once: Some("there/7".into()), ..group("t", &["one"]) };
    let accept = async || f.store.accept_messages(vec![once()], PLENTY, soon()).await.unwrap();
    assert!(matches!(accept().await.groups[0], MessagesAccepted::Kept(_)));
    assert_eq!(accept().await.groups[0], MessagesAccepted::Known);
    f.store.forget_once(&["there/7".into(), "unknown".into()]).await.unwrap();
    assert!(matches!(accept().await.groups[0], MessagesAccepted::Kept(_)));
    assert_eq!(kept(f).await, 2);
}

async fn a_text_is_found_whether_it_is_indexed_or_not(f: &Fixture) {
    add_topic(f, "t").await;
    let large = format!(r#"{{"text":"needle {}"}}"#, "x".repeat(70_000));
    let old = [r#"{"text":"Nadel, needle"}"#, r#"{"text":"hay"}"#, &large];
    send(f, "t", &old).await;
    let gone = send(f, "t", &[r#"{"text":"needle, erased"}"#]).await.remove(0);
    while f.store.index_texts().await.unwrap() > 0 {}
    send(f, "t", &[r#"{"text":"a new NEEDLE"}"#, r#"{"text":"new hay"}"#]).await;
    f.store.erase_messages(&[gone.number]).await.unwrap();
    let text = MessageText::new("Needle");
    let find = async || {
        let (mut before, mut found) = (u64::MAX >> 11, Vec::new());
        loop {
            let looked_at = f.store.messages_before(before, None, Some(&text), 2).await.unwrap();
            let Some(last) = looked_at.last() else { return found };
            before = last.number;
            let matching = looked_at.iter().filter(|one| text.is_in(&one.content));
            found.extend(
                matching.map(|one| String::from_utf8_lossy(&one.content)[9..20].to_owned()),
            );
        }
    };
    let expected = [r#"a new NEEDL"#, r#"needle xxxx"#, r#"Nadel, need"#];
    assert_eq!(find().await, expected);
    while f.store.index_texts().await.unwrap() > 0 {}
    assert_eq!(find().await, expected);
}
