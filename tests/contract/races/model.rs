//! What subscriptions, topics and tokens are, as a client may understand them (§2, §3, §5), and
//! which states a bus may be in when several things were done to it at the same time.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// One thing that a client does.
#[derive(Clone, Debug)]
pub enum Deed {
    Subscribe {
        who: &'static str,
        topics: BTreeSet<&'static str>,
        max: u64,
        creates: bool,
    },
    Unsubscribe {
        who: &'static str,
    },
    UnsubscribeTopic {
        who: &'static str,
        topic: &'static str,
    },
    /// By a client, or else by root.
    DeleteTopic {
        by: Option<&'static str>,
        topic: &'static str,
    },
    /// Events with these numbers.
    Publish {
        by: Publisher,
        topic: &'static str,
        events: Range<u64>,
    },
    MakeToken,
    DeleteToken,
}

#[derive(Clone, Copy, Debug)]
pub enum Publisher {
    Allowed(&'static str),
    /// Whoever has the token that is made and deleted: the process that was asked may not have heard
    /// of a change of the last second.
    Token {
        name: &'static str,
        changed: bool,
    },
}

/// A deed, and the status that it was answered with.
#[derive(Clone, Debug)]
pub struct Done {
    pub deed: Deed,
    pub status: u16,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Model {
    topics: BTreeMap<&'static str, Topic>,
    subscriptions: BTreeMap<&'static str, Subscription>,
    /// Events of subscriptions that are gone: they may have been on their way.
    gone: BTreeMap<&'static str, BTreeSet<u64>>,
    token: bool,
    /// How many topics were ever made.
    made: u64,
    /// What the home lane took, and the subscribers' lanes have not done yet.
    on_the_way: Vec<Later>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Topic {
    /// Tells it from others of the same name.
    born: u64,
    publisher: Option<&'static str>,
    events: u64,
}

/// What is done in a subscriber's lane. A topic is known by its birth: it may be deleted meanwhile.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Later {
    Append { topic: &'static str, born: u64, events: Vec<u64> },
    Subscribe { who: &'static str, topics: Vec<(&'static str, u64)>, max: u64 },
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Subscription {
    topics: BTreeSet<&'static str>,
    max: u64,
    /// All that it ever got, or will get.
    events: Vec<u64>,
}

/// What monitoring shows of a state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shown {
    /// Publisher and number of events.
    pub topics: BTreeMap<String, (Option<String>, u64)>,
    /// Topics, `max`, and the number of events that were put into the queue.
    pub subscriptions: BTreeMap<String, (BTreeSet<String>, u64, u64)>,
    pub token: bool,
}

impl Shown {
    /// The same, for who looks at these subscribers only.
    pub fn of(&self, whom: &[&str]) -> Self {
        let mut shown = self.clone();
        shown.subscriptions.retain(|who, _| whom.contains(&who.as_str()));
        shown
    }
}

/// How a store does what is done at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// One thing after the other.
    One,
    /// The same, but that an event comes to a subscriber's lane some time after its topic took it, and
    /// reaches who is subscribed then; and a subscription some time after its topics were made (docs/redis.md).
    Lanes,
}

/// The states that are possible after all of this was done at the same time, as far as these
/// subscribers are concerned.
pub fn after(
    states: &BTreeSet<Model>,
    done: &[Done],
    whom: &[&str],
    order: Order,
) -> BTreeSet<Model> {
    let done: Vec<&Done> = done.iter().filter(|done| done.deed.concerns(whom)).collect();
    let all_left: BTreeSet<usize> = (0..done.len()).collect();
    let mut found = BTreeSet::new();
    // States on the way, and what was not done yet then.
    let mut open: BTreeSet<_> =
        states.iter().map(|state| (state.clone(), all_left.clone())).collect();
    while let Some((state, left)) = open.pop_first() {
        if left.is_empty() && state.on_the_way.is_empty() {
            found.insert(state);
            continue;
        }
        for index in 0..state.on_the_way.len() {
            let mut next = state.clone();
            let later = next.on_the_way.remove(index);
            next.finish(later);
            open.insert((next, left.clone()));
        }
        for index in &left {
            let mut next = state.clone();
            if next.answers(&done[*index].deed, done[*index].status) {
                if order == Order::One {
                    next.finish_all();
                }
                let left = left.iter().copied().filter(|other| other != index).collect();
                open.insert((next, left));
            }
        }
    }
    found
}

impl Deed {
    /// Whether it can be seen by one who looks at topics and at these subscribers only.
    fn concerns(&self, whom: &[&str]) -> bool {
        match self {
            Self::Unsubscribe { who } | Self::UnsubscribeTopic { who, .. } => whom.contains(who),
            // A subscription may make topics.
            _ => true,
        }
    }
}

impl Model {
    /// Does it; whether this is the right answer to it.
    fn answers(&mut self, deed: &Deed, status: u16) -> bool {
        let expected = match deed {
            Deed::Subscribe { who, topics, max, creates } => {
                self.subscribe(who, topics, *max, *creates)
            }
            Deed::Unsubscribe { who } => match self.subscriptions.remove(who) {
                None => 404,
                Some(subscription) => {
                    self.gone.entry(who).or_default().extend(subscription.events);
                    204
                }
            },
            Deed::UnsubscribeTopic { who, topic } => {
                let subscription = self.subscriptions.get_mut(who);
                let subscribed = subscription.is_some_and(|it| it.topics.remove(topic));
                if subscribed { 204 } else { 404 }
            }
            Deed::DeleteTopic { by, topic } => self.delete_topic(*by, topic),
            Deed::Publish { by, topic, events } => {
                let (by, known) = match by {
                    Publisher::Allowed(name) => (*name, true),
                    Publisher::Token { name, changed: true } => (*name, status != 401),
                    Publisher::Token { name, changed: false } => (*name, self.token),
                };
                if known { self.publish(by, topic, events.clone()) } else { 401 }
            }
            Deed::MakeToken => {
                self.token = true;
                201
            }
            Deed::DeleteToken => {
                self.token = false;
                204
            }
        };
        status == expected
    }

    fn subscribe(
        &mut self,
        who: &'static str,
        topics: &BTreeSet<&'static str>,
        max: u64,
        creates: bool,
    ) -> u16 {
        if !creates && topics.iter().any(|topic| !self.topics.contains_key(topic)) {
            return 404;
        }
        let topics = topics.iter().map(|topic| (*topic, self.topic(topic).born)).collect();
        self.on_the_way.push(Later::Subscribe { who, topics, max });
        204
    }

    fn delete_topic(&mut self, by: Option<&'static str>, topic: &'static str) -> u16 {
        match self.topics.get(topic) {
            None => return 404,
            Some(known) if by.is_some() && known.publisher != by => return 403,
            Some(_) => self.topics.remove(topic),
        };
        for subscription in self.subscriptions.values_mut() {
            subscription.topics.remove(topic);
        }
        204
    }

    fn publish(&mut self, by: &'static str, name: &'static str, events: Range<u64>) -> u16 {
        let topic = self.topic(name);
        if *topic.publisher.get_or_insert(by) != by {
            return 403;
        }
        topic.events += events.end - events.start;
        let born = topic.born;
        self.on_the_way.push(Later::Append { topic: name, born, events: events.collect() });
        204
    }

    /// The topic of this name, which is made if there is none.
    fn topic(&mut self, name: &'static str) -> &mut Topic {
        let made = &mut self.made;
        self.topics.entry(name).or_insert_with(|| {
            *made += 1;
            Topic { born: *made, publisher: None, events: 0 }
        })
    }

    fn finish_all(&mut self) {
        for later in std::mem::take(&mut self.on_the_way) {
            self.finish(later);
        }
    }

    fn finish(&mut self, later: Later) {
        let is_there =
            |topic: &str, born: u64| self.topics.get(topic).is_some_and(|it| it.born == born);
        match later {
            Later::Append { topic, born, events } if is_there(topic, born) => {
                for subscription in self.subscriptions.values_mut() {
                    if subscription.topics.contains(topic) {
                        subscription.events.extend(&events);
                    }
                }
            }
            Later::Append { .. } => {}
            Later::Subscribe { who, topics, max } => {
                let topics = topics.into_iter().filter(|(topic, born)| is_there(topic, *born));
                let topics = topics.map(|(topic, _)| topic).collect();
                let events = self.subscriptions.remove(who).map(|before| before.events);
                let events = events.unwrap_or_default();
                self.subscriptions.insert(who, Subscription { topics, max, events });
            }
        }
    }

    pub fn shown(&self, whom: &[&str]) -> Shown {
        let topics = self.topics.iter().map(|(name, topic)| {
            ((*name).to_owned(), (topic.publisher.map(str::to_owned), topic.events))
        });
        let subscriptions = self.subscriptions.iter().filter(|(who, _)| whom.contains(who));
        let subscriptions = subscriptions.map(|(who, it)| {
            let topics = it.topics.iter().map(|topic| (*topic).to_owned()).collect();
            ((*who).to_owned(), (topics, it.max, it.events.len() as u64))
        });
        Shown {
            topics: topics.collect(),
            subscriptions: subscriptions.collect(),
            token: self.token,
        }
    }

    /// Whether this is all that a subscriber must have got, in the order of its queue. `received` has
    /// each event once.
    pub fn was_delivered(&self, who: &str, received: &[u64]) -> bool {
        let queue = self.subscriptions.get(who).map(|it| it.events.as_slice()).unwrap_or_default();
        let of_queue = |number: &u64| queue.contains(number);
        let gone = |number: &u64| self.gone.get(who).is_some_and(|gone| gone.contains(number));
        let mine: Vec<u64> = received.iter().copied().filter(of_queue).collect();
        mine == queue && received.iter().all(|number| of_queue(number) || gone(number))
    }
}
