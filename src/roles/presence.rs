//! Says in the store that this process is there, for whoever asks who runs.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::delivering::Delivering;
use crate::bus::clock::Clock;
use crate::bus::process::Process;
use crate::bus::token::random_hex;
use crate::config::Role;
use crate::store::Store;
use crate::telemetry::host_name;

/// How often, and for how long that holds. It is also how long it takes until a process hears that it is drained.
const INTERVAL: Duration = Duration::from_secs(5);
const TERM: Duration = Duration::from_secs(15);
/// How long the farewell may take.
const FAREWELL: Duration = Duration::from_millis(500);

pub struct Presence {
    store: Arc<dyn Store>,
    process: Process,
    /// None in a process that delivers nothing.
    delivering: Option<Delivering>,
}

impl Presence {
    /// # Errors
    /// If there is no randomness to make a name from.
    pub fn new(
        role: Role,
        store: Arc<dyn Store>,
        delivering: Option<Delivering>,
    ) -> anyhow::Result<Self> {
        let process = Process {
            id: random_hex()?,
            role: role.name().to_owned(),
            host: host_name(),
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            since: Clock::system().now_ms(),
            deliveries: None,
            calls: None,
            draining: false,
        };
        Ok(Self { store, process, delivering })
    }

    /// Says so again and again until the stop, and then says farewell.
    pub async fn keep_telling(mut self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            self.tell(TERM).await;
            tokio::select! {
                () = tokio::time::sleep(INTERVAL) => {}
                () = stop.cancelled() => {}
            }
        }
        // A store that is away must not hold a stop up.
        let _ = tokio::time::timeout(FAREWELL, self.tell(Duration::ZERO)).await;
    }

    async fn tell(&mut self, term: Duration) {
        // Who hears that it is drained says so at once.
        while self.told(term).await {}
    }

    /// Whether something has changed by that which others are to know.
    async fn told(&mut self, term: Duration) -> bool {
        self.process.deliveries = self.delivering.as_ref().map(|all| all.batches.deliveries());
        self.process.calls = self.delivering.as_ref().map(|all| all.calls.calls());
        match self.store.announce(&self.process, term).await {
            Ok(is_draining) => self.drain(is_draining),
            Err(error) => {
                tracing::debug!(%error, "failed to say that this process is there; trying again");
                false
            }
        }
    }

    /// Delivers nothing more, or again, as somebody wants it; whether that is new.
    fn drain(&mut self, is_draining: bool) -> bool {
        let Some(delivering) = &self.delivering else { return false };
        if is_draining == std::mem::replace(&mut self.process.draining, is_draining) {
            return false;
        }
        delivering.drain(is_draining);
        match is_draining {
            true => tracing::info!("delivers nothing more: somebody drains this process"),
            false => tracing::info!("delivers again"),
        }
        true
    }
}
