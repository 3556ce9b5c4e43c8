//! Random sequences of what is done to calls, on a store and on a simple model of it, which have to agree.
//!
//! Every call is due at once and no lease runs out, so that time plays no part. Which of the calls that are
//! due a claim takes, the model leaves to the store; how many, and of which destination, it does not.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use super::fixture::{Fixture, LEASE, client, soon};
use super::sequences;
use crate::bus::call::{CallId, CallKind, CallState, Due};
use crate::store::{
    Accepted, CallCancelled, CallKey, CallLease, CallOutcome, CallSettled, CallSettlement,
    CallTitle, DestinationLimits, Lane, NewCall,
};

const LIMITS: DestinationLimits = DestinationLimits { in_flight: 3, probes: 1, per_publisher: 4 };
const IDS: usize = 12;
const DESTINATIONS: [&str; 2] = ["https://a.example:443", "https://b.example:443"];
const STEPS_MAX: usize = 80;

#[derive(Clone, Debug)]
enum Step {
    /// The ids of a group, and whether each has another content than it had.
    Accept {
        group: Vec<(usize, bool)>,
    },
    Claim {
        limit: usize,
    },
    /// Settles one of those that are on their way.
    Settle {
        which: Index,
        outcome: CallOutcome,
    },
    /// Settles one whose lease is over.
    SettleLate {
        which: Index,
    },
    Cancel {
        id: usize,
    },
    Retry {
        id: usize,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let outcome = prop_oneof![
        4 => Just(CallOutcome::Done),
        4 => Just(CallOutcome::Failed { retry_in: Duration::ZERO }),
        1 => Just(CallOutcome::Dead),
        1 => Just(CallOutcome::Returned),
    ];
    let step = prop_oneof![
        4 => vec((0..IDS, prop::bool::weighted(0.1)), 1..4).prop_map(|group| Step::Accept { group }),
        4 => (0..8usize).prop_map(|limit| Step::Claim { limit }),
        8 => (any::<Index>(), outcome).prop_map(|(which, outcome)| Step::Settle { which, outcome }),
        1 => any::<Index>().prop_map(|which| Step::SettleLate { which }),
        1 => (0..IDS).prop_map(|id| Step::Cancel { id }),
        1 => (0..IDS).prop_map(|id| Step::Retry { id }),
    ];
    vec(step, 1..=STEPS_MAX)
}

#[derive(Default)]
struct Model {
    calls: BTreeMap<usize, Call>,
    /// Whether the last call to each destination failed.
    fails: [bool; DESTINATIONS.len()],
    late: Vec<(usize, CallLease)>,
}

struct Call {
    changed: bool,
    state: CallState,
    attempts: u32,
    cancelled: bool,
    lease: Option<CallLease>,
}

/// Where a call goes: the same for ever.
fn destination(id: usize) -> usize {
    id % DESTINATIONS.len()
}

fn key(id: usize) -> CallKey {
    CallKey { client: client("shop"), id: CallId::parse(&id.to_string()).unwrap() }
}

impl Model {
    fn waiting(&self, at: usize) -> usize {
        let waits = |call: &&Call| matches!(call.state, CallState::Waiting | CallState::Failing);
        self.at(at).filter(waits).count()
    }

    fn on_their_way(&self, at: usize) -> usize {
        self.at(at).filter(|call| call.lease.is_some()).count()
    }

    fn at(&self, at: usize) -> impl Iterator<Item = &Call> {
        self.calls.iter().filter(move |(id, _)| destination(**id) == at).map(|(_, call)| call)
    }

    /// How many calls to a destination may be given out now.
    fn free(&self, at: usize) -> usize {
        let limit = if self.fails[at] { LIMITS.probes } else { LIMITS.in_flight } as usize;
        limit.saturating_sub(self.on_their_way(at)).min(self.waiting(at))
    }

    /// Of a destination without calls, nothing is known any more.
    fn forget_idle(&mut self) {
        for at in 0..DESTINATIONS.len() {
            self.fails[at] &= self.waiting(at) + self.on_their_way(at) > 0;
        }
    }
}

async fn take(step: Step, f: &Fixture, model: &mut Model) {
    match step {
        Step::Accept { group } => accept(group, f, model).await,
        Step::Claim { limit } => claim(limit, f, model).await,
        Step::Settle { which, outcome } => {
            let held: Vec<usize> =
                model.calls.iter().filter(|(_, c)| c.lease.is_some()).map(|(id, _)| *id).collect();
            if !held.is_empty() {
                settle(held[which.index(held.len())], outcome, f, model).await;
            }
        }
        Step::SettleLate { which } => {
            if !model.late.is_empty() {
                let (_, lease) = model.late[which.index(model.late.len())].clone();
                assert_eq!(report(f, lease, CallOutcome::Done).await, CallSettled::Stale);
            }
        }
        Step::Cancel { id } => {
            let answer = f.store.cancel_calls(&[key(id)]).await.unwrap().remove(0);
            let expected = match model.calls.get_mut(&id) {
                None => CallCancelled::Unknown,
                Some(call) if call.lease.is_some() => {
                    call.cancelled = true;
                    CallCancelled::OnItsWay
                }
                Some(_) => {
                    model.calls.remove(&id);
                    CallCancelled::Gone
                }
            };
            assert_eq!(answer, expected, "cancelling {id}");
        }
        Step::Retry { id } => {
            let answer = f.store.retry_calls(&[key(id)]).await.unwrap().remove(0);
            let may = |call: &&mut Call| call.lease.is_none() && call.state != CallState::Done;
            let retried = model.calls.get_mut(&id).filter(may);
            assert_eq!(answer, retried.is_some(), "retrying {id}");
            if let Some(call) = retried {
                call.state = waiting_state(call.attempts);
            }
        }
    }
    model.forget_idle();
}

fn waiting_state(attempts: u32) -> CallState {
    if attempts > 0 { CallState::Failing } else { CallState::Waiting }
}

async fn accept(group: Vec<(usize, bool)>, f: &Fixture, model: &mut Model) {
    let new = |(id, changed): &(usize, bool)| NewCall {
        key: key(*id),
        kind: CallKind::Call,
        fingerprint: format!("{id} {changed}"),
        // Some have one of their own, some share one.
        title: match id % 3 {
            0 => CallTitle::Own(format!("GET {id}")),
            shared => CallTitle::Shared(format!("POST {shared}").into()),
        },
        destination: DESTINATIONS[destination(*id)].into(),
        content: Bytes::from(id.to_string()),
        due: Due::In(Duration::ZERO),
    };
    let calls = vec![group.iter().map(new).collect()];
    let answer = f.store.accept_calls(calls, 1 << 30, soon()).await.unwrap().groups.remove(0);
    let mut seen: BTreeMap<usize, bool> =
        model.calls.iter().map(|(id, call)| (*id, call.changed)).collect();
    let mut expected = Vec::new();
    for (id, changed) in &group {
        expected.push(match seen.insert(*id, *changed) {
            None => Accepted::Stored,
            Some(before) if before == *changed => Accepted::Known,
            Some(_) => Accepted::Conflict,
        });
    }
    assert_eq!(answer, expected, "{group:?}");
    if expected.contains(&Accepted::Conflict) {
        return;
    }
    for ((id, changed), _) in group.iter().zip(&expected).filter(|(_, a)| **a == Accepted::Stored) {
        let new = Call {
            changed: *changed,
            state: CallState::Waiting,
            attempts: 0,
            cancelled: false,
            lease: None,
        };
        model.calls.insert(*id, new);
    }
}

async fn claim(limit: usize, f: &Fixture, model: &mut Model) {
    let free: Vec<usize> = (0..DESTINATIONS.len()).map(|at| model.free(at)).collect();
    let given = f.store.claim_calls(Lane::HOME, limit, LIMITS, LEASE).await.unwrap().calls;
    assert_eq!(given.len(), limit.min(free.iter().sum()), "of {free:?}");
    let mut of_each = [0; DESTINATIONS.len()];
    for leased in given {
        let id: usize = leased.lease.key.id.as_str().parse().unwrap();
        of_each[destination(id)] += 1;
        let call = model.calls.get_mut(&id).expect("only known calls are given out");
        assert!(call.lease.is_none(), "{id} is on its way already");
        call.attempts += 1;
        assert_eq!(leased.attempt, call.attempts);
        call.state = CallState::Sending;
        call.lease = Some(leased.lease);
    }
    for (at, given) in of_each.iter().enumerate() {
        assert!(*given <= free[at], "{given} to {}", DESTINATIONS[at]);
    }
    // Each has its turn.
    let least = free.iter().copied().min().unwrap_or_default().min(limit / DESTINATIONS.len());
    assert!(of_each.iter().all(|given| *given >= least), "{of_each:?} of {free:?}");
}

async fn report(f: &Fixture, lease: CallLease, outcome: CallOutcome) -> CallSettled {
    let settlement = CallSettlement { lease, outcome, status: Some(500), reason: "why".into() };
    f.store.settle_calls(Lane::HOME, vec![settlement]).await.unwrap().remove(0)
}

async fn settle(id: usize, outcome: CallOutcome, f: &Fixture, model: &mut Model) {
    let call = model.calls.get_mut(&id).unwrap();
    let lease = call.lease.take().unwrap();
    assert_eq!(report(f, lease.clone(), outcome).await, CallSettled::Recorded);
    model.late.push((id, lease));
    match outcome {
        CallOutcome::Done => model.fails[destination(id)] = false,
        CallOutcome::Failed { .. } | CallOutcome::Dead => model.fails[destination(id)] = true,
        CallOutcome::Returned => call.attempts -= 1,
    }
    call.state = match outcome {
        CallOutcome::Done => CallState::Done,
        CallOutcome::Dead => CallState::Dead,
        CallOutcome::Failed { .. } | CallOutcome::Returned => waiting_state(call.attempts),
    };
    if call.cancelled {
        model.calls.remove(&id);
    }
}

/// Checks all that the store shows.
async fn compare(f: &Fixture, model: &Model) {
    for id in 0..IDS {
        let shown = f.store.call(&key(id)).await.unwrap();
        if let Some((status, content)) = &shown {
            assert_eq!(content, id.to_string().as_bytes());
            let title = if id % 3 == 0 { format!("GET {id}") } else { format!("POST {}", id % 3) };
            assert_eq!(status.title, title);
        }
        let shown = shown.map(|(call, _)| (call.state, call.attempts, call.due_ms.is_some()));
        let expected = model.calls.get(&id).map(|call| {
            let waits = matches!(call.state, CallState::Waiting | CallState::Failing);
            (call.state, call.attempts, waits)
        });
        assert_eq!(shown, expected, "call {id}");
    }
}

/// Checks what the store counts, and lists.
async fn compare_all(f: &Fixture, model: &Model) {
    let counts = f.store.call_counts(CallKind::Call).await.unwrap();
    let is_over = |call: &&Call| matches!(call.state, CallState::Done | CallState::Dead);
    let dead = model.calls.values().filter(|call| call.state == CallState::Dead).count();
    let over = model.calls.values().filter(is_over).count();
    assert_eq!((counts.waiting as usize, counts.dead as usize), (model.calls.len() - over, dead));
    assert_eq!(counts.bytes > 0, !model.calls.is_empty());
    let (mut listed, mut before) = (Vec::new(), u64::MAX);
    loop {
        let page = f.store.calls_before(before, 5).await.unwrap();
        assert!(page.iter().map(|call| call.position).is_sorted_by(|one, next| one > next));
        before = page.last().map_or(0, |call| call.position);
        listed.extend(page.iter().map(|call| call.key.id.as_str().parse::<usize>().unwrap()));
        if page.len() < 5 {
            break;
        }
    }
    listed.sort_unstable();
    assert_eq!(listed, model.calls.keys().copied().collect::<Vec<_>>());
}

async fn agrees(steps: Vec<Step>, f: &Fixture) {
    let mut model = Model::default();
    for step in steps {
        take(step, f, &mut model).await;
        compare(f, &model).await;
        compare_all(f, &model).await;
    }
}

#[test]
fn sqlite_agrees_with_the_model() {
    sequences::play_on_sqlite(24, &steps(), agrees);
}

#[test]
fn redis_agrees_with_the_model() {
    sequences::play_on_redis(16, &steps(), agrees);
}
