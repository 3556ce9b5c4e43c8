//! A client that connects to Redis anew whenever the connection is lost, and calls that are made
//! over it: how long one may take, and when it is sent again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fred::error::{Error, ErrorKind};
use fred::prelude::{Builder, Client, ClientLike, EventInterface};
use fred::types::{ClusterHash, CustomCommand};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch;
use tokio::time::Instant;

use super::lanes::LaneKeys;
use super::options::UNRESPONSIVE;
use super::server_check;
use crate::store::{Lane, StoreError, StoreResult};
use crate::tls::refusal;

/// The pause between two looks whether the connection is back, and before a call is sent again.
const PAUSE: Duration = Duration::from_millis(20);

/// The pause before a connection is given another task.
const CONNECT_PAUSE: Duration = Duration::from_millis(500);

/// Whether a call may be sent again when the connection broke before its answer came.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Resend {
    Yes,
    No,
}

pub struct Link {
    client: Client,
    /// Why it was last lost, or could not be made.
    lost: LastError,
    silent_servers: Arc<Mutex<SilentServers>>,
    /// Told whenever another server was looked for in place of one that answers nothing.
    left: watch::Sender<()>,
}

/// What calls tell about servers that answer nothing.
#[derive(Default)]
struct SilentServers {
    /// When each slot's server last answered.
    heard: HashMap<u16, Instant>,
    /// When who answers in a silent one's place was last looked for.
    looked: Option<Instant>,
    /// Whether that is under way: one look after the other would never come to an end.
    looking: bool,
}

type LastError = Arc<Mutex<Option<String>>>;

impl Link {
    /// Starts to connect, for as long as it takes. `name` is the server for people.
    pub fn open(builder: &Builder, name: String) -> anyhow::Result<Self> {
        let client = builder.build()?;
        let lost = LastError::default();
        log_changes(&client, name, lost.clone());
        tokio::spawn(keep_connecting(client.clone()));
        Ok(Self { client, lost, silent_servers: Arc::default(), left: watch::Sender::new(()) })
    }

    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Tells whenever another server was looked for in place of one that answers nothing.
    pub fn left(&self) -> watch::Receiver<()> {
        self.left.subscribe()
    }

    /// Makes a call on a slot while there is a connection, again and again where that is right and
    /// may help.
    pub async fn call<T, F, Fut>(
        &self,
        slot: u16,
        deadline: Instant,
        resend: Resend,
        call: F,
    ) -> StoreResult<T>
    where
        F: Fn() -> Fut,
        Fut: Future<Output = Result<T, Error>>,
    {
        loop {
            while !self.client.is_connected() {
                if Instant::now() >= deadline {
                    let lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner).clone();
                    let reason = lost.unwrap_or_else(|| "no answer in time".into());
                    return Err(unavailable(&format!("not connected: {reason}")));
                }
                tokio::time::sleep(PAUSE).await;
            }
            let asked = Instant::now();
            let error = match tokio::time::timeout_at(deadline, call()).await {
                Err(_) => {
                    self.was_silent(slot, asked);
                    return Err(unavailable("no answer in time"));
                }
                Ok(Ok(value)) => {
                    self.heard(slot);
                    return Ok(value);
                }
                Ok(Err(error)) => error,
            };
            let failure = Failure::from(&error);
            match failure {
                _ if *error.kind() == ErrorKind::Timeout => self.was_silent(slot, asked),
                Failure::Unknown => {}
                _ => self.heard(slot),
            }
            let again = match failure {
                Failure::NotYet => true,
                Failure::Unknown => resend == Resend::Yes,
                Failure::Full => {
                    return Err(StoreError::Full(format!("Redis: {}", error.details())));
                }
                Failure::Disagreement => {
                    return Err(StoreError::Corrupt(error.details().to_owned()));
                }
                Failure::Final => false,
            };
            if !again || Instant::now() >= deadline {
                return Err(unavailable(error.details()));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

impl Link {
    fn heard(&self, slot: u16) {
        lock(&self.silent_servers).heard.insert(slot, Instant::now());
    }

    /// A server that hangs keeps its connection for ever: who answers in its place now, if anybody
    /// does, is only found by looking.
    fn was_silent(&self, slot: u16, asked: Instant) {
        let mut silent_servers = lock(&self.silent_servers);
        let marks = [Some(&asked), silent_servers.heard.get(&slot), silent_servers.looked.as_ref()];
        let since = marks.into_iter().flatten().max().copied().unwrap_or(asked);
        if since.elapsed() < UNRESPONSIVE || silent_servers.looking {
            return;
        }
        silent_servers.looking = true;
        let (client, silent_servers, left) =
            (self.client.clone(), self.silent_servers.clone(), self.left.clone());
        tokio::spawn(async move {
            // It comes to an end when there is a connection, or the client is gone.
            let looked = client.force_reconnection().await;
            tracing::debug!(?looked, "Redis was silent for too long: looked who answers now");
            let mut silent_servers = lock(&silent_servers);
            (silent_servers.looking, silent_servers.looked) = (false, Some(Instant::now()));
            left.send_replace(());
        });
    }
}

fn lock(silent_servers: &Mutex<SilentServers>) -> MutexGuard<'_, SilentServers> {
    silent_servers.lock().unwrap_or_else(PoisonError::into_inner)
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
    /// This process and the store do not agree on how many lanes there are, or on the format.
    Disagreement,
    /// It will not be done.
    Final,
}

/// How Redis begins an answer that means: not yet. fred reports `MOVED` and `ASK`, which are not
/// followed, as errors of routing.
const NOT_YET: [&str; 5] = ["LOADING", "CLUSTERDOWN", "MASTERDOWN", "READONLY", "TRYAGAIN"];

/// How fred says that the connection ended, or was given up, before the answer came; or that there was
/// none for a try after the first one, of which it does not say whether it was written.
const CUT_OFF: [&str; 2] = ["Too many failed write attempts", "Failed to route command"];

impl From<&Error> for Failure {
    fn from(error: &Error) -> Self {
        let details = error.details();
        if NOT_YET.iter().any(|word| details.starts_with(word)) {
            return Self::NotYet;
        }
        match error.kind() {
            ErrorKind::Cluster | ErrorKind::Routing => Self::NotYet,
            ErrorKind::IO | ErrorKind::Canceled => Self::Unknown,
            _ if CUT_OFF.iter().any(|words| details.starts_with(words)) => Self::Unknown,
            _ if details.starts_with("OOM") => Self::Full,
            // Our own words; see `scripts/lanes`.
            _ if ["LANES", "FORMAT"].iter().any(|word| details.starts_with(word)) => {
                Self::Disagreement
            }
            _ => Self::Final,
        }
    }
}

/// fred connects anew by itself, but for some errors, after which its task ends and every call would
/// wait in vain.
async fn keep_connecting(client: Client) {
    loop {
        let ended = client.connect().await;
        tracing::warn!(?ended, "the task that keeps the connection to Redis has ended; anew");
        tokio::time::sleep(CONNECT_PAUSE).await;
    }
}

/// Says once when the connection is lost, and once when it is back.
fn log_changes(client: &Client, name: String, last: LastError) {
    let (mut errors, mut reconnects) = (client.error_rx(), client.reconnect_rx());
    let client = client.clone();
    tokio::spawn(async move {
        let mut lost = false;
        loop {
            tokio::select! {
                error = errors.recv() => match error {
                    Ok((error, _)) => {
                        let reason = readable(error.details());
                        if !std::mem::replace(&mut lost, true) {
                            tracing::error!(store = %name, error = reason, "failed to reach the store; trying on");
                        }
                        *last.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason);
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

/// What an error of the system or of TLS says in words; fred shows such a one as programmers see it.
fn readable(details: &str) -> String {
    let quoted = |field: &str| Some(details.split_once(field)?.1.split_once('"')?.0);
    let bare = || Some(details.split_once("error: ")?.1.trim_end_matches(" }"));
    let words = quoted("message: \"").or_else(|| quoted("error: \"")).or_else(bare);
    let words = words.unwrap_or(details);
    refusal::told_of_text(words).unwrap_or_else(|| words.to_owned())
}

/// It may be another server than before, or one that was not there at the start. Of a Cluster, the
/// node of the home lane stands for all.
async fn check_again(client: &Client) {
    let Ok(info) = info(client, LaneKeys::of(Lane::HOME).slot).await else { return };
    match server_check::check(&info) {
        Ok(warnings) => warnings.iter().for_each(|warning| tracing::warn!("{warning}")),
        Err(error) => tracing::error!(error = format!("{error:#}"), "this Redis loses events"),
    }
}

/// The account that the server which has a slot gives of itself.
pub async fn info(client: &Client, slot: u16) -> Result<String, Error> {
    let info = CustomCommand::new_static("INFO", ClusterHash::Custom(slot), false);
    client.custom(info, Vec::<String>::new()).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_without_a_connection_may_have_been_done_and_is_made_again() {
        for details in ["Failed to route command.", "Too many failed write attempts."] {
            let failure = Failure::from(&Error::new(ErrorKind::Unknown, details));
            assert!(matches!(failure, Failure::Unknown), "{details}");
        }
    }

    #[test]
    fn an_error_of_the_system_is_told_in_its_words() {
        let raw = r#"Os { code: 111, kind: ConnectionRefused, message: "Connection refused" }"#;
        assert_eq!(readable(raw), "Connection refused");
        let raw = r#"Custom { kind: Uncategorized, error: "failed to look it up" }"#;
        assert_eq!(readable(raw), "failed to look it up");
        let raw = "Custom { kind: InvalidData, error: AlertReceived(UnknownCA) }";
        assert!(readable(raw).contains("does not trust"), "{}", readable(raw));
        assert_eq!(readable("WRONGPASS invalid"), "WRONGPASS invalid");
    }
}
