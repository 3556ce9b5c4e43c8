//! Asks the bus for batches, one after the other, and shows them.

use std::sync::Arc;
use std::time::Duration;

use reqwest::StatusCode;
use routemaster_client::{Batch, Batches, Error, Pull};
use tokio_util::sync::CancellationToken;

use crate::cli::connect::Bus;
use crate::cli::listen::inbox::Inbox;
use crate::cli::refusals::refusal;
use crate::note;

/// How long one request waits for an event.
const WAIT: Duration = Duration::from_secs(5);
/// The pause after a request that came to nothing, or a batch that was refused on request.
const PAUSE: Duration = Duration::from_millis(500);

/// Shows all batches of a subscription until it is stopped.
///
/// # Errors
/// If the bus refuses; while it is away, it is waited for.
pub async fn run(bus: &Bus, inbox: &Arc<Inbox>, stop: &CancellationToken) -> anyhow::Result<()> {
    let mut batches = Batches::new(bus.api().clone(), Pull { wait: WAIT, ..Pull::default() });
    let mut told = false;
    while !stop.is_cancelled() {
        let asked = tokio::select! {
            asked = batches.ask() => asked,
            () = stop.cancelled() => break,
        };
        match asked {
            Ok(Some(batch)) => show(&mut batches, batch, inbox, stop).await,
            Ok(None) => {}
            // It is out somewhere.
            Err(Error::Refused(answer)) if answer.status == StatusCode::CONFLICT => {
                pause(stop).await
            }
            Err(Error::Refused(answer)) if answer.may_pass() => pause(stop).await,
            Err(Error::Refused(answer)) => return Err(refusal(bus, &answer, None)),
            Err(error) => {
                let trouble = bus.trouble(error);
                if !trouble.may_pass() {
                    return Err(trouble.into());
                }
                if !std::mem::replace(&mut told, true) {
                    note!("{trouble}; waiting for it…");
                }
                pause(stop).await;
                continue;
            }
        }
        told = false;
    }
    // Else it comes once more.
    let _ = batches.end().await;
    Ok(())
}

async fn show(batches: &mut Batches, batch: Batch, inbox: &Arc<Inbox>, stop: &CancellationToken) {
    let (shared, shown) = (inbox.clone(), batch.clone());
    // Writing waits for whoever reads the output, which must not hold up anything else.
    let shown = tokio::task::spawn_blocking(move || shared.show(&shown.headers, &shown.body));
    let is_taken = shown.await.is_ok_and(|(status, _)| status.is_success());
    tokio::time::sleep(inbox.trial.delay).await;
    if is_taken {
        return batches.acknowledge(&batch);
    }
    // Else it comes when its lease is over.
    let _ = batches.release(&batch).await;
    pause(stop).await;
}

async fn pause(stop: &CancellationToken) {
    tokio::select! {
        () = tokio::time::sleep(PAUSE) => {}
        () = stop.cancelled() => {}
    }
}
