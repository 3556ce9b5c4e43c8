//! The roles a process can have: `web` takes publishes, `worker` delivers, `serve` does both.

mod delivering;
mod presence;
mod serving;
mod warnings;
mod welcome;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::api::SignInLinks;
use crate::bus::clock::Clock;
use crate::commit::NewsDesk;
use crate::config::{MetricService, Role, SettingError, Settings};
use crate::files::FileShares;
use crate::history::MessageHistory;
use crate::http::{Fronts, Server};
use crate::journal::{Journal, Recorder, SqliteJournal};
use crate::signals;
use crate::store::redis::{RedisOptions, RedisStore};
use crate::store::sqlite::SqliteStore;
use crate::store::{Store, StoreError};
use crate::telemetry::metrics::{Metrics, record};
use crate::telemetry::tallies::TallyKeeper;
use crate::upkeep::{self, messages::MessageMemory};
use crate::worker::{Attempts, Reporting};

use delivering::Delivering;
use presence::Presence;
pub use serving::certificate_files;
use serving::{Serving, api, publish_ways};
pub use warnings::{Warning, of as warnings_about};
pub use welcome::url_of;

/// What a stop waits for beyond the shutdown timeout, so that the parts can end by themselves.
const SHUTDOWN_MARGIN: Duration = Duration::from_secs(2);

/// Runs a role until a signal stops it. What else ends it is an exception, but for a setting that
/// cannot be used.
///
/// # Errors
/// If it cannot start, or could not finish what it had accepted.
pub async fn run(role: Role, settings: Settings) -> anyhow::Result<()> {
    start_and_finish(role, settings).await.inspect_err(log_the_end)
}

/// The last words of a process are for whoever started it; these are for the log and reports.
fn log_the_end(error: &anyhow::Error) {
    if !error.is::<SettingError>() {
        tracing::error!(error = format!("{error:#}"), "the process ends: it failed");
    }
}

async fn start_and_finish(role: Role, settings: Settings) -> anyhow::Result<()> {
    let settings = Arc::new(settings);
    let stop = signals::stop_on_signal(Duration::ZERO)?;
    let reload = signals::notify_on_hangup()?;
    let serves = Serving::of(role, &settings).is_some();
    let connections = if serves { settings.max_connections } else { 0 };
    let deliveries = if role == Role::Web { 0 } else { Delivering::places(&settings) };
    let files = FileShares::of_this_process(connections, deliveries)?;
    let store = open_checked_store(&settings).await?;
    let tasks = TaskTracker::new();
    for warning in warnings::of(&settings, role) {
        tracing::warn!("{warning}");
    }
    // Everything that can fail comes before the first word of success.
    let metrics = Metrics::start(&settings, &store, shows_metrics(role, &settings))?;
    let full = Arc::new(Notify::new());
    let records = Records::open(&settings)?;
    let attempts = attempts(&settings, records.journal.clone(), &tasks);
    let links = Arc::new(SignInLinks::default());
    let serving = Serving::of(role, &settings);
    // As long as anything runs on them.
    let fronts = serving.map(|_| Fronts::start()).transpose()?.map(Arc::new);
    let served = match serving.zip(fronts.as_ref()) {
        Some((serving, fronts)) => {
            let exposition = metrics.exposition();
            let api =
                api(&settings, &store, &records, &attempts, &full, exposition, (&tasks, &stop))?;
            let authentication = api.authentication.clone();
            authentication.tokens.learn().await;
            let ways = match serving {
                Serving::Api => publish_ways(fronts, &api, &full, &tasks)?,
                Serving::Metrics => vec![],
            };
            let bound = serving.bind(api, &links, files.connections, reload, fronts, ways);
            Some((bound.await?, authentication))
        }
        None => None,
    };
    let mut parts = JoinSet::new();
    let news = NewsDesk::start(store.clone(), settings.public_url(), &tasks);
    parts.spawn(upkeep(&settings, &store, &news, &full, &stop));
    parts.spawn(message_upkeep(&settings, &store, records.history.clone(), &stop));
    parts.spawn(always_well(TallyKeeper::new(store.clone()).run(stop.clone())));
    parts.spawn(end_with_the_store(store.clone(), stop.clone()));
    let delivering = match role {
        Role::Web => None,
        _ => {
            let reporting = Reporting { attempts: attempts.clone(), news: news.clone() };
            Some(Delivering::new(&settings, files.deliveries, reporting, &store, &stop)?)
        }
    };
    // What is told ends with the last of those who have something to tell.
    drop((news, attempts));
    let presence = Presence::new(role, store.clone(), delivering.clone())?;
    parts.spawn(always_well(presence.keep_telling(stop.clone())));
    if let Some(delivering) = delivering {
        delivering.run(&mut parts);
    }
    let first = served.as_ref().and_then(|(servers, _)| servers.first());
    let address = first.map(Server::local_address).transpose()?;
    let plain = served.iter().flat_map(|(servers, _)| &servers[1..]).map(Server::local_address);
    let plain: Vec<SocketAddr> = plain.collect::<Result<_, _>>()?;
    let told = match (role, address) {
        (Role::Serve | Role::Web, Some(address)) => {
            welcome::print_web(&settings, &*store, address, &plain, role, &links)
        }
        (_, address) => welcome::print_worker(&settings, &*store, address),
    };
    if let Err(error) = told {
        tracing::warn!(error = format!("{error:#}"), "standard output cannot be written; going on");
    }
    if let Some((servers, authentication)) = served {
        let stopped = stop.clone();
        parts.spawn(always_well(async move {
            tokio::select! {
                () = authentication.keep_fresh() => {}
                () = stopped.cancelled() => {}
            }
        }));
        for server in servers {
            parts.spawn(server.serve(stop.clone()));
        }
    }
    tasks.close();
    record_process(role, "start");
    let finished = finish(parts, &tasks, &stop, settings.shutdown_timeout).await;
    record_process(role, "stop");
    metrics.finish().await;
    finished
}

/// Whether anybody sees what a process with this role measures.
fn shows_metrics(role: Role, settings: &Settings) -> bool {
    settings.metrics != MetricService::Prometheus || Serving::of(role, settings).is_some()
}

/// Counts that a process has started or stopped.
fn record_process(role: Role, status: &'static str) {
    if role != Role::Worker {
        record::process(status, "web");
    }
    if role != Role::Web {
        record::process(status, "worker");
    }
}

/// A part that cannot fail.
async fn always_well(part: impl Future<Output = ()>) -> anyhow::Result<()> {
    part.await;
    Ok(())
}

fn upkeep(
    settings: &Settings,
    store: &Arc<dyn Store>,
    news: &NewsDesk,
    full: &Arc<Notify>,
    stop: &CancellationToken,
) -> impl Future<Output = anyhow::Result<()>> + Send + 'static {
    let (budget, dead) = (settings.budget(), settings.dead_bounds());
    let (store, news) = (store.clone(), news.clone());
    always_well(upkeep::run(store, budget, dead, news, full.clone(), stop.clone()))
}

fn message_upkeep(
    settings: &Settings,
    store: &Arc<dyn Store>,
    history: Option<Arc<dyn MessageHistory>>,
    stop: &CancellationToken,
) -> impl Future<Output = anyhow::Result<()>> + Send + 'static {
    let memory = MessageMemory {
        retention: settings.messages_retention,
        cleaning: settings.messages_cleaning.clone(),
    };
    always_well(upkeep::messages::run(store.clone(), memory, history, stop.clone()))
}

/// Ends the process when its store can never work again, so that its supervisor starts it anew.
async fn end_with_the_store(store: Arc<dyn Store>, stop: CancellationToken) -> anyhow::Result<()> {
    tokio::select! {
        error = store.broken() => Err(error.into()),
        () = stop.cancelled() => Ok(()),
    }
}

/// Who tells the journal of attempts.
fn attempts(settings: &Settings, journal: Arc<dyn Journal>, tasks: &TaskTracker) -> Attempts {
    let (mode, bounds) = (settings.journal, settings.journal_bounds());
    let recorder = Recorder::start(journal, mode, bounds, tasks, record::journal_left_out);
    Attempts::new(recorder, settings.journal_body)
}

/// Where what is over is kept.
#[derive(Clone)]
pub struct Records {
    pub journal: Arc<dyn Journal>,
    /// Of messages, if they are not kept in the store.
    pub history: Option<Arc<dyn MessageHistory>>,
}

impl Records {
    /// Prepares what the settings name, over connections of its own.
    ///
    /// # Errors
    /// If it cannot be used; the error says what to change.
    pub fn open(settings: &Settings) -> anyhow::Result<Self> {
        if settings.history_url.is_some() {
            return Self::in_postgres(settings);
        }
        let journal: Arc<dyn Journal> = match settings.redis() {
            Some(redis) => Arc::new(open_redis(redis, Access::Use)?),
            None => Arc::new(SqliteJournal::open(&settings.data_dir)?),
        };
        Ok(Self { journal, history: None })
    }

    #[cfg(feature = "postgres")]
    fn in_postgres(settings: &Settings) -> anyhow::Result<Self> {
        use crate::egress::postgres::{self, PostgresOptions};
        use crate::history::postgres::PostgresHistory;
        let url = settings.history_url.as_deref().unwrap_or_default();
        let config = postgres::read(url)
            .map_err(|error| SettingError::Conflict(format!("ROUTEMASTER_HISTORY_URL {error}")))?;
        let history = PostgresHistory::new(PostgresOptions {
            config,
            ca_files: settings.callback_ca_file.iter().cloned().collect(),
            connect_timeout: settings.connect_timeout,
        });
        Ok(Self { journal: history.clone(), history: Some(history) })
    }

    #[cfg(not(feature = "postgres"))]
    fn in_postgres(_: &Settings) -> anyhow::Result<Self> {
        let what =
            "ROUTEMASTER_HISTORY_URL is not allowed: this routemaster was built without PostgreSQL";
        Err(SettingError::Conflict(what.into()).into())
    }
}

/// What a store is opened for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Access {
    Use,
    /// A Redis is not written to, not even to decide how many lanes it has.
    Look,
}

/// Prepares the store of the settings. A Redis is connected to in the background.
///
/// # Errors
/// If it cannot be used; the error says what to change.
pub fn open_store(settings: &Settings, access: Access) -> anyhow::Result<Arc<dyn Store>> {
    match settings.redis() {
        Some(redis) => Ok(Arc::new(open_redis(redis, access)?)),
        None => {
            let store = SqliteStore::open(&settings.data_dir, Clock::system())?;
            Ok(Arc::new(store.with_max_topics(settings.max_topics_per_client)))
        }
    }
}

fn open_redis(redis: RedisOptions, access: Access) -> anyhow::Result<RedisStore> {
    let redis = RedisOptions { look_only: access == Access::Look, ..redis };
    RedisStore::open(&redis).map_err(|error| {
        let what = "the settings for Redis cannot be used";
        SettingError::Conflict(format!("{what}: {error:#}")).into()
    })
}

/// As [`open_store`], for a process that is going to rely on it. A Redis that cannot be asked yet
/// is taken on trust: the bus starts, answers 503 until it is there, and reports then what is
/// wrong with it.
async fn open_checked_store(settings: &Settings) -> anyhow::Result<Arc<dyn Store>> {
    let (store, checked) = open_and_check_store(settings, Access::Use).await?;
    match checked {
        Ok(warnings) => warnings.iter().for_each(|warning| tracing::warn!("{warning}")),
        Err(error) if may_pass(&error) => {
            tracing::warn!(%error, "the store cannot be asked yet; starting without it");
        }
        Err(error) => return Err(error),
    }
    Ok(store)
}

/// Whether the store may do later what it did not do now.
fn may_pass(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(StoreError::Unavailable(_) | StoreError::Full(_)))
}

/// What asking a store how it is set came to: what is dangerous, or why it cannot be used. The
/// error is a [`StoreError`] if it cannot be asked.
pub type Checked = anyhow::Result<Vec<&'static str>>;

/// Opens the store of the settings and asks it whether it is fit for the bus.
///
/// # Errors
/// If it cannot be opened, as [`open_store`].
pub async fn open_and_check_store(
    settings: &Settings,
    access: Access,
) -> anyhow::Result<(Arc<dyn Store>, Checked)> {
    let Some(redis) = settings.redis() else {
        return Ok((open_store(settings, access)?, Ok(vec![])));
    };
    let store = open_redis(redis, access)?;
    // Boxed, because the compiler gives up on futures that are nested so deeply.
    let checked = Box::pin(store.check_server()).await;
    Ok((Arc::new(store), checked))
}

/// Waits for the stop, then, within the time for it, for everything that was accepted. A part
/// that ends without having been stopped ends the process: its supervisor starts it anew.
async fn finish(
    mut parts: JoinSet<anyhow::Result<()>>,
    tasks: &TaskTracker,
    stop: &CancellationToken,
    timeout: Duration,
) -> anyhow::Result<()> {
    let all = async {
        while let Some(ended) = parts.join_next().await {
            ended.context("a part of the process panicked")??;
            if !stop.is_cancelled() {
                bail!("a part of the process ended by itself");
            }
        }
        tasks.wait().await;
        anyhow::Ok(())
    };
    let too_late = async {
        stop.cancelled().await;
        tokio::time::sleep(timeout + SHUTDOWN_MARGIN).await;
    };
    tokio::select! {
        result = all => result,
        () = too_late => {
            tracing::warn!("stopped before everything was finished; batches in flight go out again");
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt;
    use tracing_subscriber::{Layer, Registry};

    use super::*;
    use crate::telemetry::exceptions::{ExceptionLayer, queue};

    #[tokio::test]
    async fn a_part_that_fails_or_ends_by_itself_ends_the_process_with_an_exception() {
        let (reports, mut waiting) = queue();
        let layer = ExceptionLayer::new(reports).with_filter(ExceptionLayer::filter());
        let _log = tracing::subscriber::set_default(Registry::default().with(layer));
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        tasks.close();
        for (part, error) in [
            (Some("the port is gone"), "the port is gone"),
            (None, "a part of the process ended by itself"),
        ] {
            let mut parts = JoinSet::new();
            parts.spawn(async move { part.map_or(Ok(()), |error| bail!(error)) });
            let finished = finish(parts, &tasks, &stop, Duration::ZERO).await;
            assert!(finished.inspect_err(log_the_end).is_err());
            let taken = waiting.taken();
            assert_eq!(taken.len(), 1, "{taken:?}");
            assert_eq!(taken[0].class, "the process ends: it failed");
            assert_eq!(taken[0].error, error);
        }
    }
}
