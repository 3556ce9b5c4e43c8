//! Which messages a query asks for, and a walk through them.

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

use axum::http::Uri;
use utoipa::IntoParams;

use super::refusal::MessageRefusal;
use super::view::Viewer;
use crate::api::state::Api;
use crate::bus::call::CallState;
use crate::bus::message::MessageText;
use crate::history::HistoryQuery;
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
    /// What stands in payload or attributes.
    pub text: Option<MessageText>,
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
            text: query::text(uri, "text").map(|text| MessageText::new(&text)),
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
            && text.as_ref().is_none_or(|text| text.is_in(&message.content))
    }
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
/// If store or history cannot be asked.
pub async fn page(
    api: &Api,
    viewer: &Viewer<'_>,
    filter: &MessageFilter,
    before: u64,
    limit: usize,
    within: Option<Duration>,
) -> StoreResult<MessagePage> {
    let (started, mut bytes) = (Instant::now(), 0);
    let mut walk = Walk { api, filter, before, history: VecDeque::new(), ends_history: false };
    let mut messages: Vec<MessageRecord> = Vec::new();
    let all = |messages| Ok(MessagePage { messages, next: None, back_to_ms: None });
    loop {
        let looked_at = walk.next().await?;
        let Some(last) = looked_at.last() else { return all(messages) };
        let back_to_ms = last.received_ms;
        let mut before = walk.before;
        for message in looked_at {
            if filter.since_ms.is_some_and(|since| message.received_ms < since) {
                return all(messages);
            }
            let number = message.number;
            if let Some(message) = viewer.seen(message).filter(|message| filter.matches(message)) {
                bytes += message.content.len();
                if bytes > PAGE_BYTES && !messages.is_empty() {
                    return Ok(MessagePage { messages, next: Some(number + 1), back_to_ms: None });
                }
                messages.push(message);
            }
            before = number;
            if messages.len() == limit {
                return Ok(MessagePage { messages, next: Some(before), back_to_ms: None });
            }
        }
        if started.elapsed() >= within.unwrap_or(PAGE_TIME) {
            return Ok(MessagePage { messages, next: Some(before), back_to_ms: Some(back_to_ms) });
        }
    }
}

/// A walk through store and history together, the newest first.
struct Walk<'a> {
    api: &'a Api,
    filter: &'a MessageFilter,
    /// What comes next has lower numbers.
    before: u64,
    /// What history has next, and whether that is all of it.
    history: VecDeque<MessageRecord>,
    ends_history: bool,
}

impl Walk<'_> {
    /// The next messages; none only if there are no more.
    async fn next(&mut self) -> StoreResult<Vec<MessageRecord>> {
        let store = &self.api.store;
        let of_store = {
            let filter = self.filter;
            store
                .messages_before(self.before, filter.topic, filter.text.as_ref(), MESSAGES_AT_ONCE)
                .await?
        };
        self.fill_history().await?;
        // Below the last that either has shown, the other one may have some in between.
        let end_of_store = of_store.last().map_or(0, |message| message.number);
        let end_of_history = match self.history.back() {
            Some(last) if !self.ends_history => last.number,
            _ => 0,
        };
        let floor = end_of_store.max(end_of_history);
        let mut messages: Vec<MessageRecord> =
            of_store.into_iter().filter(|message| message.number >= floor).collect();
        while let Some(message) = self.history.pop_front_if(|message| message.number >= floor) {
            messages.push(message);
        }
        messages.sort_by_key(|message| Reverse(message.number));
        let messages = merged(messages);
        if let Some(last) = messages.last() {
            self.before = last.number;
        }
        Ok(messages)
    }

    async fn fill_history(&mut self) -> StoreResult<()> {
        let Some(history) = &self.api.history else {
            self.ends_history = true;
            return Ok(());
        };
        if self.ends_history || !self.history.is_empty() {
            return Ok(());
        }
        let MessageFilter { topic, publisher, state, text, since_ms, until_ms } =
            self.filter.clone();
        let query = HistoryQuery {
            topic_id: topic,
            publisher_id: publisher,
            state,
            text,
            since_ms,
            until_ms,
        };
        let found = history.find_messages(&query, self.before, MESSAGES_AT_ONCE).await?;
        self.ends_history = found.is_empty();
        self.history = found.into();
        Ok(())
    }
}

/// What was just moved, or brought back, is in both: the store, which comes first, knows better.
fn merged(messages: Vec<MessageRecord>) -> Vec<MessageRecord> {
    let mut merged: Vec<MessageRecord> = Vec::with_capacity(messages.len());
    for message in messages {
        match merged.last_mut().filter(|last| last.number == message.number) {
            Some(last) => last.add_deliveries_of(message),
            None => merged.push(message),
        }
    }
    merged
}
