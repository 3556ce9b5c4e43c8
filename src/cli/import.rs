//! `routemaster import`: moves in, from a Ruby Routemaster or from what waits at the services that calls and
//! postbacks came from before (`waiting`), or from a Postoffice (`postoffice`). It fills the store of the settings, whether a bus runs on that or not.
//!
//! Of a Ruby bus it reads the Redis, and writes nothing to it. It can be run any number of times: a run adds what
//! came since the one before. What a Redis of
//! the original holds is in `ruby`, what becomes of its events in `messagepack`; `transfer` goes
//! through topics, tokens and subscribers, `queues` through batches. `docs/moving-in.md` tells how
//! to use it.

// Reached from outside by its fuzz target.
pub mod messagepack;
#[cfg(feature = "postgres")]
mod postoffice;
mod progress;
mod queues;
mod rabbitmq;
mod report;
mod ruby;
mod target;
mod transfer;
mod waiting;

use std::io::{BufRead, Read, Write};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use clap::Args;

use crate::config::Settings;
use crate::signals;
use crate::store::redis::RedisOptions;
use crate::store::redis::source::Source;
use rabbitmq::RabbitQueue;
use report::Title;
use target::Target;
use transfer::Transfer;
use waiting::Waiting;

#[derive(Args)]
pub struct ImportArgs {
    /// The Redis of the Ruby bus: redis://USER:PASSWORD@HOST:PORT/DATABASE, or rediss://, or
    /// a Sentinel or Cluster as in ROUTEMASTER_REDIS_URL, with ROUTEMASTER_REDIS_CA_FILE. It is only read.
    /// Or the RabbitMQ of a call proxy, whose calls are moved here: http://USER:PASSWORD@HOST:15672/VHOST, the
    /// address of its management plug-in. Or the PostgreSQL of a Postoffice, whose topics, publishers and jobs are
    /// copied: postgres://USER:PASSWORD@HOST/DATABASE; it is only read. With -, the URL is the first line of standard input, so that nobody
    /// sees its password in the list of processes
    #[arg(long, value_name = "URL")]
    pub from: String,
    /// With a RabbitMQ: the queue in which calls wait
    #[arg(long, value_name = "NAME", default_value = "services")]
    pub queue: String,
    /// With a Redis: move postbacks that wait in this list, in place of a bus; the postback service's is `data`
    #[arg(long, value_name = "NAME", conflicts_with = "skip_events")]
    pub list: Option<String>,
    /// Tell what would be imported, and import nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Import topics, tokens and subscribers, or publishers, and leave events, or jobs, for a later run
    #[arg(long)]
    pub skip_events: bool,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// The longest URL that is read, in bytes.
const URL_LENGTH_MAX: u64 = 4096;

/// # Errors
/// If the source cannot be read, the store cannot be used, or it was interrupted. What was imported
/// until then is, and another run goes on from there. What is skipped is no error.
pub async fn run(args: ImportArgs, settings: &Settings) -> anyhow::Result<()> {
    let url = source_url(&args.from)?;
    if url.starts_with("http://") || url.starts_with("https://") {
        let queue = Waiting::Calls(RabbitQueue::new(&url, &args.queue)?);
        return waiting::run(queue, settings, args.dry_run, args.json).await;
    }
    if url.starts_with("postgres://") || url.starts_with("postgresql://") {
        #[cfg(feature = "postgres")]
        return postoffice::run(&url, settings, args.dry_run, args.skip_events, args.json).await;
        #[cfg(not(feature = "postgres"))]
        bail!("this routemaster was built without PostgreSQL (the feature `postgres`)");
    }
    let url = crate::config::redis_url(&url).ok_or_else(|| {
        anyhow!(
            "--from must be a URL that starts with redis://, rediss://, redis-sentinel:// or redis-cluster://, \
             for a RabbitMQ with http:// or https://, or for a Postoffice with postgres://"
        )
    })?;
    if settings.redis_url.as_deref() == Some(url.as_str()) {
        bail!("--from is ROUTEMASTER_REDIS_URL itself: name the Redis to import from");
    }
    // Over TLS it is trusted, and shown a certificate, as the bus's own Redis is.
    let from = RedisOptions { url, wait_replicas: 0, lanes: None, ..settings.redis_options() };
    let source = Source::connect(&from).await.context("--from cannot be used")?;
    if let Some(list) = args.list {
        let list = Waiting::Postbacks { redis: source, list };
        return waiting::run(list, settings, args.dry_run, args.json).await;
    }
    let target = Target::open(settings, args.dry_run).await?;
    let stop = signals::stop_on_signal(Duration::ZERO)?;
    let from = source.name().to_owned();
    let mut transfer = Transfer::new(source, target, settings, stop.clone());
    let ended = transfer.run(!args.skip_events).await;
    // What was imported is told, whatever happened then.
    let title = Title {
        from: &from,
        to: transfer.target().name(),
        dry_run: args.dry_run,
        complete: ended.is_ok() && !stop.is_cancelled(),
    };
    let mut out = std::io::stdout().lock();
    if args.json {
        transfer.report().write_json(&mut out, &title)?;
    } else {
        transfer.report().write_table(&mut out, &title)?;
    }
    out.flush()?;
    ended.context("the import is not complete; run it again, it goes on from there")?;
    if stop.is_cancelled() {
        bail!("interrupted: the import is not complete; run it again, it goes on from there");
    }
    Ok(())
}

/// The URL that is given, or read from standard input. It is not repeated in an error: there may
/// be a password in it.
fn source_url(from: &str) -> anyhow::Result<String> {
    let mut url = from.to_owned();
    if from == "-" {
        url.clear();
        let mut input = std::io::stdin().lock().take(URL_LENGTH_MAX);
        input.read_line(&mut url).context("failed to read the URL from standard input")?;
    }
    Ok(url.trim().to_owned())
}
