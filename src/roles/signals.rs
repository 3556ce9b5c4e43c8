//! SIGTERM and SIGINT: the first one asks for a graceful stop, the second one ends at once.
//! SIGHUP: look at the certificate's files.

use std::sync::Arc;

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// Gives what SIGHUP notifies. Every role takes the signal, so that it never ends a process.
pub fn notify_on_hangup() -> anyhow::Result<Arc<Notify>> {
    let mut hangup = signal(SignalKind::hangup()).context("failed to listen to SIGHUP")?;
    let notify = Arc::new(Notify::new());
    let notified = notify.clone();
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            notified.notify_one();
        }
    });
    Ok(notify)
}

/// The exit code when a second signal cuts the stop short.
const CUT_SHORT: i32 = 130;

/// Gives a token that the first signal cancels.
pub fn stop_on_signal() -> anyhow::Result<CancellationToken> {
    let mut terminate = signal(SignalKind::terminate()).context("failed to listen to SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("failed to listen to SIGINT")?;
    let stop = CancellationToken::new();
    let first = stop.clone();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if first.is_cancelled() {
                tracing::warn!("a second signal: ending at once");
                std::process::exit(CUT_SHORT);
            }
            tracing::info!("stopping: finishing what was accepted; a second signal ends at once");
            first.cancel();
        }
    });
    Ok(stop)
}
