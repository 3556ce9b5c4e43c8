//! The connection to Redis: how it is set up, how long a call may take, what is sent again.
//!
//! fred would queue calls while Redis is away, for ever by default, and send them when it is
//! back: a publish that was answered with 503 long ago would then still be stored. So a call is
//! sent only while connected, waits a bounded time, and fred itself never sends it twice.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use fred::error::{Error, ErrorKind};
use fred::prelude::{
    Builder, Client, ClientLike, Config, EventInterface, HashesInterface, LuaInterface,
};
use fred::types::config::{
    ReconnectError, ReconnectPolicy, ServerConfig, TlsConfig, TlsConnector, TlsHostMapping,
    UnresponsiveConfig,
};
use fred::types::scripts::Script;
use fred::types::{ClusterHash, CustomCommand, Value};
use tokio::time::Instant;

use super::lanes::LaneKeys;
use super::replicas::Replicas;
use super::reply::Reply;
use super::server_check;
use crate::store::{Lane, StoreError, StoreResult};
use crate::tls::client;
use crate::tls::server::CertificateFiles;

/// Longest time any call takes before it gives [`StoreError::Unavailable`].
pub const CALL_TIMEOUT: Duration = Duration::from_secs(4);
/// The pause between two looks whether the connection is back, and before a call is sent again.
const PAUSE: Duration = Duration::from_millis(20);
/// A connection that owes an answer for longer than this is closed and opened anew.
const UNRESPONSIVE: Duration = Duration::from_secs(6);
/// Pauses between two tries to connect, in milliseconds; doubled from the first to the last.
const RECONNECT_MS: (u32, u32) = (50, 2_000);
/// How many calls wait for the connection at most.
const WAITING_MAX: usize = 10_000;

/// Whether a call may be sent again when the connection broke before its answer came.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Resend {
    Yes,
    No,
}

/// Which Redis, and how it is reached and used.
#[derive(Clone, Debug, Default)]
pub struct RedisOptions {
    pub url: String,
    /// Certificate authorities to trust beside the system's.
    pub ca_file: Option<PathBuf>,
    /// What this client shows a server that asks for a certificate.
    pub identity: Option<CertificateFiles>,
    /// How many replicas must have a change before it is answered for.
    pub wait_replicas: u32,
    /// How many lanes a store that is empty gets.
    pub lanes: Option<usize>,
}

impl RedisOptions {
    /// For tests and tools: this server and nothing special.
    pub fn plain(url: &str) -> Self {
        Self { url: url.to_owned(), ..Self::default() }
    }
}

pub struct Connection {
    client: Client,
    replicas: Option<Replicas>,
}

/// How every connection to Redis is set up.
///
/// # Errors
/// If the URL cannot be understood, or a file cannot be used.
pub fn builder(options: &RedisOptions) -> anyhow::Result<Builder> {
    let mut config =
        Config::from_url(&options.url).map_err(|error| anyhow::anyhow!("{}", error.details()))?;
    // Else fred tries the first time only once, and a Redis that starts later is never found.
    config.fail_fast = false;
    if config.tls.is_some() {
        let ca_files = options.ca_file.as_slice();
        let tls = client::config(ca_files, options.identity.as_ref())?;
        config.tls =
            Some(TlsConfig { connector: TlsConnector::from(tls), hostnames: TlsHostMapping::None });
    }
    let mut builder = Builder::from_config(config);
    builder
        .with_connection_config(|connection| {
            connection.connection_timeout = CALL_TIMEOUT;
            connection.internal_command_timeout = CALL_TIMEOUT;
            connection.max_command_attempts = 1;
            connection.max_command_buffer_len = WAITING_MAX;
            connection.reconnect_on_auth_error = true;
            // A master that has become a replica: who is master now has to be asked again.
            connection.reconnect_errors = vec![ReconnectError::ReadOnly];
            connection.auto_client_setname = true;
            connection.tcp.nodelay = Some(true);
            // What was not acknowledged by then is not retransmitted behind newer calls.
            connection.tcp.user_timeout = Some(CALL_TIMEOUT);
            connection.unresponsive = UnresponsiveConfig {
                max_timeout: Some(UNRESPONSIVE),
                interval: Duration::from_secs(1),
            };
        })
        .with_performance_config(|performance| {
            performance.default_command_timeout = CALL_TIMEOUT;
        })
        // 0 attempts means: without end.
        .set_policy(ReconnectPolicy::new_exponential(0, RECONNECT_MS.0, RECONNECT_MS.1, 2));
    Ok(builder)
}

/// Whether a URL is that of a Cluster.
pub fn is_cluster(url: &str) -> bool {
    Config::from_url(url)
        .is_ok_and(|config| matches!(config.server, ServerConfig::Clustered { .. }))
}

/// The URL for people: without password.
pub fn describe(url: &str) -> String {
    match url::Url::parse(url) {
        Ok(url) => {
            let path = url.path().trim_end_matches('/');
            let port = url.port().map_or(String::new(), |port| format!(":{port}"));
            format!("Redis, {}://{}{port}{path}", url.scheme(), url.host_str().unwrap_or_default())
        }
        Err(_) => "Redis".into(),
    }
}

impl Connection {
    /// Starts to connect, and to connect anew whenever the connection is lost.
    pub fn open(options: &RedisOptions) -> anyhow::Result<Self> {
        let client = builder(options)?.build()?;
        log_changes(&client, describe(&options.url));
        client.connect();
        Ok(Self { client, replicas: Replicas::open(options)? })
    }

    /// Runs a script on a lane. A call that is sent again may be done twice.
    pub async fn run(
        &self,
        script: &Script,
        lane: &LaneKeys,
        args: Vec<Value>,
        resend: Resend,
        give_up: Instant,
    ) -> StoreResult<Reply> {
        let call = || run_once(&self.client, script, lane, args.clone());
        call_until(&self.client, give_up, resend, call).await.map(Reply::from)
    }

    /// Runs a script on a lane, and answers when as many replicas have what it changed as the
    /// settings ask for. It is sent again if need be.
    pub async fn run_replicated(
        &self,
        script: &Script,
        lane: &LaneKeys,
        args: Vec<Value>,
        give_up: Instant,
    ) -> StoreResult<Reply> {
        match &self.replicas {
            None => self.run(script, lane, args, Resend::Yes, give_up).await,
            Some(replicas) => replicas.run(script, lane, args, give_up).await.map(Reply::from),
        }
    }

    /// The account that the server which has a lane gives of itself.
    pub async fn info(&self, lane: &LaneKeys) -> StoreResult<String> {
        let give_up = Instant::now() + CALL_TIMEOUT;
        call_until(&self.client, give_up, Resend::Yes, || info(&self.client, lane.slot)).await
    }

    pub async fn hash(&self, key: &str) -> StoreResult<HashMap<String, String>> {
        let give_up = Instant::now() + CALL_TIMEOUT;
        call_until(&self.client, give_up, Resend::Yes, || self.client.hgetall(key)).await
    }
}

async fn run_once(
    client: &Client,
    script: &Script,
    lane: &LaneKeys,
    args: Vec<Value>,
) -> Result<Value, Error> {
    let key = lane.prefix.as_str();
    match client.evalsha(script.sha1().clone(), key, args.clone()).await {
        // This loads it, too, and on the right node of a Cluster.
        Err(error) if is_not_loaded(&error) => {
            client.eval(script.lua().cloned().unwrap_or_default(), key, args).await
        }
        result => result,
    }
}

pub fn is_not_loaded(error: &Error) -> bool {
    error.details().starts_with("NOSCRIPT")
}

pub fn unavailable(reason: &str) -> StoreError {
    StoreError::Unavailable(format!("Redis: {reason}"))
}

/// What became of a call that failed.
enum Failure {
    /// It was not done, and soon may be: the server is starting, or the lane is on its way from one
    /// node of a Cluster to another, or from a master to its replica.
    NotYet,
    /// Whether it was done is not known: the connection broke.
    Unknown,
    /// There is no room for what it was to store.
    Full,
    /// It will not be done.
    Final,
}

impl From<&Error> for Failure {
    fn from(error: &Error) -> Self {
        // `MOVING` is our own scripts' word; see common.lua.
        const NOT_YET: [&str; 8] = [
            "LOADING",
            "CLUSTERDOWN",
            "MASTERDOWN",
            "READONLY",
            "TRYAGAIN",
            "MOVED",
            "ASK",
            "MOVING",
        ];
        let details = error.details();
        if NOT_YET.iter().any(|word| details.starts_with(word)) {
            return Self::NotYet;
        }
        match error.kind() {
            ErrorKind::Cluster | ErrorKind::Routing => Self::NotYet,
            ErrorKind::IO | ErrorKind::Canceled => Self::Unknown,
            _ if details.starts_with("OOM") => Self::Full,
            _ => Self::Final,
        }
    }
}

/// Makes a call while there is a connection, again and again where that is right and may help.
pub async fn call_until<T, F, Fut>(
    client: &Client,
    deadline: Instant,
    resend: Resend,
    call: F,
) -> StoreResult<T>
where
    F: Fn() -> Fut,
    Fut: Future<Output = Result<T, Error>>,
{
    loop {
        while !client.is_connected() {
            if Instant::now() >= deadline {
                return Err(unavailable("not connected"));
            }
            tokio::time::sleep(PAUSE).await;
        }
        let error = match tokio::time::timeout_at(deadline, call()).await {
            Err(_) => return Err(unavailable("no answer in time")),
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(error)) => error,
        };
        let again = match Failure::from(&error) {
            Failure::NotYet => true,
            Failure::Unknown => resend == Resend::Yes,
            Failure::Full => {
                return Err(StoreError::Full(format!("Redis: {}", error.details())));
            }
            Failure::Final => false,
        };
        if !again || Instant::now() >= deadline {
            return Err(unavailable(error.details()));
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Says once when the connection is lost, and once when it is back.
fn log_changes(client: &Client, name: String) {
    let (mut errors, mut reconnects) = (client.error_rx(), client.reconnect_rx());
    let client = client.clone();
    tokio::spawn(async move {
        use tokio::sync::broadcast::error::RecvError;
        let mut lost = false;
        loop {
            tokio::select! {
                error = errors.recv() => match error {
                    Ok((error, _)) if !lost => {
                        lost = true;
                        tracing::error!(store = %name, error = error.details(), "failed to reach the store; trying on");
                    }
                    Err(RecvError::Closed) => return,
                    Ok(_) | Err(RecvError::Lagged(_)) => {}
                },
                connected = reconnects.recv() => match connected {
                    Ok(_) => {
                        if std::mem::take(&mut lost) {
                            tracing::info!(store = %name, "the store is reached again");
                        }
                        check_again(&client).await;
                    }
                    Err(RecvError::Closed) => return,
                    Err(RecvError::Lagged(_)) => {}
                },
            }
        }
    });
}

/// It may be another server than before, or one that was not there at the start.
async fn check_again(client: &Client) {
    // Of a Cluster, the node of the home lane stands for all.
    let Ok(info) = info(client, LaneKeys::of(Lane::HOME).slot).await else { return };
    match server_check::check(&info) {
        Ok(warnings) => warnings.iter().for_each(|warning| tracing::warn!("{warning}")),
        Err(error) => tracing::error!(error = format!("{error:#}"), "this Redis loses events"),
    }
}

async fn info(client: &Client, slot: u16) -> Result<String, Error> {
    let info = CustomCommand::new_static("INFO", ClusterHash::Custom(slot), false);
    client.custom(info, Vec::<String>::new()).await
}
