//! What was dropped, or would be, from whose queue.

use std::collections::BTreeMap;

use crate::bus::token::ClientToken;

/// Items that leave the queue of one subscriber undelivered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    pub items: u64,
    /// About the room they took.
    pub bytes: u64,
}

/// Items that leave queues undelivered, by subscriber.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Drops(BTreeMap<ClientToken, Dropped>);

impl Drops {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn add(&mut self, subscriber: &ClientToken, more: Dropped) {
        let dropped = self.0.entry(subscriber.clone()).or_default();
        dropped.items += more.items;
        dropped.bytes += more.bytes;
    }

    pub fn add_all(&mut self, more: &Drops) {
        for (subscriber, dropped) in more.iter() {
            self.add(subscriber, dropped);
        }
    }

    pub fn of(&self, subscriber: &ClientToken) -> Dropped {
        self.0.get(subscriber).copied().unwrap_or_default()
    }

    pub fn total(&self) -> Dropped {
        self.0.values().fold(Dropped::default(), |sum, dropped| Dropped {
            items: sum.items + dropped.items,
            bytes: sum.bytes + dropped.bytes,
        })
    }

    /// By subscriber, in the order of their tokens.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&ClientToken, Dropped)> {
        self.0.iter().map(|(subscriber, dropped)| (subscriber, *dropped))
    }
}
