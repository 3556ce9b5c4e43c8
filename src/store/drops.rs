//! What was dropped, or would be, from whose queue.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt;

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

    /// By what may be shown of the subscribers: several may have one label.
    pub fn by_label(&self) -> BTreeMap<String, Dropped> {
        let mut labels: BTreeMap<String, Dropped> = BTreeMap::new();
        for (subscriber, dropped) in self.iter() {
            let sum = labels.entry(subscriber.label()).or_default();
            sum.items += dropped.items;
            sum.bytes += dropped.bytes;
        }
        labels
    }

    /// By subscriber, in the order of their tokens.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&ClientToken, Dropped)> {
        self.0.iter().map(|(subscriber, dropped)| (subscriber, *dropped))
    }
}

/// How many subscribers are named in a text.
const NAMED_MAX: usize = 20;

/// Who lost how many items, the most first: `alice 1200, bob 30`.
impl fmt::Display for Drops {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rows: Vec<_> = self.by_label().into_iter().collect();
        rows.sort_by_key(|(_, dropped)| Reverse(dropped.items));
        for (index, (label, dropped)) in rows.iter().take(NAMED_MAX).enumerate() {
            let comma = if index > 0 { ", " } else { "" };
            write!(f, "{comma}{label} {}", dropped.items)?;
        }
        if rows.len() > NAMED_MAX {
            write!(f, ", and {} more", rows.len() - NAMED_MAX)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_lost_most_is_named_first_and_not_everybody_is() {
        let mut drops = Drops::default();
        for number in 0..25 {
            let token = ClientToken::parse(&format!("s{number:02}--secret")).unwrap();
            drops.add(&token, Dropped { items: number, bytes: 1 });
        }
        let text = drops.to_string();
        assert!(text.starts_with("s24 24, s23 23, "), "{text}");
        assert!(text.ends_with(", s05 5, and 5 more"), "{text}");
        for secret in ["one", "two"] {
            let token = ClientToken::parse(&format!("shared--{secret}")).unwrap();
            drops.add(&token, Dropped { items: 50, bytes: 1 });
        }
        assert!(drops.to_string().starts_with("shared 100, s24 24"), "{drops}");
    }
}
