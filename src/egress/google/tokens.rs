//! Access tokens for Google Cloud: of a service account, whose key signs for one (RFC 7523), or of the machine's own
//! account, which its metadata server gives out.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::Mutex;
use tokio::time::Instant;
use url::form_urlencoded;

use super::answer::{read_body, told};

const SCOPE: &str = "https://www.googleapis.com/auth/pubsub";
const GRANT: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
/// How long a signed request for a token is good for; Google allows no more.
const ASKED_FOR: Duration = Duration::from_secs(3600);
/// How long before its end a token is renewed; one that lasts less than twice as long, at half of its time.
const EARLY: Duration = Duration::from_secs(300);
/// For how long nobody asks again after a failure.
const FAILED_PAUSE: Duration = Duration::from_secs(1);
/// The longest answer that is read, in bytes.
const ANSWER_MAX: usize = 64 * 1024;

/// Whose tokens are had.
pub enum Account {
    /// The key that Google gave out for a service account, in a file. It is read anew with each token.
    Service(PathBuf),
    /// The machine's own, of this metadata server.
    Machine(String),
}

/// Why there is no token.
#[derive(Clone, Debug, thiserror::Error)]
#[error("no access token for Google Cloud: {0}")]
pub struct NoToken(String);

/// What a service account's file has.
#[derive(Deserialize)]
struct ServiceAccount {
    client_email: String,
    private_key: String,
    private_key_id: String,
    token_uri: String,
    project_id: Option<String>,
}

#[derive(Deserialize)]
struct Granted {
    access_token: String,
    expires_in: u64,
}

/// Tokens of an account, each used until it is old.
pub struct Tokens {
    account: Account,
    client: reqwest::Client,
    /// Held while one is fetched, so that one request at a time does.
    last: Mutex<Last>,
}

#[derive(Default)]
struct Last {
    token: Option<(String, Instant)>,
    failure: Option<(NoToken, Instant)>,
}

impl Tokens {
    pub fn new(account: Account, client: reqwest::Client) -> Self {
        Self { account, client, last: Mutex::default() }
    }

    /// A token that is good for some time.
    ///
    /// # Errors
    /// If none is to be had.
    pub async fn token(&self) -> Result<String, NoToken> {
        let mut last = self.last.lock().await;
        let now = Instant::now();
        if let Some((token, _)) = last.token.as_ref().filter(|(_, renewed_at)| now < *renewed_at) {
            return Ok(token.clone());
        }
        if let Some((failure, _)) = last.failure.as_ref().filter(|(_, until)| now < *until) {
            return Err(failure.clone());
        }
        match self.fetch().await {
            Ok(Granted { access_token, expires_in }) => {
                let lasts = Duration::from_secs(expires_in);
                let used_for = if lasts > 2 * EARLY { lasts - EARLY } else { lasts / 2 };
                last.token = Some((access_token.clone(), now + used_for));
                last.failure = None;
                Ok(access_token)
            }
            Err(failure) => {
                last.failure = Some((failure.clone(), Instant::now() + FAILED_PAUSE));
                Err(failure)
            }
        }
    }

    /// Lets go of a token that was refused.
    pub async fn refused(&self, token: &str) {
        let mut last = self.last.lock().await;
        if last.token.as_ref().is_some_and(|(known, _)| known == token) {
            last.token = None;
        }
    }

    /// The project that the account belongs to.
    ///
    /// # Errors
    /// If it does not say so.
    pub async fn project(&self) -> Result<String, NoToken> {
        match &self.account {
            Account::Service(path) => {
                let account = ServiceAccount::read(path)?;
                account
                    .project_id
                    .ok_or_else(|| NoToken(format!("{} names no project_id", path.display())))
            }
            Account::Machine(host) => {
                self.ask(host, "project/project-id").await.map(|text| text.trim().to_owned())
            }
        }
    }

    async fn fetch(&self) -> Result<Granted, NoToken> {
        let text = match &self.account {
            Account::Machine(host) => {
                self.ask(host, "instance/service-accounts/default/token").await?
            }
            Account::Service(path) => self.sign_for_one(&ServiceAccount::read(path)?).await?,
        };
        // What was answered may hold a token.
        serde_json::from_str(&text).map_err(|_| NoToken("the answer has none in it".into()))
    }

    /// Asks the machine's metadata server.
    async fn ask(&self, host: &str, what: &str) -> Result<String, NoToken> {
        let url = format!("http://{host}/computeMetadata/v1/{what}");
        answer(self.client.get(url).header("Metadata-Flavor", "Google"), host).await
    }

    async fn sign_for_one(&self, account: &ServiceAccount) -> Result<String, NoToken> {
        let form = form_urlencoded::Serializer::new(String::new())
            .append_pair("grant_type", GRANT)
            .append_pair("assertion", &account.assertion(SystemTime::now())?)
            .finish();
        let request = self
            .client
            .post(&account.token_uri)
            .header("content-type", "application/x-www-form-urlencoded")
            .body(form);
        answer(request, &account.token_uri).await
    }
}

async fn answer(request: reqwest::RequestBuilder, from: &str) -> Result<String, NoToken> {
    let failed = |why: String| NoToken(format!("{from}: {why}"));
    let response = request.send().await.map_err(|error| failed(told(&error)))?;
    let status = response.status();
    let text = read_body(response, ANSWER_MAX).await;
    if !status.is_success() {
        return Err(failed(format!("it answered {status}: {}", beginning(&text))));
    }
    Ok(text)
}

/// What people are shown of an answer that is an error, and so holds no token.
fn beginning(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(200).collect()
}

impl ServiceAccount {
    fn read(path: &Path) -> Result<Self, NoToken> {
        let no = |why: &str| NoToken(format!("{} {why}", path.display()));
        let text = std::fs::read(path).map_err(|error| no(&format!("cannot be read: {error}")))?;
        // The parser would repeat what it found, which is a secret.
        serde_json::from_slice(&text).map_err(|_| {
            no("is no key of a service account: it lacks client_email, private_key, private_key_id or token_uri")
        })
    }

    /// What asks for a token, and proves who does.
    fn assertion(&self, now: SystemTime) -> Result<String, NoToken> {
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let header = json!({"alg": "RS256", "typ": "JWT", "kid": self.private_key_id});
        let claims = json!({
            "iss": self.client_email,
            "scope": SCOPE,
            "aud": self.token_uri,
            "iat": now,
            "exp": now + ASKED_FOR.as_secs(),
        });
        let encoded = |value: &serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", encoded(&header), encoded(&claims));
        let unusable = || NoToken("the service account's private_key is no RSA key".into());
        let key = PrivatePkcs8KeyDer::from_pem_slice(self.private_key.as_bytes())
            .map_err(|_| unusable())?;
        let key = RsaKeyPair::from_pkcs8(key.secret_pkcs8_der()).map_err(|_| unusable())?;
        let mut signature = vec![0; key.public().modulus_len()];
        key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature)
            .map_err(|_| unusable())?;
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}
