//! Recording: one function for each thing that happens. What is recorded goes to the sink that
//! was installed, or nowhere.

use std::time::Duration;

use axum::http::StatusCode;
use metrics::{counter, histogram};

use super::labels;
use super::names::{
    CALL_SECONDS, CALL_WAIT_SECONDS, CALLS_ACCEPTED, CALLS_ATTEMPTS, CALLS_DEAD, CALLS_DONE,
    CALLS_DROPPED, DELIVERY_BATCHES, DELIVERY_EVENTS, DELIVERY_SECONDS, DELIVERY_TIME,
    DELIVERY_TIME2, EVENTS_AUTODROPPED, EVENTS_EXPIRED, EVENTS_PUBLISHED, JOURNAL_LEFT_OUT,
    LATENCY_COUNT, LATENCY_FIRST_ATTEMPT, LATENCY_LAST_ATTEMPT, LOG_LINES_DROPPED,
    MESSAGES_ACCEPTED, MESSAGES_DISCARDED, MESSAGES_FORGOTTEN, MESSAGES_FORGOTTEN_DEAD,
    MESSAGES_UNTOLD, PROCESS, PUBLISH_SECONDS,
};
use crate::bus::call::CallKind;
use crate::bus::message::MessageTopicName;
use crate::bus::tally::{Subject, Tally};
use crate::bus::topic::TopicName;
use crate::store::{CallOutcome, Drops, Forgotten, LeasedBatch, LeasedCall};
use crate::telemetry::tallies;

/// Events were accepted.
pub fn published(topic: &TopicName, events: usize) {
    tallies::count(Subject::Bus, Tally { volume: events as u64, ..Tally::default() });
    counter!(EVENTS_PUBLISHED, "topic" => labels::of_topic(topic)).increment(events as u64);
}

/// A publish was answered.
pub fn publish_answered(status: StatusCode, took: Duration) {
    // By far the most are, and a label that is known beforehand costs no allocation.
    if status == StatusCode::NO_CONTENT {
        return histogram!(PUBLISH_SECONDS, "status" => "204").record(took);
    }
    histogram!(PUBLISH_SECONDS, "status" => status.as_str().to_owned()).record(took);
}

/// A batch is about to be sent that was given out so long ago.
pub fn attempted(leased: &LeasedBatch, held: Duration) {
    if leased.batch.attempt == 1 {
        let subscriber = labels::of_subscriber(&leased.lease.subscriber);
        counter!(LATENCY_COUNT, "subscriber" => subscriber.clone()).increment(1);
        counter!(LATENCY_FIRST_ATTEMPT, "subscriber" => subscriber)
            .increment(rounded_ms(leased.waited + held));
    }
}

/// An attempt to deliver a batch has ended.
pub fn delivered(leased: &LeasedBatch, acknowledged: bool, held: Duration, took: Duration) {
    let status = if acknowledged { "success" } else { "failure" };
    let subscriber = labels::of_subscriber(&leased.lease.subscriber);
    let ms = rounded_ms(took);
    for (name, amount) in [
        (DELIVERY_BATCHES, 1),
        (DELIVERY_EVENTS, leased.batch.items.len() as u64),
        (DELIVERY_TIME, ms),
        (DELIVERY_TIME2, ms.saturating_mul(ms)),
    ] {
        counter!(name, "status" => status, "subscriber" => subscriber.clone()).increment(amount);
    }
    histogram!(DELIVERY_SECONDS, "status" => status).record(took);
    if acknowledged {
        counter!(LATENCY_LAST_ATTEMPT, "subscriber" => subscriber)
            .increment(rounded_ms(leased.waited + held));
        tally_events(leased, held);
    } else {
        tally_batch(leased, Tally { failure: 1, ..Tally::default() });
    }
}

/// The events of a batch got through.
fn tally_events(leased: &LeasedBatch, held: Duration) {
    let success = leased.batch.items.len() as u64;
    let waited_ms = rounded_ms(leased.waited + held).saturating_mul(success);
    tally_batch(leased, Tally { success, waited_ms, ..Tally::default() });
}

fn tally_batch(leased: &LeasedBatch, tally: Tally) {
    tallies::count(Subject::Bus, tally);
    tallies::count(Subject::Subscription(leased.lease.subscriber.clone()), tally);
}

/// A batch was given out to a subscriber that asks for its batches: whatever it does with it, it has it.
pub fn given_out(leased: &LeasedBatch) {
    attempted(leased, Duration::ZERO);
    tally_events(leased, Duration::ZERO);
    let subscriber = labels::of_subscriber(&leased.lease.subscriber);
    let events = leased.batch.items.len() as u64;
    for (name, amount) in [(DELIVERY_BATCHES, 1), (DELIVERY_EVENTS, events)] {
        counter!(name, "status" => "success", "subscriber" => subscriber.clone()).increment(amount);
    }
}

/// A call was accepted.
pub fn call_accepted(kind: CallKind) {
    counter!(CALLS_ACCEPTED, "kind" => kind.as_str()).increment(1);
    tallies::count(Subject::Calls, Tally { volume: 1, ..Tally::default() });
}

/// Dead calls were forgotten before their time.
pub fn calls_dropped(calls: u64) {
    counter!(CALLS_DROPPED).increment(calls);
}

/// Messages were accepted.
pub fn messages_accepted(topic: &MessageTopicName, messages: u64) {
    counter!(MESSAGES_ACCEPTED, "topic" => labels::of_message_topic(topic)).increment(messages);
    tallies::count(Subject::Messages, Tally { volume: messages, ..Tally::default() });
}

/// Messages were forgotten before their time.
pub fn messages_forgotten(forgotten: Forgotten) {
    counter!(MESSAGES_FORGOTTEN).increment(forgotten.messages);
    counter!(MESSAGES_FORGOTTEN_DEAD).increment(forgotten.dead);
}

/// What waited for a publisher was discarded with it.
pub fn messages_discarded(deliveries: u64) {
    counter!(MESSAGES_DISCARDED).increment(deliveries);
}

/// A message was forwarded without the historical topic being told.
pub fn history_untold() {
    counter!(MESSAGES_UNTOLD).increment(1);
}

/// An attempt at a call has ended.
pub fn call_attempted(call: &LeasedCall, outcome: CallOutcome, held: Duration, took: Duration) {
    let status = if outcome == CallOutcome::Done { "success" } else { "failure" };
    let destination = labels::of_destination(&call.destination);
    counter!(CALLS_ATTEMPTS, "destination" => destination.clone(), "status" => status).increment(1);
    match outcome {
        CallOutcome::Done => counter!(CALLS_DONE, "destination" => destination).increment(1),
        CallOutcome::Dead => counter!(CALLS_DEAD, "destination" => destination).increment(1),
        CallOutcome::Failed { .. } | CallOutcome::Returned => {}
    }
    histogram!(CALL_SECONDS, "status" => status).record(took);
    let tally = match outcome {
        CallOutcome::Done => {
            Tally { success: 1, waited_ms: rounded_ms(call.age + held), ..Tally::default() }
        }
        CallOutcome::Dead | CallOutcome::Failed { .. } => Tally { failure: 1, ..Tally::default() },
        CallOutcome::Returned => Tally::default(),
    };
    let is_message = call.kind == CallKind::Message;
    tallies::count(if is_message { Subject::Messages } else { Subject::Calls }, tally);
    if call.attempt == 1 {
        histogram!(CALL_WAIT_SECONDS).record(call.age + held);
    }
}

/// Attempts were left out of the journal.
pub fn journal_left_out(entries: u64) {
    if entries > 0 {
        counter!(JOURNAL_LEFT_OUT).increment(entries);
    }
}

/// A process with this role, `web` or `worker`, has started or stopped.
pub fn process(status: &'static str, role: &'static str) {
    counter!(PROCESS, "status" => status, "type" => role).increment(1);
}

/// A line of the log could not be written in time.
pub fn log_line_dropped() {
    counter!(LOG_LINES_DROPPED).increment(1);
}

/// Events were dropped for lack of room.
pub fn autodropped(drops: &Drops) {
    dropped(EVENTS_AUTODROPPED, drops);
}

/// Events were dropped because their subscribers do not want them any more.
pub fn expired(drops: &Drops) {
    dropped(EVENTS_EXPIRED, drops);
}

fn dropped(name: &'static str, drops: &Drops) {
    for (subscriber, dropped) in drops.iter() {
        counter!(name, "subscriber" => labels::of_subscriber(subscriber)).increment(dropped.items);
    }
}

/// Whole milliseconds, the nearest: cut off, what takes less than one would count as nothing.
fn rounded_ms(duration: Duration) -> u64 {
    ((duration.as_micros() + 500) / 1000) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rounded_to_the_nearest_millisecond() {
        for (us, ms) in [(0, 0), (499, 0), (500, 1), (1499, 1), (1500, 2), (20_000_000, 20_000)] {
            assert_eq!(rounded_ms(Duration::from_micros(us)), ms);
        }
    }
}
