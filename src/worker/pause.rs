//! Trying on while the store is not available.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::store::{Lanes, StoreError, StoreResult};

/// The pause between two tries while the store is not available, from and up to.
const STORE_PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// A pause that grows with each try, up to a bound.
#[derive(Default)]
pub struct Pause {
    tries: u32,
}

impl Pause {
    pub fn reset(&mut self) {
        self.tries = 0;
    }

    /// Logs the first failure of a row; what follows is more of the same.
    pub fn log_first(&self, error: &StoreError, message: &str) {
        if self.tries == 0 {
            tracing::error!(%error, "{message}");
        } else {
            tracing::debug!(%error, "{message}");
        }
    }

    pub async fn sleep(&mut self) {
        let (first, longest) = STORE_PAUSE;
        let pause = first.saturating_mul(1 << self.tries.min(16)).min(longest);
        self.tries = self.tries.saturating_add(1);
        tokio::time::sleep(pause).await;
    }
}

/// How many lanes the store has, as soon as it can be asked; `None` when it is stopped before.
pub async fn lanes<S: Lanes + ?Sized>(store: &S, stop: &CancellationToken) -> Option<usize> {
    let mut pause = Pause::default();
    loop {
        match store.lanes().await {
            Ok(lanes) => return Some(lanes),
            Err(error) => pause.log_first(&error, "failed to look for work; trying on"),
        }
        until_stopped(stop, pause.sleep()).await?;
    }
}

/// Waits for something, but no longer than until the stop.
pub async fn until_stopped<T>(
    stop: &CancellationToken,
    something: impl Future<Output = T>,
) -> Option<T> {
    tokio::select! {
        output = something => Some(output),
        () = stop.cancelled() => None,
    }
}

/// Asks the store until it answers; the log says `message` when it does not.
pub async fn insist<T, F: Future<Output = StoreResult<T>>>(
    message: &str,
    ask: impl Fn() -> F,
) -> T {
    let mut pause = Pause::default();
    loop {
        match ask().await {
            Ok(answer) => return answer,
            Err(error) => {
                pause.log_first(&error, message);
                pause.sleep().await;
            }
        }
    }
}
