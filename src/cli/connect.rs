//! How a command reaches a running bus: the options that all such commands share, and the
//! HTTPS client built from them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::bail;
use bytes::Bytes;
use clap::Args;
use reqwest::Method;
pub use routemaster_client::Answer;
use url::Url;

use crate::bus::token::{ClientToken, InvalidToken, UserName};
use crate::cli::credentials::{Capacity, Credentials, OPTION, variable};
use crate::cli::outcome::UsageError;
use crate::cli::trouble::Trouble;
use crate::config::default_of;
use crate::egress::client::{self, ClientOptions};
use crate::shell::quoted;
use crate::tls::development;

/// Which bus, as which client, and whom to trust.
#[derive(Args, Clone)]
#[command(next_help_heading = "The bus")]
pub struct BusOptions {
    #[command(flatten)]
    address: BusAddress,
    /// The data directory of a bus on this machine: the development certificate in it is trusted
    /// [default: ROUTEMASTER_DATA_DIR, or ./data].
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

/// The part of it that does not collide with the settings of a bus.
#[derive(Args, Clone)]
#[command(next_help_heading = "The bus")]
pub struct BusAddress {
    /// Where the bus listens [default: https://localhost:17890, or the port in PORT if that is
    /// set].
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// The token to authenticate with. What stands here is seen by everybody on this machine:
    /// better set ROUTEMASTER_TOKEN, in the environment or in .env [default: demo; for commands
    /// that look at or manage the bus ROUTEMASTER_ROOT_KEY if that is set].
    #[arg(long, value_name = "TOKEN")]
    token: Option<String>,
    /// A certificate authority to trust beside the system's, a PEM file. May be given again.
    #[arg(long, value_name = "FILE")]
    ca_file: Vec<PathBuf>,
}

impl BusOptions {
    /// Checks the options and builds the client of somebody who publishes or subscribes.
    ///
    /// # Errors
    /// What is wrong with an option, and what it must be.
    pub fn connect(&self) -> anyhow::Result<Bus> {
        self.connect_as(Capacity::Client)
    }

    /// Checks the options and builds the client.
    ///
    /// # Errors
    /// What is wrong with an option, and what it must be.
    pub fn connect_as(&self, capacity: Capacity) -> anyhow::Result<Bus> {
        let credentials = || capacity.credentials(&variable);
        self.address.connect(&setting("PORT"), &self.data_dir(), credentials)
    }

    /// The options as they were given, with a space before each, for a command to paste. A token
    /// is a secret, so that only its place is kept.
    pub fn to_paste(&self) -> String {
        let mut options = String::new();
        let mut add = |option: &str, value: &str| {
            options.push_str(&format!(" {option} {}", quoted(value)));
        };
        if let Some(url) = &self.address.url {
            add("--url", url);
        }
        if let Some(data_dir) = &self.data_dir {
            add("--data-dir", &data_dir.display().to_string());
        }
        for file in &self.address.ca_file {
            add("--ca-file", &file.display().to_string());
        }
        if self.address.token.is_some() {
            add("--token", "…");
        }
        options
    }

    /// Whether it was said where the bus is.
    pub fn has_url(&self) -> bool {
        self.address.has_url()
    }

    /// What was said, as it was said.
    pub fn url(&self) -> Option<&str> {
        self.address.url.as_deref()
    }

    /// The data directory that is meant.
    pub fn data_dir(&self) -> PathBuf {
        self.data_dir.clone().unwrap_or_else(|| setting("ROUTEMASTER_DATA_DIR").into())
    }
}

impl BusAddress {
    /// Builds the client of a bus whose settings are known: its port, its data directory, and a
    /// token for when none is given.
    ///
    /// # Errors
    /// What is wrong with an option, and what it must be.
    pub fn connect(
        &self,
        port: &str,
        data_dir: &Path,
        credentials: impl FnOnce() -> anyhow::Result<Credentials>,
    ) -> anyhow::Result<Bus> {
        let url = match &self.url {
            Some(url) => base_url(url)?,
            None => default_url(port)?,
        };
        let (token, token_from) = match &self.token {
            Some(token) => (token.clone(), OPTION),
            None => credentials()?,
        };
        // The value is not repeated: a token with a slip of the pen is still most of a secret.
        let user = UserName::parse(&token).ok_or_else(|| {
            UsageError::new(format!("{token_from} is not allowed: {}", InvalidToken))
        })?;
        Bus::new(url, user, token_from, self.ca_files(data_dir))
    }

    fn ca_files(&self, data_dir: &Path) -> Vec<PathBuf> {
        let mut ca_files = self.ca_file.clone();
        let development_ca = development::ca_path(data_dir);
        if development_ca.exists() {
            ca_files.push(development_ca);
        }
        ca_files
    }

    /// Whether it was said where the bus is.
    pub fn has_url(&self) -> bool {
        self.url.is_some()
    }
}

/// For a connection to stand, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// For a request from its start to the end of the answer.
const TIMEOUT: Duration = Duration::from_secs(30);

/// What the environment, else the table of settings, says for a name of that table.
fn setting(name: &str) -> String {
    variable(name).unwrap_or_else(|| default_of(name).to_owned())
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
fn base_url(text: &str) -> Result<String, UsageError> {
    let allowed = "it must be like https://localhost:17890";
    let refused = |reason: String| Err(UsageError(reason));
    let Ok(url) = Url::parse(text) else {
        return refused(format!("--url {text} is not a URL: {allowed}"));
    };
    if !url.username().is_empty() || url.password().is_some() {
        return refused("--url must not carry a token: give it with --token".into());
    }
    if url.scheme() != "https" {
        return refused(format!(
            "--url {text} is not allowed: the bus is reached over https:// only"
        ));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return refused(format!("--url {text} is not allowed: {allowed}"));
    }
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

/// A running bus, and the client that this process is to it. Cheap to clone.
#[derive(Clone)]
pub struct Bus {
    bus: routemaster_client::Bus,
    user: UserName,
    token_from: &'static str,
    /// Whom it is trusted by, beside the system's authorities.
    ca_files: Vec<PathBuf>,
}

impl Bus {
    /// A bus that this process has started, and so knows all about.
    ///
    /// # Errors
    /// If a certificate authority cannot be used.
    pub fn at(url: &str, token: &str, ca_files: Vec<PathBuf>) -> anyhow::Result<Self> {
        let user = UserName::Client(ClientToken::parse(token)?);
        Self::new(base_url(url)?, user, "this command", ca_files)
    }

    fn new(
        url: String,
        user: UserName,
        token_from: &'static str,
        ca_files: Vec<PathBuf>,
    ) -> anyhow::Result<Self> {
        let http = client::build(&ClientOptions {
            ca_files: ca_files.clone(),
            connect_timeout: CONNECT_TIMEOUT,
            timeout: TIMEOUT,
            plain: false,
        })?;
        let bus = routemaster_client::Bus::over(http, url, user.reveal());
        Ok(Self { bus, user, token_from, ca_files })
    }

    /// The same bus, for another client of it.
    pub fn with_token(&self, token: ClientToken) -> Self {
        let bus = self.bus.with_token(token.reveal());
        Self { bus, user: UserName::Client(token), token_from: "this command", ..self.clone() }
    }

    /// Its address, without a slash at the end.
    pub fn url(&self) -> &str {
        self.bus.url()
    }

    /// Whether it is on this machine, as far as its address tells.
    pub fn is_local(&self) -> bool {
        Url::parse(self.url()).is_ok_and(|url| match url.host() {
            Some(url::Host::Domain(name)) => name == "localhost",
            Some(url::Host::Ipv4(address)) => address.is_loopback(),
            Some(url::Host::Ipv6(address)) => address.is_loopback(),
            None => false,
        })
    }

    /// Whom the bus is told that this is: a client's token, or the root key.
    pub fn user(&self) -> &UserName {
        &self.user
    }

    /// The client that this is to the bus.
    ///
    /// # Errors
    /// If this is no client, but the holder of the root key.
    pub fn client(&self) -> Result<&ClientToken, UsageError> {
        match &self.user {
            UserName::Client(token) => Ok(token),
            UserName::Root(_) => {
                let reason = format!("{} is no client's token: {InvalidToken}", self.token_from);
                Err(UsageError(reason))
            }
        }
    }

    /// Where the token comes from: an option or a variable.
    pub fn token_from(&self) -> &'static str {
        self.token_from
    }

    pub fn ca_files(&self) -> &[PathBuf] {
        &self.ca_files
    }

    pub async fn get(&self, path: &str) -> Result<Answer, Trouble> {
        self.request(Method::GET, path, None).await
    }

    pub async fn post(&self, path: &str, json: Bytes) -> Result<Answer, Trouble> {
        self.request(Method::POST, path, Some(json)).await
    }

    pub async fn put(&self, path: &str, json: Bytes) -> Result<Answer, Trouble> {
        self.request(Method::PUT, path, Some(json)).await
    }

    pub async fn delete(&self, path: &str) -> Result<Answer, Trouble> {
        self.request(Method::DELETE, path, None).await
    }

    pub async fn patch(&self, path: &str, json: Bytes) -> Result<Answer, Trouble> {
        self.request(Method::PATCH, path, Some(json)).await
    }

    /// Sends one request, whose path starts with a slash, and reads the whole answer.
    async fn request(
        &self,
        method: Method,
        path: &str,
        json: Option<Bytes>,
    ) -> Result<Answer, Trouble> {
        self.bus.send(method, path, json).await.map_err(|error| self.trouble(error))
    }

    /// The bus as the library has it.
    pub fn api(&self) -> &routemaster_client::Bus {
        &self.bus
    }

    /// What went wrong with a request that got no answer.
    pub fn trouble(&self, error: routemaster_client::Error) -> Trouble {
        Trouble::of(self.url(), error, TIMEOUT)
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
    fn a_bad_token_is_not_repeated() {
        let address = BusAddress {
            url: Some("https://bus.example".into()),
            token: Some("Secret:Of-Mine".into()),
            ca_file: vec![],
        };
        let options = BusOptions { address, data_dir: None };
        assert_eq!(options.to_paste(), " --url https://bus.example --token '…'");
        let error = format!("{:#}", options.connect().err().unwrap());
        assert!(error.contains("--token") && !error.contains("Secret"), "{error}");
    }
}
