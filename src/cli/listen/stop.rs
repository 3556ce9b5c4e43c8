//! What ends `listen`: the first signal asks it to, the second one does it.

use std::time::Duration;

use anyhow::Context;
use tokio_util::sync::CancellationToken;

/// What a shell reports of a program that Ctrl-C ended.
const EXIT_CODE: i32 = 130;

/// Signals that come this close together are one.
const SAME_SIGNAL: Duration = Duration::from_millis(200);

/// A token that is cancelled at the first Ctrl-C or SIGTERM. The second one ends the process.
pub fn on_signal() -> anyhow::Result<CancellationToken> {
    let mut signals = Signals::new().context("failed to watch for signals")?;
    let stop = CancellationToken::new();
    let asked = stop.clone();
    tokio::spawn(async move {
        signals.next().await;
        asked.cancel();
        // What stops a whole process group, `timeout` for one, may signal each process twice.
        let echo = async {
            loop {
                signals.next().await;
            }
        };
        let _ = tokio::time::timeout(SAME_SIGNAL, echo).await;
        signals.next().await;
        std::process::exit(EXIT_CODE);
    });
    Ok(stop)
}

#[cfg(unix)]
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn new() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        let interrupt = signal(SignalKind::interrupt())?;
        Ok(Self { interrupt, terminate: signal(SignalKind::terminate())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self)
    }

    async fn next(&mut self) {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
