//! Subscriptions, topics and tokens change at two web processes at the same time, while others
//! publish and two workers deliver to subscribers that fail now and then. Whatever happens must be as
//! if one thing had been done after the other: the answers, what monitoring shows, and what arrives.

mod model;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use proptest::collection::{btree_set, vec};
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};
use tokio::runtime::Handle;

use crate::support::{
    Bus, Client, ORDERS, Process, ROOT, Receiver, Reply, Store, event, eventually, first_seen,
    property, run, within,
};
use model::{Deed, Done, Model, Order, Publisher, Shown, after};

const SUBSCRIBERS: [&str; 3] = ["alice", "bob", "carol"];
const TOPICS: [&str; 3] = ["apples", "bananas", "cherries"];
/// The token that is made and deleted.
const TOKEN: &str = "races--1";
/// How long it may take until a change of a token is known everywhere: 1 s (§1, which has a test of its
/// own), and some for a busy machine.
const TOKEN_KNOWN: Duration = Duration::from_secs(2);
/// Each round has so many deeds at most, all at the same time.
const AT_ONCE: usize = 5;
const ROUNDS: usize = 12;
const CASES: u32 = 20;
const CASE_LIMIT: Duration = Duration::from_secs(60);
/// The share of batches that subscribers refuse.
const REFUSED: f64 = 0.2;

/// A deed, and the web process that is asked.
type Asked = (Deed, usize);

/// What is known only when it is done, [`Stage::prepare`] adds: the numbers of events among others.
fn rounds() -> impl Strategy<Value = Vec<Vec<Asked>>> {
    let who = || select(&SUBSCRIBERS);
    let topic = || select(&TOPICS);
    let token = Publisher::Token { name: TOKEN, changed: false };
    let by = select(vec![Publisher::Allowed("demo"), Publisher::Allowed(ORDERS), token]);
    let deed = prop_oneof![
        5 => (who(), btree_set(topic(), 0..=3), 1..5u64)
            .prop_map(|(who, topics, max)| Deed::Subscribe { who, topics, max, creates: false }),
        1 => who().prop_map(|who| Deed::Unsubscribe { who }),
        2 => (who(), topic()).prop_map(|(who, topic)| Deed::UnsubscribeTopic { who, topic }),
        3 => (select(&[None, Some("demo"), Some(ORDERS)]), topic())
            .prop_map(|(by, topic)| Deed::DeleteTopic { by, topic }),
        10 => (by, topic(), 1..4u64)
            .prop_map(|(by, topic, count)| Deed::Publish { by, topic, events: 0..count }),
        1 => Just(Deed::MakeToken),
        1 => Just(Deed::DeleteToken),
    ];
    vec(vec((deed, 0..2usize), 1..=AT_ONCE), 1..=ROUNDS)
}

/// Subscribers that see everything happen in one order, and the states that explain what was seen of
/// topics and of them.
struct View {
    whom: Vec<&'static str>,
    order: Order,
    states: BTreeSet<Model>,
}

impl View {
    /// What is to be seen of an empty store.
    fn all(order: Order) -> Vec<Self> {
        let states = BTreeSet::from([Model::default()]);
        match order {
            Order::One => vec![Self { whom: SUBSCRIBERS.to_vec(), order, states }],
            // Lanes of a store have orders of their own (docs/redis.md).
            Order::Lanes => {
                let alone = |who| Self { whom: vec![who], order, states: states.clone() };
                SUBSCRIBERS.map(alone).into()
            }
        }
    }

    /// Takes in what was done, and what is shown then.
    fn learn(&mut self, done: &[Done], shown: &Shown) {
        let Self { whom, states, order } = self;
        let mut possible = after(states, done, whom, *order);
        assert!(
            !possible.is_empty(),
            "to {whom:?}, no order explains {done:#?}\nafter any of {states:#?}"
        );
        possible.retain(|state| state.shown(whom) == shown.of(whom));
        assert!(
            !possible.is_empty(),
            "to {whom:?}, {done:#?}\nafter any of {states:#?}\nleads to {shown:#?}"
        );
        self.states = possible;
    }

    /// Checks what each subscriber got.
    fn must_have_got(&self, received: impl Fn(&str) -> Vec<u64>) {
        let Self { whom, states, .. } = self;
        let received: Vec<Vec<u64>> = whom.iter().map(|who| received(who)).collect();
        let explains = |state: &Model| {
            let mut each = whom.iter().zip(&received);
            each.all(|(who, received)| state.was_delivered(who, received))
        };
        let explained = states.iter().any(explains);
        assert!(explained, "{whom:?} got {received:?} after any of {states:#?}");
    }
}

struct Stage {
    order: Order,
    /// Has the directory that the processes live in.
    _bus: Bus,
    /// The second one creates topics that are subscribed to, the first one does not.
    webs: [Process; 2],
    _workers: [Process; 2],
    receivers: Vec<Receiver>,
    /// The number of the next event.
    number: u64,
    token_changed: Option<Instant>,
}

impl Stage {
    async fn set(bus: Bus, order: Order) -> Self {
        let bus = bus
            .set("ROUTEMASTER_MAX_BACKOFF_MS", "40")
            .set("METRIC_COLLECTION_SERVICE", "none")
            .set("ROUTEMASTER_LOG_LEVEL", "error");
        let first = bus.web().await;
        let workers = [bus.worker().await, bus.worker().await];
        let mut receivers = vec![];
        for seed in 1..=SUBSCRIBERS.len() as u64 {
            let receiver = bus.receiver().await;
            receiver.fail_share(REFUSED, seed);
            receivers.push(receiver);
        }
        let bus = bus.set("ROUTEMASTER_SUBSCRIBE_CREATES_TOPICS", "true");
        let webs = [first, bus.web().await];
        Self {
            order,
            _bus: bus,
            webs,
            _workers: workers,
            receivers,
            number: 1,
            token_changed: None,
        }
    }

    fn client(&self, token: &str) -> Client {
        self.webs[0].client(token)
    }

    /// Takes away what the case before has left.
    async fn clear(&self) {
        let shown = self.shown().await;
        let root = self.client(ROOT);
        for topic in shown.topics.keys() {
            root.delete(&format!("/topics/{topic}")).await.expect(204);
        }
        for who in shown.subscriptions.keys() {
            self.client(who).delete("/subscriber").await.expect(204);
        }
        root.delete(&format!("/api_tokens/{TOKEN}")).await.expect(204);
    }

    async fn run(&mut self, rounds: Vec<Vec<Asked>>) {
        self.clear().await;
        self.token_changed = Some(Instant::now());
        let first_number = self.number;
        let mut views = View::all(self.order);
        self.learn(&mut views, vec![]).await;
        for round in rounds {
            self.learn(&mut views, round).await;
        }
        // Now there is no doubt how a publish with it must be answered.
        self.processes_know_the_token().await;
        self.token_changed = None;
        for web in 0..self.webs.len() {
            let by = Publisher::Token { name: TOKEN, changed: false };
            let deed = Deed::Publish { by, topic: TOPICS[0], events: 0..1 };
            self.learn(&mut views, vec![(deed, web)]).await;
        }
        self.queues_run_empty().await;
        self.learn(&mut views, vec![]).await;
        for view in views {
            view.must_have_got(|who| {
                let index = SUBSCRIBERS.iter().position(|known| *known == who).unwrap();
                let mut numbers = first_seen(&self.receivers[index].attempts_so_far());
                numbers.retain(|number| *number >= first_number);
                numbers
            });
        }
    }

    /// Does everything at the same time, and looks what is shown then.
    async fn learn(&mut self, views: &mut [View], round: Vec<Asked>) {
        let done = self.at_once(round).await;
        let shown = self.shown().await;
        views.iter_mut().for_each(|view| view.learn(&done, &shown));
    }

    /// Does everything at the same time.
    async fn at_once(&mut self, mut round: Vec<Asked>) -> Vec<Done> {
        let changes = |(deed, _): &Asked| matches!(deed, Deed::MakeToken | Deed::DeleteToken);
        let changes = round.iter().any(changes);
        let known = self.token_changed.is_none_or(|at| at.elapsed() > TOKEN_KNOWN);
        for (deed, web) in &mut round {
            self.prepare(deed, *web, changes || !known);
        }
        let answers = round.into_iter().map(async |(deed, web)| {
            let status = match self.ask(&deed, web).await.status {
                // An unknown token that comes too often (docs/api.md).
                429 => 401,
                status => status,
            };
            Done { deed, status }
        });
        let done = join_all(answers).await;
        if changes {
            self.token_changed = Some(Instant::now());
        }
        done
    }

    fn prepare(&mut self, deed: &mut Deed, web: usize, token_changed: bool) {
        match deed {
            Deed::Subscribe { creates, .. } => *creates = web == 1,
            Deed::Publish { by, events, .. } => {
                let first = self.number;
                self.number += events.end;
                *events = first..self.number;
                if let Publisher::Token { changed, .. } = by {
                    *changed = token_changed;
                }
            }
            _ => {}
        }
    }

    async fn ask(&self, deed: &Deed, web: usize) -> Reply {
        let client = |token: &str| self.webs[web].client(token);
        match deed {
            Deed::Subscribe { who, topics, max, .. } => {
                let index = SUBSCRIBERS.iter().position(|known| known == who).unwrap();
                let callback = self.receivers[index].url();
                let body =
                    json!({"topics": topics, "callback": callback, "max": max, "timeout": 0});
                client(who).post("/subscription", body.to_string()).await
            }
            Deed::Unsubscribe { who } => client(who).delete("/subscriber").await,
            Deed::UnsubscribeTopic { who, topic } => {
                client(who).delete(&format!("/subscriber/topics/{topic}")).await
            }
            Deed::DeleteTopic { by, topic } => {
                client(by.unwrap_or(ROOT)).delete(&format!("/topics/{topic}")).await
            }
            Deed::Publish { by, topic, events } => {
                let (Publisher::Allowed(name) | Publisher::Token { name, .. }) = by;
                let events: Vec<Value> = events.clone().map(event).collect();
                client(name).publish(topic, &json!(events)).await
            }
            Deed::MakeToken => {
                let body = json!({"name": "races", "token": TOKEN});
                client(ROOT).post("/api_tokens", body.to_string()).await
            }
            Deed::DeleteToken => client(ROOT).delete(&format!("/api_tokens/{TOKEN}")).await,
        }
    }

    async fn shown(&self) -> Shown {
        let root = self.client(ROOT);
        let topics = root.get("/topics").await.expect(200).json();
        let subscriptions = root.get("/subscriptions").await.expect(200).json();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let topics = topics.as_array().unwrap().iter().map(|topic| {
            let publisher = topic["publisher"].as_str().map(str::to_owned);
            (text(&topic["name"]), (publisher, topic["events"].as_u64().unwrap()))
        });
        let subscriptions = subscriptions.as_array().unwrap().iter().map(|it| {
            let topics = it["topics"].as_array().unwrap().iter().map(text).collect();
            let count = |name: &str| it["events"][name].as_u64().unwrap();
            let events = count("sent") + count("queued");
            (text(&it["subscriber"]), (topics, it["max_events"].as_u64().unwrap(), events))
        });
        Shown {
            topics: topics.collect(),
            subscriptions: subscriptions.collect(),
            token: !root.made_tokens().await.is_empty(),
        }
    }

    async fn processes_know_the_token(&self) {
        let allowed = self.shown().await.token;
        for web in &self.webs {
            let knows = async || {
                let status = web.client(TOKEN).get("/topics").await.status;
                ((status == 200) == allowed).then_some(())
            };
            eventually("each web process knows whether the token is allowed", knows).await;
        }
    }

    async fn queues_run_empty(&self) {
        let empty = async || {
            let subscriptions = self.client(ROOT).get("/subscriptions").await.expect(200).json();
            let mut all = subscriptions.as_array().unwrap().iter();
            all.all(|it| it["events"]["queued"] == 0).then_some(())
        };
        eventually("all queues run empty", empty).await;
    }
}

fn check(bus: Bus, order: Order) {
    run(async {
        let stage = tokio::sync::Mutex::new(Stage::set(bus, order).await);
        let handle = Handle::current();
        tokio::task::block_in_place(|| {
            property::check(CASES, &rounds(), |rounds| {
                let case = async { stage.lock().await.run(rounds).await };
                handle.block_on(within(CASE_LIMIT, "a case comes to its end", case));
            });
        });
    });
}

#[test]
fn sqlite_agrees_with_the_model() {
    check(Bus::new(&Store::sqlite()), Order::One);
}

#[test]
fn redis_agrees_with_the_model() {
    let store = Store::redis();
    check(Bus::new(&store), Order::One);
}

#[test]
fn redis_in_lanes_agrees_with_the_model() {
    let store = Store::redis();
    // So many that each of them has one of its own; one is the home lane.
    check(Bus::new(&store).set("ROUTEMASTER_REDIS_LANES", "5"), Order::Lanes);
}
