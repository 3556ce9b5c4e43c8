//! What one process does for all of them, whatever its role: it drops events when the store runs
//! out of room ([`autodrop`], contract §6), and those that their subscribers do not want any more.

pub mod autodrop;
mod budget;
mod duty;
mod retention;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

pub use budget::Budget;
pub use duty::HeldDuty;

use crate::store::{Duty, Store};
use autodrop::Autodrop;
use retention::Retention;

/// How often the store is looked at. The contract asks for every 30 s: a fast publisher fills
/// what autodrop keeps free in less.
const INTERVAL: Duration = Duration::from_secs(1);

/// Looks after the store until it is stopped.
///
/// `full` is notified when the store has refused something for lack of room: then it is looked
/// after at once, whoever has the duty.
pub async fn run(
    store: Arc<dyn Store>,
    budget: Budget,
    full: Arc<Notify>,
    stop: CancellationToken,
) {
    let mut duty = HeldDuty::new(store.clone(), Duty::Upkeep);
    let mut autodrop = Autodrop::new(store.clone(), budget);
    let mut retention = Retention::new(store);
    loop {
        let is_full = tokio::select! {
            () = tokio::time::sleep(INTERVAL) => false,
            () = full.notified() => true,
            () = stop.cancelled() => break,
        };
        if is_full || duty.is_mine().await {
            // A store that hangs must not hold up the stop.
            let look = async {
                retention.enforce().await;
                autodrop.look(is_full).await;
            };
            tokio::select! {
                () = look => {}
                () = stop.cancelled() => break,
            }
        }
    }
    retention.report();
    duty.give_back().await;
}
