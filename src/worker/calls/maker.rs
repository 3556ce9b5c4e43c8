//! Makes calls, and judges what came of each.

use std::time::Duration;

use http::StatusCode;
use tokio::time::Instant;

use super::courier::{Answer, CallCourier, CallError};
use super::verdict::{FailedAttempt, Rules};
use crate::bus::attempt::Failure;
use crate::bus::call::{Order, Persistence};
use crate::bus::news::News;
use crate::commit::NewsDesk;
use crate::config::Settings;
use crate::store::{CallOutcome, CallSettlement, LeasedCall};
use crate::telemetry::metrics::record;
use crate::worker::attempts::{Attempts, Ended};
use crate::worker::client_secrets::ClientSecrets;
use crate::worker::failure_log::{FailureLog, Recovery};
use crate::worker::receivers::{Receivers, no_files};
use crate::worker::reporting::Reporting;

/// How much of an answer stands in the log, in characters.
const LOGGED: usize = 200;

/// Makes single calls.
pub struct CallMaker {
    courier: CallCourier,
    rules: Rules,
    timeout: Duration,
    postbacks: Persistence,
    postback_default: String,
    secrets: ClientSecrets,
    news: NewsDesk,
    failures: FailureLog<String>,
    attempts: Attempts,
}

impl CallMaker {
    pub fn new(
        settings: &Settings,
        receivers: Receivers,
        reporting: Reporting,
        secrets: ClientSecrets,
    ) -> Self {
        Self {
            courier: CallCourier::new(
                receivers,
                settings.plain_targets,
                settings.journal_body.max(LOGGED),
            ),
            rules: Rules::of(settings),
            timeout: settings.call_timeout,
            postbacks: settings.postback_persistence(),
            postback_default: settings.postback_default.clone(),
            secrets,
            news: reporting.news,
            failures: FailureLog::default(),
            attempts: reporting.attempts,
        }
    }

    /// Makes a call that the store was asked for at `asked`, and judges the outcome.
    pub async fn make(&self, leased: &LeasedCall, asked: Instant) -> CallSettlement {
        let settlement = |outcome| CallSettlement::new(leased, outcome);
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
        let signed_with = self.secrets.of(&leased.lease.key.client).await;
        let made = self.courier.make(request, id, leased.attempt, &signed_with, timeout).await;
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
            next_in: judged.outcome.retry_in(),
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
                self.news.tell(News::DestinationRecovered { destination: destination.clone() });
            }
            tracing::info!(%client, id, method, url, status, took_ms, attempt, answer, "made a call");
            return;
        }
        self.news.tell(News::DestinationFailing { destination: destination.clone(), status });
        if judged.outcome == CallOutcome::Dead {
            self.news.tell(News::DeadLetter { kind: leased.kind, client: client.label() });
        }
        let Some(untold) = self.failures.failed(destination, &judged.reason, now) else { return };
        let retry_in_ms = judged.outcome.retry_in().map(|retry_in| retry_in.as_millis() as u64);
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
