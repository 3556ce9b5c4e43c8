//! Forwards messages, and judges what came of each.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::http::MessageRequest;
use super::{history, pubsub};
use crate::bus::attempt::Failure;
use crate::bus::message::{MessageContent, TargetKind};
use crate::bus::user_info;
use crate::config::Settings;
use crate::egress::google::pubsub::{PubSub, PubSubError, PubSubMessage};
use crate::store::{CallOutcome, CallSettlement, LeasedCall, MessagePublisher, Store};
use crate::telemetry::metrics::record;
use crate::worker::attempts::{Attempts, Ended};
use crate::worker::calls::{Answer, CallCourier, CallError};
use crate::worker::failure_log::{FailureLog, Recovery};
use crate::worker::receivers::{Receivers, no_files};

/// How much of an answer stands in the log, in characters.
const LOGGED: usize = 200;
/// After how many attempts a message is given up, unless its publisher says otherwise.
const ATTEMPTS_MAX: u32 = 100;
/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(3600);
/// By how much of itself a pause may be longer.
const JITTER: f64 = 0.1;
/// The pause after a refusal that lasts until somebody changes something.
const LASTING_PAUSE: Duration = Duration::from_secs(600);

/// Forwards what publishers have waiting.
pub struct Forwarder {
    courier: CallCourier,
    pubsub: Arc<PubSub>,
    historian: Option<history::Historian>,
    failures: FailureLog<u64>,
    attempts: Attempts,
}

/// What an attempt came to.
#[derive(Clone, Default)]
struct Attempt {
    status: Option<u16>,
    answer: Vec<u8>,
    /// Why it failed; `None` if it did not.
    error: Option<String>,
    retry_after: Option<Duration>,
    /// Whether it will fail until somebody changes something.
    is_lasting: bool,
    /// Whether it was not made.
    is_returned: bool,
    bytes: usize,
    secret: Option<String>,
}

impl Attempt {
    fn failed(error: impl Into<String>) -> Self {
        Self { error: Some(error.into()), ..Self::default() }
    }
}

impl Forwarder {
    pub fn new(
        settings: &Settings,
        receivers: Receivers,
        pubsub: Arc<PubSub>,
        attempts: Attempts,
        store: &Arc<dyn Store>,
    ) -> Self {
        Self {
            courier: CallCourier::new(
                receivers,
                settings.plain_targets,
                settings.journal_body.max(LOGGED),
            ),
            pubsub,
            historian: history::Historian::of(settings, store),
            failures: FailureLog::default(),
            attempts,
        }
    }

    /// Forwards messages that the store was asked for at `asked`.
    pub async fn forward(
        &self,
        publisher: &MessagePublisher,
        deliveries: &[LeasedCall],
        asked: Instant,
    ) -> Vec<CallSettlement> {
        let started = Instant::now();
        let attempts = match publisher.kind {
            TargetKind::Http => {
                let mut made = Vec::with_capacity(deliveries.len());
                for delivery in deliveries {
                    made.push(self.post(publisher, delivery).await);
                }
                made
            }
            TargetKind::PubSub => self.publish(publisher, deliveries).await,
        };
        let took = started.elapsed();
        if attempts.iter().any(|attempt| attempt.is_returned) {
            no_files().await;
        }
        let mut settlements = Vec::with_capacity(deliveries.len());
        for (delivery, attempt) in deliveries.iter().zip(attempts) {
            settlements
                .push(self.settle(publisher, delivery, attempt, started - asked, took).await);
        }
        settlements
    }

    async fn post(&self, publisher: &MessagePublisher, delivery: &LeasedCall) -> Attempt {
        let Some(content) = MessageContent::from_bytes(&delivery.content) else {
            return Attempt::failed(DAMAGED);
        };
        let id = delivery.lease.key.id.as_str();
        let request = MessageRequest::new(
            &publisher.target,
            &publisher.terms,
            id,
            delivery.attempt,
            &content,
        );
        let Some(request) = request else {
            return Attempt::failed(CallError::Unsendable.to_string());
        };
        let (bytes, secret) = (request.bytes, request.secret.clone());
        let attempt = match request.send(&self.courier, publisher.terms.timeout).await {
            Ok(Answer { status, beginning, retry_after }) => Attempt {
                status: Some(status.as_u16()),
                answer: beginning,
                error: (!status.is_success()).then(|| format!("it answered {status}")),
                retry_after,
                ..Attempt::default()
            },
            Err(CallError::NoFiles) => Attempt { is_returned: true, ..Attempt::default() },
            Err(error) => Attempt::failed(error.to_string()),
        };
        Attempt { bytes, secret, ..attempt }
    }

    async fn publish(
        &self,
        publisher: &MessagePublisher,
        deliveries: &[LeasedCall],
    ) -> Vec<Attempt> {
        let contents: Vec<Option<MessageContent>> = deliveries
            .iter()
            .map(|delivery| MessageContent::from_bytes(&delivery.content))
            .collect();
        let readable: Vec<&MessageContent> = contents.iter().flatten().collect();
        let mut attempts = self.publish_readable(publisher, &readable).await.into_iter();
        let attempt = |content: &Option<MessageContent>| {
            let attempt = content.as_ref().and_then(|_| attempts.next());
            attempt.unwrap_or_else(|| Attempt::failed(DAMAGED))
        };
        contents.iter().map(attempt).collect()
    }

    /// What is refused together is sent one by one, so that the bad one alone is held up.
    async fn publish_readable(
        &self,
        publisher: &MessagePublisher,
        contents: &[&MessageContent],
    ) -> Vec<Attempt> {
        let together = self.publish_together(publisher, contents).await;
        let refused = |error: &PubSubError| error.status() == Some(400);
        if contents.len() == 1 || !together.as_ref().is_err_and(refused) {
            return vec![of_publishing(together); contents.len()];
        }
        let mut attempts = Vec::with_capacity(contents.len());
        for content in contents {
            let one = std::slice::from_ref(content);
            attempts.push(of_publishing(self.publish_together(publisher, one).await));
        }
        attempts
    }

    async fn publish_together(
        &self,
        publisher: &MessagePublisher,
        contents: &[&MessageContent],
    ) -> Result<usize, PubSubError> {
        let mut messages = Vec::with_capacity(contents.len());
        for content in contents {
            messages.extend(pubsub::data_of(content).into_iter().map(|data| PubSubMessage {
                data,
                attributes: &content.attributes,
                ordering_key: None,
            }));
        }
        let timeout = publisher.terms.timeout;
        self.pubsub.publish_all(&publisher.target, &messages, timeout).await?;
        Ok(messages.iter().map(|message| message.data.len()).sum())
    }

    /// Takes note of what an attempt came to, everywhere.
    async fn settle(
        &self,
        publisher: &MessagePublisher,
        delivery: &LeasedCall,
        attempt: Attempt,
        held: Duration,
        took: Duration,
    ) -> CallSettlement {
        if attempt.is_returned {
            return CallSettlement::new(delivery, CallOutcome::Returned);
        }
        let outcome = outcome(publisher, delivery.attempt, &attempt, fastrand::f64());
        if let (CallOutcome::Done, Some(historian)) = (outcome, &self.historian) {
            // Told before it is settled: killed in between, it is told twice rather than never.
            historian.tell(publisher, delivery).await;
        }
        let Attempt { status, answer, error, bytes, secret, .. } = attempt;
        let reason = Failure::new(None, error.as_deref().unwrap_or_default()).reason;
        record::call_attempted(delivery, outcome, held, took);
        let title = title(publisher);
        self.log(publisher, delivery, &title, (status, &reason, &answer), outcome, took);
        let secrets: Vec<String> = secret.into_iter().collect();
        let ended = Ended {
            status,
            error: error.is_some().then_some(reason.as_str()),
            took,
            bytes,
            answer: &answer,
            secrets: &secrets,
            next_in: outcome.retry_in(),
        };
        self.attempts.of_call(delivery, &title, &ended);
        CallSettlement { status, reason, ..CallSettlement::new(delivery, outcome) }
    }

    /// A line for each message that is forwarded or fails; of failures in a row, the first ones and then one in a while.
    fn log(
        &self,
        publisher: &MessagePublisher,
        delivery: &LeasedCall,
        target: &str,
        (status, reason, answer): (Option<u16>, &str, &[u8]),
        outcome: CallOutcome,
        took: Duration,
    ) {
        let now = std::time::Instant::now();
        let (id, attempt) = (delivery.lease.key.id.as_str(), delivery.attempt);
        let (publisher, took_ms) = (publisher.id, took.as_millis() as u64);
        let answer: String = String::from_utf8_lossy(answer).chars().take(LOGGED).collect();
        if outcome == CallOutcome::Done {
            if let Some(Recovery { failures, after }) = self.failures.succeeded(&publisher, now) {
                let after_ms = after.as_millis() as u64;
                tracing::info!(
                    publisher,
                    failures,
                    after_ms,
                    "a publisher forwards messages again"
                );
            }
            tracing::info!(
                publisher,
                id,
                target,
                status,
                took_ms,
                attempt,
                answer,
                "forwarded a message"
            );
            return;
        }
        let Some(untold) = self.failures.failed(&publisher, reason, now) else { return };
        let retry_in_ms = outcome.retry_in().map(|retry_in| retry_in.as_millis() as u64);
        tracing::warn!(
            publisher,
            id,
            target,
            status,
            took_ms,
            attempt,
            answer,
            retry_in_ms,
            untold = (untold > 0).then_some(untold),
            error = reason,
            "{}",
            if retry_in_ms.is_some() {
                "a message was not forwarded"
            } else {
                "a message was not forwarded and is given up"
            }
        );
    }
}

/// What a store has kept cannot be read.
const DAMAGED: &str = "what is kept of this message cannot be read";

fn of_publishing(published: Result<usize, PubSubError>) -> Attempt {
    match published {
        Ok(bytes) => Attempt { status: Some(200), bytes, ..Attempt::default() },
        Err(error) => Attempt {
            status: error.status(),
            is_lasting: error.is_lasting(),
            ..Attempt::failed(error.to_string())
        },
    }
}

/// Where a message goes, as people see it.
fn title(publisher: &MessagePublisher) -> String {
    let target = user_info::taken_out(&publisher.target).0;
    match publisher.kind {
        TargetKind::Http => format!("POST {target}"),
        TargetKind::PubSub => format!("pubsub {target}"),
    }
}

/// What comes of an attempt. `random` is from 0 to 1.
fn outcome(publisher: &MessagePublisher, attempt: u32, made: &Attempt, random: f64) -> CallOutcome {
    if made.error.is_none() {
        return CallOutcome::Done;
    }
    let max_attempts = publisher.terms.max_attempts.unwrap_or(ATTEMPTS_MAX);
    if attempt >= max_attempts && !made.is_lasting {
        return CallOutcome::Dead;
    }
    let doubled = publisher.terms.retry.saturating_mul(1 << attempt.saturating_sub(1).min(20));
    let pause = doubled.min(PAUSE_MAX).mul_f64(1.0 + JITTER * random);
    let asked = made.retry_after.unwrap_or_default();
    let lasting = if made.is_lasting { LASTING_PAUSE } else { Duration::ZERO };
    CallOutcome::Failed { retry_in: pause.max(asked).max(lasting) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::message::Terms;
    use crate::bus::token::ClientToken;

    fn publisher(retry_s: u64, max_attempts: Option<u32>) -> MessagePublisher {
        MessagePublisher {
            id: 1,
            topic_id: 1,
            kind: TargetKind::Http,
            target: "https://u:p@a.example/x".into(),
            from_now: true,
            terms: Terms { retry: Duration::from_secs(retry_s), max_attempts, ..Terms::default() },
            owner: ClientToken::parse("alice").unwrap(),
            made_ms: 0,
        }
    }

    fn pause_s(
        publisher: &MessagePublisher,
        attempt: u32,
        made: &Attempt,
        random: f64,
    ) -> Option<u64> {
        match outcome(publisher, attempt, made, random) {
            CallOutcome::Failed { retry_in } => Some(retry_in.as_secs()),
            CallOutcome::Dead => None,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn pauses_double_up_to_an_hour_with_some_chance() {
        let (publisher, failed) = (publisher(30, None), Attempt::failed("no"));
        let pauses =
            |random| [1, 2, 3, 8, 99].map(|attempt| pause_s(&publisher, attempt, &failed, random));
        assert_eq!(pauses(0.0), [30, 60, 120, 3600, 3600].map(Some));
        assert_eq!(pauses(1.0), [33, 66, 132, 3960, 3960].map(Some));
        assert_eq!(pause_s(&publisher, 100, &failed, 0.0), None);
    }

    #[test]
    fn a_publisher_says_when_a_message_is_given_up() {
        let failed = Attempt::failed("no");
        assert_eq!(pause_s(&publisher(1, Some(2)), 1, &failed, 0.0), Some(1));
        assert_eq!(pause_s(&publisher(1, Some(2)), 2, &failed, 0.0), None);
    }

    #[test]
    fn what_fails_until_somebody_acts_is_tried_seldom_and_never_given_up() {
        let lasting = Attempt { is_lasting: true, ..Attempt::failed("404") };
        assert_eq!(pause_s(&publisher(1, Some(2)), 1, &lasting, 0.0), Some(600));
        assert_eq!(pause_s(&publisher(1, Some(2)), 500, &lasting, 0.0), Some(3600));
        let asked =
            Attempt { retry_after: Some(Duration::from_secs(90)), ..Attempt::failed("503") };
        assert_eq!(pause_s(&publisher(30, None), 1, &asked, 0.0), Some(90));
    }

    #[test]
    fn a_target_is_shown_without_its_user() {
        assert_eq!(title(&publisher(1, None)), "POST https://a.example/x");
    }
}
