//! Which events a batch carried.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::bus::batch::Batch;
use crate::bus::item::ItemParts;
use crate::bus::position::EventPosition;

/// The events of a batch, so that one of them is found by its position. One that was replayed stands there with the
/// position that it had first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CarriedEvents {
    pub first: u64,
    pub last: u64,
    /// By topic: its name and a space before each number, of which the first is a position, and another how far the next
    /// one stands behind it; topics are separated by semicolons.
    pub list: String,
}

impl CarriedEvents {
    /// `None` for a batch without events that have a position.
    pub fn of(batch: &Batch) -> Option<Self> {
        let mut by_topic = BTreeMap::<&str, Vec<u64>>::new();
        for queued in &batch.items {
            let parts = ItemParts::of(&queued.item);
            let position = parts.replay_of.unwrap_or(queued.position).number();
            by_topic.entry(parts.topic().unwrap_or_default()).or_default().push(position);
        }
        let (first, last) =
            (by_topic.values().flatten().min()?, by_topic.values().flatten().max()?);
        let (first, last) = (*first, *last);
        let lists = by_topic.into_iter().map(|(topic, mut positions)| {
            positions.sort_unstable();
            let mut before = 0;
            positions.into_iter().fold(topic.to_owned(), |mut list, position| {
                list.push(' ');
                list.push_str(&(position - before).to_string());
                before = position;
                list
            })
        });
        Some(Self { first, last, list: lists.collect::<Vec<_>>().join(";") })
    }

    /// Whether an event may be among them.
    pub fn may_have(&self, position: EventPosition) -> bool {
        (self.first..=self.last).contains(&position.number())
    }

    /// The topic of an event, if it is among them.
    pub fn topic_of(&self, position: EventPosition) -> Option<&str> {
        self.list.split(';').find_map(|list| {
            let (topic, steps) = list.split_once(' ')?;
            let steps = steps.split(' ').map_while(|step| step.parse::<u64>().ok());
            let mut at = 0;
            let mut positions = steps.map(|step| {
                at += step;
                at
            });
            positions.any(|at| at == position.number()).then_some(topic)
        })
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::bus::batch::BatchId;
    use crate::bus::item::{QueuedItem, replayed};

    #[test]
    fn each_event_of_a_batch_is_found_with_its_topic_and_no_other() {
        let queued = |position, topic: &str| QueuedItem {
            position: EventPosition::new(position),
            item: Bytes::from(format!(r#"{{"topic":"{topic}","type":"noop"}}"#)),
        };
        let again =
            QueuedItem { position: EventPosition::new(99), item: replayed(&queued(3, "widgets")) };
        let items =
            vec![queued(10, "widgets"), queued(11, "gadgets"), queued(15, "widgets"), again];
        let id = BatchId { queue: "q".into(), number: 1 };
        let carried = CarriedEvents::of(&Batch { id: id.clone(), attempt: 1, items }).unwrap();
        assert_eq!(
            carried,
            CarriedEvents { first: 3, last: 15, list: "gadgets 11;widgets 3 7 5".into() }
        );
        let topics = (0..100).filter_map(|n| Some((n, carried.topic_of(EventPosition::new(n))?)));
        assert_eq!(
            topics.collect::<Vec<_>>(),
            [(3, "widgets"), (10, "widgets"), (11, "gadgets"), (15, "widgets")]
        );
        assert_eq!(CarriedEvents::of(&Batch { id, attempt: 1, items: Vec::new() }), None);
    }
}
