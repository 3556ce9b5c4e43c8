//! Asks the bus for batches, one after the other, and shows them.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use reqwest::StatusCode;
use tokio_util::sync::CancellationToken;

use crate::cli::connect::{Answer, Bus};
use crate::cli::listen::inbox::Inbox;
use crate::cli::refusals::{may_pass, refusal};
use crate::note;

/// How long one request waits for an event, in milliseconds.
const WAIT_MS: u64 = 5_000;
/// The pause after a request that came to nothing, or a batch that was refused on request.
const PAUSE: Duration = Duration::from_millis(500);

/// Shows all batches of a subscription until it is stopped.
///
/// # Errors
/// If the bus refuses; while it is away, it is waited for.
pub async fn run(bus: &Bus, inbox: &Arc<Inbox>, stop: &CancellationToken) -> anyhow::Result<()> {
    let mut acknowledge = String::new();
    let mut told = false;
    while !stop.is_cancelled() {
        let path = format!("/subscription/batch?wait={WAIT_MS}{acknowledge}");
        let asked = tokio::select! {
            asked = bus.get(&path) => asked,
            () = stop.cancelled() => break,
        };
        let answer = match asked {
            Ok(answer) => answer,
            Err(trouble) if !trouble.may_pass() => return Err(trouble.into()),
            Err(trouble) => {
                if !std::mem::replace(&mut told, true) {
                    note!("{trouble}; waiting for it…");
                }
                pause(stop).await;
                continue;
            }
        };
        told = false;
        match answer.status {
            StatusCode::OK => acknowledge = show(bus, inbox, answer, stop).await,
            StatusCode::NO_CONTENT => acknowledge.clear(),
            // What was acknowledged was acknowledged before, or its lease is another's by now.
            StatusCode::GONE => acknowledge.clear(),
            StatusCode::CONFLICT => pause(stop).await,
            _ if may_pass(&Ok(answer.clone())) => pause(stop).await,
            _ => return Err(refusal(bus, &answer, None)),
        }
    }
    if let Some(id) = acknowledge.strip_prefix("&ack=") {
        let _ = bus.delete(&format!("/subscription/batch/{id}")).await;
    }
    Ok(())
}

/// Shows a batch; returns how the next request acknowledges it.
async fn show(bus: &Bus, inbox: &Arc<Inbox>, answer: Answer, stop: &CancellationToken) -> String {
    let id = answer.headers.get("webhook-id").and_then(|id| id.to_str().ok()).map(str::to_owned);
    let shared = inbox.clone();
    // Writing waits for whoever reads the output, which must not hold up anything else.
    let shown = tokio::task::spawn_blocking(move || shared.show(&answer.headers, &answer.body));
    let is_taken = shown.await.is_ok_and(|(status, _)| status.is_success());
    tokio::time::sleep(inbox.trial.delay).await;
    let Some(id) = id else { return String::new() };
    if is_taken {
        return format!("&ack={id}");
    }
    let _ = bus.post(&format!("/subscription/batch/{id}/release"), Bytes::new()).await;
    pause(stop).await;
    String::new()
}

async fn pause(stop: &CancellationToken) {
    tokio::select! {
        () = tokio::time::sleep(PAUSE) => {}
        () = stop.cancelled() => {}
    }
}
