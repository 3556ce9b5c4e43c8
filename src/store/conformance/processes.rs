//! Who runs: what processes say of themselves, and for how long that holds.

use std::time::Duration;

use super::fixture::{Fixture, HOUR, on_both_stores};
use crate::bus::process::{PlacesInUse, Process};

on_both_stores!(
    processes_are_there_until_their_term_is_over_or_they_say_farewell,
    what_a_process_says_last_is_what_holds,
    a_process_hears_that_it_is_drained_until_it_is_not,
);

fn process(id: &str, role: &str, deliveries: Option<PlacesInUse>) -> Process {
    Process {
        id: id.into(),
        role: role.into(),
        host: "a".into(),
        pid: 7,
        version: "1.2.3".into(),
        since: 1_700_000_000_000,
        deliveries,
        calls: deliveries,
        draining: false,
    }
}

async fn roles(f: &Fixture) -> Vec<String> {
    let processes = f.store.processes().await.unwrap();
    processes.into_iter().map(|process| process.role).collect()
}

async fn processes_are_there_until_their_term_is_over_or_they_say_farewell(f: &Fixture) {
    let term = Duration::from_millis(300);
    assert!(roles(f).await.is_empty());
    f.store.announce(&process("1", "worker", None), HOUR).await.unwrap();
    f.open_another().announce(&process("2", "web", None), HOUR).await.unwrap();
    f.store.announce(&process("3", "serve", None), term).await.unwrap();
    assert_eq!(roles(f).await, ["serve", "web", "worker"]);
    f.pass(term * 2).await;
    assert_eq!(roles(f).await, ["web", "worker"], "one has not said again that it is there");
    f.store.announce(&process("2", "web", None), Duration::ZERO).await.unwrap();
    assert_eq!(roles(f).await, ["worker"]);
}

async fn what_a_process_says_last_is_what_holds(f: &Fixture) {
    let busy = process("1", "worker", Some(PlacesInUse { used: 9, max: 10 }));
    f.store.announce(&process("1", "worker", None), HOUR).await.unwrap();
    f.store.announce(&busy, HOUR).await.unwrap();
    assert_eq!(f.store.processes().await.unwrap(), [busy]);
}

async fn a_process_hears_that_it_is_drained_until_it_is_not(f: &Fixture) {
    let [one, other] = ["1", "2"].map(|id| process(id, "worker", None));
    assert!(!f.store.drain("1", true).await.unwrap(), "it is not there");
    assert!(!f.store.announce(&one, HOUR).await.unwrap());
    assert!(!f.store.announce(&other, HOUR).await.unwrap());
    assert!(f.open_another().drain("1", true).await.unwrap());
    for _ in 0..2 {
        assert!(f.store.announce(&one, HOUR).await.unwrap());
        assert!(!f.store.announce(&other, HOUR).await.unwrap());
    }
    assert!(f.store.drain("1", false).await.unwrap());
    assert!(!f.store.announce(&one, HOUR).await.unwrap());
    assert!(f.store.drain("2", true).await.unwrap());
    f.store.announce(&other, Duration::ZERO).await.unwrap();
    assert!(!f.store.drain("2", true).await.unwrap(), "it has gone");
    assert!(!f.store.announce(&other, HOUR).await.unwrap(), "another one");
}
