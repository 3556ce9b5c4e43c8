//! A duty that this process has, or waits for.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::{Duty, Store};

/// How long a duty is taken for: so long nobody does it after its process was killed.
const TERM: Duration = Duration::from_secs(15);
/// How long before the end of its term it is taken anew.
const MARGIN: Duration = Duration::from_secs(8);
/// How often a duty of another process is asked for.
const RETRY: Duration = Duration::from_secs(2);
/// How long giving one back may take: a stop waits for it.
const GIVE_BACK_TIMEOUT: Duration = Duration::from_secs(1);

pub struct HeldDuty {
    store: Arc<dyn Store>,
    duty: Duty,
    mine_until: Option<Instant>,
    ask_at: Instant,
}

impl HeldDuty {
    pub fn new(store: Arc<dyn Store>, duty: Duty) -> Self {
        Self { store, duty, mine_until: None, ask_at: Instant::now() }
    }

    /// Whether this process has the duty now. Asks the store from time to time only.
    pub async fn is_mine(&mut self) -> bool {
        let now = Instant::now();
        if now >= self.ask_at {
            match self.store.take_duty(self.duty, TERM).await {
                Ok(true) => {
                    self.mine_until = Some(now + TERM);
                    self.ask_at = now + TERM - MARGIN;
                }
                Ok(false) => {
                    self.mine_until = None;
                    self.ask_at = now + RETRY;
                }
                Err(error) => {
                    tracing::debug!(%error, duty = ?self.duty, "failed to ask for a duty");
                    self.ask_at = now + RETRY;
                }
            }
        }
        self.mine_until.is_some_and(|until| Instant::now() < until)
    }

    /// Lets another process take the duty at once. A store that is away is not waited for: the duty ends by itself.
    pub async fn give_back(self) {
        if self.mine_until.is_none() {
            return;
        }
        let giving = self.store.take_duty(self.duty, Duration::ZERO);
        match tokio::time::timeout(GIVE_BACK_TIMEOUT, giving).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => {
                tracing::debug!(%error, duty = ?self.duty, "failed to give a duty back");
            }
            Err(_) => tracing::debug!(duty = ?self.duty, "failed to give a duty back in time"),
        }
    }
}
