//! Where a scenario is played: a bus, subscribers, and the receivers that they stand for.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;

use super::connection::Endpoint;
use super::cost::Cost;
use super::mark::Clock;
use super::own::{OwnBus, Store};
use super::progress::Progress;
use super::publishers::{Load, Published, Script, publish};
use super::receivers::{Doors, Receivers, Subscriber, Times};
use super::request::Kind;
use super::target::{Target, Terms};
use super::usage::{self, Usage};
use routemaster::bus::token::random_hex;
use routemaster::config::Role;
use routemaster::tls::development::Identity;

/// Nothing is waited for any more that long after the last event arrived: longer than the bus
/// waits for an answer before it sends again.
const QUIET: Duration = Duration::from_secs(40);
/// How often it is looked at what has arrived.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Which bus is measured.
pub enum Site {
    /// A new one for each measurement.
    Fresh(Store),
    /// One for all.
    Running(Box<Running>),
}

/// A bus that was there before the first scenario, and what stands for it.
pub struct Running {
    pub target: Target,
    /// Set if this command has started it.
    pub own: Option<OwnBus>,
    /// The receivers': a certificate that the bus trusts.
    pub identity: Identity,
}

/// What all scenarios need.
pub struct Crew {
    pub site: Site,
    pub clock: Clock,
    pub progress: Progress,
    /// The port of the receivers; 0 is a free one.
    pub port: u16,
    /// Where the bus reaches the receivers, if that is not on this machine.
    pub callback: Option<String>,
}

/// Who takes part, and in what.
pub struct Cast {
    /// Who receives: subscribers, or the destinations of calls.
    pub subscribers: Vec<Arc<Subscriber>>,
    pub play: Play,
}

/// What is sent and received.
#[derive(Clone, Copy)]
pub enum Play {
    /// Events. There is one topic for all subscribers, or one for each.
    Events { topics: usize, terms: Terms },
    /// Calls, handed in by plain HTTP.
    Calls,
    /// Postbacks, handed in by plain HTTP.
    Postbacks,
    /// Messages, handed in by plain HTTP, of one topic with a publisher for each subscriber.
    Messages,
}

pub struct Stage<'a> {
    crew: &'a Crew,
    target: Target,
    /// The bus, if it is this stage's alone.
    fresh: Option<OwnBus>,
    receivers: Receivers,
    kind: Kind,
    /// Where requests go: to the bus, or to its plain listener.
    endpoint: Arc<Endpoint>,
    /// Topics or URLs.
    targets: Vec<String>,
    before: Spent,
}

/// What everybody has used until some moment.
struct Spent {
    bus: Option<Usage>,
    redis: Option<Usage>,
    bench: Usage,
}

impl<'a> Stage<'a> {
    /// Sets it up. A fresh bus has one process, in this role.
    async fn set(crew: &'a Crew, cast: Cast, role: Role) -> anyhow::Result<Self> {
        crew.progress.step("setting up");
        let (target, fresh, identity) = match &crew.site {
            Site::Fresh(store) => {
                let mut own = OwnBus::prepare(store).await?;
                let target = Target::open(own.listen(role).await?).await?;
                let identity = own.identity()?;
                (target, Some(own), identity)
            }
            Site::Running(running) => {
                let Identity { certificate, key } = &running.identity;
                let identity = Identity { certificate: certificate.clone(), key: key.clone() };
                (running.target.clone(), None, identity)
            }
        };
        let Cast { subscribers, play } = cast;
        let secret = random_hex()?;
        let doors = match play {
            Play::Events { .. } => Doors::Https { port: crew.port, identity: &identity },
            Play::Calls | Play::Postbacks | Play::Messages => Doors::PlainEach,
        };
        let receivers = Receivers::start(doors, &secret, subscribers, crew.clock).await?;
        let kind = play.kind();
        let (endpoint, targets) = match play {
            Play::Events { topics, terms } => {
                let topics = target.make_topics(topics).await?;
                target.subscribe(&receivers, &topics, terms, crew.callback.as_deref()).await?;
                (target.endpoint().clone(), topics)
            }
            Play::Messages => {
                let own = fresh.as_ref().context("messages are measured on a bus of their own")?;
                let topic = target.make_message_topic(&receivers).await?;
                (Endpoint::plain(own.plain()?)?.into(), vec![topic])
            }
            Play::Calls | Play::Postbacks => {
                let own = fresh.as_ref().context("calls are measured on a bus of their own")?;
                let each = 0..receivers.subscribers().len();
                let urls = each.map(|index| receivers.callback(None, index)).collect();
                (Endpoint::plain(own.plain()?)?.into(), urls)
            }
        };
        let before = Spent { bus: None, redis: None, bench: Usage::default() };
        let mut stage = Self { crew, target, fresh, receivers, kind, endpoint, targets, before };
        stage.before = stage.spent();
        Ok(stage)
    }

    fn own(&self) -> Option<&OwnBus> {
        let shared = match &self.crew.site {
            Site::Running(running) => running.own.as_ref(),
            Site::Fresh(_) => None,
        };
        self.fresh.as_ref().or(shared)
    }

    pub fn target(&self) -> &Target {
        &self.target
    }

    /// What bus and Redis have used until now.
    pub fn usage(&self) -> Usage {
        let Spent { bus, redis, .. } = self.spent();
        bus.unwrap_or_default() + redis.unwrap_or(Usage { cpu_s: Some(0.0), peak_bytes: Some(0) })
    }

    pub fn receivers(&self) -> &Receivers {
        &self.receivers
    }

    /// Starts the worker of a fresh bus that has none yet.
    pub async fn start_worker(&mut self) -> anyhow::Result<()> {
        match &mut self.fresh {
            Some(own) => own.work().await,
            None => Ok(()),
        }
    }

    /// Publishes. What was spent before the end of the warm-up does not count.
    pub async fn publish(&mut self, script: Script) -> anyhow::Result<Published> {
        let (token, targets) = (self.target.publisher().clone(), self.targets.clone());
        let load = Load { token, kind: self.kind, targets, script };
        let (accepted, _shown) = self.crew.progress.sending();
        let publish = publish(&self.endpoint, &load, self.crew.clock, &accepted);
        if script.warm_up.is_zero() {
            return publish.await;
        }
        let (published, spent) = tokio::join!(publish, async {
            tokio::time::sleep(script.warm_up).await;
            self.spent()
        });
        self.before = spent;
        published
    }

    /// Waits until that many items were received in all, or nothing comes any more.
    pub async fn drain(&self, items: u64) {
        let totals = self.receivers.totals();
        let (mut last, mut since) = (totals.items(), Instant::now());
        while totals.items() < items {
            let now = totals.items();
            if now > last {
                (last, since) = (now, Instant::now());
            }
            self.crew.progress.step(&format!("waiting for {} of {items} to arrive", items - now));
            if since.elapsed() > QUIET {
                let seconds = QUIET.as_secs();
                self.crew.progress.note(&format!(
                    "note: waited for {} of {items} to arrive, of which none came for {seconds} s",
                    items - now
                ));
                return;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    fn spent(&self) -> Spent {
        Spent {
            bus: self.own().map(OwnBus::usage),
            redis: self.own().and_then(OwnBus::redis_usage),
            bench: usage::of_this_process(),
        }
    }

    /// What the measurement has cost, without setting up.
    pub fn cost(&self) -> Cost {
        let (now, before) = (self.spent(), &self.before);
        let since =
            |now: Option<Usage>, before: Option<Usage>| Some(now? - before.unwrap_or_default());
        Cost {
            bus: since(now.bus, before.bus),
            redis: since(now.redis, before.redis),
            bench: now.bench - before.bench,
        }
    }

    /// How much the store holds now, in bytes, if that is known.
    pub async fn stored_bytes(&self) -> anyhow::Result<Option<u64>> {
        match &self.fresh {
            Some(own) => own.stored_bytes().await,
            None => Ok(None),
        }
    }

    /// How long SQLite's file is once its queues are empty, in bytes, if that is the store.
    pub async fn file_bytes_after_drain(&self) -> anyhow::Result<Option<u64>> {
        match &self.fresh {
            Some(own) => own.file_bytes_after_drain().await,
            None => Ok(None),
        }
    }

    /// Takes everything away. An error of the scenario gets the bus's last words.
    async fn end<T>(self, played: anyhow::Result<T>) -> anyhow::Result<T> {
        let played = match self.own() {
            Some(own) => played.map_err(|error| {
                anyhow::anyhow!("{error:#}; the bus's last words:\n{}", own.tail())
            }),
            None => played,
        };
        if self.fresh.is_none() {
            self.crew.progress.step("cleaning up");
            self.target.clean_up(false).await?;
        }
        played
    }
}

impl Crew {
    /// Sets a stage, plays on it, and takes it away.
    pub async fn play<T>(
        &self,
        cast: Cast,
        role: Role,
        play: impl AsyncFnOnce(&mut Stage<'_>) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let mut stage = Stage::set(self, cast, role).await?;
        let played = play(&mut stage).await;
        stage.end(played).await
    }

    /// How many subscribers there can be.
    pub fn subscribers_max(&self) -> usize {
        match &self.site {
            Site::Fresh(_) => usize::MAX,
            Site::Running(running) => running.target.subscribers_max(),
        }
    }

    /// Whether each measurement has a bus of its own, which can be started without its worker.
    pub fn has_fresh_buses(&self) -> bool {
        matches!(self.site, Site::Fresh(_))
    }
}

impl Play {
    fn kind(self) -> Kind {
        match self {
            Self::Events { .. } => Kind::Events,
            Self::Calls => Kind::Calls,
            Self::Postbacks => Kind::Postbacks,
            Self::Messages => Kind::Messages,
        }
    }
}

impl Cast {
    /// That many subscribers to one topic, who receive these streams.
    pub fn of(subscribers: usize, streams: &Range<u32>, times: &Arc<Times>, terms: Terms) -> Self {
        let subscribers = (0..subscribers).map(|_| Subscriber::new(streams, times)).collect();
        Self { subscribers, play: Play::Events { topics: 1, terms } }
    }
}
