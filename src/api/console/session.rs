//! Sessions: a cookie that is bound to the token somebody signed in with.
//!
//! Nothing is kept of one: the cookie says until when it is good, and carries a code that only the token makes (HMAC,
//! RFC 2104). So it works at each process of the bus, says nothing of the token, and ends with it: a token that is
//! revoked is none of those that are tried.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::http::{HeaderMap, HeaderValue, header};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use ring::hmac;

use crate::api::state::Api;
use crate::bus::hex::hex;
use crate::bus::token::random_hex;
use crate::http::authentication::{Caller, Tokens};
use crate::http::refusal::Refusal;

/// How long one is signed in.
pub const TERM: Duration = Duration::from_secs(12 * 3600);
/// Browsers take one of this name only over HTTPS, for this host alone, and for all of its paths.
pub const COOKIE: &str = "__Host-routemaster";
/// How many sessions are known without trying the tokens.
const KNOWN_MAX: usize = 1_000;

/// Somebody who is signed in.
#[derive(Clone)]
pub struct Session {
    pub caller: Caller,
    /// As a client of the API sends it.
    pub authorization: HeaderValue,
    /// What each form must carry.
    pub form_code: String,
    until_s: u64,
}

impl Session {
    /// Whether it still is one: it may be over, or its token revoked.
    pub fn is_good(&self, api: &Api) -> bool {
        self.until_s * 1000 > api.clock.now_ms()
            && api.authentication.tokens.known(self.authorization.as_bytes()).is_some()
    }
}

/// Sessions whose token is known already, by their cookies.
#[derive(Default)]
pub struct Sessions(Mutex<HashMap<String, String>>);

/// A cookie's value, read: `<until, in s since the epoch>.<a random number>.<code>`.
struct Ticket<'a> {
    until_s: u64,
    nonce: &'a str,
    code: &'a str,
}

/// Lengths of the random number and of the code, in hexadecimal digits.
const NONCE_DIGITS: usize = 32;
const CODE_DIGITS: usize = 64;

impl Sessions {
    /// Makes the value of a cookie for the holder of a token or of the root key.
    ///
    /// # Errors
    /// If there is no randomness.
    pub fn make(user: &str, now_ms: u64) -> anyhow::Result<String> {
        let until_s = now_ms / 1000 + TERM.as_secs();
        let nonce = random_hex()?;
        let code = code_of(user, "session", until_s, &nonce);
        Ok(format!("{until_s}.{nonce}.{code}"))
    }

    /// The session that the cookies of a request name, if it is good.
    ///
    /// A cookie that was not seen here yet is tried with each token. That is guessing: it is counted before.
    ///
    /// # Errors
    /// If too many from there were wrong.
    pub async fn of(
        &self,
        api: &Api,
        headers: &HeaderMap,
        peer: Option<SocketAddr>,
    ) -> Result<Option<Session>, Refusal> {
        let Some(value) = cookie(headers, COOKIE) else { return Ok(None) };
        let now_s = api.clock.now_ms() / 1000;
        let Some(ticket) = Ticket::read(value).filter(|ticket| ticket.is_open(now_s)) else {
            return Ok(None);
        };
        let known = self.known().get(value).cloned();
        let user = match known {
            Some(user) => Some(user),
            None => {
                let look =
                    |tokens: &Tokens| tokens.users().into_iter().find(|user| ticket.is_of(user));
                api.authentication.look_again(headers, peer, look).await?
            }
        };
        let session = user.as_deref().and_then(|user| ticket.session(api, user));
        let mut known = self.known();
        match (&session, user) {
            (Some(_), Some(user)) => {
                if known.len() >= KNOWN_MAX {
                    known.clear();
                }
                known.insert(value.to_owned(), user);
            }
            _ => drop(known.remove(value)),
        }
        Ok(session)
    }

    fn known(&self) -> MutexGuard<'_, HashMap<String, String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<'a> Ticket<'a> {
    fn read(value: &'a str) -> Option<Self> {
        let mut parts = value.splitn(3, '.');
        let (until_s, nonce, code) = (parts.next()?.parse().ok()?, parts.next()?, parts.next()?);
        let is_hex = |text: &str, digits| {
            text.len() == digits && text.bytes().all(|byte| byte.is_ascii_hexdigit())
        };
        let is_ours = is_hex(nonce, NONCE_DIGITS) && is_hex(code, CODE_DIGITS);
        is_ours.then_some(Self { until_s, nonce, code })
    }

    /// Whether it is not over, nor good for longer than one that was made here.
    fn is_open(&self, now_s: u64) -> bool {
        self.until_s > now_s && self.until_s - now_s <= TERM.as_secs() + 60
    }

    fn is_of(&self, user: &str) -> bool {
        is_same(&code_of(user, "session", self.until_s, self.nonce), self.code)
    }

    /// The session of this user, if they are still let in.
    fn session(&self, api: &Api, user: &str) -> Option<Session> {
        let authorization = authorization(user)?;
        let caller = api.authentication.tokens.known(authorization.as_bytes())?;
        let form_code = code_of(user, "form", self.until_s, self.nonce);
        Some(Session { caller, authorization, form_code, until_s: self.until_s })
    }
}

/// Compares codes without telling by the time that takes how much is alike.
pub fn is_same(one: &str, other: &str) -> bool {
    subtle::ConstantTimeEq::ct_eq(one.as_bytes(), other.as_bytes()).into()
}

fn code_of(user: &str, what: &str, until_s: u64, nonce: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, user.as_bytes());
    let text = format!("routemaster console {what} {until_s} {nonce}");
    hex(hmac::sign(&key, text.as_bytes()).as_ref())
}

/// HTTP Basic with this user name; `None` if no header can hold it.
pub fn authorization(user: &str) -> Option<HeaderValue> {
    let encoded = BASE64_STANDARD.encode(format!("{user}:"));
    let mut value = HeaderValue::try_from(format!("Basic {encoded}")).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// The value of a cookie that a request carries.
pub fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let all = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let pairs = all.flat_map(|value| value.split(';')).filter_map(|pair| pair.split_once('='));
    pairs.filter(|(key, _)| key.trim() == name).map(|(_, value)| value.trim()).next()
}

/// Sets a cookie that scripts cannot read, and that no other site's page makes a browser send.
pub fn set_cookie(name: &str, value: &str, max_age: Duration) -> HeaderValue {
    let seconds = max_age.as_secs();
    let text =
        format!("{name}={value}; Path=/; Max-Age={seconds}; HttpOnly; Secure; SameSite=Strict");
    // What stands in it is made here: hexadecimal digits, and encoded text.
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_is_good_for_the_token_it_was_made_with_and_says_nothing_of_it() {
        let value = Sessions::make("shop--s3cret", 1_764_363_661_234).unwrap();
        let ticket = Ticket::read(&value).unwrap();
        assert_eq!(ticket.until_s, 1_764_363_661 + 12 * 3600);
        assert!(ticket.is_of("shop--s3cret"));
        assert!(!ticket.is_of("shop--s3creT"));
        assert!(!value.contains("s3cret"));
        let later = Ticket { until_s: ticket.until_s + 1, ..ticket };
        assert!(!later.is_of("shop--s3cret"), "how long it is good cannot be changed");
        assert!(ticket.is_open(1_764_363_661) && !ticket.is_open(ticket.until_s));
        assert!(!ticket.is_open(1_764_363_661 - 3600), "nobody made it that is good for so long");
        let long = format!("1.{}.{}", "0".repeat(31_000), "0".repeat(64));
        for bad in ["", "1", "1.2", "x.2.3", "99999999999999999999.2.3", &long] {
            assert!(Ticket::read(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn a_cookie_is_found_among_others() {
        let mut headers = HeaderMap::new();
        headers.append(header::COOKIE, HeaderValue::from_static("a=1; __Host-routemaster=x.y"));
        headers.append(header::COOKIE, HeaderValue::from_static("b=2"));
        assert_eq!(cookie(&headers, COOKIE), Some("x.y"));
        assert_eq!(cookie(&headers, "b"), Some("2"));
        assert_eq!(cookie(&headers, "c"), None);
    }
}
