//! Calls: nothing is lost, a lease is one holder's, a late settlement changes nothing, destinations have their
//! limits and their turns.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::fixture::{
    Fixture, HOUR, LEASE, SHORT_LEASE, client, on_all_stores, on_both_stores, soon,
};
use crate::bus::call::{CallId, CallKind, CallState, Due};
use crate::store::{
    Accepted, CallCancelled, CallCounts, CallKey, CallMemory, CallOutcome, CallSettled,
    CallSettlement, CallStatus, CallTitle, DestinationLimits, Lane, LeasedCall, NewCall,
    StoreError,
};

on_all_stores!(
    a_call_is_kept_made_and_done,
    a_call_that_is_known_is_not_kept_again_and_another_content_is_a_conflict,
    a_group_is_kept_as_a_whole_or_not_at_all,
    a_call_is_made_when_it_is_due,
    a_failed_call_is_due_again_after_its_pause_and_a_dead_one_never,
    a_settlement_with_an_old_fence_changes_nothing,
    a_destination_has_so_many_on_their_way_and_fewer_while_it_fails,
    a_call_that_is_cancelled_is_not_made_again,
    a_dead_call_lives_again_when_somebody_retries_it,
    a_call_that_was_not_made_says_nothing_of_its_destination,
    what_is_over_is_forgotten_in_its_time,
    many_claimers_get_each_call_once,
    calls_have_room_of_their_own_and_what_is_over_makes_some,
    a_lease_holds_for_as_long_as_it_is_renewed,
    many_are_retried_or_cancelled_at_once,
    a_shared_title_is_kept_once_and_goes_with_the_last_call,
);

// Each lane has turns of its own.
on_both_stores!(
    destinations_take_turns_and_the_longest_due_comes_first,
    destinations_that_fail_are_listed_before_those_that_wait,
);

const LIMITS: DestinationLimits = DestinationLimits { in_flight: 16, probes: 2, per_publisher: 4 };
const PLENTY: u64 = 1 << 30;
const FORGET_ALL: CallMemory = CallMemory { done: Duration::ZERO, dead: Duration::ZERO };

fn key(id: &str) -> CallKey {
    CallKey { client: client("shop"), id: CallId::parse(id).unwrap() }
}

fn call_to(destination: &str, id: &str) -> NewCall {
    NewCall {
        key: key(id),
        fingerprint: format!("of {id}"),
        kind: CallKind::Call,
        destination: destination.to_owned(),
        title: CallTitle::Own(format!("POST {destination}/{id}")),
        content: Bytes::from(format!("content of {id} \u{0}\u{ff}")),
        due: Due::In(Duration::ZERO),
    }
}

fn call(id: &str) -> NewCall {
    call_to("https://a.example:443", id)
}

async fn accept(f: &Fixture, calls: &[NewCall]) -> Vec<Accepted> {
    f.store.accept_calls(vec![calls.to_vec()], PLENTY, soon()).await.unwrap().groups.remove(0)
}

/// Claims in all lanes.
async fn claim(f: &Fixture, limit: usize) -> Vec<LeasedCall> {
    let mut calls = Vec::new();
    for lane in Lane::first(f.store.lanes().await.unwrap()) {
        let claim = f.store.claim_calls(lane, limit - calls.len(), LIMITS, LEASE).await.unwrap();
        calls.extend(claim.calls);
    }
    calls
}

/// In how long the next call is due, in whatever lane.
async fn next_due(f: &Fixture) -> Option<Duration> {
    let mut next = None;
    for lane in Lane::first(f.store.lanes().await.unwrap()) {
        let claim = f.store.claim_calls(lane, 0, LIMITS, LEASE).await.unwrap();
        next = next.into_iter().chain(claim.next_due).min();
    }
    next
}

fn ids(calls: &[LeasedCall]) -> Vec<&str> {
    calls.iter().map(|call| call.lease.key.id.as_str()).collect()
}

async fn settle(f: &Fixture, call: &LeasedCall, outcome: CallOutcome) -> CallSettled {
    let lane = f.store.lane_of_destination(&call.destination).await.unwrap();
    let (status, reason) = match outcome {
        CallOutcome::Done => (Some(200), ""),
        _ => (Some(503), "it answered 503"),
    };
    let lease = call.lease.clone();
    let settlement = CallSettlement { lease, outcome, status, reason: reason.into() };
    f.store.settle_calls(lane, vec![settlement]).await.unwrap().remove(0)
}

async fn status(f: &Fixture, id: &str) -> Option<CallStatus> {
    Some(f.store.call(&key(id)).await.unwrap()?.0)
}

async fn state(f: &Fixture, id: &str) -> Option<CallState> {
    Some(status(f, id).await?.state)
}

async fn a_call_is_kept_made_and_done(f: &Fixture) {
    let before_ms = f.now_ms();
    assert_eq!(accept(f, &[call("one")]).await, [Accepted::Stored]);
    let (kept, content) = f.store.call(&key("one")).await.unwrap().unwrap();
    assert_eq!((kept.state, kept.attempts), (CallState::Waiting, 0));
    assert_eq!((&content, kept.title.as_str()), (&call("one").content, call("one").title.as_str()));
    assert!((before_ms..=f.now_ms() + 1).contains(&kept.accepted_ms), "{kept:?}");
    assert!(kept.due_ms.is_some());

    let leased = claim(f, 10).await;
    assert_eq!(ids(&leased), ["one"]);
    let one = &leased[0];
    assert_eq!((one.attempt, one.kind, &one.content), (1, CallKind::Call, &call("one").content));
    assert_eq!(one.title, call("one").title.as_str());
    assert_eq!(one.destination, call("one").destination);
    assert_eq!(state(f, "one").await, Some(CallState::Sending));
    assert!(claim(f, 10).await.is_empty(), "one holder at a time");

    assert_eq!(settle(f, one, CallOutcome::Done).await, CallSettled::Recorded);
    let done = status(f, "one").await.unwrap();
    assert_eq!((done.state, done.attempts, done.status), (CallState::Done, 1, Some(200)));
    assert_eq!((done.due_ms, done.reason.as_str()), (None, ""));
    assert!(claim(f, 10).await.is_empty());
    assert_eq!(state(f, "two").await, None);
}

async fn a_call_that_is_known_is_not_kept_again_and_another_content_is_a_conflict(f: &Fixture) {
    accept(f, &[call("one")]).await;
    assert_eq!(accept(f, &[call("one")]).await, [Accepted::Known]);
    let other = NewCall { fingerprint: "other".into(), ..call_to("https://b.example:443", "one") };
    assert_eq!(accept(f, &[other]).await, [Accepted::Conflict]);
    let leased = claim(f, 10).await;
    assert_eq!(ids(&leased), ["one"], "once");
    settle(f, &leased[0], CallOutcome::Done).await;
    assert_eq!(accept(f, &[call("one")]).await, [Accepted::Known], "also when it is done");
    // Another client's is another call.
    let others = NewCall { key: CallKey { client: client("bob"), ..key("one") }, ..call("one") };
    assert_eq!(accept(f, &[others]).await, [Accepted::Stored]);
    assert_eq!(ids(&claim(f, 10).await), ["one"]);
}

async fn a_group_is_kept_as_a_whole_or_not_at_all(f: &Fixture) {
    accept(f, &[call("one")]).await;
    let conflicting = NewCall { fingerprint: "other".into(), ..call("one") };
    let groups = vec![
        vec![call("two"), conflicting, call_to("https://c.example:443", "three")],
        vec![call("four"), call("one"), call("four")],
    ];
    let accepted = f.store.accept_calls(groups, PLENTY, soon()).await.unwrap().groups;
    assert_eq!(accepted[0], [Accepted::Stored, Accepted::Conflict, Accepted::Stored]);
    assert_eq!(accepted[1], [Accepted::Stored, Accepted::Known, Accepted::Known]);
    let mut all = ids(&claim(f, 10).await).into_iter().map(str::to_owned).collect::<Vec<_>>();
    all.sort();
    assert_eq!(all, ["four", "one"], "nothing of the first group");
}

async fn a_call_is_made_when_it_is_due(f: &Fixture) {
    let pause = Duration::from_millis(400);
    let at_ms = f.now_ms() + HOUR.as_millis() as u64;
    accept(
        f,
        &[
            NewCall { due: Due::In(pause), ..call("soon") },
            NewCall { due: Due::At(at_ms), ..call("later") },
            NewCall { due: Due::At(1_000), ..call("past") },
        ],
    )
    .await;
    let leased = claim(f, 10).await;
    assert_eq!(ids(&leased), ["past"]);
    settle(f, &leased[0], CallOutcome::Done).await;
    let due = next_due(f).await.unwrap();
    assert!(due <= pause, "{due:?}");
    f.pass(pause).await;
    assert_eq!(ids(&claim(f, 10).await), ["soon"]);
    assert_eq!(state(f, "later").await, Some(CallState::Waiting));
}

async fn a_failed_call_is_due_again_after_its_pause_and_a_dead_one_never(f: &Fixture) {
    let pause = Duration::from_millis(300);
    accept(f, &[call("one")]).await;
    let first = claim(f, 10).await.remove(0);
    settle(f, &first, CallOutcome::Failed { retry_in: pause }).await;
    let failing = status(f, "one").await.unwrap();
    assert_eq!((failing.state, failing.attempts), (CallState::Failing, 1));
    assert_eq!((failing.status, failing.reason.as_str()), (Some(503), "it answered 503"));
    assert!(claim(f, 10).await.is_empty());
    f.pass(pause * 2).await;
    let second = claim(f, 10).await.remove(0);
    assert_eq!(second.attempt, 2);
    assert!(second.age >= pause, "{:?}", second.age);
    settle(f, &second, CallOutcome::Dead).await;
    assert_eq!(state(f, "one").await, Some(CallState::Dead));
    f.pass(pause * 2).await;
    assert!(claim(f, 10).await.is_empty());
}

/// Leases run out after the call's own time-out and a margin, for which Redis would have to be waited.
async fn a_settlement_with_an_old_fence_changes_nothing(f: &Fixture) {
    accept(f, &[call("one")]).await;
    let first = claim(f, 10).await.remove(0);
    settle(f, &first, CallOutcome::Failed { retry_in: Duration::ZERO }).await;
    let second = claim(f, 10).await.remove(0);
    assert!(second.lease.fence > first.lease.fence);
    assert_eq!(settle(f, &first, CallOutcome::Done).await, CallSettled::Stale);
    assert_eq!(state(f, "one").await, Some(CallState::Sending));
    assert_eq!(settle(f, &second, CallOutcome::Done).await, CallSettled::Recorded);
    assert_eq!(settle(f, &second, CallOutcome::Dead).await, CallSettled::Stale);
    assert_eq!(state(f, "one").await, Some(CallState::Done));
}

async fn a_destination_has_so_many_on_their_way_and_fewer_while_it_fails(f: &Fixture) {
    let calls: Vec<NewCall> = (0..40).map(|number| call(&format!("{number:02}"))).collect();
    accept(f, &calls).await;
    let mut leased = claim(f, 100).await;
    assert_eq!(leased.len(), 16, "{:?}", ids(&leased));
    assert!(claim(f, 100).await.is_empty());
    // Another destination is not held up.
    accept(f, &[call_to("https://b.example:443", "other")]).await;
    let other = claim(f, 100).await;
    assert_eq!(ids(&other), ["other"]);
    for call in leased.drain(..10) {
        settle(f, &call, CallOutcome::Failed { retry_in: HOUR }).await;
    }
    assert!(claim(f, 100).await.is_empty(), "six are on their way still, and two would be enough");
    for call in leased.drain(..) {
        settle(f, &call, CallOutcome::Failed { retry_in: HOUR }).await;
    }
    let probes = claim(f, 100).await;
    assert_eq!(probes.len(), 2);
    // One that works opens the door again.
    settle(f, &probes[0], CallOutcome::Done).await;
    assert_eq!(claim(f, 100).await.len(), 15);
}

async fn destinations_take_turns_and_the_longest_due_comes_first(f: &Fixture) {
    let many: Vec<NewCall> = (0..10).map(|number| call(&format!("many-{number}"))).collect();
    accept(f, &many).await;
    f.pass(Duration::from_millis(5)).await;
    accept(f, &[call_to("https://b.example:443", "b-0"), call_to("https://b.example:443", "b-1")])
        .await;
    let first = claim(f, 4).await;
    assert_eq!(ids(&first), ["many-0", "b-0", "many-1", "b-1"]);
    assert_eq!(ids(&claim(f, 2).await), ["many-2", "many-3"]);
}

async fn destinations_that_fail_are_listed_before_those_that_wait(f: &Fixture) {
    let failing = call_to("https://b.example:443", "b");
    accept(f, &[call("a-0"), failing, call("a-1"), call("a-2")]).await;
    let leased = claim(f, 2).await;
    assert_eq!(ids(&leased), ["a-0", "b"]);
    settle(f, &leased[1], CallOutcome::Failed { retry_in: HOUR }).await;
    let listed = f.store.destinations(10).await.unwrap();
    let [b, a] = &listed[..] else { panic!("{listed:?}") };
    assert_eq!(
        (&*b.destination, b.waiting, b.in_flight, b.failures),
        ("https://b.example:443", 1, 0, 1)
    );
    assert_eq!((a.waiting, a.in_flight, a.failures), (2, 1, 0));
    assert!(b.due_ms > a.due_ms + 1_000_000, "{listed:?}");
    assert_eq!(f.store.destinations(1).await.unwrap(), std::slice::from_ref(b));
    settle(f, &leased[0], CallOutcome::Done).await;
    for leased in claim(f, 2).await {
        settle(f, &leased, CallOutcome::Done).await;
    }
    let left: Vec<_> = f
        .store
        .destinations(10)
        .await
        .unwrap()
        .into_iter()
        .map(|status| status.destination)
        .collect();
    assert_eq!(left, ["https://b.example:443"]);
}

async fn a_call_that_is_cancelled_is_not_made_again(f: &Fixture) {
    accept(f, &[call("waiting"), call("sent"), call("failed")]).await;
    let cancel = async |id: &str| f.store.cancel_calls(&[key(id)]).await.unwrap().remove(0);
    assert_eq!(cancel("waiting").await, CallCancelled::Gone);
    assert_eq!(cancel("waiting").await, CallCancelled::Unknown);
    let leased = claim(f, 10).await;
    assert_eq!(leased.len(), 2);
    for call in &leased {
        assert_eq!(cancel(call.lease.key.id.as_str()).await, CallCancelled::OnItsWay);
    }
    assert_eq!(state(f, "sent").await, Some(CallState::Sending));
    settle(f, &leased[0], CallOutcome::Done).await;
    settle(f, &leased[1], CallOutcome::Failed { retry_in: Duration::ZERO }).await;
    assert!(claim(f, 10).await.is_empty());
    assert_eq!((state(f, "sent").await, state(f, "failed").await), (None, None));
    assert_eq!(next_due(f).await, None);
}

async fn a_dead_call_lives_again_when_somebody_retries_it(f: &Fixture) {
    accept(f, &[call("dead"), NewCall { due: Due::In(HOUR), ..call("later") }]).await;
    let retry = async |id: &str| f.store.retry_calls(&[key(id)]).await.unwrap().remove(0);
    let first = claim(f, 10).await.remove(0);
    assert!(!retry("dead").await, "it is on its way");
    settle(f, &first, CallOutcome::Dead).await;
    assert!(retry("dead").await && retry("later").await && !retry("unknown").await);
    let mut leased = claim(f, 10).await;
    leased.sort_by(|one, other| one.lease.key.cmp(&other.lease.key));
    assert_eq!(ids(&leased), ["dead", "later"]);
    assert_eq!(leased[0].attempt, 2);
    for call in &leased {
        settle(f, call, CallOutcome::Done).await;
    }
    assert!(!retry("dead").await, "what is done is not done again");
}

async fn a_call_that_was_not_made_says_nothing_of_its_destination(f: &Fixture) {
    let calls: Vec<NewCall> = (0..4).map(|number| call(&number.to_string())).collect();
    accept(f, &calls).await;
    for call in claim(f, 10).await {
        settle(f, &call, CallOutcome::Returned).await;
    }
    let again = claim(f, 10).await;
    assert_eq!(again.len(), 4, "all of them at once, not probes");
    assert!(again.iter().all(|call| call.attempt == 1), "{again:?}");
}

async fn what_is_over_is_forgotten_in_its_time(f: &Fixture) {
    accept(f, &[call("done"), call("dead"), call("waiting")]).await;
    for call in claim(f, 10).await {
        match call.lease.key.id.as_str() {
            "done" => settle(f, &call, CallOutcome::Done).await,
            "dead" => settle(f, &call, CallOutcome::Dead).await,
            _ => settle(f, &call, CallOutcome::Failed { retry_in: HOUR }).await,
        };
    }
    let forget = async |memory| {
        let mut forgotten = 0;
        for lane in Lane::first(f.store.lanes().await.unwrap()) {
            forgotten += f.store.forget_calls(lane, memory).await.unwrap();
        }
        forgotten
    };
    assert_eq!(forget(CallMemory { done: HOUR, dead: HOUR }).await, 0);
    f.pass(Duration::from_millis(5)).await;
    assert_eq!(forget(CallMemory { dead: HOUR, ..FORGET_ALL }).await, 1);
    assert_eq!((state(f, "done").await, state(f, "dead").await), (None, Some(CallState::Dead)));
    assert_eq!(forget(FORGET_ALL).await, 1);
    assert_eq!(state(f, "waiting").await, Some(CallState::Failing));
    // What is forgotten may come again.
    assert_eq!(accept(f, &[call("done")]).await, [Accepted::Stored]);
}

async fn calls_have_room_of_their_own_and_what_is_over_makes_some(f: &Fixture) {
    let heavy = |id: &str| NewCall { content: Bytes::from(vec![b'x'; 10_000]), ..call(id) };
    let accept_within =
        async |id: &str, max: u64| f.store.accept_calls(vec![vec![heavy(id)]], max, soon()).await;
    let room = 35_000;
    for id in ["done", "dead", "waiting"] {
        assert_eq!(accept_within(id, room).await.unwrap().groups, [[Accepted::Stored]], "{id}");
    }
    let refused = accept_within("more", room).await.unwrap_err();
    assert!(matches!(refused, StoreError::Full(_)), "{refused}");
    assert_eq!(state(f, "more").await, None);
    for call in claim(f, 10).await {
        match call.lease.key.id.as_str() {
            "done" => settle(f, &call, CallOutcome::Done).await,
            "dead" => settle(f, &call, CallOutcome::Dead).await,
            _ => settle(f, &call, CallOutcome::Failed { retry_in: HOUR }).await,
        };
    }
    // One that does not fit however much is forgotten costs nobody anything.
    let huge = NewCall { content: Bytes::from(vec![b'x'; 40_000]), ..call("huge") };
    assert!(f.store.accept_calls(vec![vec![huge]], room, soon()).await.is_err());
    assert_eq!(state(f, "done").await, Some(CallState::Done));
    // First what is done goes, then what is dead, and counted; what waits stays.
    assert_eq!(accept_within("more", room).await.unwrap().dead_dropped, 0);
    assert_eq!((state(f, "done").await, state(f, "dead").await), (None, Some(CallState::Dead)));
    assert_eq!(accept_within("more-still", room).await.unwrap().dead_dropped, 1);
    assert_eq!(state(f, "dead").await, None);
    assert!(accept_within("too-much", room).await.is_err());
    assert_eq!(state(f, "waiting").await, Some(CallState::Failing));
    // A call that is cancelled gives its room back.
    f.store.cancel_calls(&[key("waiting")]).await.unwrap();
    accept_within("again", room).await.unwrap();
}

async fn a_lease_holds_for_as_long_as_it_is_renewed(f: &Fixture) {
    accept(f, &[call("one"), call("two")]).await;
    let lane = f.store.lane_of_destination("https://a.example:443").await.unwrap();
    let claim = |lease| f.store.claim_calls(lane, 10, LIMITS, lease);
    let leased = claim(SHORT_LEASE).await.unwrap().calls;
    let leases: Vec<_> = leased.iter().map(|call| call.lease.clone()).collect();
    assert_eq!(leases.len(), 2);
    let lost = f.store.renew_calls(lane, &leases[1..], LEASE).await.unwrap();
    assert!(lost.is_empty(), "{lost:?}");
    f.pass(SHORT_LEASE + Duration::from_millis(50)).await;
    let again = claim(LEASE).await.unwrap().calls;
    assert_eq!(ids(&again), [leases[0].key.id.as_str()]);
    assert_eq!(again[0].attempt, 2);
    let lost = f.store.renew_calls(lane, &leases, LEASE).await.unwrap();
    assert_eq!(lost, leases[..1], "it is another one's");
    settle(f, &leased[1], CallOutcome::Done).await;
    assert_eq!(f.store.renew_calls(lane, &leases[1..], LEASE).await.unwrap(), leases[1..]);
}

async fn many_are_retried_or_cancelled_at_once(f: &Fixture) {
    let ids: Vec<String> = (0..20).map(|n| n.to_string()).collect();
    let to = |n: &String| call_to(&format!("https://{n}.example:443"), n);
    accept(f, &ids.iter().map(to).collect::<Vec<_>>()).await;
    let mut keys: Vec<CallKey> = ids.iter().map(|id| key(id)).collect();
    keys.push(key("unknown"));
    let first = claim(f, 10).await;
    let retried = f.store.retry_calls(&keys).await.unwrap();
    assert_eq!(retried.iter().filter(|retried| **retried).count(), 20 - first.len());
    assert!(!retried[20]);
    let cancelled = f.store.cancel_calls(&keys).await.unwrap();
    let count = |what| cancelled.iter().filter(|cancelled| **cancelled == what).count();
    assert_eq!(count(CallCancelled::OnItsWay), first.len());
    assert_eq!(count(CallCancelled::Unknown), 1);
    assert_eq!(f.store.calls_before(u64::MAX, 100).await.unwrap().len(), first.len());
}

async fn a_shared_title_is_kept_once_and_goes_with_the_last_call(f: &Fixture) {
    let title: Arc<str> = "x".repeat(10_000).into();
    let postback = |id: &str| NewCall {
        kind: CallKind::Postback,
        title: CallTitle::Shared(title.clone()),
        ..call(id)
    };
    let counts = async || f.store.call_counts(CallKind::Postback).await.unwrap();
    accept(f, &(0..10).map(|n| postback(&n.to_string())).collect::<Vec<_>>()).await;
    let kept = counts().await;
    assert_eq!((kept.waiting, kept.dead), (10, 0));
    assert!((10_000..12_000).contains(&kept.bytes), "{kept:?}");
    assert_eq!(f.store.call_counts(CallKind::Call).await.unwrap(), CallCounts::default());
    let leased = claim(f, 10).await;
    assert!(leased.iter().all(|call| call.title == *title));
    assert!(f.store.calls_before(u64::MAX, 9).await.unwrap().iter().all(|c| c.title == *title));
    let all: Vec<CallKey> = leased.iter().map(|call| call.lease.key.clone()).collect();
    f.store.cancel_calls(&all).await.unwrap();
    for call in &leased {
        assert!(counts().await.bytes > 10_000, "it is needed");
        settle(f, call, CallOutcome::Done).await;
    }
    assert_eq!(counts().await, CallCounts::default());
}

async fn many_claimers_get_each_call_once(f: &Fixture) {
    const CALLS: usize = 200;
    let calls: Vec<NewCall> = (0..CALLS)
        .map(|n| call_to(&format!("https://{}.example:443", n % 7), &n.to_string()))
        .collect();
    accept(f, &calls).await;
    let workers = (0..4).map(|_| {
        let store = f.open_another();
        tokio::spawn(async move {
            let mut made: BTreeMap<String, u32> = BTreeMap::new();
            let give_up = Instant::now() + Duration::from_secs(20);
            let mut idle = 0;
            while idle < 3 && Instant::now() < give_up {
                let before = made.len();
                for lane in Lane::first(store.lanes().await.unwrap()) {
                    let claim = store.claim_calls(lane, 5, LIMITS, LEASE).await.unwrap();
                    for call in claim.calls {
                        *made.entry(call.lease.key.id.to_string()).or_default() += 1;
                        let settlement = CallSettlement {
                            lease: call.lease,
                            outcome: CallOutcome::Done,
                            status: None,
                            reason: String::new(),
                        };
                        store.settle_calls(lane, vec![settlement]).await.unwrap();
                    }
                }
                idle = if made.len() == before { idle + 1 } else { 0 };
            }
            made
        })
    });
    let mut all: BTreeMap<String, u32> = BTreeMap::new();
    for worker in workers.collect::<Vec<_>>() {
        for (id, count) in worker.await.unwrap() {
            *all.entry(id).or_default() += count;
        }
    }
    assert_eq!(all.len(), CALLS);
    assert!(all.values().all(|count| *count == 1), "{all:?}");
}

/// A worker that dies takes nothing with it. On SQLite, whose time can be moved.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_that_ran_out_is_taken_over() {
    let f = &Fixture::sqlite();
    accept(f, &[call("one"), call("cancelled")]).await;
    let leased = claim(f, 10).await;
    f.store.cancel_calls(&[key("cancelled")]).await.unwrap();
    let due = next_due(f).await.unwrap();
    assert!(due <= LEASE && due > LEASE - Duration::from_secs(10), "{due:?}");
    f.pass(LEASE).await;
    let again = claim(f, 10).await;
    assert_eq!((ids(&again), again[0].attempt), (vec!["one"], 2));
    assert_eq!(settle(f, &leased[0], CallOutcome::Done).await, CallSettled::Stale);
    assert_eq!(state(f, "cancelled").await, None);
    settle(f, &again[0], CallOutcome::Done).await;
    assert_eq!(next_due(f).await, None, "nothing is left on its way");
}

/// What was due before a clock was set back is due all the same, and what is on its way does not stay there; what
/// was not due yet is not made early. On SQLite, whose time can be moved.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_is_set_back_holds_no_call_up() {
    let f = &Fixture::sqlite();
    f.pass(HOUR).await;
    let minute = Duration::from_secs(60);
    accept(f, &[call_to("https://c.example:443", "paused")]).await;
    settle(f, &claim(f, 1).await[0], CallOutcome::Failed { retry_in: minute }).await;
    accept(f, &[call("leased")]).await;
    claim(f, 10).await;
    let later = NewCall { due: Due::In(HOUR), ..call("later") };
    accept(f, &[call_to("https://b.example:443", "due"), later]).await;
    f.set_back(HOUR);
    assert!(next_due(f).await.unwrap() < Duration::from_secs(1));
    f.pass(Duration::from_secs(1)).await;
    assert_eq!(ids(&claim(f, 10).await), ["due"]);
    f.pass(LEASE.max(minute)).await;
    assert_eq!(ids(&claim(f, 10).await), ["paused", "leased", "due"]);
    assert!(next_due(f).await.unwrap() > Duration::ZERO);
    assert_eq!(state(f, "later").await, Some(CallState::Waiting));
}

/// The server's clock cannot be set here; what it leaves behind when it is set back can.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_whose_clock_is_set_back_holds_no_call_up() {
    let mut f = Fixture::redis();
    accept(&f, &[call_to("https://c.example:443", "paused")]).await;
    settle(&f, &claim(&f, 1).await[0], CallOutcome::Failed { retry_in: HOUR }).await;
    accept(&f, &[call("due"), NewCall { due: Due::In(2 * HOUR), ..call("later") }]).await;
    let ahead = f.now_ms() + HOUR.as_millis() as u64;
    let (text, after_a_pause) = (ahead.to_string(), (ahead + 10_000).to_string());
    for command in [
        &["ZADD", "rm:{0}:calls_waiting:https://a.example:443", &text, "shop/due"][..],
        &["ZADD", "rm:{0}:calls_waiting:https://c.example:443", &after_a_pause, "shop/paused"],
        &["ZADD", "rm:{0}:destinations_due", &text, "https://a.example:443"],
        &["SET", "rm:{0}:call_clock", &text],
    ] {
        f.server().command(command).unwrap();
    }
    assert_eq!(ids(&claim(&f, 10).await), ["due"]);
    assert!(next_due(&f).await.unwrap() <= Duration::from_secs(10), "a pause is no longer");
    assert_eq!(state(&f, "later").await, Some(CallState::Waiting));
}

/// What a claim leased whose answer was lost is given out again by the next one, as if nothing had been tried.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_whose_answer_was_lost_holds_up_nobody() {
    let mut f = Fixture::redis();
    accept(&f, &[call("one"), call("two")]).await;
    let answered = claim(&f, 1).await;
    f.server().pause();
    assert!(f.store.claim_calls(Lane::HOME, 1, LIMITS, LEASE).await.is_err());
    f.server().resume();
    let give_up = Instant::now() + Duration::from_secs(5);
    while f.server().command(&["ZCARD", "rm:{0}:calls_leased"]).unwrap() != "2" {
        assert!(Instant::now() < give_up, "Redis does the claim in the end");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let again = claim(&f, 10).await;
    assert_eq!(again.len(), 1, "{:?}", ids(&again));
    assert_ne!(ids(&again), ids(&answered));
    assert_eq!(again[0].attempt, 1);
    assert_eq!(settle(&f, &answered[0], CallOutcome::Done).await, CallSettled::Recorded);
}
