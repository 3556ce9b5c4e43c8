//! How a command reaches a running bus: the options that all such commands share, and the
//! HTTPS client built from them.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use clap::Args;
use reqwest::{Method, StatusCode, header};
use serde::de::DeserializeOwned;
use url::Url;

use crate::bus::token::ClientToken;
use crate::cli::shell::quoted;
use crate::cli::trouble::Trouble;
use crate::config::default_of;
use crate::tls::client::{self, ClientOptions};
use crate::tls::development;

/// Which bus, as which client, and whom to trust.
#[derive(Args, Clone)]
#[command(next_help_heading = "The bus")]
pub struct BusOptions {
    /// Where the bus listens [default: https://localhost:17890, or the port in PORT if that is
    /// set].
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// The client's token.
    #[arg(long, value_name = "TOKEN", default_value = default_token())]
    token: String,
    /// The data directory of a bus on this machine: the development certificate in it is trusted
    /// [default: ROUTEMASTER_DATA_DIR, or ./data].
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// A certificate authority to trust beside the system's, a PEM file. May be given again.
    #[arg(long, value_name = "FILE")]
    ca_file: Vec<PathBuf>,
}

impl BusOptions {
    /// Checks the options and builds the client.
    ///
    /// # Errors
    /// What is wrong with an option, and what it must be.
    pub fn connect(&self) -> anyhow::Result<Bus> {
        let url = match &self.url {
            Some(url) => base_url(url)?,
            None => default_url(&setting("PORT"))?,
        };
        // The value is not repeated: a token with a slip of the pen is still most of a secret.
        let token = ClientToken::parse(&self.token).context("--token is not allowed")?;
        let mut ca_files = self.ca_file.clone();
        let development_ca = development::ca_path(&self.data_dir());
        if development_ca.exists() {
            ca_files.push(development_ca);
        }
        let client = client::build(&ClientOptions {
            ca_files,
            verify: true,
            connect_timeout: CONNECT_TIMEOUT,
            timeout: TIMEOUT,
            resolver: None,
        })?;
        Ok(Bus { client, url, token })
    }

    /// The options as they were given, with a space before each, for a command to paste. A token
    /// is a secret, so that only its place is kept.
    pub fn to_paste(&self) -> String {
        let mut options = String::new();
        let mut add = |option: &str, value: &str| {
            options.push_str(&format!(" {option} {}", quoted(value)));
        };
        if let Some(url) = &self.url {
            add("--url", url);
        }
        if let Some(data_dir) = &self.data_dir {
            add("--data-dir", &data_dir.display().to_string());
        }
        for file in &self.ca_file {
            add("--ca-file", &file.display().to_string());
        }
        if self.token != default_token() {
            add("--token", "…");
        }
        options
    }

    /// The data directory that is meant.
    pub fn data_dir(&self) -> PathBuf {
        self.data_dir.clone().unwrap_or_else(|| setting("ROUTEMASTER_DATA_DIR").into())
    }
}

/// For a connection to stand, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// For a request from its start to the end of the answer.
const TIMEOUT: Duration = Duration::from_secs(30);
/// The longest answer that is read, in bytes.
const ANSWER_MAX: usize = 16 * 1024 * 1024;

/// What the environment, else the table of settings, says for a name of that table.
fn setting(name: &str) -> String {
    let set = std::env::var(name).ok().filter(|value| !value.is_empty());
    set.unwrap_or_else(|| default_of(name).to_owned())
}

/// The token of the client that a bus allows when it is told of none.
fn default_token() -> &'static str {
    default_of("ROUTEMASTER_CLIENTS")
}

fn default_url(port: &str) -> anyhow::Result<String> {
    match port.parse::<u16>() {
        Ok(0) => {
            bail!("PORT is 0, which takes any free port: say with --url where the bus listens")
        }
        Ok(port) => Ok(format!("https://localhost:{port}")),
        Err(_) => bail!("PORT={port} is not allowed: it must be a port, 0 to 65535"),
    }
}

/// Checks `--url`; the paths of the API follow on what is returned.
fn base_url(text: &str) -> anyhow::Result<String> {
    let allowed = "it must be like https://localhost:17890";
    let url = Url::parse(text).with_context(|| format!("--url {text} is not a URL: {allowed}"))?;
    if url.scheme() != "https" {
        bail!("--url {text} is not allowed: the bus is reached over https:// only");
    }
    if !url.username().is_empty() || url.password().is_some() {
        bail!("--url must not carry a token: give it with --token");
    }
    if url.query().is_some() || url.fragment().is_some() {
        bail!("--url {text} is not allowed: {allowed}");
    }
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

/// A running bus, and the client that this process is to it. Cheap to clone.
#[derive(Clone)]
pub struct Bus {
    client: reqwest::Client,
    url: String,
    token: ClientToken,
}

impl Bus {
    /// Its address, without a slash at the end.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Whether it is on this machine, as far as its address tells.
    pub fn is_local(&self) -> bool {
        Url::parse(&self.url).is_ok_and(|url| match url.host() {
            Some(url::Host::Domain(name)) => name == "localhost",
            Some(url::Host::Ipv4(address)) => address.is_loopback(),
            Some(url::Host::Ipv6(address)) => address.is_loopback(),
            None => false,
        })
    }

    pub fn token(&self) -> &ClientToken {
        &self.token
    }

    pub async fn get(&self, path: &str) -> Result<Answer, Trouble> {
        self.request(Method::GET, path, None).await
    }

    pub async fn post(&self, path: &str, json: Bytes) -> Result<Answer, Trouble> {
        self.request(Method::POST, path, Some(json)).await
    }

    pub async fn delete(&self, path: &str) -> Result<Answer, Trouble> {
        self.request(Method::DELETE, path, None).await
    }

    /// Sends one request, whose path starts with a slash, and reads the whole answer.
    async fn request(
        &self,
        method: Method,
        path: &str,
        json: Option<Bytes>,
    ) -> Result<Answer, Trouble> {
        let trouble = |error: reqwest::Error| Trouble::new(&self.url, &error, TIMEOUT);
        let mut request = self.client.request(method, format!("{}{path}", self.url));
        request = request.basic_auth(self.token.reveal(), None::<&str>);
        if let Some(json) = json {
            request = request.header(header::CONTENT_TYPE, "application/json").body(json);
        }
        let mut response = request.send().await.map_err(trouble)?;
        let mut body = Vec::new();
        while let Some(part) = response.chunk().await.map_err(trouble)? {
            if body.len() + part.len() > ANSWER_MAX {
                let reason = format!("the answer is longer than {ANSWER_MAX} bytes");
                return Err(Trouble::Lost { url: self.url.clone(), reason });
            }
            body.extend_from_slice(&part);
        }
        let retry_after = response.headers().get(header::RETRY_AFTER);
        let seconds = retry_after.and_then(|value| value.to_str().ok()?.trim().parse().ok());
        let retry_after = seconds.map(Duration::from_secs);
        Ok(Answer { status: response.status(), retry_after, body })
    }
}

/// What the bus answered.
pub struct Answer {
    pub status: StatusCode,
    /// How long to wait before the next try, if the bus says so.
    pub retry_after: Option<Duration>,
    pub body: Vec<u8>,
}

impl Answer {
    /// The first line of the body, fit to be shown; the status's name if there is none.
    pub fn reason(&self) -> String {
        let text = String::from_utf8_lossy(&self.body);
        let line = text.lines().next().unwrap_or_default().trim();
        if line.is_empty() {
            let name = self.status.canonical_reason().unwrap_or("no reason given");
            return format!("{} {name}", self.status.as_u16());
        }
        line.chars().filter(|c| !c.is_control()).take(300).collect()
    }

    /// Reads the body, for a route that answers JSON.
    pub fn json<T: DeserializeOwned>(&self) -> anyhow::Result<T> {
        serde_json::from_slice(&self.body).context("failed to understand the bus's answer")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_address_follows_port() {
        assert_eq!(default_url("17890").unwrap(), "https://localhost:17890");
        assert!(default_url("0").unwrap_err().to_string().contains("--url"));
        assert!(default_url("x").unwrap_err().to_string().contains("PORT=x"));
    }

    #[test]
    fn only_an_https_address_is_taken_and_loses_its_last_slash() {
        assert_eq!(base_url("https://bus.example/").unwrap(), "https://bus.example");
        assert_eq!(base_url("https://bus.example/rm/").unwrap(), "https://bus.example/rm");
        for bad in ["bus.example", "http://bus.example", "https://a:b@bus.example", "https://b?x"] {
            assert!(base_url(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_reason_is_one_line() {
        let answer = |body: &str| Answer {
            status: StatusCode::BAD_REQUEST,
            retry_after: None,
            body: body.into(),
        };
        assert_eq!(answer("no\u{1b}\nmore").reason(), "no");
        assert_eq!(answer("").reason(), "400 Bad Request");
    }

    #[test]
    fn a_bad_token_is_not_repeated() {
        let options = BusOptions {
            url: Some("https://bus.example".into()),
            token: "Secret-Of-Mine".into(),
            data_dir: None,
            ca_file: vec![],
        };
        assert_eq!(options.to_paste(), " --url https://bus.example --token '…'");
        let error = format!("{:#}", options.connect().err().unwrap());
        assert!(error.contains("--token") && !error.contains("Secret"), "{error}");
    }
}
