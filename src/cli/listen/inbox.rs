//! What comes in: it is shown, counted, and answered, whether the bus has sent it or was asked for it.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use reqwest::StatusCode;
use reqwest::header::HeaderMap;
use routemaster_client::Verifier;
use serde_json::value::RawValue;
use tokio_util::sync::CancellationToken;

use crate::bus::clock::Clock;
use crate::cli::listen::render::{Delivered, Output};
use crate::cli::words::counted;
use crate::note;

/// How the receiver misbehaves on request.
pub struct Trial {
    /// The share of deliveries that are answered with 500.
    pub fail_percent: u8,
    /// The pause before an answer.
    pub delay: Duration,
}

impl Trial {
    /// Whether to fail the delivery with this number, from 1. The failures are spread evenly, so
    /// that a short trial shows the share that was asked for.
    fn fails(&self, number: u64) -> bool {
        let failures = |deliveries: u64| deliveries * u64::from(self.fail_percent) / 100;
        failures(number) > failures(number - 1)
    }
}

/// What came in since the start.
#[derive(Default)]
pub struct Totals {
    deliveries: AtomicU64,
    batches: AtomicU64,
    events: AtomicU64,
    failed: AtomicU64,
}

/// Shows batches, one at a time.
pub struct Inbox {
    pub trial: Trial,
    /// What tells the bus from others, if deliveries are signed.
    verifier: Option<Verifier>,
    /// Locked while a batch is written, so that two never mix.
    output: Mutex<Output>,
    pub totals: Totals,
    clock: Clock,
    /// Cancelled when nobody reads the output any more.
    stop: CancellationToken,
}

/// What a delivery is answered with.
pub type Reply = (StatusCode, &'static str);

impl Inbox {
    pub fn new(
        trial: Trial,
        verifier: Option<Verifier>,
        output: Output,
        stop: CancellationToken,
    ) -> Self {
        Self {
            verifier,
            trial,
            output: Mutex::new(output),
            totals: Totals::default(),
            clock: Clock::system(),
            stop,
        }
    }

    /// Shows a delivery and decides on its answer.
    pub fn show(&self, headers: &HeaderMap, body: &[u8]) -> Reply {
        let verified = self.verifier.as_ref().map(|verifier| verifier.verify(headers, body));
        if let Some(Err(error)) = verified {
            note!("refused a delivery whose signature is not the bus's (401): {error}");
            return (StatusCode::UNAUTHORIZED, "the signature is not the bus's\n");
        }
        let Ok(events) = serde_json::from_slice::<Vec<&RawValue>>(body) else {
            note!("refused a delivery that is not a JSON array (400)");
            return (StatusCode::BAD_REQUEST, "a JSON array is expected\n");
        };
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let attempt = header("routemaster-attempt").and_then(|attempt| attempt.parse().ok());
        let delivered = Delivered {
            batch: header("webhook-id").unwrap_or("?"),
            attempt: attempt.unwrap_or(1),
            events: &events,
        };
        let output = self.output.lock().unwrap_or_else(PoisonError::into_inner);
        let now_ms = self.clock.now_ms();
        let number = self.totals.deliveries.fetch_add(1, Ordering::Relaxed) + 1;
        let fails = self.trial.fails(number);
        let written = if fails {
            output.failed(&delivered, now_ms)
        } else {
            output.batch(&delivered, now_ms)
        };
        if written.is_err() {
            self.stop.cancel();
            return (StatusCode::SERVICE_UNAVAILABLE, "nobody reads this any more\n");
        }
        if fails {
            self.totals.failed.fetch_add(1, Ordering::Relaxed);
            return (StatusCode::INTERNAL_SERVER_ERROR, "failed on request\n");
        }
        self.totals.batches.fetch_add(1, Ordering::Relaxed);
        self.totals.events.fetch_add(events.len() as u64, Ordering::Relaxed);
        (StatusCode::NO_CONTENT, "")
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let total = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let events = counted(total(&self.events), "event", "events");
        let batches = counted(total(&self.batches), "batch", "batches");
        write!(f, "received {events} in {batches}")?;
        match total(&self.failed) {
            0 => Ok(()),
            failed => write!(f, "; --fail refused {}", counted(failed, "delivery", "deliveries")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_of_failures_is_exact_and_evenly_spread() {
        for percent in 0..=100 {
            let trial = Trial { fail_percent: percent, delay: Duration::ZERO };
            let failures = (1..=100).filter(|number| trial.fails(*number)).count();
            assert_eq!(failures, usize::from(percent));
        }
        let half = Trial { fail_percent: 50, delay: Duration::ZERO };
        let first = (1..=4).map(|number| half.fails(number)).collect::<Vec<_>>();
        assert_eq!(first, [false, true, false, true]);
    }
}
