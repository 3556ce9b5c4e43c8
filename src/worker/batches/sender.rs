//! Sends batches, one at a time each, and judges what came of it: what the journal, the log, the metrics and the news are
//! told, and when it is sent again.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::courier::{Answer, BatchCourier, Courier, DeliveryError};
use super::taken::Taken;
use crate::bus::attempt::Failure;
use crate::bus::basic;
use crate::bus::health::BackOff;
use crate::bus::news::News;
use crate::bus::token::ClientToken;
use crate::commit::NewsDesk;
use crate::config::Settings;
use crate::egress::google::pubsub::PubSub;
use crate::store::{BatchOutcome, BatchSettlement, LeasedBatch};
use crate::telemetry::metrics::record;
use crate::worker::attempts::{Attempts, Ended};
use crate::worker::failure_log::{FailureLog, Recovery};
use crate::worker::places::Places;
use crate::worker::receivers::{Receivers, no_files};
use crate::worker::reporting::Reporting;

/// What batches are sent with.
pub struct BatchSender {
    courier: Box<dyn Courier>,
    pub back_off: BackOff,
    pub places: Places,
    taken: Taken,
    failures: FailureLog<ClientToken>,
    attempts: Attempts,
    news: NewsDesk,
    pub stop: CancellationToken,
}

impl BatchSender {
    /// One that makes so many deliveries at once.
    pub fn new(
        settings: &Settings,
        max_deliveries: usize,
        receivers: Receivers,
        pubsub: Arc<PubSub>,
        reporting: Reporting,
        stop: CancellationToken,
    ) -> Self {
        let courier = BatchCourier::new(receivers, pubsub, settings);
        let back_off = BackOff {
            heal_rate: settings.hp_heal_rate,
            damage_rate: settings.hp_damage_rate,
            max: settings.max_backoff,
        };
        Self::with(Box::new(courier), back_off, max_deliveries, reporting, stop)
    }

    /// One whose batches this courier takes.
    pub fn with(
        courier: Box<dyn Courier>,
        back_off: BackOff,
        max_deliveries: usize,
        reporting: Reporting,
        stop: CancellationToken,
    ) -> Self {
        Self {
            courier,
            back_off,
            places: Places::new(max_deliveries),
            taken: Taken::new(),
            failures: FailureLog::default(),
            attempts: reporting.attempts,
            news: reporting.news,
            stop,
        }
    }

    /// Delivers a batch that the store was asked for at `asked`, and judges the outcome.
    pub async fn deliver(&self, leased: &LeasedBatch, asked: Instant) -> BatchSettlement {
        let settlement = |outcome, health| BatchSettlement {
            lease: leased.lease.clone(),
            outcome,
            failure: None,
            health,
            // A queue that goes on keeps its place; others wait for one if there is none left.
            take_next: !self.stop.is_cancelled() && self.places.free() > 0,
        };
        if self.stop.is_cancelled() {
            return settlement(BatchOutcome::Returned, leased.health);
        }
        let started = Instant::now();
        let held = started - asked;
        record::attempted(leased, held);
        let mut answer = Answer::default();
        let delivered = self.courier.deliver(leased, &mut answer).await;
        let took = started.elapsed();
        if !matches!(delivered, Err(DeliveryError::NoFiles)) {
            record::delivered(leased, delivered.is_ok(), held, took);
        }
        match delivered {
            Ok(status) => {
                self.taken.note(started);
                self.tell_journal(leased, Some(status), None, took, &answer.beginning, None);
                self.log_recovery(&leased.lease.subscriber);
                settlement(BatchOutcome::Acknowledged, self.back_off.after_success(leased.health))
            }
            Err(DeliveryError::NoFiles) => {
                // Nothing is wrong with the subscriber. Others end meanwhile, and give theirs back.
                no_files().await;
                settlement(BatchOutcome::Returned, leased.health)
            }
            Err(error) => {
                let health = self.back_off.after_failure(leased.health);
                let timeout = leased.terms.timeout;
                // If all have failed, it is not for others that a place would be left.
                let others_were_taken = self.taken.any_beside(started);
                let scarcity = if others_were_taken { self.places.scarcity() } else { 0.0 };
                let jitter = fastrand::f64();
                let retry_in = self
                    .back_off
                    .pause(health, leased.batch.attempt, timeout, jitter)
                    .max(self.back_off.pause_for_places(took, scarcity, jitter))
                    .max(answer.retry_after.unwrap_or_default());
                let (subscriber, reason) = (&leased.lease.subscriber, error.to_string());
                let is_gone = error.status() == Some(StatusCode::GONE);
                let next_in = (!is_gone).then_some(retry_in);
                let (status, beginning) = (error.status(), &answer.beginning);
                self.tell_journal(leased, status, Some(&reason), took, beginning, next_in);
                let now = std::time::Instant::now();
                if let Some(untold) = self.failures.failed(subscriber, &reason, now) {
                    log_failure(leased, &error, took, retry_in, untold);
                }
                let failure = Some(Failure::new(
                    status.map(|status| status.as_u16()),
                    &with_beginning(reason, beginning),
                ));
                let outcome = if is_gone {
                    self.news.tell(News::SubscriberPaused { subscriber: name(leased) });
                    tracing::warn!(%subscriber, "paused a subscription: its callback answered 410 Gone");
                    BatchOutcome::Gone
                } else {
                    BatchOutcome::Failed { retry_in }
                };
                BatchSettlement { failure, ..settlement(outcome, health) }
            }
        }
    }

    /// Tells the news of a subscriber that fails, and of one that does no more.
    pub fn tell_news(&self, leased: &LeasedBatch, settlement: &BatchSettlement) {
        let (subscriber, attempts) = (name(leased), leased.batch.attempt);
        match (&settlement.failure, settlement.outcome) {
            (Some(Failure { status, .. }), _) if is_news(attempts) => {
                let status = *status;
                self.news.tell(News::SubscriberStalled { subscriber, status, attempts });
            }
            (None, BatchOutcome::Acknowledged) if attempts > 1 => {
                self.recovered(subscriber, attempts);
            }
            _ => {}
        }
    }

    pub fn recovered(&self, subscriber: String, attempts: u32) {
        self.news.tell(News::SubscriberRecovered { subscriber, attempts });
    }

    fn tell_journal(
        &self,
        leased: &LeasedBatch,
        status: Option<StatusCode>,
        error: Option<&str>,
        took: Duration,
        answer: &[u8],
        next_in: Option<Duration>,
    ) {
        let uuid = leased.terms.uuid.as_ref();
        let secrets = uuid.map_or_else(Vec::new, |uuid| {
            vec![uuid.clone(), basic::authorization(uuid.as_bytes(), uuid.as_bytes())]
        });
        let bytes = leased.batch.bytes();
        let (status, secrets) = (status.map(|status| status.as_u16()), &secrets);
        let ended = Ended { status, error, took, bytes, answer, secrets, next_in };
        self.attempts.of_batch(leased, &ended);
    }

    fn log_recovery(&self, subscriber: &ClientToken) {
        let now = std::time::Instant::now();
        if let Some(Recovery { failures, after }) = self.failures.succeeded(subscriber, now) {
            let after_ms = after.as_millis() as u64;
            tracing::info!(%subscriber, failures, after_ms, "delivers again");
        }
    }
}

/// What everybody may know a subscriber by.
fn name(leased: &LeasedBatch) -> String {
    leased.lease.subscriber.label()
}

/// Whether it is news that an attempt failed: the first one is, and then ever fewer.
fn is_news(attempt: u32) -> bool {
    attempt == 1 || (attempt >= 8 && attempt.is_power_of_two())
}

/// How much of an answer is told beside the reason of a failure, in characters.
const BEGINNING_MAX: usize = 120;

/// Why it failed, with the first line of what was answered.
fn with_beginning(reason: String, beginning: &[u8]) -> String {
    let text = String::from_utf8_lossy(beginning);
    let line: String =
        text.trim().lines().next().unwrap_or_default().chars().take(BEGINNING_MAX).collect();
    if line.is_empty() { reason } else { format!("{reason}: {line}") }
}

/// `untold` is how many failures before it were not told of.
fn log_failure(
    leased: &LeasedBatch,
    error: &DeliveryError,
    took: Duration,
    retry_in: Duration,
    untold: u64,
) {
    tracing::warn!(
        subscriber = %leased.lease.subscriber,
        callback = %leased.terms.target,
        batch = %leased.batch.id,
        events = leased.batch.items.len(),
        attempt = leased.batch.attempt,
        took_ms = took.as_millis() as u64,
        retry_in_ms = retry_in.as_millis() as u64,
        status = error.status().map(|status| status.as_u16()),
        untold = (untold > 0).then_some(untold),
        %error,
        "failed to deliver"
    );
}
