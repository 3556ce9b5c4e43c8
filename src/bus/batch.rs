//! A batch: the prefix of a queue that one POST carries.

use std::fmt;

use bytes::Bytes;

use super::item::{ItemParts, QueuedItem};

/// Names a batch; the same on every attempt to deliver it, never used for another one.
///
/// `queue` differs for every queue that ever existed, also for two of the same subscriber.
/// `number` grows from batch to batch. It comes from the clock, not from a count, so that a store
/// that lost its last changes (a power failure, a failover) does not give it out again: a receiver
/// may skip a batch whose name it has seen.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BatchId {
    pub queue: String,
    pub number: u64,
}

impl BatchId {
    /// Reads what [`BatchId`] is written as; `None` if it is none.
    pub fn parse(text: &str) -> Option<Self> {
        let (queue, number) = text.rsplit_once('-')?;
        (!queue.is_empty()).then_some(())?;
        Some(Self { queue: queue.to_owned(), number: number.parse().ok()? })
    }
}

impl fmt::Display for BatchId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.queue, self.number)
    }
}

/// Items that leave together, in the order of the queue.
#[derive(Clone, Debug)]
pub struct Batch {
    pub id: BatchId,
    /// Which attempt to deliver this batch it is, from 1.
    pub attempt: u32,
    pub items: Vec<QueuedItem>,
}

impl Batch {
    /// The items as one JSON array: what a subscriber receives.
    pub fn to_json(&self) -> Bytes {
        let length = self.bytes() + self.items.len() + 1;
        let mut body = Vec::with_capacity(length.max(2));
        body.push(b'[');
        for (index, queued) in self.items.iter().enumerate() {
            if index > 0 {
                body.push(b',');
            }
            body.extend_from_slice(ItemParts::of(&queued.item).json);
        }
        body.push(b']');
        body.into()
    }

    /// What its items take in a store.
    pub fn bytes(&self) -> usize {
        self.items.iter().map(|queued| queued.item.len()).sum()
    }

    /// Whether an event in it was delivered before, and is delivered once more because somebody asked for it.
    pub fn has_replay(&self) -> bool {
        self.items.iter().any(|queued| ItemParts::of(&queued.item).replay_of.is_some())
    }
}

/// A batch is cut before it grows past this many bytes, so that 10,000 events of the largest
/// size do not have to stand in memory, or cross the network, at once.
pub const MAX_BATCH_BYTES: usize = 8 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::position::EventPosition;

    #[test]
    fn the_body_is_one_json_array_in_order() {
        let id = BatchId { queue: "q1".into(), number: 7 };
        let batch = |items: &[&'static str]| Batch {
            id: id.clone(),
            attempt: 1,
            items: items
                .iter()
                .map(|item| QueuedItem {
                    position: EventPosition::BEFORE_ALL,
                    item: Bytes::from_static(item.as_bytes()),
                })
                .collect(),
        };
        assert_eq!(batch(&["{}", "1", "[]"]).to_json(), "[{},1,[]]");
        assert_eq!(batch(&["{}"]).to_json(), "[{}]");
        assert_eq!(id.to_string(), "q1-7");
        assert_eq!(BatchId::parse("q1-7"), Some(id));
        assert!(["", "q1", "-7", "q1-", "q1-x"].iter().all(|none| BatchId::parse(none).is_none()));
    }
}
