//! Hears from other processes that a queue has come due.
//!
//! A script that makes a queue due publishes `<origin>:<milliseconds>`. A message can get lost
//! with its connection; the worker looks for work from time to time anyway.

use std::sync::{Arc, Weak};
use std::time::Duration;

use fred::clients::SubscriberClient;
use fred::prelude::{ClientLike, EventInterface, PubsubInterface};
use tokio::sync::broadcast::error::RecvError;

use super::{WAKE_CHANNEL, connection};
use crate::store::Alarm;

/// Starts listening on a connection of its own; ends when the alarm is dropped.
pub fn listen(url: &str, origin: &str, alarm: &Arc<Alarm>) {
    let subscriber =
        connection::builder(url).and_then(|builder| Ok(builder.build_subscriber_client()?));
    let subscriber = match subscriber {
        Ok(subscriber) => subscriber,
        Err(error) => {
            tracing::warn!(%error, "failed to listen for wake-ups; deliveries start later");
            return;
        }
    };
    tokio::spawn(forward(subscriber, origin.to_owned(), Arc::downgrade(alarm)));
}

async fn forward(subscriber: SubscriberClient, origin: String, alarm: Weak<Alarm>) {
    let mut messages = subscriber.message_rx();
    // Subscribes again after each reconnect.
    let resubscribe = subscriber.manage_subscriptions();
    subscriber.connect();
    while let Err(error) = subscriber.subscribe(WAKE_CHANNEL).await {
        tracing::debug!(%error, "failed to subscribe to wake-ups; trying again");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    loop {
        let delay = match messages.recv().await {
            Ok(message) => {
                let message = message.value.into_string().unwrap_or_default();
                match message.split_once(':') {
                    Some((sender, _)) if sender == origin => continue,
                    Some((_, delay)) => delay.parse().unwrap_or(0),
                    None => 0,
                }
            }
            Err(RecvError::Lagged(_)) => 0,
            Err(RecvError::Closed) => break,
        };
        match alarm.upgrade() {
            Some(alarm) => alarm.ring_in(Duration::from_millis(delay)),
            None => break,
        }
    }
    resubscribe.abort();
}
