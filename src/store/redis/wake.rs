//! Hears from other processes that a queue has come due.
//!
//! A script that makes a queue or a call due publishes `<origin>:<milliseconds>` on its lane's channel
//! for that, and one that brings something to those who ask for their batches `<origin> <subscriber>…`. A message can get lost with its connection; the worker looks for work from time to time anyway.

use std::sync::Weak;
use std::time::Duration;

use fred::clients::SubscriberClient;
use fred::prelude::{ClientLike, EventInterface, PubsubInterface};
use fred::types::Message;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch;

use super::options::RedisOptions;
use crate::bus::token::ClientToken;
use crate::store::{Alarm, Arrivals};

/// What is heard, by channel.
pub struct Heard {
    pub alarms: Vec<(String, Weak<Alarm>)>,
    pub arrivals: (Vec<String>, Weak<Arrivals>),
}

/// Starts listening on a connection of its own; ends when the alarms, one for each channel, are
/// dropped. `left` tells when another server was looked for in place of one that answers nothing:
/// who only listens does not notice that.
pub fn listen(options: &RedisOptions, origin: &str, left: watch::Receiver<()>, heard: Heard) {
    let subscriber = options.builder().and_then(|builder| Ok(builder.build_subscriber_client()?));
    let subscriber = match subscriber {
        Ok(subscriber) => subscriber,
        Err(error) => {
            tracing::warn!(%error, "failed to listen for wake-ups; deliveries start later");
            return;
        }
    };
    tokio::spawn(forward(subscriber, origin.to_owned(), left, heard));
}

async fn forward(
    subscriber: SubscriberClient,
    origin: String,
    mut left: watch::Receiver<()>,
    heard: Heard,
) {
    let mut messages = subscriber.message_rx();
    // Subscribes again after each reconnect.
    let resubscribe = subscriber.manage_subscriptions();
    subscriber.connect();
    let (channels, alarms): (Vec<String>, Vec<Weak<Alarm>>) = heard.alarms.into_iter().unzip();
    let (arrival_channels, arrivals) = heard.arrivals;
    let all = [&channels[..], &arrival_channels].concat();
    let mut told = false;
    while let Err(error) = subscriber.subscribe(all.clone()).await {
        if !std::mem::replace(&mut told, true) {
            tracing::warn!(%error, "failed to listen for wake-ups; deliveries start later");
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    loop {
        let message = tokio::select! {
            message = messages.recv() => message,
            Ok(()) = left.changed() => {
                let again = subscriber.force_reconnection().await;
                tracing::debug!(?again, "listening for wake-ups on a new connection");
                continue;
            }
        };
        if let Ok(message) = &message
            && arrival_channels.iter().any(|channel| *channel == *message.channel)
        {
            if let Some(arrivals) = arrivals.upgrade() {
                arrivals.tell(&subscribers_of(message, &origin));
            }
            continue;
        }
        let (heard, delay) = match message {
            Ok(message) => match delay_of(&message, &origin) {
                Some(delay) => {
                    let channel = channels.iter().position(|channel| *channel == *message.channel);
                    let Some(index) = channel else { continue };
                    (&alarms[index..=index], delay)
                }
                None => continue,
            },
            // Some were missed, and nobody knows whose they were.
            Err(RecvError::Lagged(_)) => {
                if let Some(arrivals) = arrivals.upgrade() {
                    arrivals.tell_all();
                }
                (&alarms[..], Duration::ZERO)
            }
            Err(RecvError::Closed) => break,
        };
        let rung = heard.iter().filter_map(Weak::upgrade).map(|alarm| alarm.ring_in(delay));
        if rung.count() == 0 {
            break;
        }
    }
    resubscribe.abort();
}

/// In what time the queue is due that a message tells of; `None` if this process sent it.
fn delay_of(message: &Message, origin: &str) -> Option<Duration> {
    let text = message.value.as_string().unwrap_or_default();
    let (sender, delay_ms) = text.split_once(':').unwrap_or_default();
    (sender != origin).then(|| Duration::from_millis(delay_ms.parse().unwrap_or(0)))
}

/// Whose batches can be pulled by what a message tells; nobody's if this process sent it.
fn subscribers_of(message: &Message, origin: &str) -> Vec<ClientToken> {
    let text = message.value.as_string().unwrap_or_default();
    let (sender, subscribers) = text.split_once(' ').unwrap_or_default();
    if sender == origin {
        return vec![];
    }
    subscribers.split(' ').map(ClientToken::from_stored).collect()
}
