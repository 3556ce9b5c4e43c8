//! A subscription as monitoring shows it.

use serde::Serialize;
use utoipa::ToSchema;

use crate::api::state::Api;
use crate::bus::attempt::FailedAttempt;
use crate::bus::pause::{Pause, PausedBy};
use crate::bus::subscription::options::{BatchFormat, ENTITY_ORDER};
use crate::bus::subscription::{OpenBatch, Subscription, SubscriptionStatus};
use crate::bus::topic::TopicName;
use crate::http::authentication::Caller;

/// A row of `GET /subscriptions`.
// What the original does not have is left out where there is nothing to say.
#[derive(Serialize, ToSchema)]
#[schema(as = SubscriptionStatus)]
pub struct SubscriptionRow {
    /// The subscriber's token. Of `<name>--<secret>`, others than root and its holder see the name
    /// only.
    subscriber: String,
    /// `null` if events go elsewhere.
    #[schema(required)]
    callback: Option<String>,
    /// The topic on Google Pub/Sub that events go to, if they do.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pubsub: Option<String>,
    /// A secret: `null` for others than root and the subscriber itself.
    // Always there, because clients of the original require it.
    #[schema(required)]
    uuid: Option<String>,
    max_events: u32,
    /// Milliseconds.
    timeout: u64,
    /// Milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    retention: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    max_queued: Option<u64>,
    #[schema(value_type = Vec<TopicName>)]
    topics: Vec<String>,
    events: Counts,
    /// Why the batch at the head of the queue waits to be sent again; left out while none does, and
    /// for others than root and the subscriber itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    last_error: Option<LastError>,
    /// That nothing is sent for now; left out while it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    paused: Option<Paused>,
    /// Left out if batches are sent.
    #[serde(skip_serializing_if = "is_false")]
    #[schema(required = false)]
    pull: bool,
    /// How the events of batches are written, if not as the original's.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    format: Option<&'static str>,
    /// After how many refusals of a batch the event is looked for that is refused; left out if a batch is sent for
    /// ever.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    on_refusal: Option<OnRefusal>,
    /// `entity` if the order of the events of each URL is kept; left out if that of the queue is.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    order: Option<&'static str>,
    /// How many batches are on their way at once at most, in the order of entities.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    parallel: Option<u32>,
    /// What batches are signed with; left out without, and for others than root and the subscriber itself.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    secret: Vec<String>,
    /// What is done just now; not in lists, as what follows.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    status: Option<DeliveryState>,
    /// 0 (nothing gets through) to 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    health: Option<u8>,
    /// How long the oldest event that waits has done so, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    lag: Option<u64>,
    /// When the next attempt is made, in milliseconds since the epoch; left out while one is on its way, and while
    /// nothing waits.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    next_try: Option<u64>,
    /// The batch that was given out and is not acknowledged.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    batch: Option<BatchRow>,
}

/// That a subscription is paused.
#[derive(Serialize, ToSchema)]
struct Paused {
    /// In milliseconds since the epoch.
    since: u64,
    by: PausedBy,
    /// For people.
    reason: &'static str,
}

impl From<Pause> for Paused {
    fn from(Pause { since_ms, by }: Pause) -> Self {
        Self { since: since_ms, by, reason: by.reason() }
    }
}

#[derive(Serialize, ToSchema)]
struct OnRefusal {
    attempts: u32,
}

/// The last attempt that failed.
#[derive(Serialize, ToSchema)]
struct LastError {
    /// In seconds since the epoch.
    at: u64,
    /// Which attempt at the batch it was, from 1.
    attempt: u32,
    /// The status of the answer; left out if there was none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    status: Option<u16>,
    /// One line.
    reason: String,
}

impl From<FailedAttempt> for LastError {
    fn from(FailedAttempt { at_ms, attempt, failure }: FailedAttempt) -> Self {
        Self { at: at_ms / 1000, attempt, status: failure.status, reason: failure.reason }
    }
}

#[derive(Serialize, ToSchema)]
#[schema(as = EventCounts)]
struct Counts {
    /// Ever acknowledged.
    sent: u64,
    /// Waiting, those on their way included.
    queued: u64,
    /// When the oldest one that waits was accepted, in seconds since the epoch.
    #[schema(required)]
    oldest: Option<u64>,
    /// Ever dropped because the store ran out of room; left out while it is 0.
    #[serde(skip_serializing_if = "is_zero")]
    #[schema(required = false)]
    autodropped: u64,
    /// Ever dropped as the subscriber's own retention asks for; left out while it is 0.
    #[serde(skip_serializing_if = "is_zero")]
    #[schema(required = false)]
    expired: u64,
}

fn is_false(flag: &bool) -> bool {
    !flag
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl SubscriptionRow {
    /// With how its delivery goes.
    pub fn with_progress(api: &Api, status: SubscriptionStatus, caller: &Caller) -> Self {
        let lag = status.oldest_ms.map_or(0, |ms| api.clock.now_ms().saturating_sub(ms));
        Self {
            status: Some(DeliveryState::of(&status)),
            health: Some(status.health.points()),
            lag: Some(lag),
            next_try: status.progress.next_ms,
            batch: status.progress.batch.as_ref().map(BatchRow::from),
            ..Self::new(api, status, caller)
        }
    }

    pub fn new(api: &Api, status: SubscriptionStatus, caller: &Caller) -> Self {
        let SubscriptionStatus { subscriber, subscription, last_failure, pause, .. } = status;
        let is_own = caller.may_see_secrets_of(&subscriber);
        let Subscription { topics, terms, retention, options } = subscription;
        Self {
            subscriber: api.authentication.view_of(&subscriber, caller),
            callback: terms.target.callback().map(|callback| callback.as_str().to_owned()),
            pubsub: terms.target.pubsub().map(str::to_owned),
            uuid: terms.uuid.filter(|_| is_own),
            max_events: terms.max,
            timeout: terms.timeout.as_millis() as u64,
            retention: retention.age.map(|age| age.as_millis() as u64),
            max_queued: retention.count,
            topics: topics.iter().map(ToString::to_string).collect(),
            events: Counts {
                sent: status.sent,
                queued: status.queued,
                oldest: status.oldest_ms.map(|ms| ms / 1000),
                autodropped: status.autodropped,
                expired: status.expired,
            },
            last_error: last_failure.filter(|_| is_own).map(LastError::from),
            paused: pause.map(Paused::from),
            pull: terms.target.is_pull(),
            format: Some(options.format)
                .filter(|format| *format != BatchFormat::default())
                .map(BatchFormat::as_str),
            on_refusal: options.refusals_max.map(|attempts| OnRefusal { attempts }),
            order: options.parallel.map(|_| ENTITY_ORDER),
            parallel: options.parallel,
            secret: if is_own { options.secrets.reveal() } else { vec![] },
            status: None,
            health: None,
            lag: None,
            next_try: None,
            batch: None,
        }
    }
}

/// What is done for a subscriber just now.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryState {
    /// Nothing waits.
    Idle,
    /// Something waits for its time to come.
    Waiting,
    /// An attempt is on its way.
    Delivering,
    /// The last attempt failed.
    Failing,
    Paused,
}

/// A batch that was given out.
#[derive(Serialize, ToSchema)]
struct BatchRow {
    /// Its `Webhook-Id`.
    id: String,
    /// How many events it has.
    events: u64,
    /// How many attempts at it have begun.
    attempts: u32,
}

impl From<&OpenBatch> for BatchRow {
    fn from(batch: &OpenBatch) -> Self {
        Self { id: batch.id.to_string(), events: batch.events, attempts: batch.attempts }
    }
}

impl DeliveryState {
    /// As it stands in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Waiting => "waiting",
            Self::Delivering => "delivering",
            Self::Failing => "failing",
            Self::Paused => "paused",
        }
    }

    pub fn of(status: &SubscriptionStatus) -> Self {
        let is_in_flight = status.progress.batch.as_ref().is_some_and(|batch| batch.is_in_flight);
        if status.pause.is_some() {
            Self::Paused
        } else if status.last_failure.is_some() {
            Self::Failing
        } else if is_in_flight {
            Self::Delivering
        } else if status.queued > 0 {
            Self::Waiting
        } else {
            Self::Idle
        }
    }
}
