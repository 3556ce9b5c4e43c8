//! Takes calls that are due and makes each by itself, many at a time.
//!
//! The store bounds how many go to one destination at once, so that one which hangs holds few places. Each
//! lane has a dispatcher of its own, as for batches.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http::StatusCode;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::courier::{Answer, CallCourier, CallError};
use super::verdict::{FailedAttempt, Rules};
use crate::bus::attempt::Failure;
use crate::bus::call::{Order, Persistence};
use crate::bus::process::PlacesInUse;
use crate::commit::{CallSettleGroups, CallSettlements};
use crate::config::Settings;
use crate::store::{
    Alarm, CallLease, CallOutcome, CallSettled, CallSettlement, DestinationLimits, Lane,
    LeasedCall, Store, StoreResult,
};
use crate::telemetry::metrics::record;
use crate::worker::attempts::{Attempts, Ended};
use crate::worker::failure_log::{FailureLog, Recovery};
use crate::worker::leases::{LEASE, Leases};
use crate::worker::places::Places;
use crate::worker::receivers::{Receivers, no_files};
use crate::worker::work::{self, Work};

/// How many calls one look for work leases at most.
const CLAIM_MAX: usize = 128;
/// How many calls go to a destination at once while its last one has failed.
const PROBES: u32 = 2;
/// How much of an answer stands in the log, in characters.
const LOGGED: usize = 200;

/// Makes calls until it is stopped.
pub struct CallWorker {
    store: Arc<dyn Store>,
    courier: CallCourier,
    rules: Rules,
    limits: DestinationLimits,
    timeout: Duration,
    postbacks: Persistence,
    postback_default: String,
    places: Places,
    failures: FailureLog<String>,
    attempts: Attempts,
    stop: CancellationToken,
}

/// Works off the calls of one lane.
struct Dispatcher {
    worker: Arc<CallWorker>,
    lane: Lane,
    leases: Arc<Leases<CallLease>>,
    settlements: CallSettlements,
}

impl CallWorker {
    /// One that makes so many calls at once.
    pub fn new(
        settings: &Settings,
        max_calls: usize,
        receivers: Receivers,
        attempts: Attempts,
        store: Arc<dyn Store>,
        stop: CancellationToken,
    ) -> Arc<Self> {
        let in_flight = settings.calls_per_destination;
        Arc::new(Self {
            store,
            courier: CallCourier::new(
                receivers,
                settings.plain_targets,
                settings.journal_body.max(LOGGED),
            ),
            rules: Rules::of(settings),
            limits: DestinationLimits { in_flight, probes: PROBES.min(in_flight) },
            timeout: settings.call_timeout,
            postbacks: settings.postback_persistence(),
            postback_default: settings.postback_default.clone(),
            places: Places::new(max_calls),
            failures: FailureLog::default(),
            attempts,
            stop,
        })
    }

    /// Works until it is stopped, then waits for the calls on their way. The caller bounds that wait.
    pub async fn run(self: Arc<Self>) {
        work::in_all_lanes(&*self.store, &self.stop, |lane, committers| {
            let settlements = CallSettleGroups::start(self.store.clone(), lane, committers);
            Dispatcher { worker: self.clone(), lane, leases: Arc::default(), settlements }
        })
        .await;
    }

    /// How many calls are on their way, and may be.
    pub fn calls(&self) -> PlacesInUse {
        self.places.in_use()
    }

    /// Makes a call that the store was asked for at `asked`, and judges the outcome.
    async fn make(&self, leased: &LeasedCall, asked: Instant) -> CallSettlement {
        let settlement = |outcome| CallSettlement {
            lease: leased.lease.clone(),
            outcome,
            status: None,
            reason: String::new(),
        };
        if self.stop.is_cancelled() {
            return settlement(CallOutcome::Returned);
        }
        let postbacks = (self.postbacks, self.postback_default.as_str());
        let order = match Order::read(leased.kind, &leased.title, &leased.content, postbacks) {
            Ok(order) => order,
            Err(error) => {
                let reason = error.to_string();
                let id = leased.lease.key.id.as_str();
                tracing::warn!(client = %leased.lease.key.client, id, error = reason, "gave a call up");
                record::call_attempted(leased, CallOutcome::Dead, Duration::ZERO, Duration::ZERO);
                let nothing = Ended { error: Some(&reason), ..Ended::default() };
                self.attempts.of_call(leased, &leased.title, &nothing);
                return CallSettlement { reason, ..settlement(CallOutcome::Dead) };
            }
        };
        let Order { request, persistence, timeout } = order;
        let (secrets, bytes) = (request.credentials(), request.body.len());
        let title = request.title();
        let (started, timeout) = (Instant::now(), timeout.unwrap_or(self.timeout));
        let id = leased.lease.key.id.as_str();
        let made = self.courier.make(request, id, leased.attempt, timeout).await;
        let took = started.elapsed();
        if matches!(made, Err(CallError::NoFiles)) {
            no_files().await;
            return settlement(CallOutcome::Returned);
        }
        let age = leased.age + asked.elapsed();
        let judged = self.judge(made, persistence, leased.attempt, age);
        record::call_attempted(leased, judged.outcome, started - asked, took);
        self.log(leased, &title, &judged, took);
        let status = judged.status.map(|status| status.as_u16());
        let ended = Ended {
            status,
            error: (judged.outcome != CallOutcome::Done).then_some(&judged.reason),
            took,
            bytes,
            answer: &judged.answer,
            secrets: &secrets,
            next_in: judged.retry_in(),
        };
        self.attempts.of_call(leased, &title, &ended);
        CallSettlement { status, reason: judged.reason, ..settlement(judged.outcome) }
    }

    fn judge(
        &self,
        made: Result<Answer, CallError>,
        persistence: Persistence,
        attempt: u32,
        age: Duration,
    ) -> Judged {
        let (status, answer, retry_after, reason) = match made {
            Ok(Answer { status, beginning, .. }) if status.is_success() => {
                let outcome = CallOutcome::Done;
                return Judged {
                    outcome,
                    status: Some(status),
                    answer: beginning,
                    reason: String::new(),
                };
            }
            Ok(Answer { status, beginning, retry_after }) => {
                (Some(status), beginning, retry_after, format!("it answered {status}"))
            }
            Err(error) => (None, Vec::new(), None, error.to_string()),
        };
        let failed = FailedAttempt { attempt, age, retry_after };
        let outcome = self.rules.after_failure(persistence, failed, fastrand::f64());
        Judged { outcome, status, answer, reason: Failure::new(None, &reason).reason }
    }

    /// A line for each call that is done or fails; of failures in a row, the first ones and then one in a while.
    fn log(&self, leased: &LeasedCall, title: &str, judged: &Judged, took: Duration) {
        let now = std::time::Instant::now();
        let (method, url) = title.split_once(' ').unwrap_or_default();
        let destination = &leased.destination;
        let status = judged.status.map(|status| status.as_u16());
        let answer: String = String::from_utf8_lossy(&judged.answer).chars().take(LOGGED).collect();
        let (client, id) = (&leased.lease.key.client, leased.lease.key.id.as_str());
        let (took_ms, attempt) = (took.as_millis() as u64, leased.attempt);
        if judged.outcome == CallOutcome::Done {
            if let Some(Recovery { failures, after }) = self.failures.succeeded(destination, now) {
                let after_ms = after.as_millis() as u64;
                tracing::info!(destination, failures, after_ms, "a destination takes calls again");
            }
            tracing::info!(%client, id, method, url, status, took_ms, attempt, answer, "made a call");
            return;
        }
        let Some(untold) = self.failures.failed(destination, &judged.reason, now) else { return };
        let retry_in_ms = judged.retry_in().map(|retry_in| retry_in.as_millis() as u64);
        tracing::warn!(
            %client, id, method, url, status, took_ms, attempt, answer, retry_in_ms,
            untold = (untold > 0).then_some(untold),
            error = judged.reason,
            "{}", if retry_in_ms.is_some() { "a call failed" } else { "a call failed and is given up" }
        );
    }
}

/// What an attempt came to.
struct Judged {
    outcome: CallOutcome,
    status: Option<StatusCode>,
    /// The beginning of the answer.
    answer: Vec<u8>,
    reason: String,
}

impl Judged {
    fn retry_in(&self) -> Option<Duration> {
        match self.outcome {
            CallOutcome::Failed { retry_in } => Some(retry_in),
            CallOutcome::Done | CallOutcome::Dead | CallOutcome::Returned => None,
        }
    }
}

#[async_trait]
impl Work for Dispatcher {
    type Item = LeasedCall;
    type Lease = CallLease;

    const CLAIM_MAX: usize = CLAIM_MAX;

    fn leases(&self) -> &Leases<CallLease> {
        &self.leases
    }

    fn alarm(&self) -> &Alarm {
        self.worker.store.call_alarm(self.lane)
    }

    fn places(&self) -> &Places {
        &self.worker.places
    }

    fn stop(&self) -> &CancellationToken {
        &self.worker.stop
    }

    async fn claim(&self, limit: usize) -> StoreResult<(Vec<LeasedCall>, Option<Duration>)> {
        let CallWorker { store, limits, .. } = &*self.worker;
        let claim = store.claim_calls(self.lane, limit, *limits, LEASE).await?;
        Ok((claim.calls, claim.next_due))
    }

    async fn work_off(&self, leased: LeasedCall, asked: Instant) {
        let held = self.leases.hold(&leased.lease, asked);
        let id = leased.lease.key.id.as_str();
        let settlement = tokio::select! {
            settlement = self.worker.make(&leased, asked) => settlement,
            () = held.lost() => {
                tracing::warn!(id, "broke off a call: its lease was lost");
                return;
            }
        };
        let (settled, _) = work::settle(&self.settlements, settlement).await;
        if settled == CallSettled::Stale {
            tracing::warn!(id, "a call ended after its lease was lost");
        }
    }
}
