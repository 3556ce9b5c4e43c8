//! Who calls: HTTP Basic with an allowed token as the user name (contract §1).

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use axum::http::{HeaderMap, header};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use subtle::ConstantTimeEq;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::in_flight::Holder;
use super::limits::Limits;
use super::refusal::Refusal;
use crate::bus::clock::Clock;
use crate::bus::token::{ApiToken, ClientToken, RootKey};
use crate::store::{Store, StoreError};
use crate::telemetry::sparing::SparingLine;

/// Somebody with an allowed token.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Caller {
    /// A client, which may publish and subscribe.
    Client(ClientToken),
    /// The holder of the root key.
    Root,
    /// The holder of the monitoring key, who looks at the bus and at nothing that is anybody's own.
    Monitor,
}

impl Caller {
    /// The client's token, for what only a client can do.
    pub fn client(&self) -> Result<&ClientToken, Refusal> {
        match self {
            Self::Client(token) => Ok(token),
            Self::Root => Err(Refusal::Forbidden("the root key is no client: use a token")),
            Self::Monitor => Err(Refusal::Forbidden(MONITOR_ONLY)),
        }
    }

    /// Whether a secret of this client is its own business.
    pub fn may_see_secrets_of(&self, client: &ClientToken) -> bool {
        match self {
            Self::Client(token) => token == client,
            Self::Root => true,
            Self::Monitor => false,
        }
    }

    /// Whose a thing must be that the caller changes: its own, `None` for root, who may change all.
    pub fn owner(&self) -> Result<Option<&ClientToken>, Refusal> {
        match self {
            Self::Client(token) => Ok(Some(token)),
            Self::Root => Ok(None),
            Self::Monitor => Err(Refusal::Forbidden(MONITOR_ONLY)),
        }
    }

    pub fn require_root(&self) -> Result<(), Refusal> {
        match self {
            Self::Root => Ok(()),
            Self::Client(_) => Err(Refusal::Forbidden("this needs the root key")),
            Self::Monitor => Err(Refusal::Forbidden(MONITOR_ONLY)),
        }
    }
}

pub const MONITOR_ONLY: &str = "the monitoring key reads monitoring and metrics, and nothing else";

impl From<&Caller> for Holder {
    fn from(caller: &Caller) -> Self {
        match caller {
            Caller::Client(token) => Self::Client(token.clone()),
            Caller::Root => Self::Root,
            Caller::Monitor => Self::Monitor,
        }
    }
}

/// Finds out who calls.
pub struct Authentication {
    pub tokens: Tokens,
    pub limits: Limits,
    /// Whether the address that a proxy tells is believed (`ROUTEMASTER_TRUST_PROXY`).
    pub trust_proxy: bool,
}

impl Authentication {
    /// Who calls from `peer` with these headers.
    ///
    /// # Errors
    /// As [`Tokens::caller`], and if too many from there are unknown.
    pub async fn caller(
        &self,
        headers: &HeaderMap,
        peer: Option<SocketAddr>,
    ) -> Result<Caller, Refusal> {
        let authorization = headers.get(header::AUTHORIZATION);
        let authorization = authorization.ok_or(Refusal::Unauthorized)?.as_bytes();
        if let Some(caller) = self.tokens.known(authorization) {
            return Ok(caller);
        }
        // Counted before the store is asked: guessing must not be work for it.
        let from = self.client_address(headers, peer);
        self.count_failure(from)?;
        let caller = self.tokens.caller(authorization).await;
        if let Err(Refusal::Unauthorized) = caller {
            tell_refused(from, "unknown token");
        }
        caller
    }

    /// Looks for something among the tokens again, once the store was asked for new ones; counted before, as guessing is.
    ///
    /// # Errors
    /// If too many from there were unknown.
    pub async fn look_again<T>(
        &self,
        headers: &HeaderMap,
        peer: Option<SocketAddr>,
        look: impl Fn(&Tokens) -> Option<T>,
    ) -> Result<Option<T>, Refusal> {
        let from = self.client_address(headers, peer);
        self.count_failure(from)?;
        if let Err(error) = self.tokens.refresh_once_after(Instant::now()).await {
            tracing::debug!(%error, "failed to refresh the tokens");
        }
        let found = look(&self.tokens);
        if found.is_none() {
            tell_refused(from, "unknown session");
        }
        Ok(found)
    }

    /// What somebody gets whose credentials are wrong.
    pub fn refuse(
        &self,
        headers: &HeaderMap,
        peer: Option<SocketAddr>,
        why: &'static str,
    ) -> Refusal {
        let from = self.client_address(headers, peer);
        if let Err(too_many) = self.count_failure(from) {
            return too_many;
        }
        tell_refused(from, why);
        Refusal::Unauthorized
    }

    fn count_failure(&self, from: Option<IpAddr>) -> Result<(), Refusal> {
        let Some(address) = from else { return Ok(()) };
        let counted = self.limits.failed_authentication(address).inspect_err(|_| {
            if let Some(untold) = GUESSING.is_due() {
                tracing::warn!(from = %address, untold, "refused too many sign-ins");
            }
        });
        Ok(counted?)
    }

    /// A client as a caller may see it in monitoring: the whole token for its holder and for root. For others
    /// its name: what stands before `--`, or what it was made for; a token of the settings without `--` is
    /// its own name, as in the original. What this process does not know of it shows by its beginning.
    pub fn view_of(&self, token: &ClientToken, caller: &Caller) -> String {
        if caller.may_see_secrets_of(token) {
            return self.tokens.current(token).reveal().to_owned();
        }
        self.name_of(token)
    }

    /// The name of a client, as others may see it.
    pub fn name_of(&self, token: &ClientToken) -> String {
        let own_name = token.service_name().map(str::to_owned);
        own_name.or_else(|| self.tokens.name_of(token)).unwrap_or_else(|| token.label())
    }

    /// Where a request comes from: the other end of its connection or, behind a trusted proxy, of
    /// the proxy's, which it adds to `X-Forwarded-For` last.
    pub fn client_address(&self, headers: &HeaderMap, peer: Option<SocketAddr>) -> Option<IpAddr> {
        let forwarded = || {
            let addresses = headers.get_all("x-forwarded-for").iter().next_back()?;
            let last = addresses.to_str().ok()?.rsplit(',').next()?.trim();
            // Some proxies add the port.
            let with_port = || last.parse::<SocketAddr>().ok().map(|address| address.ip());
            last.parse().ok().or_else(with_port)
        };
        let proxied = if self.trust_proxy { forwarded() } else { None };
        proxied.or_else(|| peer.map(|peer| peer.ip()))
    }

    /// Keeps the tokens in step with the store, and forgets counts without effect, without end.
    pub async fn keep_fresh(&self) {
        tokio::join!(self.tokens.keep_fresh(), self.limits.keep_swept());
    }
}

fn tell_refused(from: Option<IpAddr>, why: &'static str) {
    tracing::warn!(from = from.map(tracing::field::display), "refused a sign-in: {why}");
}

static GUESSING: SparingLine = SparingLine::new();

/// Whether an `Authorization` header is of the scheme Basic.
pub fn is_basic(authorization: &[u8]) -> bool {
    let scheme = authorization.split(|byte| *byte == b' ').next().unwrap_or_default();
    scheme.eq_ignore_ascii_case(b"basic")
}

/// Decodes `Basic <base64>`; `None` if it is not of that form.
pub fn basic_credentials(authorization: &[u8]) -> Option<String> {
    let (scheme, encoded) = std::str::from_utf8(authorization).ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    String::from_utf8(BASE64_STANDARD.decode(encoded.trim()).ok()?).ok()
}

/// The user names that credentials may mean, the longest first. A token can hold colons and the
/// password is ignored, so a user name may end at any of them.
pub fn user_names(credentials: &str) -> impl Iterator<Item = &str> {
    let ends = credentials.bytes().enumerate().take(ClientToken::MAX + 1).rev();
    ends.filter(|(_, byte)| *byte == b':').map(|(end, _)| &credentials[..end])
}

/// All tokens that are allowed: those of the settings and those made through `/api_tokens`.
///
/// A token is found by a keyed hash of it, SipHash with a random key, so that the time a look-up
/// takes says nothing about how much of a guess is right.
pub struct Tokens {
    store: Arc<dyn Store>,
    hasher: RandomState,
    root: Option<RootKey>,
    monitor: Option<RootKey>,
    configured: Vec<ClientToken>,
    clock: Clock,
    allowed: RwLock<Allowed>,
    /// The last question to the store: when, and whether it was answered.
    refreshed: Mutex<Option<(Instant, Result<(), StoreError>)>>,
}

#[derive(Default)]
struct Allowed {
    /// By hash, which two tokens may share: each token with the client that it lets in.
    by_hash: HashMap<u64, Vec<(ClientToken, ClientToken)>>,
    /// What those clients are called whose token does not say so itself.
    names: HashMap<ClientToken, String>,
    /// The token that a client has now, if it had another one before.
    current: HashMap<ClientToken, ClientToken>,
}

/// How often the store is asked for tokens: one that was revoked elsewhere is refused within
/// 1 s (contract §1).
const REFRESH_INTERVAL: Duration = Duration::from_millis(400);
/// How long a request with an unknown token waits for the store.
const REFRESH_TIMEOUT: Duration = Duration::from_secs(1);
/// The shortest time between two questions to the store, however many unknown tokens arrive.
const REFRESH_PAUSE: Duration = Duration::from_millis(20);

impl Tokens {
    /// `root` and `configured` are those of the settings.
    pub fn new(root: Option<RootKey>, configured: Vec<ClientToken>, store: Arc<dyn Store>) -> Self {
        let tokens = Self {
            store,
            hasher: RandomState::new(),
            root,
            monitor: None,
            configured,
            clock: Clock::system(),
            allowed: RwLock::default(),
            refreshed: Mutex::new(None),
        };
        tokens.allow(vec![]);
        tokens
    }

    /// Lets the holder of this key look at the bus.
    pub fn with_monitor(self, monitor: Option<RootKey>) -> Self {
        Self { monitor, ..self }
    }

    /// Keeps the tokens in step with the store, without end.
    async fn keep_fresh(&self) {
        loop {
            tokio::time::sleep(REFRESH_INTERVAL).await;
            if let Err(error) = self.refresh().await {
                tracing::debug!(%error, "failed to refresh the tokens");
            }
        }
    }

    /// Reads the tokens before anybody is let in: one of the settings may have been rotated. A store that cannot
    /// be reached yet holds nothing up.
    pub async fn learn(&self) {
        match tokio::time::timeout(REFRESH_TIMEOUT, self.refresh()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "failed to read the tokens"),
            Err(_) => tracing::debug!("the tokens could not be read in time"),
        }
    }

    /// Reads the tokens from the store now.
    pub async fn refresh(&self) -> Result<(), StoreError> {
        let tokens = self.store.api_tokens().await?;
        self.allow(tokens);
        Ok(())
    }

    /// The tokens that stand in the settings.
    pub fn configured(&self) -> &[ClientToken] {
        &self.configured
    }

    /// Whether a token stands in the settings, and so cannot be made or revoked.
    pub fn is_configured(&self, token: &ClientToken) -> bool {
        let mut keys = [&self.root, &self.monitor].into_iter().flatten();
        keys.any(|key| key.reveal() == token.reveal()) || self.configured.contains(token)
    }

    /// The caller that an `Authorization` header names, if its token is known here.
    pub fn known(&self, authorization: &[u8]) -> Option<Caller> {
        self.find(&basic_credentials(authorization)?)
    }

    /// The caller that an `Authorization` header names; the store is asked for its token.
    ///
    /// # Errors
    /// [`Refusal::Unauthorized`] if it names nobody who is allowed, [`Refusal::Store`] if that
    /// cannot be known because the store is not available.
    pub async fn caller(&self, authorization: &[u8]) -> Result<Caller, Refusal> {
        let credentials = basic_credentials(authorization).ok_or(Refusal::Unauthorized)?;
        if user_names(&credentials).all(|name| ClientToken::parse(name).is_err()) {
            return Err(Refusal::Unauthorized);
        }
        // The token may have been made a moment ago, by another web process.
        let refreshed = self.refresh_once_after(Instant::now()).await;
        let caller = self.find(&credentials);
        caller.ok_or_else(|| refreshed.err().map_or(Refusal::Unauthorized, Refusal::Store))
    }

    /// The name of a client whose token does not hold one itself.
    fn name_of(&self, client: &ClientToken) -> Option<String> {
        self.allowed().names.get(client).cloned()
    }

    /// Whose token this is: what belongs to a client is kept under the token that it had first.
    pub fn client_of(&self, token: &ClientToken) -> ClientToken {
        let allowed = self.allowed();
        let alike = allowed.by_hash.get(&self.hasher.hash_one(token.reveal()));
        let found = alike.into_iter().flatten().find(|(known, _)| known == token);
        found.map_or_else(|| token.clone(), |(_, client)| client.clone())
    }

    /// All user names that are allowed, but for the monitoring key: to be tried without holding anybody up.
    pub fn users(&self) -> Vec<String> {
        let root = self.root.iter().map(|root| root.reveal().to_owned());
        let allowed = self.allowed();
        let tokens = allowed.by_hash.values().flatten().map(|(token, _)| token.reveal().to_owned());
        root.chain(tokens).collect()
    }

    /// All clients that any token lets in.
    pub fn clients(&self) -> Vec<ClientToken> {
        self.allowed().by_hash.values().flatten().map(|(_, client)| client.clone()).collect()
    }

    /// Whether any token lets this client in.
    pub fn lets_in(&self, client: &ClientToken) -> bool {
        self.allowed().by_hash.values().flatten().any(|(_, known)| known == client)
    }

    /// The token that a client has now.
    fn current(&self, client: &ClientToken) -> ClientToken {
        self.allowed().current.get(client).unwrap_or(client).clone()
    }

    fn allowed(&self) -> RwLockReadGuard<'_, Allowed> {
        self.allowed.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, credentials: &str) -> Option<Caller> {
        let allowed = self.allowed();
        let client = user_names(credentials).find_map(|name| {
            let mut alike = allowed.by_hash.get(&self.hasher.hash_one(name))?.iter();
            let is_it = |(token, _): &&(ClientToken, ClientToken)| {
                bool::from(token.reveal().as_bytes().ct_eq(name.as_bytes()))
            };
            alike.find(is_it).map(|(_, client)| Caller::Client(client.clone()))
        });
        // A client's token may begin with the root key and a colon.
        let is = |key: &Option<RootKey>| key.as_ref().is_some_and(|key| is_user(key, credentials));
        client
            .or_else(|| is(&self.root).then_some(Caller::Root))
            .or_else(|| is(&self.monitor).then_some(Caller::Monitor))
    }

    /// Waits until the store has been asked after `moment`; many callers share one question.
    async fn refresh_once_after(&self, moment: Instant) -> Result<(), StoreError> {
        let mut refreshed = self.refreshed.lock().await;
        if let Some((last, result)) = &*refreshed {
            if *last > moment {
                return result.clone();
            }
            tokio::time::sleep_until(*last + REFRESH_PAUSE).await;
        }
        let asked = Instant::now();
        let (at, result) = match tokio::time::timeout(REFRESH_TIMEOUT, self.refresh()).await {
            Ok(Ok(())) => (asked, Ok(())),
            // Those that waited meanwhile need not find out again.
            Ok(Err(error)) => (Instant::now(), Err(error)),
            Err(_) => (Instant::now(), Err(StoreError::Unavailable("no tokens in time".into()))),
        };
        *refreshed = Some((at, result.clone()));
        result
    }

    fn allow(&self, made: Vec<ApiToken>) {
        let mut all = Allowed::default();
        let now_ms = self.clock.now_ms();
        let is_retired = |token: &ClientToken| {
            made.iter().any(|made| made.token == *token && made.is_over(now_ms))
        };
        // The settings come last: a token that stands there is its own name.
        let configured = self.configured.iter().filter(|token| !is_retired(token));
        let configured =
            configured.map(|token| ApiToken::new(token.reveal().to_owned(), token.clone()));
        let made = made.iter().filter(|made| !made.is_over(now_ms)).cloned();
        for ApiToken { name, token, client, until_ms } in made.chain(configured) {
            if client.service_name().is_none() {
                all.names.insert(client.clone(), name);
            }
            if client != token && until_ms.is_none() {
                all.current.insert(client.clone(), token.clone());
            }
            let hash = self.hasher.hash_one(token.reveal());
            all.by_hash.entry(hash).or_default().push((token, client));
        }
        *self.allowed.write().unwrap_or_else(PoisonError::into_inner) = all;
    }
}

/// Whether the user name of credentials is a key, which holds no colon.
fn is_user(key: &RootKey, credentials: &str) -> bool {
    let name = credentials.split_once(':').map(|(name, _)| name);
    name.is_some_and(|name| key.reveal().as_bytes().ct_eq(name.as_bytes()).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_well_formed_basic_credentials_are_read() {
        assert_eq!(basic_credentials(b"Basic ZGVtbzo=").as_deref(), Some("demo:"));
        assert_eq!(basic_credentials(b"bAsIc ZGVtbzp4").as_deref(), Some("demo:x"));
        for bad in [&b"Basic"[..], b"Basic ???", b"Bearer ZGVtbzo=", b"ZGVtbzo=", b"", b"\xff \xff"]
        {
            assert_eq!(basic_credentials(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_user_name_may_hold_colons_but_must_end_at_one() {
        assert_eq!(user_names("demo:").collect::<Vec<_>>(), ["demo"]);
        assert_eq!(user_names("a:b:x").collect::<Vec<_>>(), ["a:b", "a"]);
        assert_eq!(user_names("demo").count(), 0);
        assert_eq!(user_names(&":".repeat(1000)).count(), 65);
    }
}
