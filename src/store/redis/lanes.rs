//! Lanes: how subscribers are spread over the nodes of a Cluster.
//!
//! All keys of a lane carry its number as their hash tag, so that a Cluster keeps them on one node
//! and one script can work on them. A subscriber's lane follows from its token. The home lane, `{0}`,
//! has besides what is nobody's queue: topics, tokens, duties, and how many lanes there are.

use fred::util::redis_keyslot;

use crate::bus::token::ClientToken;
use crate::store::Lane;

/// Where a lane's keys are.
pub struct LaneKeys {
    /// Prefix of all its keys; the braces are the hash tag.
    pub prefix: String,
    /// The Cluster's slot that they are all in.
    pub slot: u16,
}

impl LaneKeys {
    pub fn of(lane: Lane) -> Self {
        let prefix = format!("rm:{{{}}}:", lane.index());
        let slot = redis_keyslot(prefix.as_bytes());
        Self { prefix, slot }
    }
}

/// The channel on which a lane tells that a queue has come due.
pub fn wake_channel(lane: Lane) -> String {
    format!("{}wake", LaneKeys::of(lane).prefix)
}

/// The channel on which a lane tells whose batches can be pulled.
pub fn arrivals_channel(lane: Lane) -> String {
    format!("{}arrivals", LaneKeys::of(lane).prefix)
}

/// The channel on which a lane tells that a call has come due.
pub fn call_wake_channel(lane: Lane) -> String {
    format!("{}call_wake", LaneKeys::of(lane).prefix)
}

/// The lane of a subscriber. The same for ever: its queue is there.
pub fn lane_of(subscriber: &ClientToken, lanes: usize) -> Option<Lane> {
    lane_of_text(subscriber.reveal(), lanes)
}

/// The lane of what has this name.
pub fn lane_of_text(name: &str, lanes: usize) -> Option<Lane> {
    let hash = redis_keyslot(name.as_bytes());
    Lane::first(lanes).nth(usize::from(hash) % lanes.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_lanes_are_on_all_nodes_of_a_cluster_of_three() {
        assert_eq!(LaneKeys::of(Lane::HOME).prefix, "rm:{0}:");
        let thirds: Vec<_> = Lane::first(8).map(|lane| LaneKeys::of(lane).slot / 5461).collect();
        for third in 0..3 {
            assert!(thirds.contains(&third), "{thirds:?}");
        }
    }

    #[test]
    fn subscribers_are_spread_and_stay_where_they_are() {
        let token = |number: u32| ClientToken::parse(&format!("service-{number}")).unwrap();
        let mut counts = [0; 8];
        for number in 0..8000 {
            counts[lane_of(&token(number), 8).unwrap().index()] += 1;
        }
        assert!(counts.iter().all(|count| (800..1200).contains(count)), "{counts:?}");
        // Whoever changes this loses the queues of stores that are in use.
        assert_eq!(lane_of(&token(1), 8).map(Lane::index), Some(3));
        assert_eq!(lane_of(&token(1), 1), Some(Lane::HOME));
    }
}
