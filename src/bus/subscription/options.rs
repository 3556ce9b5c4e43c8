//! How a subscription's batches are written, signed, and what becomes of one that is refused: all that the
//! original does not have, and that therefore stays as it is unless it is named (contract §3, §14).

use serde_json::Value;

use super::Change;
use crate::bus::json::Rejection;
use crate::bus::signature::SigningSecrets;

/// How the events of a batch are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BatchFormat {
    /// As the original's: an array of `{"topic","type","url","t","data"?}`.
    #[default]
    Routemaster,
    /// A batch of CloudEvents 1.0 in JSON.
    CloudEvents,
}

impl BatchFormat {
    pub const ALL: [Self; 2] = [Self::Routemaster, Self::CloudEvents];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Routemaster => "routemaster",
            Self::CloudEvents => "cloudevents",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.as_str() == text)
    }
}

/// How batches of a subscription are delivered, beside its [`Terms`](super::Terms).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeliveryOptions {
    /// What batches are signed with.
    pub secrets: SigningSecrets,
    pub format: BatchFormat,
    /// After how many refusals of a batch the event is looked for that is refused; `None` if a batch is sent
    /// for ever.
    pub refusals_max: Option<u32>,
    /// How many batches may be out at once, in the order of each entity; `None` for one, in that of the queue.
    pub parallel: Option<u32>,
}

/// What a subscriber asks for of its [`DeliveryOptions`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OptionsRequest {
    pub secrets: Change<SigningSecrets>,
    pub format: Change<BatchFormat>,
    pub refusals_max: Change<u32>,
    pub parallel: Change<u32>,
}

impl OptionsRequest {
    /// What the options are from now on.
    pub fn apply(&self, old: DeliveryOptions) -> DeliveryOptions {
        DeliveryOptions {
            secrets: self.secrets.clone().apply(Some(old.secrets)).unwrap_or_default(),
            format: self.format.apply(Some(old.format)).unwrap_or_default(),
            refusals_max: self.refusals_max.apply(old.refusals_max),
            parallel: self.parallel.apply(old.parallel),
        }
    }
}

/// Everything of the options is asked for.
impl From<DeliveryOptions> for OptionsRequest {
    fn from(options: DeliveryOptions) -> Self {
        Self {
            secrets: Change::Set(options.secrets),
            format: Change::Set(options.format),
            refusals_max: options.refusals_max.map_or(Change::Clear, Change::Set),
            parallel: options.parallel.map_or(Change::Clear, Change::Set),
        }
    }
}

/// How often a batch may be refused at most before the event is looked for.
pub const REFUSALS_MAX: u32 = 1_000;

/// `secret`: one, or two while a subscriber goes over from one to another.
///
/// # Errors
/// If it holds what is no secret.
pub fn secret_change(field: Option<Value>) -> Result<Change<SigningSecrets>, Rejection> {
    let texts = match field {
        None | Some(Value::Null) => return Ok(Change::Keep),
        Some(Value::String(text)) if text.is_empty() => return Ok(Change::Clear),
        Some(Value::Array(texts)) if texts.is_empty() => return Ok(Change::Clear),
        Some(Value::Array(texts)) => texts,
        Some(one) => vec![one],
    };
    // What is no text is no secret either.
    let texts: Vec<&str> = texts.iter().map(|text| text.as_str().unwrap_or_default()).collect();
    let secrets = SigningSecrets::parse(&texts);
    secrets.map(Change::Set).map_err(|wrong| Rejection::new(format!("`secret` {wrong}")))
}

/// `on_refusal`: `"hold"`, or after how many attempts the event is looked for that is refused.
///
/// # Errors
/// If it means nothing.
pub fn on_refusal_change(field: Option<&Value>) -> Result<Change<u32>, Rejection> {
    let attempts = match field {
        None | Some(Value::Null) => return Ok(Change::Keep),
        Some(Value::String(word)) if word.is_empty() || word == "hold" => return Ok(Change::Clear),
        Some(Value::Number(number)) if number.as_u64() == Some(0) => return Ok(Change::Clear),
        Some(Value::Object(limit)) if limit.len() == 1 => limit.get("attempts"),
        Some(_) => None,
    };
    let attempts =
        attempts.and_then(Value::as_u64).and_then(|attempts| u32::try_from(attempts).ok());
    attempts.filter(|attempts| (1..=REFUSALS_MAX).contains(attempts)).map(Change::Set).ok_or_else(|| {
        Rejection::new(format!(
            "`on_refusal` must be \"hold\", or {{\"attempts\": n}} with n from 1 to {REFUSALS_MAX}"
        ))
    })
}

/// The order that is not the queue's.
pub const ENTITY_ORDER: &str = "entity";

/// How many batches may be out at once at most, and how many are unless it is said.
pub const PARALLEL_MAX: u32 = 32;
pub const PARALLEL_DEFAULT: u32 = 8;

/// `order`: `"queue"`, or `"entity"` with `parallel` batches out at once.
///
/// # Errors
/// If there is no such order, or `parallel` is not for it.
pub fn order_change(order: Option<&str>, parallel: Option<u32>) -> Result<Change<u32>, Rejection> {
    match (order, parallel) {
        (None, None) => Ok(Change::Keep),
        (Some("" | "queue"), None) => Ok(Change::Clear),
        (Some(ENTITY_ORDER), None) => Ok(Change::Set(PARALLEL_DEFAULT)),
        (Some(ENTITY_ORDER), Some(parallel)) if (1..=PARALLEL_MAX).contains(&parallel) => {
            Ok(Change::Set(parallel))
        }
        (Some(ENTITY_ORDER), Some(_)) => {
            Err(Rejection::new(format!("`parallel` must be 1 to {PARALLEL_MAX} batches")))
        }
        (None | Some("" | "queue"), Some(_)) => {
            Err(Rejection::new("`parallel` goes with `\"order\": \"entity\"` only"))
        }
        (Some(_), _) => Err(Rejection::new("`order` must be \"queue\" or \"entity\"")),
    }
}

/// `format`.
///
/// # Errors
/// If there is no such format.
pub fn format_change(field: Option<&str>) -> Result<Change<BatchFormat>, Rejection> {
    match field {
        None => Ok(Change::Keep),
        Some("") => Ok(Change::Clear),
        Some(text) => BatchFormat::parse(text)
            .map(Change::Set)
            .ok_or_else(|| Rejection::new("`format` must be \"routemaster\" or \"cloudevents\"")),
    }
}
