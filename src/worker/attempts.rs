//! What the journal is told of an attempt.

use std::time::Duration;

use crate::bus::batch::Batch;
use crate::bus::call::CallKind;
use crate::bus::clock::Clock;
use crate::bus::subscription::Target;
use crate::bus::token::ClientToken;
use crate::journal::{CarriedEvents, Entry, EntryKind, Owner, Recorder};
use crate::store::{LeasedBatch, LeasedCall};

/// Stands in the place of a secret that an answer repeats.
const HIDDEN: &str = "…";

/// Tells the journal of attempts.
#[derive(Clone)]
pub struct Attempts {
    recorder: Recorder,
    clock: Clock,
    /// How many bytes of an answer are kept.
    beginning: usize,
}

/// How an attempt ended.
#[derive(Default)]
pub struct Ended<'a> {
    pub status: Option<u16>,
    /// Why it failed; `None` if it did not.
    pub error: Option<&'a str>,
    pub took: Duration,
    /// Of the body that was sent.
    pub bytes: usize,
    /// The beginning of the answer.
    pub answer: &'a [u8],
    /// What must not be kept of it.
    pub secrets: &'a [String],
    pub next_in: Option<Duration>,
}

impl Attempts {
    pub fn new(recorder: Recorder, beginning: usize) -> Self {
        Self { recorder, clock: Clock::system(), beginning }
    }

    pub fn of_batch(&self, leased: &LeasedBatch, ended: &Ended<'_>) {
        let subscriber = &leased.lease.subscriber;
        let subject = Subject {
            kind: EntryKind::Batch,
            id: leased.batch.id.to_string(),
            client: subscriber,
            target: subscriber.label(),
            title: match &leased.terms.target {
                Target::Callback(callback) => format!("POST {}", callback.as_str()),
                Target::PubSub(topic) => format!("pubsub {topic}"),
                Target::Pull => "pull".to_owned(),
            },
            attempt: leased.batch.attempt,
            carried: Some(&leased.batch),
        };
        self.record(subject, ended);
    }

    /// A batch that was asked for: it is told when it is given out, and comes again when `lease` is over.
    pub fn of_pull(&self, leased: &LeasedBatch, lease: Duration) {
        let (bytes, next_in) = (leased.batch.bytes(), Some(lease));
        self.of_batch(leased, &Ended { bytes, next_in, ..Ended::default() });
    }

    /// `title` is what was sent, method and URL.
    pub fn of_call(&self, leased: &LeasedCall, title: &str, ended: &Ended<'_>) {
        let publisher = leased.publisher.as_ref();
        let subject = Subject {
            kind: match leased.kind {
                CallKind::Postback => EntryKind::Postback,
                CallKind::Call | CallKind::Unread => EntryKind::Call,
                CallKind::Message => EntryKind::Message,
            },
            id: leased.lease.key.id.to_string(),
            client: publisher.map_or(&leased.lease.key.client, |publisher| &publisher.owner),
            target: leased.destination.clone(),
            title: title.to_owned(),
            attempt: leased.attempt,
            carried: None,
        };
        self.record(subject, ended);
    }

    fn record(&self, subject: Subject<'_>, ended: &Ended<'_>) {
        if !self.recorder.wants(ended.error.is_some()) {
            return;
        }
        let Subject { kind, id, client, target, title, attempt, carried } = subject;
        let now_ms = self.clock.now_ms();
        let answer = &ended.answer[..ended.answer.len().min(self.beginning)];
        self.recorder.record(Entry {
            at_ms: now_ms,
            kind,
            id,
            owner: Owner::of(client),
            client: client.label(),
            target,
            title,
            attempt,
            failed: ended.error.is_some(),
            status: ended.status,
            error: ended.error.unwrap_or_default().to_owned(),
            took_ms: ended.took.as_millis() as u64,
            bytes: ended.bytes as u64,
            answer: without(&String::from_utf8_lossy(answer), ended.secrets),
            next_ms: ended.next_in.map(|next_in| now_ms + next_in.as_millis() as u64),
            events: carried.and_then(CarriedEvents::of),
        });
    }
}

/// What was attempted.
struct Subject<'a> {
    kind: EntryKind,
    id: String,
    client: &'a ClientToken,
    target: String,
    title: String,
    attempt: u32,
    carried: Option<&'a Batch>,
}

/// Blanks what must not be seen. What is so short that it stands anywhere is no secret.
fn without(text: &str, secrets: &[String]) -> String {
    let worth_hiding = secrets.iter().filter(|secret| secret.len() >= 4);
    worth_hiding.fold(text.to_owned(), |text, secret| text.replace(secret.as_str(), HIDDEN))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_answer_repeats_of_a_secret_is_blanked() {
        let secrets = ["s3cr3t".to_owned(), "ab".to_owned()];
        assert_eq!(without("abc s3cr3t s3cr3ts", &secrets), "abc … …s");
    }
}
