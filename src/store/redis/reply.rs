//! Reads the scripts' answers: nested lists of strings and integers, in the order that the head
//! of each script names.

use std::time::Duration;

use bytes::Bytes;
use fred::types::Value;

use crate::bus::attempt::{FailedAttempt, Failure};
use crate::bus::batch::{Batch, BatchId};
use crate::bus::health::Health;
use crate::bus::item::QueuedItem;
use crate::bus::pause::{Pause, PausedBy};
use crate::bus::position::EventPosition;
use crate::bus::signature::SigningSecrets;
use crate::bus::subscription::options::{BatchFormat, DeliveryOptions};
use crate::bus::subscription::{
    OpenBatch, Progress, Retention, Subscription, SubscriptionStatus, Target, Terms,
};
use crate::bus::token::ClientToken;
use crate::bus::topic::{Keep, Topic, TopicName};
use crate::store::{Dropped, Drops, LeasedBatch, QueueLease, StoreError, StoreResult};

/// Digits of a position in front of each item of a queue, behind which a colon stands.
pub const POSITION: usize = 16;
/// Digits of the time in front of one that is older, or was imported.
const STAMP: usize = 13;

/// An answer, or a part of one. As an iterator, it gives the parts of a list.
pub enum Reply {
    List(std::vec::IntoIter<Value>),
    Value(Value),
}

impl From<Value> for Reply {
    fn from(value: Value) -> Self {
        match value {
            Value::Array(values) => Reply::List(values.into_iter()),
            value => Reply::Value(value),
        }
    }
}

impl Iterator for Reply {
    type Item = Reply;

    fn next(&mut self) -> Option<Reply> {
        match self {
            Reply::List(values) => values.next().map(Reply::from),
            Reply::Value(_) => None,
        }
    }
}

fn unexpected(expected: &str) -> StoreError {
    StoreError::Corrupt(format!("{expected} was expected in the answer of a script"))
}

impl Reply {
    pub fn is_list(&self) -> bool {
        matches!(self, Reply::List(_))
    }

    /// The next part of a list.
    pub fn part(&mut self) -> StoreResult<Reply> {
        self.next().ok_or_else(|| unexpected("one more part"))
    }

    fn value(self) -> StoreResult<Value> {
        match self {
            Reply::Value(value) => Ok(value),
            Reply::List(_) => Err(unexpected("a value")),
        }
    }

    pub fn text(self) -> StoreResult<String> {
        self.value()?.into_string().ok_or_else(|| unexpected("a string"))
    }

    pub fn bytes(self) -> StoreResult<Bytes> {
        self.value()?.into_bytes().ok_or_else(|| unexpected("bytes"))
    }

    pub fn optional_text(self) -> StoreResult<Option<String>> {
        let value = self.value()?;
        if value.is_null() { Ok(None) } else { Reply::Value(value).text().map(Some) }
    }

    pub fn optional_number(self) -> StoreResult<Option<u64>> {
        let text = self.optional_text()?;
        text.map(|text| text.parse().map_err(|_| unexpected("a number"))).transpose()
    }

    pub fn integer(self) -> StoreResult<i64> {
        self.value()?.as_i64().ok_or_else(|| unexpected("an integer"))
    }

    pub fn unsigned(self) -> StoreResult<u64> {
        u64::try_from(self.integer()?).map_err(|_| unexpected("a number from 0"))
    }

    /// An entry of a queue.
    pub fn queued_item(self) -> StoreResult<QueuedItem> {
        let mut entry = self.bytes()?;
        let has_position = entry.get(POSITION) == Some(&b':');
        let digits = if has_position { POSITION } else { STAMP };
        let number = entry.get(..digits).and_then(|head| std::str::from_utf8(head).ok());
        let number = number.and_then(|head| head.parse().ok());
        let number = number.ok_or_else(|| unexpected("an item with its position"))?;
        let item = entry.split_off(digits + usize::from(has_position));
        let position = match has_position {
            true => EventPosition::new(number),
            false => EventPosition::of_time(number),
        };
        Ok(QueuedItem { position, item })
    }

    /// The secrets, the format, the limit of refusals and the order of a subscription.
    fn options(&mut self) -> StoreResult<DeliveryOptions> {
        let secrets = self.part()?.optional_text()?;
        let format = self.part()?.optional_text()?;
        let refusals_max = self.part()?.optional_number()?;
        let parallel = self.part()?.optional_number()?;
        let small = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        Ok(DeliveryOptions {
            secrets: secrets
                .map_or_else(SigningSecrets::default, |text| SigningSecrets::from_stored(&text)),
            format: format.as_deref().and_then(BatchFormat::parse).unwrap_or_default(),
            refusals_max: refusals_max.map(small),
            parallel: parallel.map(small),
        })
    }

    pub fn token(self) -> StoreResult<ClientToken> {
        Ok(ClientToken::from_stored(&self.text()?))
    }

    fn target(self) -> StoreResult<Target> {
        Ok(Target::from_stored(&self.text()?))
    }

    pub fn millis(self) -> StoreResult<Duration> {
        self.unsigned().map(Duration::from_millis)
    }

    fn batch_max(self) -> StoreResult<u32> {
        u32::try_from(self.integer()?).map_err(|_| unexpected("a batch size"))
    }

    /// Those of a list that it has the positions of.
    pub fn pick<T: Clone>(self, list: &[T]) -> StoreResult<Vec<T>> {
        let picked = self.map(|position| {
            list.get(position.unsigned()? as usize).cloned().ok_or_else(|| unexpected("a position"))
        });
        picked.collect()
    }

    /// A row of `topics.lua`.
    pub fn topic(mut self) -> StoreResult<Topic> {
        let name = TopicName::from_stored(&self.part()?.text()?);
        let publisher = self.part()?.text()?;
        let publisher = (!publisher.is_empty()).then(|| ClientToken::from_stored(&publisher));
        let events = self.part()?.unsigned()?;
        let keep = self.part()?.optional_text()?.map(keep).transpose()?;
        Ok(Topic { name, publisher, events, keep })
    }

    /// A row of `subscriptions.lua`.
    pub fn subscription(mut self) -> StoreResult<SubscriptionStatus> {
        let subscriber = self.part()?.token()?;
        let terms = Terms {
            target: self.part()?.target()?,
            uuid: self.part()?.optional_text()?,
            timeout: self.part()?.millis()?,
            max: self.part()?.batch_max()?,
        };
        let retention = Retention {
            age: self.part()?.optional_number()?.map(Duration::from_millis),
            count: self.part()?.optional_number()?,
        };
        let sent = self.part()?.unsigned()?;
        let (autodropped, expired) = (self.part()?.unsigned()?, self.part()?.unsigned()?);
        let health = Health::new(self.part()?.unsigned()?);
        let queued = self.part()?.unsigned()?;
        let oldest_ms = self.part()?.optional_number()?;
        let last_failure = self.part()?.optional_text()?.map(failed_attempt).transpose()?;
        let topics = self.part()?.map(|topic| Ok(TopicName::from_stored(&topic.text()?)));
        let topics = topics.collect::<StoreResult<_>>()?;
        let options = self.options()?;
        let pause = self.part()?.optional_text()?.map(pause).transpose()?;
        let (number, events) = (self.part()?.optional_number()?, self.part()?.unsigned()?);
        let (attempts, is_in_flight) = (self.part()?.unsigned()?, self.part()?.unsigned()? > 0);
        let queue = self.part()?.text()?;
        let is_window = options.parallel.is_some();
        let batch = number.filter(|_| !is_window).map(|number| OpenBatch {
            id: BatchId { queue, number },
            events,
            attempts: u32::try_from(attempts).unwrap_or(u32::MAX),
            is_in_flight,
        });
        let next_ms = self.part()?.optional_number()?.filter(|_| !is_in_flight);
        Ok(SubscriptionStatus {
            subscriber,
            subscription: Subscription { topics, terms, retention, options },
            sent,
            queued,
            oldest_ms,
            autodropped,
            expired,
            health,
            last_failure,
            pause,
            progress: Progress { batch, next_ms },
        })
    }

    /// What was dropped, as the scripts that drop write it.
    pub fn drops(self) -> StoreResult<Drops> {
        let mut drops = Drops::default();
        for mut row in self {
            let subscriber = row.part()?.token()?;
            let (items, bytes) = (row.part()?.unsigned()?, row.part()?.unsigned()?);
            drops.add(&subscriber, Dropped { items, bytes });
        }
        Ok(drops)
    }

    /// A batch as `give_out` in `queue.lua` writes it.
    pub fn leased_batch(mut self) -> StoreResult<LeasedBatch> {
        let subscriber = self.part()?.token()?;
        let queue = self.part()?.text()?;
        let fence = self.part()?.unsigned()?;
        let target = self.part()?.target()?;
        let uuid = self.part()?.optional_text()?;
        let timeout = self.part()?.millis()?;
        let max = self.part()?.batch_max()?;
        let health = Health::new(self.part()?.unsigned()?);
        let id = BatchId { queue: queue.clone(), number: self.part()?.unsigned()? };
        let attempt = u32::try_from(self.part()?.integer()?).unwrap_or(u32::MAX);
        let waited = self.part()?.millis()?;
        let options = self.options()?;
        let items = self.part()?.map(Reply::queued_item).collect::<StoreResult<_>>()?;
        Ok(LeasedBatch {
            lease: QueueLease { subscriber, queue, fence },
            terms: Terms { target, uuid, timeout, max },
            options,
            health,
            waited,
            batch: Batch { id, attempt, items },
        })
    }
}

/// A pause as it is kept: since when and by whom.
fn pause(text: String) -> StoreResult<Pause> {
    let parts = text.split_once(' ').and_then(|(since, by)| Some((since.parse().ok()?, by)));
    let (since_ms, by) = parts.ok_or_else(|| unexpected("a pause"))?;
    Ok(Pause { since_ms, by: PausedBy::from_stored(by) })
}

/// What a topic keeps: milliseconds and bytes.
fn keep(text: String) -> StoreResult<Keep> {
    let parts = text.split_once(' ').and_then(|(ms, bytes)| Some((ms.parse().ok()?, bytes)));
    let keep = parts.and_then(|(ms, bytes)| {
        Some(Keep { age: Duration::from_millis(ms), bytes: bytes.parse().ok()? })
    });
    keep.ok_or_else(|| unexpected("what a topic keeps"))
}

/// A failed attempt as `settle.lua` writes it: time, attempt, status or `-`, reason.
fn failed_attempt(text: String) -> StoreResult<FailedAttempt> {
    let parse = || {
        let mut parts = text.splitn(4, ' ');
        let at_ms = parts.next()?.parse().ok()?;
        let attempt = parts.next()?.parse().ok()?;
        let status = match parts.next()? {
            "-" => None,
            status => Some(status.parse().ok()?),
        };
        let failure = Failure { status, reason: parts.next()?.to_owned() };
        Some(FailedAttempt { at_ms, attempt, failure })
    };
    parse().ok_or_else(|| unexpected("a failed attempt"))
}
