//! What the bus refuses, in words that tell a person what to do about it.

use anyhow::anyhow;
use reqwest::StatusCode;
use routemaster_client::Error;

use super::connect::{Answer, Bus};
use super::trouble::Trouble;
use crate::config::COMMANDS_TOKEN;

/// Whether the same request may well get another answer a little later.
pub fn may_pass(result: &Result<Answer, Trouble>) -> bool {
    match result {
        Ok(answer) => answer.may_pass(),
        Err(trouble) => trouble.may_pass(),
    }
}

/// As [`refusal`], for what only the holder of the root key may do.
pub fn refusal_of_root(bus: &Bus, answer: &Answer) -> anyhow::Error {
    if !matches!(answer.status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
        return refusal(bus, answer, None);
    }
    let (token, from) = (bus.user(), bus.token_from());
    anyhow!(
        "{token} (from {from}) is not the root key of this bus: give it the ROUTEMASTER_ROOT_KEY \
         that the bus was started with, in the environment, in .env or with --token; a bus without \
         one has nobody who may do this"
    )
}

/// Turns an answer that is no success into an error. `topic` is the topic the request was about,
/// if it was about one.
pub fn refusal(bus: &Bus, answer: &Answer, topic: Option<&str>) -> anyhow::Error {
    let (token, from) = (bus.user(), bus.token_from());
    let reason = answer.reason();
    match answer.status {
        StatusCode::UNAUTHORIZED => anyhow!(
            "the bus does not know the token {token} (from {from}): use another one with --token or \
             {COMMANDS_TOKEN}, or add it to ROUTEMASTER_CLIENTS where the bus is started"
        ),
        StatusCode::FORBIDDEN => match topic {
            // It may also be one topic too many.
            Some(topic) if reason.contains("belongs to another") => anyhow!(
                "`{topic}` belongs to another client, not to the token {token}: publish with the \
                 token of its publisher (--token) or to another topic"
            ),
            _ => anyhow!("the bus forbids this to the token {token}: {reason}"),
        },
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
            let when = match answer.retry_after() {
                Some(pause) => format!("in {} s", pause.as_secs().max(1)),
                None => "later".into(),
            };
            anyhow!("the bus cannot take this now ({reason}): try again {when}")
        }
        status if status.is_client_error() => anyhow!("the bus refused this: {reason}"),
        status if status.is_server_error() => {
            anyhow!("the bus failed with {}: {reason}", status.as_u16())
        }
        status => anyhow!("{} answered {}: is it a bus?", bus.url(), status.as_u16()),
    }
}

/// Turns what the library says into an error. `topic` is the topic the request was about, if it was about one.
pub fn failure(bus: &Bus, error: Error, topic: Option<&str>) -> anyhow::Error {
    match error {
        Error::Refused(answer) => refusal(bus, &answer, topic),
        other => bus.trouble(other).into(),
    }
}
