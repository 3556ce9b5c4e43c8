//! The load: streams that publish one event after the other and write down what they are told.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::Value;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::oracle::{Answer, Publish, Stream, url};
use crate::support::{Client, Reply};

/// The clients that publish, each to a topic of its own.
pub const PUBLISHERS: [(&str, &str); 2] = [("alpha", "apples"), ("beta", "bananas")];
/// The connections of each.
const CONNECTIONS: usize = 2;
/// The pause between two publishes of a stream, at most.
const PACE_MAX: Duration = Duration::from_millis(8);
/// The pause after one that was not accepted.
const AFTER_TROUBLE: Duration = Duration::from_millis(30);
/// How many events may wait for a subscriber before publishers hold on: it has to get them all in the end.
const BACKLOG_MAX: u64 = 5_000;
/// How often that is looked at.
const BACKLOG_LOOK: Duration = Duration::from_millis(500);

/// Where the web processes listen, as publishers know it. A process that is gone stays in it until
/// somebody takes it out, as in a load balancer.
#[derive(Default)]
pub struct Addresses(Mutex<Vec<String>>);

impl Addresses {
    pub fn add(&self, base: &str) {
        self.0.lock().unwrap().push(base.to_owned());
    }

    pub fn remove(&self, base: &str) {
        self.0.lock().unwrap().retain(|known| known != base);
    }

    /// The address after this one; any if it is not known.
    pub fn after(&self, base: &str, any: usize) -> Option<String> {
        let known = self.0.lock().unwrap();
        let next = known.iter().position(|known| known == base).map_or(any, |index| index + 1);
        known.get(next % known.len().max(1)).cloned()
    }

    fn has(&self, base: &str) -> bool {
        self.0.lock().unwrap().iter().any(|known| known == base)
    }
}

/// What a stream saw.
pub struct Streamed {
    pub stream: Stream,
    /// The longest time until an answer, or until it was clear that none comes.
    pub slowest: Duration,
    /// Who was asked then, and how it ended.
    pub slowest_was: String,
    /// The longest time from one 204 to the next.
    pub pause: Duration,
    /// The first answer that should not be.
    pub odd: Option<String>,
}

/// Publishing streams; they go on until they are stopped.
pub struct Load {
    stop: CancellationToken,
    streams: Vec<JoinHandle<Streamed>>,
}

/// The longest queue, as far as the bus can be asked.
type Backlog = Arc<AtomicU64>;

async fn watch_backlog(
    backlog: Backlog,
    addresses: Arc<Addresses>,
    ca: PathBuf,
    stop: CancellationToken,
) {
    while !stop.is_cancelled() {
        let longest = match addresses.after("", 0) {
            None => None,
            Some(base) => {
                let client = Client::new(&base, &ca).beside_the_api().with_token("demo");
                let reply = client.try_send(Method::GET, "/subscriptions", &[], "").await;
                let reply = reply.ok().filter(|reply| reply.status == 200);
                reply.map(|reply| longest_queue(&reply.json()))
            }
        };
        backlog.store(longest.unwrap_or(0), Ordering::Relaxed);
        tokio::time::sleep(BACKLOG_LOOK).await;
    }
}

fn longest_queue(subscriptions: &Value) -> u64 {
    let all = subscriptions.as_array().into_iter().flatten();
    let queued = all.filter_map(|subscription| subscription["events"]["queued"].as_u64());
    queued.max().unwrap_or(0)
}

impl Load {
    pub fn start(addresses: &Arc<Addresses>, ca: PathBuf, dice: &mut fastrand::Rng) -> Self {
        let stop = CancellationToken::new();
        let mut streams = vec![];
        let backlog = Backlog::default();
        let watch = watch_backlog(backlog.clone(), addresses.clone(), ca.clone(), stop.clone());
        tokio::spawn(watch);
        for (token, topic) in PUBLISHERS {
            for _ in 0..CONNECTIONS {
                let publisher = Publisher {
                    index: streams.len(),
                    token,
                    topic,
                    addresses: addresses.clone(),
                    backlog: backlog.clone(),
                    ca: ca.clone(),
                    dice: dice.fork(),
                    number: 1,
                    at: None,
                };
                streams.push(tokio::spawn(publisher.run(stop.clone())));
            }
        }
        Self { stop, streams }
    }

    /// Ends all streams, each after the answer that it waits for.
    pub async fn finish(self) -> Vec<Streamed> {
        self.stop.cancel();
        let mut streamed = vec![];
        for stream in self.streams {
            streamed.push(stream.await.unwrap());
        }
        streamed
    }
}

/// One connection that publishes.
struct Publisher {
    index: usize,
    token: &'static str,
    topic: &'static str,
    addresses: Arc<Addresses>,
    backlog: Backlog,
    ca: PathBuf,
    dice: fastrand::Rng,
    /// The number of the next event.
    number: u64,
    /// The web process it talks to.
    at: Option<(String, Client)>,
}

impl Publisher {
    async fn run(mut self, stop: CancellationToken) -> Streamed {
        let stream = Stream { topic: self.topic.to_owned(), publishes: vec![] };
        let mut streamed = Streamed {
            stream,
            slowest: Duration::ZERO,
            slowest_was: String::new(),
            pause: Duration::ZERO,
            odd: None,
        };
        let mut accepted_at = Instant::now();
        while !stop.is_cancelled() {
            if self.backlog.load(Ordering::Relaxed) > BACKLOG_MAX {
                tokio::time::sleep(AFTER_TROUBLE).await;
                // It does not wait for the bus.
                accepted_at = Instant::now();
                continue;
            }
            let Some(client) = self.client() else {
                tokio::time::sleep(AFTER_TROUBLE).await;
                continue;
            };
            let count = if self.dice.u8(..10) == 0 { self.dice.u64(2..=5) } else { 1 };
            let (body, events) = self.events(count);
            let sent_at = Instant::now();
            let path = format!("/topics/{}", self.topic);
            let headers = [("content-type", "application/json")];
            let reply = client.try_send(Method::POST, &path, &headers, body).await;
            if sent_at.elapsed() > streamed.slowest {
                streamed.slowest = sent_at.elapsed();
                streamed.slowest_was = self.ended_as(&reply);
            }
            let answer = match reply {
                Ok(reply) => match reply.status {
                    204 => Answer::Accepted,
                    503 => Answer::Unavailable,
                    _ => {
                        streamed.odd.get_or_insert_with(|| format!("{reply:?}"));
                        Answer::Refused
                    }
                },
                Err(error) => {
                    self.move_on();
                    // Nothing was sent: the numbers are still to be had.
                    if error.is_connect() {
                        tokio::time::sleep(AFTER_TROUBLE / 3).await;
                        continue;
                    }
                    Answer::Nothing
                }
            };
            let first = self.number;
            self.number += count;
            let answered_at = Instant::now();
            let publish = Publish { first, events, answer, sent_at, answered_at };
            streamed.stream.publishes.push(publish);
            if answer == Answer::Accepted {
                streamed.pause = streamed.pause.max(accepted_at.elapsed());
                accepted_at = Instant::now();
                tokio::time::sleep(PACE_MAX.mul_f64(self.dice.f64())).await;
            } else {
                tokio::time::sleep(AFTER_TROUBLE).await;
            }
        }
        streamed.pause = streamed.pause.max(accepted_at.elapsed());
        streamed
    }

    fn client(&mut self) -> Option<Client> {
        if self.at.as_ref().is_some_and(|(base, _)| !self.addresses.has(base)) {
            self.at = None;
        }
        if self.at.is_none() {
            let base = self.addresses.after("", self.index)?;
            self.connect_to(base);
        }
        self.at.as_ref().map(|(_, client)| client.clone())
    }

    /// Who was asked, whether it is still there, and what came of it.
    fn ended_as(&self, reply: &reqwest::Result<Reply>) -> String {
        let base = self.at.as_ref().map_or("nobody", |(base, _)| base);
        let gone = if self.addresses.has(base) { "" } else { ", which is gone" };
        match reply {
            Ok(reply) => format!("{base}{gone}: {}", reply.status),
            Err(error) => format!("{base}{gone}: {error:?}"),
        }
    }

    fn move_on(&mut self) {
        let Some((base, _)) = &self.at else { return };
        match self.addresses.after(base, self.index) {
            Some(next) if next != *base => self.connect_to(next),
            _ => {}
        }
    }

    fn connect_to(&mut self, base: String) {
        let client = Client::new(&base, &self.ca).beside_the_api().with_token(self.token);
        self.at = Some((base, client));
    }

    /// A body that publishes so many events, and each event as it must be delivered.
    fn events(&mut self, count: u64) -> (String, Vec<String>) {
        let (mut sent, mut expected) = (vec![], vec![]);
        for number in self.number..self.number + count {
            let kind = ["create", "update", "delete", "noop"][self.dice.usize(..4)];
            let url = url(self.index, number);
            let time = self.dice.u64(..1 << 53);
            let data = data(&mut self.dice);
            sent.push(format!(
                r#"{{ "data":{data}, "url":"{url}" ,"type":"{kind}","timestamp":{time}}}"#
            ));
            expected.push(format!(
                r#"{{"topic":"{}","type":"{kind}","url":"{url}","t":{time},"data":{data}}}"#,
                self.topic
            ));
        }
        match &sent[..] {
            [one] => (one.clone(), expected),
            many => (format!("[{}]", many.join(" , ")), expected),
        }
    }
}

/// Some JSON, written in ways that a parser which writes it anew would change.
fn data(dice: &mut fastrand::Rng) -> String {
    match dice.u8(..8) {
        0 => "1.50".into(),
        1 => "18446744073709551617000".into(),
        2 => r#""\u00e9é\n\ud83d\ude00😀""#.into(),
        3 => "[ 1 ,2.0, [] ]".into(),
        4 => format!(r#""{}""#, "x".repeat(dice.usize(..2000))),
        5 => "-0.0e-0".into(),
        6 => "true".into(),
        _ => format!(r#"{{"z":{}, "a" : {{"b":null}} }}"#, dice.u64(..)),
    }
}
