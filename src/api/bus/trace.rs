//! `GET /events/:position`: what became of one event (contract §14).

use std::collections::{BTreeMap, BTreeSet};

use axum::Json;
use axum::extract::{Path, State};
use futures_util::{StreamExt, TryStreamExt, stream};
use serde::Serialize;
use utoipa::ToSchema;

use crate::api::openapi::tags::CONTROL;
use crate::api::state::{Api, Shared};
use crate::bus::item::{Item, ItemParts};
use crate::bus::position::EventPosition;
use crate::bus::token::ClientToken;
use crate::http::authentication::{Caller, MONITOR_ONLY};
use crate::http::refusal::Refusal;
use crate::journal::{Entry, EntryKind, JournalQuery, Owner};
use crate::store::{DeadEvent, WaitingEvent};

/// How many attempts at batches that may have carried the event are looked at.
const ATTEMPTS_MAX: usize = 500;
/// How many queues are looked into at once.
const QUEUES_AT_ONCE: usize = 16;

/// What became of an event.
#[derive(Serialize, ToSchema)]
pub struct EventTrace {
    position: u64,
    /// When it was stored, in milliseconds since the epoch.
    at: u64,
    topic: String,
    /// As it is delivered; left out where no subscriber has it any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Object, nullable = false)]
    event: Option<serde_json::Value>,
    /// Those who got it or are to get it.
    subscribers: Vec<SubscriberTrace>,
}

/// What became of an event for one subscriber.
#[derive(Serialize, ToSchema)]
struct SubscriberTrace {
    /// The subscriber's token; for others than itself and root its name.
    subscriber: String,
    fate: Fate,
    /// Attempts at batches that carried it, the first one first.
    attempts: Vec<AttemptTrace>,
}

/// What became of an event: `waiting` in the queue, in the `batch` that was given out, `delivered`, a `dead_letter`, or
/// `gone` from the queue, by a limit or with its subscription, without any attempt that succeeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Fate {
    Waiting,
    Batch,
    Delivered,
    DeadLetter,
    Gone,
}

/// An attempt at a batch with the event.
#[derive(Serialize, ToSchema)]
struct AttemptTrace {
    /// When it ended, in milliseconds since the epoch.
    at: u64,
    /// The batch's `Webhook-Id`.
    batch: String,
    /// From 1.
    attempt: u32,
    failed: bool,
    /// What was answered, if anything was.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    status: Option<u16>,
    /// Why it failed; for the subscriber and root.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    error: Option<String>,
}

/// Tell what became of one event, by the position that `Routemaster-Event` told its publisher.
///
/// It is put together of queues, dead letters and the journal, in which an attempt stands a moment after it ended. Root sees
/// all of it, its topic's publisher each subscriber, a subscriber itself.
#[utoipa::path(
    get,
    path = "/events/{position}",
    operation_id = "trace_event",
    tag = CONTROL,
    params(("position" = u64, Path, description = "where it stands in all that was published")),
    responses(
        (status = 200, description = "what became of it", body = EventTrace),
        (status = 400, description = "this is no position"),
        (status = 403, description = "this is the monitoring key"),
        (status = 404, description = "nothing is known of it, or nothing that is the caller's business"),
        Caller,
    ),
)]
pub async fn show(
    State(api): State<Shared>,
    caller: Caller,
    Path(position): Path<String>,
) -> Result<Json<EventTrace>, Refusal> {
    let position: EventPosition = position.parse().map_err(Refusal::bad_request)?;
    let own_topics = match &caller {
        Caller::Root => BTreeSet::new(),
        Caller::Client(client) => topics_of(&api, client).await?,
        Caller::Monitor => return Err(Refusal::Forbidden(MONITOR_ONLY)),
    };
    // Whoever publishes nothing is told of itself only.
    let only = caller.client().ok().filter(|_| own_topics.is_empty());
    let mut trails = trails_in_queues(&api, only, position).await?;
    follow_in_journal(&api, position, &mut trails).await?;
    trails.retain(|_, trail| trail.fate().is_some());
    let topic = trails.values().find_map(|trail| trail.topic(position)).ok_or_else(unknown)?;
    let is_its_publisher = own_topics.contains(&topic);
    let own = caller.client().ok().map(Owner::of);
    let is_own = |owner: &Owner| own.as_ref().is_none_or(|own| own == owner);
    trails.retain(|owner, _| is_its_publisher || is_own(owner));
    let event = trails.values().find_map(Trail::event);
    let rows = trails.into_iter().filter_map(|(owner, trail)| {
        let fate = trail.fate()?;
        let itself = caller.client().ok().filter(|_| is_own(&owner));
        let subscriber = match trail.subscriber.as_ref().or(itself) {
            Some(subscriber) => api.authentication.view_of(subscriber, &caller),
            None => trail.attempts.first()?.client.clone(),
        };
        let show = |entry| AttemptTrace::new(entry, is_own(&owner));
        let attempts = trail.attempts.into_iter().map(show).collect();
        Some(SubscriberTrace { subscriber, fate, attempts })
    });
    let subscribers: Vec<_> = rows.collect();
    if subscribers.is_empty() {
        return Err(unknown());
    }
    let (position, at) = (position.number(), position.at_ms());
    Ok(Json(EventTrace { position, at, topic, event, subscribers }))
}

fn unknown() -> Refusal {
    let reason = "nothing is known of this event: it was never published, nobody was to get it, or it is forgotten";
    Refusal::NotFound(reason.into())
}

/// What is found of an event at one subscriber.
#[derive(Default)]
struct Trail {
    /// `None` for one that is gone.
    subscriber: Option<ClientToken>,
    waiting: Option<WaitingEvent>,
    dead: Option<DeadEvent>,
    /// The first one first.
    attempts: Vec<Entry>,
}

impl Trail {
    /// `None` if nothing is known.
    fn fate(&self) -> Option<Fate> {
        match (&self.waiting, &self.dead) {
            (Some(waiting), _) if waiting.is_in_batch => Some(Fate::Batch),
            (Some(_), _) => Some(Fate::Waiting),
            (None, Some(_)) => Some(Fate::DeadLetter),
            (None, None) if self.attempts.iter().any(|entry| !entry.failed) => {
                Some(Fate::Delivered)
            }
            (None, None) => (!self.attempts.is_empty()).then_some(Fate::Gone),
        }
    }

    fn item(&self) -> Option<&Item> {
        let waiting = self.waiting.as_ref().map(|waiting| &waiting.item);
        waiting.or(self.dead.as_ref().map(|dead| &dead.item))
    }

    fn event(&self) -> Option<serde_json::Value> {
        serde_json::from_slice(ItemParts::of(self.item()?).json).ok()
    }

    fn topic(&self, position: EventPosition) -> Option<String> {
        let carried = || self.attempts.first()?.events.as_ref()?.topic_of(position);
        let topic = self.item().and_then(|item| ItemParts::of(item).topic()).or_else(carried);
        topic.map(str::to_owned)
    }
}

impl AttemptTrace {
    fn new(entry: Entry, is_own: bool) -> Self {
        Self {
            at: entry.at_ms,
            batch: entry.id,
            attempt: entry.attempt,
            failed: entry.failed,
            status: entry.status,
            error: Some(entry.error).filter(|error| is_own && !error.is_empty()),
        }
    }
}

/// By whose they are.
type Trails = BTreeMap<Owner, Trail>;

/// Looks for an event in the queues, and among the dead letters, of all subscribers, or of `only` this one.
async fn trails_in_queues(
    api: &Api,
    only: Option<&ClientToken>,
    position: EventPosition,
) -> Result<Trails, Refusal> {
    // Most have nothing that waits, and mostly nothing was given up.
    let any_dead = api.store.dead_event_count().await? > 0;
    let all = api.store.subscriptions().await?.into_iter();
    let meant = all.filter(|status| only.is_none_or(|only| *only == status.subscriber));
    let subscribers: Vec<_> = meant.map(|status| (status.subscriber, status.queued > 0)).collect();
    let look = |(subscriber, has_queue): (ClientToken, bool)| async move {
        let waiting = async {
            match has_queue {
                true => api.store.waiting_event(&subscriber, position).await,
                false => Ok(None),
            }
        };
        let dead = async {
            match any_dead {
                true => api.store.dead_event(&subscriber, position).await,
                false => Ok(None),
            }
        };
        let (waiting, dead) = tokio::try_join!(waiting, dead)?;
        let owner = Owner::of(&subscriber);
        let subscriber = Some(subscriber);
        Ok::<_, Refusal>((owner, Trail { subscriber, waiting, dead, attempts: Vec::new() }))
    };
    stream::iter(subscribers).map(look).buffer_unordered(QUEUES_AT_ONCE).try_collect().await
}

/// Adds the attempts at batches that carried an event.
async fn follow_in_journal(
    api: &Api,
    position: EventPosition,
    trails: &mut Trails,
) -> Result<(), Refusal> {
    let query = JournalQuery {
        kind: Some(EntryKind::Batch),
        event: Some(position),
        ..JournalQuery::default()
    };
    let found = api.journal.find(&query, None, ATTEMPTS_MAX).await?.entries.into_iter().rev();
    let carried = |entry: &Entry| {
        entry.events.as_ref().is_some_and(|events| events.topic_of(position).is_some())
    };
    for entry in found.filter(carried) {
        trails.entry(entry.owner.clone()).or_default().attempts.push(entry);
    }
    Ok(())
}

/// The topics that a client publishes.
async fn topics_of(api: &Api, client: &ClientToken) -> Result<BTreeSet<String>, Refusal> {
    let topics = api.store.topics().await?.into_iter();
    let own = topics.filter(|topic| topic.publisher.as_ref() == Some(client));
    Ok(own.map(|topic| topic.name.to_string()).collect())
}
