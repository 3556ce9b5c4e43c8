//! Posts exceptions to the service, one after the other, while the bus goes its way.
//!
//! Whoever meets an error leaves it in a bounded queue and never waits. What does not fit, is not
//! taken by the service or comes too often is not reported: the log has it. The reporter says so
//! once for many, and as a warning, because an error would be one more to report.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, bail};
use reqwest::header::RETRY_AFTER;
use reqwest::{Client, StatusCode};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::exception::{Exception, Origin};
use super::limit::Limit;
use super::report::Report;
use super::scrub::Scrubber;
use super::service::Service;
use crate::config::Role;
use crate::config::Settings;
use crate::egress::client::{self, ClientOptions};

/// How many exceptions wait at most.
const QUEUE: usize = 100;
/// How long the service may take to accept a connection, TLS included, and for a report in all.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
const TIMEOUT: Duration = Duration::from_secs(5);
/// How long the end of the process waits for reports that are still queued.
const FINISH_TIMEOUT: Duration = Duration::from_secs(2);
/// How long nothing is sent after the service answered 429 without saying how long; the longest
/// time that it is believed.
const PAUSE: Duration = Duration::from_secs(60);
const PAUSE_MAX: Duration = Duration::from_secs(3600);

/// Takes exceptions to report. Cheap to clone.
#[derive(Clone)]
pub struct Reports {
    queue: Sender<Exception>,
    dropped: Arc<AtomicU64>,
}

impl Reports {
    /// Leaves an exception to be reported later, or drops it. Never waits.
    pub fn take(&self, exception: Exception) {
        match self.queue.try_send(exception) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Closed(_)) => {
                self.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// What waits to be reported.
pub struct Waiting {
    queue: Receiver<Exception>,
    dropped: Arc<AtomicU64>,
}

/// Makes the queue between those who meet errors and the reporter.
pub fn queue() -> (Reports, Waiting) {
    let (sender, receiver) = mpsc::channel(QUEUE);
    let dropped = Arc::new(AtomicU64::new(0));
    let reports = Reports { queue: sender, dropped: dropped.clone() };
    (reports, Waiting { queue: receiver, dropped })
}

/// The task that reports.
pub struct Reporter {
    task: JoinHandle<()>,
    stop: CancellationToken,
}

impl Reporter {
    /// Starts to report what waits.
    ///
    /// # Errors
    /// If there can be no HTTPS client.
    pub fn start(
        service: Service,
        role: Role,
        settings: &Settings,
        waiting: Waiting,
    ) -> anyhow::Result<Self> {
        let client = client::build(&ClientOptions {
            ca_files: Vec::new(),
            connect_timeout: CONNECT_TIMEOUT,
            timeout: TIMEOUT,
            plain: false,
        })?;
        let stop = CancellationToken::new();
        let posting = Posting {
            service,
            client,
            origin: Origin::of_this_process(role),
            scrubber: Scrubber::new(settings),
            limit: Limit::default(),
            dropped: waiting.dropped,
            lost: 0,
            failing: false,
            paused_until: None,
        };
        let task = tokio::spawn(posting.run(waiting.queue, stop.clone()));
        Ok(Self { task, stop })
    }

    /// Reports what still waits, within a short time.
    pub async fn finish(self) {
        self.stop.cancel();
        match tokio::time::timeout(FINISH_TIMEOUT, self.task).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the reporter of exceptions failed"),
            Err(_) => tracing::warn!("ended before all exceptions were reported"),
        }
    }
}

struct Posting {
    service: Service,
    client: Client,
    origin: Origin,
    scrubber: Scrubber,
    limit: Limit,
    /// What did not fit into the queue since it was looked at.
    dropped: Arc<AtomicU64>,
    /// Exceptions that were not reported and not spoken of yet.
    lost: u64,
    /// Whether the last report failed.
    failing: bool,
    /// The service asked to be left alone until then.
    paused_until: Option<Instant>,
}

impl Posting {
    async fn run(mut self, mut queue: Receiver<Exception>, stop: CancellationToken) {
        loop {
            let exception = tokio::select! {
                exception = queue.recv() => exception,
                // What is in a closed queue can still be taken out.
                () = stop.cancelled(), if !queue.is_closed() => {
                    queue.close();
                    continue;
                }
            };
            let Some(exception) = exception else { break };
            self.report(exception).await;
            self.lost += self.dropped.swap(0, Ordering::Relaxed);
            if queue.is_empty() && !self.failing {
                self.tell_of_the_lost();
            }
        }
        self.tell_of_the_lost();
    }

    async fn report(&mut self, exception: Exception) {
        let now = Instant::now();
        if self.paused_until.is_some_and(|until| now < until) {
            self.lost += 1;
            return;
        }
        if !self.limit.allows(&exception, now) {
            tracing::debug!(exception = exception.class, "not reported: it happens too often");
            return;
        }
        let exception = self.scrubber.exception(exception);
        let sent = match self.service.report(&exception, &self.origin) {
            Ok(report) => self.send(report).await,
            Err(error) => Err(error),
        };
        match sent {
            Ok(()) => self.failing = false,
            Err(error) => {
                self.lost += 1;
                // The first of a row; what follows is more of the same.
                if !self.failing {
                    let error = self.scrubber.text(&format!("{error:#}"));
                    tracing::warn!(error, "failed to report an exception");
                }
                self.failing = true;
            }
        }
    }

    async fn send(&mut self, report: Report) -> anyhow::Result<()> {
        let request = self.client.post(report.url).headers(report.headers).body(report.body);
        let answer = request.send().await.map_err(reqwest::Error::without_url);
        let answer = answer.context("the service did not answer")?;
        let status = answer.status();
        if status == StatusCode::TOO_MANY_REQUESTS {
            let asked = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
            self.paused_until = Some(Instant::now() + pause(asked));
        }
        if !status.is_success() {
            bail!("the service answered {status}");
        }
        Ok(())
    }

    fn tell_of_the_lost(&mut self) {
        if self.lost > 0 {
            let lost = std::mem::take(&mut self.lost);
            tracing::warn!(lost, "some exceptions were not reported; the log has them");
        }
    }
}

/// How long to send nothing after a 429 with this `Retry-After`. A date is not understood.
fn pause(retry_after: Option<&str>) -> Duration {
    let seconds = retry_after.and_then(|text| text.trim().parse().ok());
    seconds.map_or(PAUSE, |seconds| Duration::from_secs(seconds).min(PAUSE_MAX))
}

#[cfg(test)]
impl Waiting {
    /// What has been left so far.
    pub fn taken(&mut self) -> Vec<Exception> {
        std::iter::from_fn(|| self.queue.try_recv().ok()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_dropped_and_counted() {
        let (reports, mut waiting) = queue();
        for _ in 0..QUEUE + 3 {
            reports.take(Exception::example());
        }
        assert_eq!(waiting.taken().len(), QUEUE);
        assert_eq!(waiting.dropped.load(Ordering::Relaxed), 3);
    }

    #[test]
    fn a_service_is_left_alone_for_as_long_as_it_asks_but_not_for_ever() {
        assert_eq!(pause(Some("7")), Duration::from_secs(7));
        assert_eq!(pause(Some("99999999")), PAUSE_MAX);
        for unclear in [None, Some(""), Some("Wed, 21 Oct 2026 07:28:00 GMT"), Some("-1")] {
            assert_eq!(pause(unclear), PAUSE);
        }
    }
}
