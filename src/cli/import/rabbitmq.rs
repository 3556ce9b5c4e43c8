//! The queue of the original call proxy, through the HTTP API of RabbitMQ's management plug-in.

use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use reqwest::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use url::Url;

use crate::causes;
use crate::egress::client::{self, ClientOptions};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A busy broker takes its time.
const TIMEOUT: Duration = Duration::from_secs(60);
/// The longest answer of which an error shows something, in characters.
const REASON_MAX: usize = 200;

/// A queue that somebody else's consumers have left.
pub struct RabbitQueue {
    client: reqwest::Client,
    url: Url,
    queue: String,
}

/// What is known of the queue.
#[derive(Debug, Deserialize)]
pub struct Standing {
    #[serde(default)]
    pub messages: u64,
    #[serde(default)]
    pub messages_unacknowledged: u64,
    #[serde(default)]
    pub consumers: u64,
}

/// What becomes of messages that are read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reading {
    /// They go back to where they were.
    Look,
    /// They are gone from the queue.
    Take,
}

#[derive(Deserialize)]
struct Message {
    payload: String,
    payload_encoding: String,
}

impl RabbitQueue {
    /// `url` is the plug-in's address with user and password, and a virtual host as its path; without one it is `/`.
    ///
    /// # Errors
    /// If the URL is none.
    pub fn new(url: &str, queue: &str) -> anyhow::Result<Self> {
        let wrong = || anyhow!("--from must be http://USER:PASSWORD@HOST:15672, or https://");
        let url = Url::parse(url).map_err(|_| wrong())?;
        if !url.has_host() || url.query().is_some() || url.fragment().is_some() {
            return Err(wrong());
        }
        let options = ClientOptions {
            ca_files: Vec::new(),
            connect_timeout: CONNECT_TIMEOUT,
            timeout: TIMEOUT,
            plain: true,
        };
        Ok(Self { client: client::build(&options)?, url, queue: queue.to_owned() })
    }

    /// Queue and server, without password.
    pub fn name(&self) -> String {
        let host = self.url.host_str().unwrap_or_default();
        let port = self.url.port_or_known_default().unwrap_or_default();
        format!("RabbitMQ's queue {} at {host}:{port}", self.queue)
    }

    /// # Errors
    /// If it cannot be asked, or there is no such queue.
    pub async fn standing(&self) -> anyhow::Result<Standing> {
        let path = ["api", "queues", &self.virtual_host(), &self.queue];
        self.ask(Method::GET, &path, None).await
    }

    /// Messages from the head of the queue, oldest first.
    ///
    /// # Errors
    /// If they cannot be had. Of messages that were to be taken, nobody then knows whether they were.
    pub async fn messages(&self, count: usize, reading: Reading) -> anyhow::Result<Vec<Bytes>> {
        let ackmode = match reading {
            Reading::Look => "ack_requeue_true",
            Reading::Take => "ack_requeue_false",
        };
        let body = json!({"count": count, "ackmode": ackmode, "encoding": "base64"});
        let path = ["api", "queues", &self.virtual_host(), &self.queue, "get"];
        let messages: Vec<Message> = self.ask(Method::POST, &path, Some(body)).await?;
        messages.into_iter().map(Message::bytes).collect()
    }

    /// Puts a message at the end of the queue.
    ///
    /// # Errors
    /// If it is not there then.
    pub async fn put_back(&self, message: &[u8]) -> anyhow::Result<()> {
        #[derive(Deserialize)]
        struct Routed {
            routed: bool,
        }
        let body = json!({
            "properties": {"delivery_mode": 2},
            "routing_key": self.queue,
            "payload": BASE64_STANDARD.encode(message),
            "payload_encoding": "base64",
        });
        let path = ["api", "exchanges", &self.virtual_host(), "amq.default", "publish"];
        let Routed { routed } = self.ask(Method::POST, &path, Some(body)).await?;
        if routed { Ok(()) } else { bail!("there is no queue {} any more", self.queue) }
    }

    fn virtual_host(&self) -> String {
        let path = self.url.path().trim_matches('/');
        let name = percent_encoding::percent_decode_str(path).decode_utf8_lossy().into_owned();
        if name.is_empty() { "/".into() } else { name }
    }

    async fn ask<T: for<'de> Deserialize<'de>>(
        &self,
        method: Method,
        path: &[&str],
        body: Option<Value>,
    ) -> anyhow::Result<T> {
        let mut url = self.url.clone();
        let (user, password) = (self.url.username(), self.url.password().unwrap_or_default());
        let decoded = |text| percent_encoding::percent_decode_str(text).decode_utf8_lossy();
        let mut request = {
            // Names in a path are encoded, the `/` of a virtual host too.
            let bare = url.set_username("").and_then(|()| url.set_password(None));
            bare.map_err(|()| anyhow!("--from has no host"))?;
            url.set_path("");
            let mut segments =
                url.path_segments_mut().map_err(|()| anyhow!("--from has no host"))?;
            segments.pop_if_empty().extend(path);
            drop(segments);
            self.client.request(method, url)
        };
        if !user.is_empty() {
            request = request.basic_auth(decoded(user), Some(decoded(password)));
        }
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        let failed = |error: reqwest::Error| {
            let (name, why) = (self.name(), causes::root(&error));
            anyhow!("{name} cannot be reached through the management plug-in: {why}")
        };
        let answer = request.send().await.map_err(failed)?;
        let status = answer.status();
        let text = answer.text().await.map_err(failed)?;
        match status {
            status if status.is_success() => serde_json::from_str(&text)
                .with_context(|| format!("{} answered strangely", self.name())),
            StatusCode::UNAUTHORIZED => {
                bail!("{}: it does not know the user and password of --from", self.name())
            }
            StatusCode::NOT_FOUND => bail!(
                "{}: there is no such queue in the virtual host {}: name another one with --queue, or a \
                 virtual host as the path of --from",
                self.name(),
                self.virtual_host()
            ),
            status => {
                let reason: String = text.chars().take(REASON_MAX).collect();
                bail!("{} answered {status}: {reason}", self.name())
            }
        }
    }
}

impl Message {
    fn bytes(self) -> anyhow::Result<Bytes> {
        if self.payload_encoding != "base64" {
            return Ok(self.payload.into());
        }
        let bytes = BASE64_STANDARD.decode(self.payload);
        Ok(bytes.context("RabbitMQ sent a message that is no base64")?.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_virtual_host_is_the_path() {
        for (url, expected) in [
            ("http://u:p@rabbit:15672", "/"),
            ("http://u:p@rabbit:15672/", "/"),
            ("http://u:p@rabbit:15672/calls", "calls"),
            ("http://u:p@rabbit:15672/a%2Fb", "a/b"),
        ] {
            let queue = RabbitQueue::new(url, "services").unwrap();
            assert_eq!(queue.virtual_host(), expected);
            assert_eq!(queue.name(), "RabbitMQ's queue services at rabbit:15672");
        }
        assert!(RabbitQueue::new("http://rabbit/?a", "services").is_err());
    }
}
