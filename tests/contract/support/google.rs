//! Google Cloud as far as tokens go, which no emulator checks: a token endpoint that verifies the signature of a service
//! account, a metadata server, and a Pub/Sub that takes nothing without a token that was given out.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::signature::{RSA_PKCS1_2048_8192_SHA256, RsaKeyPair, UnparsedPublicKey};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// Made for these tests alone; it opens nothing.
const KEY: &str = include_str!("../../support/service_account.pem");
const EMAIL: &str = "bus@test-project.iam.example";
const KEY_ID: &str = "key-1";

pub struct Google {
    port: u16,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    port: Mutex<u16>,
    state: Mutex<Given>,
}

#[derive(Default)]
struct Given {
    /// Those that are good.
    tokens: HashSet<String>,
    /// How many were ever given out.
    count: usize,
    /// How long they are good for, in seconds.
    expires_in: u64,
    /// The data of what was published, by topic.
    published: Vec<(String, String)>,
    /// How often a publish was refused for want of a good token.
    refused: usize,
}

impl Google {
    pub async fn start(expires_in: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared::default());
        *shared.port.lock().unwrap() = port;
        shared.state.lock().unwrap().expires_in = expires_in;
        let router = Router::new()
            .route("/token", post(token))
            .route("/computeMetadata/v1/project/project-id", get(project))
            .route("/computeMetadata/v1/instance/service-accounts/default/token", get(machine))
            .route("/v1/projects/test-project/topics/{topic}", post(publish))
            .with_state(shared.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { port, shared }
    }

    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The key of a service account whose tokens it gives out, in a file.
    pub fn credentials(&self, directory: &std::path::Path) -> PathBuf {
        let path = directory.join("service-account.json");
        let account = json!({
            "type": "service_account", "project_id": "test-project", "private_key_id": KEY_ID,
            "private_key": KEY, "client_email": EMAIL,
            "token_uri": format!("http://{}/token", self.host()),
        });
        std::fs::write(&path, account.to_string()).unwrap();
        path
    }

    /// Takes all tokens back.
    pub fn revoke(&self) {
        self.shared.state.lock().unwrap().tokens.clear();
    }

    /// How many tokens were given out, and how many publishes refused.
    pub fn counts(&self) -> (usize, usize) {
        let state = self.shared.state.lock().unwrap();
        (state.count, state.refused)
    }

    pub fn published(&self) -> Vec<(String, String)> {
        self.shared.state.lock().unwrap().published.clone()
    }
}

impl Shared {
    fn give(&self) -> Json<Value> {
        let mut state = self.state.lock().unwrap();
        state.count += 1;
        let token = format!("ya29.{}", state.count);
        state.tokens.insert(token.clone());
        let expires_in = state.expires_in;
        Json(json!({"access_token": token, "expires_in": expires_in, "token_type": "Bearer"}))
    }
}

/// Checks an assertion as Google does.
async fn token(State(shared): State<Arc<Shared>>, body: Bytes) -> Result<Json<Value>, StatusCode> {
    let fields: Vec<(String, String)> = url::form_urlencoded::parse(&body).into_owned().collect();
    let field = |name: &str| {
        let found = fields.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.clone()).ok_or(StatusCode::BAD_REQUEST)
    };
    if field("grant_type")? != "urn:ietf:params:oauth:grant-type:jwt-bearer" {
        return Err(StatusCode::BAD_REQUEST);
    }
    let assertion = field("assertion")?;
    let (signed, signature) = assertion.rsplit_once('.').ok_or(StatusCode::BAD_REQUEST)?;
    let decode = |text: &str| URL_SAFE_NO_PAD.decode(text).map_err(|_| StatusCode::BAD_REQUEST);
    let key = PrivatePkcs8KeyDer::from_pem_slice(KEY.as_bytes()).unwrap();
    let key = RsaKeyPair::from_pkcs8(key.secret_pkcs8_der()).unwrap();
    let public = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key.public().as_ref());
    let is_signed = public.verify(signed.as_bytes(), &decode(signature)?);
    is_signed.map_err(|_| StatusCode::UNAUTHORIZED)?;
    let (header, claims) = signed.split_once('.').ok_or(StatusCode::BAD_REQUEST)?;
    let json = |text: &str| {
        serde_json::from_slice::<Value>(&decode(text)?).map_err(|_| StatusCode::BAD_REQUEST)
    };
    let (header, claims) = (json(header)?, json(claims)?);
    let port = *shared.port.lock().unwrap();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let (issued, expires) = (claims["iat"].as_u64().unwrap(), claims["exp"].as_u64().unwrap());
    let is_good = header == json!({"alg": "RS256", "typ": "JWT", "kid": KEY_ID})
        && claims["iss"] == EMAIL
        && claims["scope"] == "https://www.googleapis.com/auth/pubsub"
        && claims["aud"] == format!("http://127.0.0.1:{port}/token")
        && issued.abs_diff(now) < 60
        && expires <= issued + 3600;
    if is_good { Ok(shared.give()) } else { Err(StatusCode::UNAUTHORIZED) }
}

fn is_flavoured(headers: &HeaderMap) -> bool {
    headers.get("metadata-flavor").is_some_and(|value| value == "Google")
}

async fn project(headers: HeaderMap) -> Result<&'static str, StatusCode> {
    if is_flavoured(&headers) { Ok("test-project") } else { Err(StatusCode::FORBIDDEN) }
}

async fn machine(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
) -> Result<Json<Value>, StatusCode> {
    if is_flavoured(&headers) { Ok(shared.give()) } else { Err(StatusCode::FORBIDDEN) }
}

async fn publish(
    State(shared): State<Arc<Shared>>,
    Path(topic): Path<String>,
    headers: HeaderMap,
    Json(body): Json<Value>,
) -> Result<Json<Value>, StatusCode> {
    let topic = topic.strip_suffix(":publish").ok_or(StatusCode::NOT_FOUND)?;
    let authorization = headers.get("authorization").and_then(|value| value.to_str().ok());
    let token = authorization.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
    let mut state = shared.state.lock().unwrap();
    if !state.tokens.contains(token) {
        state.refused += 1;
        return Err(StatusCode::UNAUTHORIZED);
    }
    let messages = body["messages"].as_array().unwrap().clone();
    for message in &messages {
        let data = STANDARD.decode(message["data"].as_str().unwrap()).unwrap();
        state.published.push((topic.to_owned(), String::from_utf8(data).unwrap()));
    }
    Ok(Json(json!({"messageIds": vec!["1"; messages.len()]})))
}
