//! What passed, counted over time.

use super::fixture::{Fixture, on_both_stores};
use crate::bus::tally::{Span, Subject, Tally};
use crate::bus::token::ClientToken;
use crate::store::TALLY_SUBJECTS_MAX;

on_both_stores!(
    what_several_count_is_summed_up_in_a_bucket_of_each_length,
    a_subject_too_many_is_counted_once_another_one_has_been_quiet_for_long,
);

/// 13:37:41.234 of some day.
const AT_MS: u64 = 1_764_337_061_234;

fn subscription(number: usize) -> Subject {
    Subject::Subscription(ClientToken::parse(&format!("shop{number}--secret")).unwrap())
}

fn tally(volume: u64) -> Tally {
    Tally { volume, success: 2, failure: 1, waited_ms: 30, queued: volume }
}

async fn of(f: &Fixture, subject: &Subject, span: Span, at_ms: &[u64]) -> Vec<(u64, Tally)> {
    let starts = at_ms.iter().map(|at_ms| span.start_of(*at_ms)).collect();
    f.store.tallies(subject, span, starts).await.unwrap()
}

async fn what_several_count_is_summed_up_in_a_bucket_of_each_length(f: &Fixture) {
    let (one, next_minute) = (subscription(1), AT_MS + 60_000);
    for (store, at_ms, volume) in
        [(&f.store, AT_MS, 7), (&f.open_another(), AT_MS + 1, 4), (&f.store, next_minute, 1)]
    {
        let tallies = vec![(one.clone(), tally(volume)), (Subject::Bus, tally(1))];
        store.add_tallies(at_ms, tallies).await.unwrap();
    }
    let both = Tally { volume: 11, success: 4, failure: 2, waited_ms: 60, queued: 7 };
    let all = Tally { volume: 12, success: 6, failure: 3, waited_ms: 90, queued: 7 };
    let minutes = [AT_MS - 60_000, AT_MS, next_minute];
    let [_, first, second] = minutes.map(|at_ms| Span::Minute.start_of(at_ms));
    let expected = [(first, both), (second, tally(1))];
    assert_eq!(of(f, &one, Span::Minute, &minutes).await, expected);
    for span in [Span::Hour, Span::Day] {
        assert_eq!(of(f, &one, span, &[AT_MS]).await, [(span.start_of(AT_MS), all)]);
    }
    assert!(of(f, &subscription(2), Span::Hour, &[AT_MS]).await.is_empty());
    assert!(of(f, &Subject::Calls, Span::Hour, &[AT_MS]).await.is_empty());
}

async fn a_subject_too_many_is_counted_once_another_one_has_been_quiet_for_long(f: &Fixture) {
    let count = async |at_ms: u64, numbers: std::ops::Range<usize>| {
        let tallies = numbers.map(|number| (subscription(number), tally(1))).collect();
        f.store.add_tallies(at_ms, tallies).await.unwrap();
    };
    let has = async |number: usize, at_ms: u64| {
        !of(f, &subscription(number), Span::Hour, &[at_ms]).await.is_empty()
    };
    count(AT_MS, 0..TALLY_SUBJECTS_MAX).await;
    count(AT_MS, TALLY_SUBJECTS_MAX..TALLY_SUBJECTS_MAX + 1).await;
    assert!(has(TALLY_SUBJECTS_MAX - 1, AT_MS).await);
    assert!(!has(TALLY_SUBJECTS_MAX, AT_MS).await, "there is a bound");
    let later = AT_MS + Span::Day.kept() * Span::Day.length_ms();
    count(later, TALLY_SUBJECTS_MAX..TALLY_SUBJECTS_MAX + 1).await;
    assert!(has(TALLY_SUBJECTS_MAX, later).await);
}
