//! Reads the scripts' answers: nested lists of strings and integers, in the order that the head
//! of each script names.

use std::time::Duration;

use bytes::Bytes;
use fred::types::Value;

use crate::bus::attempt::{FailedAttempt, Failure};
use crate::bus::batch::{Batch, BatchId};
use crate::bus::health::Health;
use crate::bus::subscription::{Retention, Subscription, SubscriptionStatus, Target, Terms};
use crate::bus::token::ClientToken;
use crate::bus::topic::{Topic, TopicName};
use crate::store::{Dropped, Drops, LeasedBatch, QueueLease, StoreError, StoreResult};

/// Digits of the time in front of each item of a queue.
pub const STAMP: usize = 13;

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

    fn optional_text(self) -> StoreResult<Option<String>> {
        let value = self.value()?;
        if value.is_null() { Ok(None) } else { Reply::Value(value).text().map(Some) }
    }

    fn optional_number(self) -> StoreResult<Option<u64>> {
        let text = self.optional_text()?;
        text.map(|text| text.parse().map_err(|_| unexpected("a number"))).transpose()
    }

    pub fn integer(self) -> StoreResult<i64> {
        self.value()?.as_i64().ok_or_else(|| unexpected("an integer"))
    }

    pub fn unsigned(self) -> StoreResult<u64> {
        u64::try_from(self.integer()?).map_err(|_| unexpected("a number from 0"))
    }

    /// An item without the time in front of it.
    fn item(self) -> StoreResult<Bytes> {
        let mut entry = self.value()?.into_bytes().ok_or_else(|| unexpected("an item"))?;
        if entry.len() < STAMP {
            return Err(unexpected("an item with its time"));
        }
        Ok(entry.split_off(STAMP))
    }

    fn token(self) -> StoreResult<ClientToken> {
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

    /// A row of `topics.lua`.
    /// Those of a list that it has the positions of.
    pub fn pick<T: Clone>(self, list: &[T]) -> StoreResult<Vec<T>> {
        let picked = self.map(|position| {
            list.get(position.unsigned()? as usize).cloned().ok_or_else(|| unexpected("a position"))
        });
        picked.collect()
    }

    pub fn topic(mut self) -> StoreResult<Topic> {
        let name = TopicName::from_stored(&self.part()?.text()?);
        let publisher = self.part()?.text()?;
        let publisher = (!publisher.is_empty()).then(|| ClientToken::from_stored(&publisher));
        Ok(Topic { name, publisher, events: self.part()?.unsigned()? })
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
        Ok(SubscriptionStatus {
            subscriber,
            subscription: Subscription {
                topics: topics.collect::<StoreResult<_>>()?,
                terms,
                retention,
            },
            sent,
            queued,
            oldest_ms,
            autodropped,
            expired,
            health,
            last_failure,
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
        let items = self.part()?.map(Reply::item).collect::<StoreResult<_>>()?;
        Ok(LeasedBatch {
            lease: QueueLease { subscriber, queue, fence },
            terms: Terms { target, uuid, timeout, max },
            health,
            waited,
            batch: Batch { id, attempt, items },
        })
    }
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
