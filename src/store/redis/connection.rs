//! The connection to Redis: how it is set up, how long a call may take, what is sent again.
//!
//! fred would queue calls while Redis is away, for ever by default, and send them when it is
//! back: a publish that was answered with 503 long ago would then still be stored. So a call is
//! sent only while connected, waits a bounded time, and fred itself never sends it twice.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fred::error::{Error, ErrorKind};
use fred::prelude::{Builder, Client, ClientLike, Config, EventInterface, HashesInterface};
use fred::types::config::{ReconnectPolicy, UnresponsiveConfig};
use fred::types::scripts::Script;
use fred::types::{ClusterHash, CustomCommand, Value};
use tokio::time::Instant;

use super::reply::Reply;
use super::server_check;
use crate::store::{StoreError, StoreResult};

/// Longest time any call takes before it gives [`StoreError::Unavailable`].
pub const CALL_TIMEOUT: Duration = Duration::from_secs(4);
/// The pause between two looks whether the connection is back, and before a call is sent again.
const PAUSE: Duration = Duration::from_millis(20);
/// A connection that owes an answer for longer than this is closed and opened anew.
const UNRESPONSIVE: Duration = Duration::from_secs(6);
/// Pauses between two tries to connect, in milliseconds; doubled from the first to the last.
const RECONNECT_MS: (u32, u32) = (50, 2_000);
/// The slot of the keys' hash tag `0`, in which a Cluster keeps them all.
const LANE_SLOT: u16 = 13907;
/// How many calls wait for the connection at most.
const WAITING_MAX: usize = 10_000;

/// Whether a call may be sent again when the connection broke before its answer came.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Resend {
    Yes,
    No,
}

pub struct Connection {
    client: Client,
    /// Why it was last lost, or could not be made.
    lost: LastError,
}

type LastError = Arc<Mutex<Option<String>>>;

/// How every connection to Redis is set up.
///
/// # Errors
/// If the URL cannot be understood.
pub fn builder(url: &str) -> anyhow::Result<Builder> {
    let mut config =
        Config::from_url(url).map_err(|error| anyhow::anyhow!("{}", error.details()))?;
    // Else fred tries the first time only once, and a Redis that starts later is never found.
    config.fail_fast = false;
    let mut builder = Builder::from_config(config);
    builder
        .with_connection_config(|connection| {
            connection.connection_timeout = CALL_TIMEOUT;
            connection.internal_command_timeout = CALL_TIMEOUT;
            connection.max_command_attempts = 1;
            connection.max_command_buffer_len = WAITING_MAX;
            connection.reconnect_on_auth_error = true;
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
    pub fn open(url: &str) -> anyhow::Result<Self> {
        let client = builder(url)?.build()?;
        let lost = LastError::default();
        log_changes(&client, describe(url), lost.clone());
        client.connect();
        Ok(Self { client, lost })
    }

    pub async fn run(
        &self,
        script: &Script,
        key: &str,
        args: Vec<Value>,
        resend: Resend,
        give_up: Instant,
    ) -> StoreResult<Reply> {
        let call = || async {
            let args = args.clone();
            script.evalsha_with_reload::<Value, _, _>(&self.client, key, args).await
        };
        self.call_until(give_up, resend, call).await.map(Reply::from)
    }

    /// The server's account of itself.
    pub async fn info(&self) -> StoreResult<String> {
        self.call(|| info(&self.client)).await
    }

    pub async fn hash(&self, key: &str) -> StoreResult<HashMap<String, String>> {
        self.call(|| self.client.hgetall(key)).await
    }

    pub async fn hash_set(&self, key: &str, field: &str, value: &str) -> StoreResult<()> {
        self.call(|| self.client.hset(key, (field, value))).await
    }

    pub async fn hash_delete(&self, key: &str, field: &str) -> StoreResult<()> {
        self.call(|| self.client.hdel(key, field)).await
    }

    /// A call that may be sent again, in the usual time.
    async fn call<T, F, Fut>(&self, call: F) -> StoreResult<T>
    where
        F: Fn() -> Fut,
        Fut: Future<Output = Result<T, Error>>,
    {
        self.call_until(Instant::now() + CALL_TIMEOUT, Resend::Yes, call).await
    }

    async fn call_until<T, F, Fut>(
        &self,
        deadline: Instant,
        resend: Resend,
        call: F,
    ) -> StoreResult<T>
    where
        F: Fn() -> Fut,
        Fut: Future<Output = Result<T, Error>>,
    {
        let unavailable = |reason: &str| StoreError::Unavailable(format!("Redis: {reason}"));
        loop {
            while !self.client.is_connected() {
                if Instant::now() >= deadline {
                    let lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner).clone();
                    let reason = lost.unwrap_or_else(|| "no answer in time".into());
                    return Err(unavailable(&format!("not connected: {reason}")));
                }
                tokio::time::sleep(PAUSE).await;
            }
            let error = match tokio::time::timeout_at(deadline, call()).await {
                Err(_) => return Err(unavailable("no answer in time")),
                Ok(Ok(value)) => return Ok(value),
                Ok(Err(error)) => error,
            };
            let broke = matches!(error.kind(), ErrorKind::IO | ErrorKind::Canceled)
                || error.details().starts_with("LOADING");
            if error.details().starts_with("OOM") {
                return Err(StoreError::Full(format!("Redis: {}", error.details())));
            }
            if !broke || resend == Resend::No || Instant::now() >= deadline {
                return Err(unavailable(error.details()));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// Says once when the connection is lost, and once when it is back.
fn log_changes(client: &Client, name: String, last: LastError) {
    let (mut errors, mut reconnects) = (client.error_rx(), client.reconnect_rx());
    let client = client.clone();
    tokio::spawn(async move {
        use tokio::sync::broadcast::error::RecvError;
        let mut lost = false;
        loop {
            tokio::select! {
                error = errors.recv() => match error {
                    Ok((error, _)) => {
                        let reason = readable(error.details()).to_owned();
                        *last.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason);
                        if !lost {
                            lost = true;
                            tracing::error!(store = %name, error = readable(error.details()), "failed to reach the store; trying on");
                        }
                    }
                    Err(RecvError::Closed) => return,
                    Err(RecvError::Lagged(_)) => {}
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

/// What an error of the system says in words; fred shows such a one as programmers see it.
fn readable(details: &str) -> &str {
    let quoted = |field: &str| Some(details.split_once(field)?.1.split_once('"')?.0);
    quoted("message: \"").or_else(|| quoted("error: \"")).unwrap_or(details)
}

/// It may be another server than before, or one that was not there at the start.
async fn check_again(client: &Client) {
    let Ok(info) = info(client).await else { return };
    match server_check::check(&info) {
        Ok(warnings) => warnings.iter().for_each(|warning| tracing::warn!("{warning}")),
        Err(error) => tracing::error!(error = format!("{error:#}"), "this Redis loses events"),
    }
}

async fn info(client: &Client) -> Result<String, Error> {
    // Of a Cluster, the node that has all our keys.
    let info = CustomCommand::new_static("INFO", ClusterHash::Custom(LANE_SLOT), false);
    client.custom(info, Vec::<String>::new()).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_the_system_is_told_in_its_words() {
        let raw = r#"Os { code: 111, kind: ConnectionRefused, message: "Connection refused" }"#;
        assert_eq!(readable(raw), "Connection refused");
        let raw = r#"Custom { kind: Uncategorized, error: "failed to look it up" }"#;
        assert_eq!(readable(raw), "failed to look it up");
        assert_eq!(readable("WRONGPASS invalid"), "WRONGPASS invalid");
    }
}
