//! Which messages a query asks for, and a walk through them.

use std::time::{Duration, Instant};

use axum::http::Uri;
use utoipa::IntoParams;

use super::refusal::MessageRefusal;
use super::view::Viewer;
use crate::api::state::Api;
use crate::bus::call::CallState;
use crate::http::query;
use crate::http::refusal::Refusal;
use crate::store::{MESSAGES_AT_ONCE, MessageRecord, StoreResult};

/// A page that would take longer ends with what it has.
const PAGE_TIME: Duration = Duration::from_secs(1);
/// How many bytes of contents a page has, beyond its first message.
const PAGE_BYTES: usize = 16 * 1024 * 1024;

/// Which messages are looked for; what is `None` does not matter.
#[derive(Clone, Debug, Default)]
pub struct MessageFilter {
    /// The id of their topic.
    pub topic: Option<u64>,
    pub publisher: Option<u64>,
    pub state: Option<CallState>,
    /// What stands in payload or attributes, in lower case.
    pub text: Option<String>,
    /// Received then or later, in milliseconds since the epoch.
    pub since_ms: Option<u64>,
    /// Received before then.
    pub until_ms: Option<u64>,
}

/// The part of a query that says which messages are meant.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "it is only described: `read` reads it")]
pub struct MessageFilterParams {
    /// The name of their topic, or its id.
    topic: Option<String>,
    /// The id of a publisher that forwards them.
    publisher: Option<u64>,
    /// `waiting`, `sending`, `failing`, `dead` or `done`, with one of their publishers, or with the one that is named.
    state: Option<String>,
    /// What stands in payload or attributes, whatever its case.
    text: Option<String>,
    /// Received then or later, in milliseconds since the epoch.
    since: Option<u64>,
    /// Received before then.
    until: Option<u64>,
}

impl MessageFilter {
    /// # Errors
    /// If a value in the query means nothing, or there is no such topic.
    pub fn read(uri: &Uri, viewer: &Viewer<'_>) -> Result<Self, MessageRefusal> {
        let state = query::text(uri, "state").map(|state| {
            let wrong = || {
                let states = CallState::ALL.map(CallState::as_str).join(", ");
                MessageRefusal::field("state", format_args!("must be one of {states}"))
            };
            CallState::parse(&state).ok_or_else(wrong)
        });
        let topic = query::text(uri, "topic").map(|topic| {
            viewer.topic_id(&topic).ok_or_else(|| MessageRefusal::field("topic", "is invalid"))
        });
        let time = |name| query::number(uri, name, 0..=u64::MAX / 2);
        Ok(Self {
            topic: topic.transpose()?,
            publisher: query::number(uri, "publisher", 0..=u64::MAX)?,
            state: state.transpose()?,
            text: query::text(uri, "text").map(|text| text.to_lowercase()),
            since_ms: time("since")?,
            until_ms: time("until")?,
        })
    }

    fn matches(&self, message: &MessageRecord) -> bool {
        let Self { topic, publisher, state, text, since_ms, until_ms } = self;
        let is_with = || {
            message.deliveries.iter().any(|delivery| {
                publisher.is_none_or(|publisher| publisher == delivery.publisher_id)
                    && state.is_none_or(|state| state == delivery.state)
            })
        };
        topic.is_none_or(|topic| topic == message.topic_id)
            && since_ms.is_none_or(|since| message.received_ms >= since)
            && until_ms.is_none_or(|until| message.received_ms < until)
            && (publisher.is_none() && state.is_none() || is_with())
            && text.as_ref().is_none_or(|text| has_text(message, text))
    }
}

fn has_text(message: &MessageRecord, text: &str) -> bool {
    String::from_utf8_lossy(&message.content).to_lowercase().contains(text)
}

/// Where a page begins: behind the one before, or at the newest.
///
/// # Errors
/// If the query says where, and it is no position.
pub fn position(uri: &Uri) -> Result<u64, Refusal> {
    // No message has a larger number.
    Ok(query::number(uri, "after", 0..=1 << 53)?.unwrap_or(1 << 53))
}

/// Some of the messages that match and may be seen, the newest first.
pub struct MessagePage {
    pub messages: Vec<MessageRecord>,
    /// Where the next page begins, if there may be more.
    pub next: Option<u64>,
    /// How far back was looked, in milliseconds since the epoch, where looking took long.
    pub back_to_ms: Option<u64>,
}

/// Up to `limit` messages below a number that match and may be seen; fewer also if looking for them takes long.
///
/// # Errors
/// If the store cannot be asked.
pub async fn page(
    api: &Api,
    viewer: &Viewer<'_>,
    filter: &MessageFilter,
    before: u64,
    limit: usize,
) -> StoreResult<MessagePage> {
    let (started, mut before, mut bytes) = (Instant::now(), before, 0);
    let mut messages: Vec<MessageRecord> = Vec::new();
    loop {
        let looked_at = api.store.messages_before(before, filter.topic, MESSAGES_AT_ONCE).await?;
        let Some(last) = looked_at.last() else {
            return Ok(MessagePage { messages, next: None, back_to_ms: None });
        };
        let back_to_ms = last.received_ms;
        for message in looked_at {
            let is_too_old = filter.since_ms.is_some_and(|since| message.received_ms < since);
            if is_too_old {
                return Ok(MessagePage { messages, next: None, back_to_ms: None });
            }
            let number = message.number;
            if let Some(message) = viewer.seen(message).filter(|message| filter.matches(message)) {
                bytes += message.content.len();
                if bytes > PAGE_BYTES && !messages.is_empty() {
                    return Ok(MessagePage { messages, next: Some(before), back_to_ms: None });
                }
                messages.push(message);
            }
            before = number;
            if messages.len() == limit {
                return Ok(MessagePage { messages, next: Some(before), back_to_ms: None });
            }
        }
        if started.elapsed() >= PAGE_TIME {
            let back_to_ms = Some(back_to_ms);
            return Ok(MessagePage { messages, next: Some(before), back_to_ms });
        }
    }
}
