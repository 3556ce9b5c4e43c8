//! `routemaster listen`: a subscriber for the terminal. It starts an HTTPS receiver, subscribes
//! it, and shows the batches that arrive.

mod inbox;
mod puller;
mod receiver;
mod render;
mod subscribing;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use routemaster_client::{SigningSecret, Verifier};
use serde::Deserialize;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::bus::subscription::CallbackUrl;
use crate::bus::token::{ClientToken, random_hex};
use crate::bus::topic::TopicName;
use crate::cli::connect::{Bus, BusOptions};
use crate::cli::credentials::Capacity;
use crate::cli::listen::inbox::{Inbox, Trial};
use crate::cli::listen::receiver::Receiver;
use crate::cli::listen::render::Output;
use crate::cli::listen::subscribing::{Subscriber, Wish};
use crate::cli::outcome::UsageError;
use crate::cli::refusals::refusal_of_root;
use crate::cli::secret;
use crate::note;
use crate::signals::stop_on_signal;
use crate::tls::development::{DevelopmentCa, Identity};

/// Receive the events of topics and print them.
#[derive(Args)]
#[command(after_help = AFTER_HELP)]
pub struct ListenArgs {
    /// The topics.
    #[arg(required = true, value_name = "TOPIC")]
    topics: Vec<String>,
    /// Print nothing but the events, as the bus delivers them, one JSON object a line.
    #[arg(long)]
    json: bool,
    /// Events in a batch, at most.
    #[arg(long, value_name = "N", default_value_t = 100,
        value_parser = clap::value_parser!(u32).range(1..=10_000))]
    max: u32,
    /// How long an event may wait for others to share its batch, in milliseconds. A subscriber
    /// at work has 500 unless it asks for another; here 0, so that events show at once.
    #[arg(long, value_name = "MS", default_value_t = 0,
        value_parser = clap::value_parser!(u64).range(0..=3_600_000))]
    timeout: u64,
    /// Answer 500 to this share of the deliveries, to see how the bus sends them again: at first
    /// almost at once, slower with each failure, and never sooner than --timeout.
    #[arg(long, value_name = "PERCENT", default_value_t = 0,
        value_parser = clap::value_parser!(u8).range(0..=100))]
    fail: u8,
    /// Wait before each answer, in milliseconds, to see what a slow subscriber does.
    #[arg(long, value_name = "MS", default_value_t = 0,
        value_parser = clap::value_parser!(u64).range(0..=3_600_000))]
    delay: u64,
    /// Leave the subscription when this ends: events queue up until the next `listen`.
    #[arg(long)]
    keep: bool,
    /// Take the place of a subscription that this token has elsewhere, and give it back in the end.
    #[arg(long)]
    replace: bool,
    /// Ask the bus for the batches in place of being sent them: this needs no certificate and no port that
    /// the bus can reach.
    #[arg(long, conflicts_with_all = ["port", "callback", "cert", "key", "timeout"])]
    pull: bool,
    /// Have deliveries signed with the secret in the first line of a file, or of standard input (-), and refuse
    /// what is not: whsec_ and the base64 of 24 to 64 bytes.
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
    /// Make a token of this name for the time that this runs, and receive with it. Needs the root key.
    #[arg(long = "as", value_name = "NAME", conflicts_with_all = ["keep", "replace"])]
    name: Option<String>,
    #[command(flatten)]
    receiver: ReceiverOptions,
    #[command(flatten)]
    bus: BusOptions,
}

/// Where and as whom the receiver listens.
#[derive(Args)]
#[command(next_help_heading = "The receiver")]
struct ReceiverOptions {
    /// The port to listen on, on 127.0.0.1 [default: a free one].
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    port: u16,
    /// The address to give to the bus, for a tunnel or a proxy that leads to the receiver
    /// [default: https://localhost:PORT/].
    #[arg(long, value_name = "URL")]
    callback: Option<String>,
    /// The receiver's certificate chain, a PEM file [default: made for localhost by the
    /// development authority in the data directory].
    #[arg(long, value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,
    /// The certificate's private key, a PEM file.
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
}

const AFTER_HELP: &str = "\
Starts an HTTPS receiver, subscribes it to the topics, prints every batch and acknowledges it. Waits
for the bus, and for the topics, if they are not there yet. Ctrl-C unsubscribes and ends; events
that wait in the queue go with the subscription, unless --keep is given.

A token has one subscription: while this runs, nothing else receives with the same token, and a
second `listen` with it takes over from the first. Give each its own with --token, or with --as.

Examples:
  routemaster listen widgets
  routemaster listen widgets orders --json | jq .url
  routemaster listen widgets --fail 50     half fail, and are sent again
  routemaster listen widgets --max 1000 --timeout 2000
  routemaster listen widgets --as second   beside another: both receive
  routemaster listen widgets --secret-file secret.txt
  routemaster listen widgets --pull --url https://bus.example \\
      --token search--5f0c…
  routemaster listen widgets --url https://bus.example --token search--5f0c… \\
      --port 4000 --callback https://my-tunnel.example/";

/// Signals that come this close together are one.
const SAME_SIGNAL: Duration = Duration::from_millis(200);

/// Listens until it is stopped.
///
/// # Errors
/// Why it cannot listen, and what to do. Being stopped is no error.
pub async fn run(args: ListenArgs) -> anyhow::Result<()> {
    let names = args.topics.iter().map(|name| TopicName::parse(name, TopicName::MAX));
    let topics = names.collect::<Result<Vec<_>, _>>().map_err(UsageError::from)?;
    let secret = args.secret_file.as_deref().map(secret::read).transpose()?;
    let secret = secret.map(|text| SigningSecret::parse(&text)).transpose();
    let secret = secret.map_err(|error| UsageError(format!("--secret-file: {error}")))?;
    let stop = stop_on_signal(SAME_SIGNAL)?;
    let subscribing::Waited::Up(bus) = subscribing::wait_for_bus(&args.bus, &stop).await? else {
        return Ok(());
    };
    let guest = match &args.name {
        Some(name) => Some(Guest::come(&args.bus, name).await?),
        None => None,
    };
    let bus = guest.as_ref().map_or(bus, |guest| guest.bus.clone());
    let listened = listen(&args, topics, secret, bus, &stop).await;
    if let Some(guest) = guest {
        guest.leave().await;
    }
    listened
}

async fn listen(
    args: &ListenArgs,
    topics: Vec<TopicName>,
    secret: Option<SigningSecret>,
    bus: Bus,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    let trial = Trial { fail_percent: args.fail, delay: Duration::from_millis(args.delay) };
    let inbox = Arc::new(Inbox::new(
        trial,
        secret.clone().map(|secret| Verifier::new([secret])),
        Output::new(args.json),
        stop.clone(),
    ));
    let (receiver, uuid) = match args.pull {
        true => (None, None),
        false => {
            let uuid = random_hex()?;
            let identity = args.receiver.identity(&args.bus)?;
            let port = args.receiver.port;
            (Some(Receiver::start(port, &identity, &uuid, inbox.clone())?), Some(uuid))
        }
    };
    let callback = match &receiver {
        None => None,
        Some(receiver) => Some(args.receiver.callback(receiver.port())?),
    };
    if let Some(callback) = &callback
        && args.receiver.callback.is_none()
        && !bus.is_local()
    {
        note!(
            "note: the bus is asked to deliver to {}, which it can reach from this machine only; \
             --callback announces another address, and --pull needs none",
            callback.as_str()
        );
    }
    let wish = Wish {
        topics,
        callback,
        uuid,
        max: args.max,
        timeout_ms: args.timeout,
        secret,
        options: args.bus.to_paste(),
    };
    let mut subscriber = Subscriber::new(bus.clone(), wish);
    let result = tokio::select! {
        result = subscriber.subscribe(args.replace) => result,
        () = stop.cancelled() => Ok(()),
    };
    let result = match (result, args.pull) {
        (Ok(()), true) => puller::run(&bus, &inbox, stop).await,
        (Ok(()), false) => {
            stop.cancelled().await;
            Ok(())
        }
        (refused, _) => refused,
    };
    subscriber.end(args.keep).await;
    if let Some(receiver) = receiver {
        receiver.end().await;
    }
    if result.is_ok() {
        note!("{}", inbox.totals);
    }
    result
}

/// A client that is there for as long as this runs.
struct Guest {
    bus: Bus,
    root: Bus,
    token: ClientToken,
}

impl Guest {
    /// # Errors
    /// If there is no root key, or the bus refuses.
    async fn come(options: &BusOptions, name: &str) -> anyhow::Result<Self> {
        #[derive(Deserialize)]
        struct Made {
            token: String,
        }
        let root = options.connect_as(Capacity::Root)?;
        let body = json!({ "name": name }).to_string();
        let answer = root.post("/api_tokens", body.into()).await?;
        if !answer.status.is_success() {
            return Err(refusal_of_root(&root, &answer));
        }
        let made: Made = answer.json()?;
        let token = ClientToken::parse(&made.token)?;
        Ok(Self { bus: root.with_token(token.clone()), root, token })
    }

    /// Its token goes, and with it whatever it has left.
    async fn leave(self) {
        let path = format!("/api_tokens/{}", self.token.reveal());
        match self.root.delete(&path).await {
            Ok(answer) if answer.status.is_success() => {}
            _ => note!("the token of {} stays: `routemaster token remove` removes it", self.token),
        }
    }
}

impl ReceiverOptions {
    fn identity(&self, bus: &BusOptions) -> anyhow::Result<Identity> {
        let (Some(certificate), Some(key)) = (&self.cert, &self.key) else {
            return DevelopmentCa::open_or_create(&bus.data_dir())?.issue();
        };
        let read = |file: &PathBuf| {
            std::fs::read_to_string(file)
                .with_context(|| format!("failed to read {}", file.display()))
        };
        Ok(Identity { certificate: read(certificate)?, key: read(key)? })
    }

    fn callback(&self, port: u16) -> anyhow::Result<CallbackUrl> {
        match &self.callback {
            None => CallbackUrl::parse(&format!("https://localhost:{port}/")),
            Some(url) => CallbackUrl::parse(url),
        }
        .map_err(|reason| anyhow::anyhow!("--callback {reason}"))
    }
}
