//! Signals. SIGTERM and SIGINT: the first one asks for a graceful stop, the second one ends at
//! once. SIGHUP: look at the certificate's files, and open the log's file anew.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::telemetry::logging;

/// The exit code when a second signal cuts the stop short: what a shell reports of Ctrl-C.
const CUT_SHORT: i32 = 130;

/// Gives what SIGHUP notifies. Every role takes the signal, so that it never ends a process.
pub fn notify_on_hangup() -> anyhow::Result<Arc<Notify>> {
    let mut hangup = listen_to(SignalKind::hangup(), "SIGHUP")?;
    let notify = Arc::new(Notify::new());
    let notified = notify.clone();
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            logging::reopen();
            notified.notify_one();
        }
    });
    Ok(notify)
}

/// Gives a token that the first SIGTERM or SIGINT cancels; the second one ends the process.
///
/// Signals that come within `echo` of the first count as the same: what stops a whole process
/// group, `timeout` for one, may signal each process twice.
pub fn stop_on_signal(echo: Duration) -> anyhow::Result<CancellationToken> {
    let Stops { stop, at_once } = stops_on_signals(echo)?;
    let first = stop.clone();
    tokio::spawn(async move {
        first.cancelled().await;
        tracing::info!("stopping: finishing what was accepted; a second signal ends at once");
        at_once.cancelled().await;
        tracing::warn!("a second signal: ending at once");
        logging::finish();
        std::process::exit(CUT_SHORT);
    });
    Ok(stop)
}

/// What SIGTERM and SIGINT cancel.
pub struct Stops {
    /// By the first one.
    pub stop: CancellationToken,
    /// By the second one.
    pub at_once: CancellationToken,
}

/// As [`stop_on_signal`], for who has something to do even then.
pub fn stops_on_signals(echo: Duration) -> anyhow::Result<Stops> {
    let mut terminate = listen_to(SignalKind::terminate(), "SIGTERM")?;
    let mut interrupt = listen_to(SignalKind::interrupt(), "SIGINT")?;
    let mut next = async move || {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    let (stop, at_once) = (CancellationToken::new(), CancellationToken::new());
    let stops = Stops { stop: stop.clone(), at_once: at_once.clone() };
    tokio::spawn(async move {
        next().await;
        stop.cancel();
        if !echo.is_zero() {
            let same = async {
                loop {
                    next().await;
                }
            };
            let _: Result<(), _> = tokio::time::timeout(echo, same).await;
        }
        next().await;
        at_once.cancel();
    });
    Ok(stops)
}

fn listen_to(kind: SignalKind, name: &str) -> anyhow::Result<Signal> {
    signal(kind).with_context(|| format!("failed to listen to {name}"))
}
