//! Which subscriber a command is about, and how the bus is asked about one.

use anyhow::anyhow;
use clap::Args;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::StatusCode;
use serde_json::Value;

use super::connect::{Answer, Bus};
use super::monitoring::veil;
use super::outcome::UsageError;
use super::refusals::refusal;
use crate::bus::token::UserName;

#[derive(Args, Clone)]
pub struct WhichSubscriber {
    /// Which subscriber: its name, or its token if several have that name. Needs the root key, unless it is the
    /// client's own [default: the client's own].
    #[arg(value_name = "SUBSCRIBER")]
    subscriber: Option<String>,
}

impl WhichSubscriber {
    pub fn named(subscriber: Option<String>) -> Self {
        Self { subscriber }
    }

    /// # Errors
    /// If nobody is named, and the caller is no client.
    pub fn of(&self, bus: &Bus) -> anyhow::Result<Subscriber> {
        let subscriber = match (&self.subscriber, bus.user()) {
            (Some(named), _) => named.clone(),
            (None, UserName::Client(token)) => token.reveal().to_owned(),
            (None, UserName::Root(_)) => {
                let reason = "say which subscriber: `routemaster subscriptions` lists them";
                return Err(UsageError::new(reason).into());
            }
        };
        Ok(Subscriber(subscriber))
    }
}

/// A subscriber, by name or token.
pub struct Subscriber(String);

impl Subscriber {
    /// As it may stand on a screen.
    pub fn name(&self) -> &str {
        veil(&self.0)
    }

    pub fn path(&self, what: &str) -> String {
        format!("/subscriptions/{}{what}", utf8_percent_encode(&self.0, NON_ALPHANUMERIC))
    }

    /// # Errors
    /// If the bus cannot be asked, or refuses.
    pub async fn get(&self, bus: &Bus, what: &str) -> anyhow::Result<Value> {
        let answer = bus.get(&self.path(what)).await?;
        match answer.status.is_success() {
            true => Ok(answer.json()?),
            false => Err(self.refusal(bus, &answer)),
        }
    }

    /// # Errors
    /// If the bus cannot be asked, or refuses.
    pub async fn post(
        &self,
        bus: &Bus,
        what: &str,
        body: Option<&Value>,
    ) -> anyhow::Result<Answer> {
        let body = body.map(Value::to_string).unwrap_or_default();
        let answer = bus.post(&self.path(what), body.into()).await?;
        match answer.status.is_success() {
            true => Ok(answer),
            false => Err(self.refusal(bus, &answer)),
        }
    }

    fn refusal(&self, bus: &Bus, answer: &Answer) -> anyhow::Error {
        match answer.status {
            StatusCode::NOT_FOUND | StatusCode::CONFLICT => {
                anyhow!("{}: {}", self.name(), answer.reason())
            }
            StatusCode::FORBIDDEN => anyhow!(
                "{} is another subscriber, and the root key alone may do this: set ROUTEMASTER_ROOT_KEY, or give it \
                 with --token",
                self.name()
            ),
            _ => refusal(bus, answer, None),
        }
    }
}
