//! What was dropped, or could be, from whose queue, and how that is shared out fairly.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt;

use crate::bus::token::ClientToken;

/// Items that leave the queue of one subscriber undelivered, or could.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    pub items: u64,
    /// About the room they took.
    pub bytes: u64,
}

/// Items that leave queues undelivered, or could, by subscriber.
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

    /// What each queue has to give so that `excess` bytes go: those that hold most, until they hold no
    /// more than each other. Who holds less than that gives nothing (contract §6).
    pub fn fair_shares(&self, excess: u64) -> Drops {
        let level = self.level_without(excess);
        let mut shares = Drops::default();
        for (subscriber, held) in self.iter().filter(|(_, held)| held.bytes > level) {
            let bytes = held.bytes - level;
            let part = u128::from(held.items) * u128::from(bytes);
            let items = part.div_ceil(u128::from(held.bytes)) as u64;
            shares.add(subscriber, Dropped { items, bytes });
        }
        shares
    }

    /// The bytes that none holds more of once `excess` bytes are gone.
    fn level_without(&self, excess: u64) -> u64 {
        let mut held: Vec<u64> = self.0.values().map(|held| held.bytes).collect();
        held.sort_unstable();
        let mut room = self.total().bytes.saturating_sub(excess);
        for (index, bytes) in held.iter().enumerate() {
            let share = room / (held.len() - index) as u64;
            if *bytes > share {
                return share;
            }
            room -= bytes;
        }
        u64::MAX
    }

    /// Leaves those that have more to give than what was dropped of them.
    pub fn take_away(&mut self, dropped: &Drops) {
        self.0.retain(|subscriber, share| {
            let dropped = dropped.of(subscriber);
            share.items = share.items.saturating_sub(dropped.items);
            share.bytes = share.bytes.saturating_sub(dropped.bytes);
            share.bytes > 0
        });
    }

    /// Only those of these subscribers.
    pub fn only_of(&self, others: &Drops) -> Drops {
        let wanted = self.iter().filter(|(subscriber, _)| others.0.contains_key(*subscriber));
        Drops(wanted.map(|(subscriber, dropped)| (subscriber.clone(), dropped)).collect())
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

    fn held(bytes: &[u64]) -> Drops {
        let mut drops = Drops::default();
        for (number, bytes) in bytes.iter().enumerate() {
            let token = ClientToken::parse(&format!("s{number:02}")).unwrap();
            drops.add(&token, Dropped { items: bytes / 10, bytes: *bytes });
        }
        drops
    }

    fn shares(bytes: &[u64], excess: u64) -> Vec<(String, u64)> {
        let shares = held(bytes).fair_shares(excess);
        shares.iter().map(|(who, share)| (who.reveal().to_owned(), share.bytes)).collect()
    }

    #[test]
    fn who_holds_most_gives_until_none_holds_more_than_another() {
        let owned = |pairs: &[(&str, u64)]| {
            pairs.iter().map(|(who, bytes)| ((*who).to_owned(), *bytes)).collect::<Vec<_>>()
        };
        assert_eq!(shares(&[100, 5000, 300], 1000), owned(&[("s01", 1000)]));
        assert_eq!(shares(&[100, 5000, 300], 4800), owned(&[("s01", 4750), ("s02", 50)]));
        assert_eq!(shares(&[400, 400], 200), owned(&[("s00", 100), ("s01", 100)]));
        assert_eq!(shares(&[100, 200], 900), owned(&[("s00", 100), ("s01", 200)]));
        assert_eq!(shares(&[100, 200], 0), []);
        assert_eq!(shares(&[], 10), []);
    }

    #[test]
    fn a_share_counts_the_items_that_it_takes() {
        let shares = held(&[100, 5000]).fair_shares(1005);
        let total = shares.total();
        assert_eq!((total.items, total.bytes), (101, 1005));
        assert!(shares.only_of(&held(&[100])).is_empty());
    }

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
