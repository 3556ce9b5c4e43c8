//! The oracle finds each kind of violation in a made-up journal.

use super::*;

fn event(number: u64) -> String {
    format!(r#"{{"topic":"a","url":"{}","data":{number}}}"#, url(0, number))
}

fn publish(first: u64, count: u64, answer: Answer) -> Publish {
    let events = (first..first + count).map(event).collect();
    let (sent_at, answered_at) = (Instant::now(), Instant::now());
    Publish { first, events, answer, sent_at, answered_at }
}

/// One stream: events 1 and 2, an array of 3 to 5 without an answer, 6 with 503, 7.
fn streams() -> Vec<Stream> {
    let publishes = vec![
        publish(1, 1, Answer::Accepted),
        publish(2, 1, Answer::Accepted),
        publish(3, 3, Answer::Nothing),
        publish(6, 1, Answer::Unavailable),
        publish(7, 1, Answer::Accepted),
    ];
    vec![Stream { topic: "a".into(), publishes }]
}

fn receipt(batch: &str, events: &[String], acknowledged: bool) -> Receipt {
    Receipt { batch: batch.into(), body: format!("[{}]", events.join(",")), acknowledged }
}

fn subscriber(receipts: Vec<Receipt>, sent: u64) -> Subscriber {
    Subscriber { name: "bob".into(), receipts, sent, ..Subscriber::default() }
}

fn got(numbers: &[u64]) -> Subscriber {
    let receipts =
        numbers.iter().map(|number| receipt(&format!("b{number}"), &[event(*number)], true));
    subscriber(receipts.collect(), numbers.len() as u64)
}

/// A web process died, so a publish may be without an answer.
fn terms() -> Terms {
    Terms { may_not_answer: true, ..Terms::default() }
}

fn verdict(subscriber: Subscriber, events: u64) -> Verdict {
    let terms = terms();
    judge(&streams(), &[subscriber], &BTreeMap::from([("a".into(), events)]), &terms)
}

#[track_caller]
fn finds(verdict: &Verdict, kind: &str) {
    let kinds: Vec<_> = verdict.violations.iter().map(|told| told.split(':').next()).collect();
    assert_eq!(kinds, [Some(kind)], "{:?}", verdict.violations);
}

#[test]
fn a_run_without_fault_has_no_violation() {
    let found = verdict(got(&[1, 2, 7]), 3);
    assert!(found.violations.is_empty(), "{:?}", found.violations);
    assert_eq!((found.accepted, found.unanswered, found.unavailable), (3, 3, 1));
    assert_eq!((found.lost, found.reordered, found.duplicated, found.phantom), (0, 0, 0, 0));
}

#[test]
fn what_got_no_answer_may_arrive_and_even_late() {
    let found = verdict(got(&[1, 2, 6, 7, 3, 4, 5]), 7);
    assert!(found.violations.is_empty(), "{:?}", found.violations);
    assert_eq!((found.stored_unanswered, found.stored_unavailable), (3, 1));
}

#[test]
fn a_lost_event_is_found() {
    let found = verdict(got(&[1, 7]), 2);
    finds(&found, "lost");
    assert_eq!(found.lost, 1);
}

#[test]
fn a_counted_drop_is_no_loss() {
    let found = verdict(Subscriber { dropped: 1, ..got(&[1, 7]) }, 2);
    assert_eq!(found.lost, 0);
    finds(&found, "counters");
}

#[test]
fn what_was_sent_before_the_store_forgot_everything_is_not_lost() {
    let streams = streams();
    let terms =
        Terms { forgotten_before: Some(Instant::now()), counters: Counters::Unknown, ..terms() };
    let found = judge(&streams, &[got(&[])], &BTreeMap::new(), &terms);
    assert!(found.violations.is_empty(), "{:?}", found.violations);
}

#[test]
fn a_wrong_order_is_found() {
    let found = verdict(got(&[2, 1, 7]), 3);
    finds(&found, "reordered");
    assert_eq!(found.reordered, 1);
}

#[test]
fn a_wrong_order_is_found_across_connections() {
    let two = vec![
        Stream { topic: "a".into(), publishes: vec![publish(1, 1, Answer::Accepted)] },
        Stream { topic: "a".into(), publishes: vec![publish(1, 1, Answer::Accepted)] },
    ];
    let second = event(1).replace(&url(0, 1), &url(1, 1));
    let mut two = two;
    two[1].publishes[0].events = vec![second.clone()];
    let receipts = vec![receipt("b1", &[second], true), receipt("b2", &[event(1)], true)];
    let topics = BTreeMap::from([("a".into(), 2)]);
    let found = judge(&two, &[subscriber(receipts, 2)], &topics, &Terms::default());
    finds(&found, "reordered");
}

#[test]
fn what_was_refused_only_is_lost() {
    let mut refused = got(&[1, 2, 7]);
    refused.receipts[2].acknowledged = false;
    finds(&verdict(refused, 3), "lost");
}

#[test]
fn what_overtakes_something_refused_is_found() {
    let receipts = vec![
        receipt("b1", &[event(1)], false),
        receipt("b2", &[event(2)], true),
        receipt("b1", &[event(1)], true),
        receipt("b3", &[event(7)], true),
    ];
    finds(&verdict(subscriber(receipts, 3), 3), "overtaken");
}

#[test]
fn what_was_acknowledged_before_it_was_refused_need_not_come_again() {
    let receipts = vec![
        receipt("b1", &[event(1)], true),
        receipt("b1", &[event(1)], false),
        receipt("b2", &[event(2)], true),
        receipt("b3", &[event(7)], true),
    ];
    let terms = Terms { duplicates_max: 1, ..terms() };
    let topics = BTreeMap::from([("a".into(), 3)]);
    let found = judge(&streams(), &[subscriber(receipts, 3)], &topics, &terms);
    assert!(found.violations.is_empty(), "{:?}", found.violations);
}

#[test]
fn an_event_that_is_twice_in_a_batch_is_found() {
    let twice = receipt("b1", &[event(1), event(2), event(1)], true);
    let receipts = vec![twice, receipt("b2", &[event(7)], true)];
    let terms = Terms { duplicates_max: 1, ..terms() };
    let topics = BTreeMap::from([("a".into(), 3)]);
    finds(&judge(&streams(), &[subscriber(receipts, 3)], &topics, &terms), "doubled");
}

#[test]
fn only_what_was_sent_in_the_time_of_a_loss_may_be_lost() {
    let streams = streams();
    let time = |publish: usize| {
        let at = streams[0].publishes[publish].sent_at;
        at..=at
    };
    let violations = |publish: usize| {
        let may_lose = vec![time(publish)];
        let terms = Terms { may_lose, counters: Counters::NoMore, ..terms() };
        judge(&streams, &[got(&[1, 7])], &BTreeMap::new(), &terms).violations
    };
    assert_eq!(violations(1), [""; 0]);
    assert_eq!(violations(0).len(), 1);
}

#[test]
fn where_counters_may_be_lower_they_may_not_be_higher() {
    let violations = |sent: u64| {
        let terms = Terms { counters: Counters::NoMore, ..terms() };
        let bob = Subscriber { sent, ..got(&[1, 2, 7]) };
        judge(&streams(), &[bob], &BTreeMap::new(), &terms).violations.len()
    };
    assert_eq!((violations(2), violations(3), violations(4)), (0, 0, 1));
}

#[test]
fn a_publish_without_an_answer_is_found_where_no_web_process_dies() {
    let topics = BTreeMap::from([("a".into(), 3)]);
    let found = judge(&streams(), &[got(&[1, 2, 7])], &topics, &Terms::default());
    finds(&found, "unanswered");
}

#[test]
fn repetitions_change_no_order_but_are_counted() {
    let found = verdict(
        subscriber(
            vec![
                receipt("b1", &[event(1), event(2)], false),
                receipt("b1", &[event(1), event(2)], true),
                receipt("b2", &[event(7)], true),
            ],
            3,
        ),
        3,
    );
    assert!(found.violations.is_empty(), "{:?}", found.violations);
    let again = verdict(Subscriber { sent: 3, ..got(&[1, 2, 7, 2]) }, 3);
    finds(&again, "duplicated");
    assert_eq!(again.duplicated, 1);
}

#[test]
fn what_nobody_sent_is_found() {
    let found = verdict(got(&[1, 2, 7, 8]), 3);
    assert_eq!(found.phantom, 1);
    assert!(found.violations[0].starts_with("phantom"), "{:?}", found.violations);
}

#[test]
fn an_altered_event_is_found() {
    let mut altered = got(&[1, 2, 7]);
    altered.receipts[1].body = altered.receipts[1].body.replace("\"data\":2", "\"data\":2.0");
    finds(&verdict(altered, 3), "altered");
}

#[test]
fn what_is_no_batch_is_found() {
    let mut broken = got(&[1, 2, 7]);
    broken.receipts.push(Receipt { batch: "x".into(), body: "[{".into(), acknowledged: true });
    finds(&verdict(broken, 3), "phantom");
}

#[test]
fn a_refused_publish_that_arrives_is_found() {
    let mut streams = streams();
    streams[0].publishes[1].answer = Answer::Refused;
    let topics = BTreeMap::from([("a".into(), 3)]);
    let found = judge(&streams, &[got(&[1, 2, 7])], &topics, &terms());
    assert_eq!(found.phantom, 1);
}

#[test]
fn a_torn_array_is_found() {
    finds(&verdict(got(&[1, 2, 3, 5, 7]), 5), "torn array");
}

#[test]
fn a_batch_that_changed_under_its_name_is_found() {
    let mut changed = got(&[1, 2, 7]);
    changed.receipts[1].batch = "b1".into();
    finds(&verdict(changed, 3), "changed");
}

#[test]
fn counters_that_do_not_agree_are_found() {
    finds(&verdict(got(&[1, 2, 7]), 4), "counters");
    finds(&verdict(Subscriber { sent: 4, ..got(&[1, 2, 7]) }, 3), "counters");
    finds(&verdict(Subscriber { queued: 1, ..got(&[1, 2, 7]) }, 3), "counters");
}

#[test]
fn only_what_got_no_answer_may_be_undone_with_its_counters() {
    let terms = Terms { may_undo: true, ..terms() };
    let violations = |sent: u64| {
        let bob = Subscriber { sent, ..got(&[1, 2, 3, 4, 5, 7]) };
        judge(&streams(), &[bob], &BTreeMap::from([("a".into(), sent)]), &terms).violations
    };
    for good in 3..=6 {
        assert_eq!(violations(good), [""; 0]);
    }
    for bad in [2, 7] {
        assert_eq!(violations(bad).len(), 2);
    }
}
