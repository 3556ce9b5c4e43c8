//! A bus of several processes under load: started, hurt by a fault, healed, and judged.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use routemaster::tls::development::DevelopmentCa;
use serde_json::{Value, json};

use crate::calls::Calls;
use crate::load::{Addresses, Load, PUBLISHERS};
use crate::messages::Messages;
use crate::oracle::{Answer, EventId, Subscriber, Terms, Verdict, judge};
use crate::receiver::{Manner, Receiver};
use crate::support::{Bus, Client, Process, Signal, Store};

/// How long it may take until everything is delivered when the fault is over: leases of the dead
/// run out, pauses after failures pass.
const DRAIN_LIMIT: Duration = Duration::from_secs(40);
/// How often is looked whether something has come about.
const LOOK: Duration = Duration::from_millis(20);
/// The longest time a publisher may wait for an answer: 5 s by contract, and some for a machine
/// that is busy with the torture.
pub const ANSWER_LIMIT: Duration = Duration::from_millis(5_500);
/// A worker that was killed is replaced within this time.
pub const TAKEOVER_LIMIT: Duration = Duration::from_secs(10);

/// How subscribers behave: quick, slow, and one that refuses.
const MANNERS: [(&str, Manner); 3] = [
    ("steady", Manner { delay: Duration::ZERO, refuses: 0.0, max: 100 }),
    ("slow", Manner { delay: Duration::from_millis(60), refuses: 0.0, max: 30 }),
    ("flaky", Manner { delay: Duration::from_millis(5), refuses: 0.15, max: 10 }),
];

/// Their names, which are their tokens.
pub const SUBSCRIBERS: [&str; 3] = [MANNERS[0].0, MANNERS[1].0, MANNERS[2].0];

/// What a fault came to, for the table.
#[derive(Default)]
pub struct Row {
    pub fault: &'static str,
    pub store: &'static str,
    /// How often something was done to the bus.
    pub cycles: u64,
    pub verdict: Verdict,
    pub duplicates_max: u64,
    /// The longest pauses of publishing and of deliveries.
    pub publish_pause: Duration,
    pub delivery_pause: Duration,
    /// The longest wait for an answer; who was asked, and how it ended.
    pub slowest: Duration,
    pub slowest_was: String,
    /// What else was measured, or why it was left out.
    pub notes: Vec<String>,
    pub skipped: bool,
}

impl Row {
    pub fn violation(&mut self, text: impl Into<String>) {
        self.verdict.violations.push(text.into());
    }
}

pub struct Rig {
    pub store: Store,
    pub bus: Bus,
    pub webs: Vec<Process>,
    pub workers: Vec<Process>,
    pub dice: fastrand::Rng,
    receivers: Vec<Receiver>,
    addresses: Arc<Addresses>,
    load: Option<Load>,
    calls: Option<Calls>,
    messages: Option<Messages>,
    loaded_at: Instant,
    /// What processes that are gone wrote to the log.
    logs: String,
    /// The `max_queued` of the slow subscriber, when it subscribes next.
    pub max_queued: Option<u64>,
    /// How the verdict is to be found; faults set it.
    pub terms: Terms,
    /// Whether the store may lose who has leased what: it is not synced to disk.
    pub leases_may_be_lost: bool,
    pub row: Row,
}

/// A bus with what these runs need.
pub fn bus(store: &Store) -> Bus {
    let clients = "demo,alpha,beta,steady,slow,flaky";
    Bus::new(store)
        .set("ROUTEMASTER_CLIENTS", clients)
        .set("ROUTEMASTER_SUBSCRIBE_CREATES_TOPICS", "true")
        .set("METRIC_COLLECTION_SERVICE", "none")
        // All hostile clients, and all good ones, come from one address.
        .set("ROUTEMASTER_TRUSTED_NETWORKS", "127.0.0.0/8")
        // A subscriber that refuses at random must not be waited for a minute, nor fall behind the load.
        .set("ROUTEMASTER_MAX_BACKOFF_MS", "5")
        .set("ROUTEMASTER_CALL_RETRY_MS", "20")
        .set("ROUTEMASTER_CALL_RETRY_MAX_MS", "100")
}

impl Rig {
    /// Two web processes, two workers, three subscribers; no load yet.
    pub async fn start(store: Store, seed: u64) -> Self {
        let bus = bus(&store);
        Self::start_with(store, bus, seed).await
    }

    pub async fn start_with(store: Store, bus: Bus, seed: u64) -> Self {
        let mut dice = fastrand::Rng::with_seed(seed);
        let ca = DevelopmentCa::open_or_create(&bus.data_dir()).unwrap();
        let receivers = MANNERS.iter().map(|(name, manner)| {
            Receiver::start(name, &ca.issue().unwrap(), *manner, dice.fork())
        });
        let receivers = receivers.collect();
        let rig = Self {
            webs: vec![bus.web().await, bus.web().await],
            workers: vec![bus.worker().await, bus.worker().await],
            store,
            bus,
            dice,
            receivers,
            addresses: Arc::default(),
            load: None,
            calls: None,
            messages: None,
            loaded_at: Instant::now(),
            logs: String::new(),
            max_queued: None,
            terms: Terms::default(),
            leases_may_be_lost: false,
            row: Row::default(),
        };
        rig.subscribe_all().await;
        for web in &rig.webs {
            rig.addresses.add(web.base());
        }
        rig
    }

    /// Subscribes everybody, as often as it takes.
    pub async fn subscribe_all(&self) {
        let topics = PUBLISHERS.map(|(_, topic)| topic);
        for receiver in &self.receivers {
            let mut body = json!({
                "topics": topics,
                "callback": receiver.url(),
                "timeout": 0,
                "max": receiver.manner.max,
            });
            if let Some(max) = self.max_queued.filter(|_| receiver.name == "slow") {
                body["max_queued"] = max.into();
            }
            let subscribe = async || {
                let client = self.client(receiver.name);
                (client.post("/subscription", body.to_string()).await.status == 204).then_some(())
            };
            crate::support::eventually("a subscription is accepted", subscribe).await;
        }
    }

    /// A client of the first web process.
    pub fn client(&self, token: &str) -> Client {
        self.webs[0].client(token)
    }

    /// Begins to publish, to bring calls, and to send messages.
    pub fn load(&mut self) {
        self.loaded_at = Instant::now();
        let ca = self.bus.ca_path();
        let identity =
            DevelopmentCa::open_or_create(&self.bus.data_dir()).unwrap().issue().unwrap();
        self.calls = Some(Calls::start(&self.addresses, &identity, ca.clone(), &mut self.dice));
        self.messages =
            Some(Messages::start(&self.addresses, &identity, ca.clone(), &mut self.dice));
        self.load = Some(Load::start(&self.addresses, ca, &mut self.dice));
    }

    /// A time between two, by the dice.
    pub fn between(&mut self, from_ms: u64, to_ms: u64) -> Duration {
        Duration::from_millis(self.dice.u64(from_ms..=to_ms))
    }

    pub async fn sleep_between(&mut self, from_ms: u64, to_ms: u64) {
        let time = self.between(from_ms, to_ms);
        tokio::time::sleep(time).await;
    }

    /// Ends a web process as a crash does; publishers notice by themselves.
    pub async fn kill_web(&mut self, index: usize) {
        self.webs[index].kill().await;
        self.addresses.remove(self.webs[index].base());
        self.keep_log(false, index);
    }

    pub async fn kill_worker(&mut self, index: usize) {
        self.workers[index].kill().await;
        self.keep_log(true, index);
    }

    /// Starts a process in the place of one that is gone.
    pub async fn restart_web(&mut self, index: usize) {
        self.webs[index] = self.bus.web().await;
        self.addresses.add(self.webs[index].base());
    }

    pub async fn restart_worker(&mut self, index: usize) {
        self.workers[index] = self.bus.worker().await;
    }

    /// Adds a web process beside the others and takes the old one out, as an upgrade does.
    pub async fn roll_web(&mut self, index: usize) {
        let new = self.bus.web().await;
        self.addresses.add(new.base());
        let mut old = std::mem::replace(&mut self.webs[index], new);
        old.signal(Signal::Term);
        let (code, _) = old.exit().await;
        assert_eq!(code, Some(0), "{}", old.stderr.text());
        self.addresses.remove(old.base());
        self.logs.push_str(&old.stderr.text());
    }

    pub async fn roll_worker(&mut self, index: usize) {
        let new = self.bus.worker().await;
        let mut old = std::mem::replace(&mut self.workers[index], new);
        old.signal(Signal::Term);
        let (code, _) = old.exit().await;
        assert_eq!(code, Some(0), "{}", old.stderr.text());
        self.logs.push_str(&old.stderr.text());
    }

    fn keep_log(&mut self, worker: bool, index: usize) {
        let processes = if worker { &self.workers } else { &self.webs };
        self.logs.push_str(&processes[index].stderr.text());
    }

    /// What all processes have written to their logs.
    pub fn all_logs(&self) -> String {
        let living = self.webs.iter().chain(&self.workers);
        living.fold(self.logs.clone(), |logs, process| logs + &process.stderr.text())
    }

    /// Waits until every subscriber has got something since this moment; how long that took.
    pub async fn delivered_since(&self, since: Instant, limit: Duration) -> Option<Duration> {
        while since.elapsed() < limit {
            let fresh = |receiver: &Receiver| {
                receiver.look(|seen| seen.times.last().is_some_and(|at| *at > since))
            };
            if self.receivers.iter().all(fresh) {
                return Some(since.elapsed());
            }
            tokio::time::sleep(LOOK).await;
        }
        None
    }

    /// How many events came to all subscribers together in each second of the load so far.
    pub fn deliveries_per_second(&self) -> f64 {
        let events = self.receivers.iter().map(|receiver| receiver.look(|seen| seen.events.len()));
        events.sum::<usize>() as f64 / self.loaded_at.elapsed().as_secs_f64()
    }

    /// How many events can be in flight at once.
    pub fn in_flight_max(&self) -> u64 {
        self.receivers.iter().map(|receiver| receiver.manner.max).sum()
    }

    /// Ends the load, waits until everything is delivered, and judges.
    pub async fn finish(mut self) -> Row {
        let load = self.load.take().expect("there is a load");
        let streamed = load.finish().await;
        let ended = Instant::now();
        for receiver in &self.receivers {
            let pause = receiver.pause(self.loaded_at, ended);
            self.row.delivery_pause = self.row.delivery_pause.max(pause);
        }
        for stream in &streamed {
            if stream.slowest > self.row.slowest {
                self.row.slowest = stream.slowest;
                self.row.slowest_was.clone_from(&stream.slowest_was);
            }
            self.row.publish_pause = self.row.publish_pause.max(stream.pause);
            if let Some(odd) = &stream.odd {
                self.row.verdict.violations.push(format!("odd answer: {odd}"));
            }
        }
        let streams: Vec<_> = streamed.into_iter().map(|streamed| streamed.stream).collect();
        let calls = self.calls.take().expect("there are calls");
        let (note, of_calls) = calls.finish(&self.terms, self.leases_may_be_lost).await;
        self.row.notes.push(note);
        let messages = self.messages.take().expect("there are messages");
        let (note, of_messages) = messages.finish(&self.terms, self.leases_may_be_lost).await;
        self.row.notes.push(note);
        let drained = self.drained(&streams).await;
        let topics = self.counted_topics().await;
        let subscribers = self.subscribers().await;
        self.row.duplicates_max = self.terms.duplicates_max;
        let odd = std::mem::take(&mut self.row.verdict.violations);
        self.row.verdict = judge(&streams, &subscribers, &topics, &self.terms);
        self.row.verdict.violations.extend(odd);
        self.row.verdict.violations.extend(of_calls);
        self.row.verdict.violations.extend(of_messages);
        if !drained && self.row.verdict.violations.is_empty() {
            self.row.violation(format!("the queues were not empty {DRAIN_LIMIT:?} later"));
        }
        if self.row.slowest > ANSWER_LIMIT {
            let (time, was) = (self.row.slowest, &self.row.slowest_was);
            let text = format!("a publisher waited {time:?} for its answer from {was}");
            self.row.violation(text);
        }
        if self.row.verdict.accepted < 50 {
            self.row.violation("hardly anything was published: this proves nothing");
        }
        self.stop().await;
        if let Some(line) = self.all_logs().lines().find(|line| line.contains("panicked at")) {
            self.row.violation(format!("a process panicked: {line}"));
        }
        self.row
    }

    async fn drained(&self, streams: &[crate::oracle::Stream]) -> bool {
        let accepted: Vec<EventId> = (0..)
            .zip(streams)
            .flat_map(|(index, stream)| {
                let accepted = stream.publishes.iter().filter(|publish| {
                    let forgotten = self.terms.forgotten_before;
                    let may_lose = &self.terms.may_lose;
                    publish.answer == Answer::Accepted
                        && forgotten.is_none_or(|before| publish.sent_at >= before)
                        && !may_lose.iter().any(|time| time.contains(&publish.sent_at))
                });
                accepted.flat_map(move |publish| {
                    (publish.first..).take(publish.events.len()).map(move |n| (index, n))
                })
            })
            .collect();
        let begun = Instant::now();
        while begun.elapsed() < DRAIN_LIMIT {
            let all_here = |receiver: &Receiver| {
                self.max_queued.is_some()
                    || receiver.look(|seen| accepted.iter().all(|it| seen.events.contains(it)))
            };
            // What got no answer may be in the queues, too; what is dropped never arrives.
            if self.receivers.iter().all(all_here)
                && self.subscribers().await.iter().all(|subscriber| subscriber.queued == 0)
            {
                return true;
            }
            tokio::time::sleep(LOOK * 5).await;
        }
        false
    }

    async fn counted_topics(&self) -> BTreeMap<String, u64> {
        let topics = self.client("demo").get("/topics").await.json();
        let topics = topics.as_array().cloned().unwrap_or_default();
        let counted = topics.iter().filter_map(|topic| {
            Some((topic["name"].as_str()?.to_owned(), topic["events"].as_u64()?))
        });
        counted.collect()
    }

    async fn subscribers(&self) -> Vec<Subscriber> {
        let reply = self.client("demo").get("/subscriptions").await;
        let all = if reply.status == 200 { reply.json() } else { Value::Null };
        let find = |name: &str| {
            let mut all = all.as_array().into_iter().flatten();
            all.find(|entry| entry["subscriber"] == name).cloned().unwrap_or_default()
        };
        let subscribers = self.receivers.iter().map(|receiver| {
            let events = &find(receiver.name)["events"];
            let count = |name: &str| events[name].as_u64();
            Subscriber {
                name: receiver.name.to_owned(),
                receipts: receiver.look(|seen| seen.receipts.clone()),
                sent: count("sent").unwrap_or_default(),
                queued: count("queued").unwrap_or(u64::MAX),
                dropped: count("autodropped").unwrap_or_default()
                    + count("expired").unwrap_or_default(),
            }
        });
        subscribers.collect()
    }

    async fn stop(&mut self) {
        let mut violations = vec![];
        for process in self.webs.iter_mut().chain(&mut self.workers) {
            process.signal(Signal::Term);
            if let (code @ (None | Some(1..)), _) = process.exit().await {
                violations.push(format!("a process ended with {code:?} when it was stopped"));
            }
        }
        self.row.verdict.violations.extend(violations);
    }
}

/// The most memory that a process has had, in KiB.
pub fn peak_memory_kib(process: &Process) -> Option<u64> {
    let path = format!("/proc/{}/status", process.id()?);
    let status = std::fs::read_to_string(Path::new(&path)).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse().ok()
}
