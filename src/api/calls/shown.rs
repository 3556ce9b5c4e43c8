//! Calls as those see them who look after them.

use std::collections::BTreeMap;

use serde::Serialize;
use utoipa::ToSchema;

use crate::api::journal::Attempt;
use crate::bus::call::{NotKept, Order, is_secret_header};
use crate::bus::user_info;
use crate::http::authentication::{Authentication, Caller};
use crate::store::CallStatus;

/// How much of a body is shown, in characters.
const BODY_SHOWN: usize = 1024;
/// Stands in the place of what only the receiver may see.
const HIDDEN: &str = "…";

/// A call.
#[derive(Serialize, ToSchema)]
#[schema(as = Call)]
pub struct Shown {
    id: String,
    /// Whose it is; for others than its owner by name.
    client: String,
    /// `call`, `postback`, or `unread` for a body that was taken as it came.
    kind: &'static str,
    method: String,
    url: String,
    /// Scheme, host and port.
    destination: String,
    /// `waiting`, `sending`, `failing`, `dead` or `done`.
    state: &'static str,
    /// How often it was made.
    attempts: u32,
    /// When it was accepted, in milliseconds since the epoch.
    accepted: u64,
    /// When it is made next, likewise; left out while it is on its way, and if it never will be.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    due: Option<u64>,
    /// What it was answered last, if it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    status: Option<u16>,
    /// Why it failed last.
    #[serde(skip_serializing_if = "String::is_empty")]
    #[schema(required = false)]
    error: String,
    /// What is sent; not in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    request: Option<ShownRequest>,
    /// The attempts that the journal still has, up to the last 500; not in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    history: Option<Vec<Attempt>>,
}

impl Shown {
    pub fn new(call: &CallStatus, caller: &Caller, authentication: &Authentication) -> Self {
        let (method, url) = call.title.split_once(' ').unwrap_or_default();
        Self {
            id: call.key.id.to_string(),
            client: authentication.view_of(&call.key.client, caller),
            kind: call.kind.as_str(),
            method: method.to_owned(),
            url: user_info::taken_out(url).0,
            destination: call.destination.clone(),
            state: call.state.as_str(),
            attempts: call.attempts,
            accepted: call.accepted_ms,
            due: call.due_ms,
            status: call.status,
            error: call.reason.clone(),
            request: None,
            history: None,
        }
    }
}

/// What a call is made with.
#[derive(Serialize, ToSchema)]
#[schema(as = CallRequest)]
pub struct ShownRequest {
    /// Values that carry credentials are hidden.
    #[schema(value_type = BTreeMap<String, String>)]
    headers: BTreeMap<String, String>,
    /// Its beginning.
    body: String,
    /// Whether there is more of it; left out if not.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[schema(required = false)]
    cut: bool,
    /// Whether it is made again when it fails.
    requeue: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    max_attempts: Option<u32>,
    /// Milliseconds from when it was accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    give_up_after: Option<u64>,
    /// How long one attempt may take, in milliseconds, if the call says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    timeout: Option<u64>,
}

impl Shown {
    /// The same with what is sent; for what is no call, with what was accepted.
    pub fn with_request(
        mut self,
        order: Result<Order, NotKept>,
        content: &[u8],
        history: Vec<Attempt>,
    ) -> Self {
        self.history = Some(history);
        let beginning = |text: &str| text.chars().take(BODY_SHOWN).collect();
        let is_cut = |text: &str| text.chars().nth(BODY_SHOWN).is_some();
        let Ok(Order { request, persistence, timeout }) = order else {
            self.request = Some(ShownRequest {
                headers: BTreeMap::new(),
                body: beginning(&String::from_utf8_lossy(content)),
                cut: is_cut(&String::from_utf8_lossy(content)),
                requeue: false,
                max_attempts: None,
                give_up_after: None,
                timeout: None,
            });
            return self;
        };
        // Lists have a postback's endpoint.
        self.url = request.url;
        let shown = |(name, value): (String, String)| {
            let value = if is_secret_header(&name) { HIDDEN.into() } else { value };
            (name, value)
        };
        self.request = Some(ShownRequest {
            headers: request.headers.into_iter().map(shown).collect(),
            body: beginning(&request.body),
            cut: is_cut(&request.body),
            requeue: persistence.requeue,
            // 0 is no limit.
            max_attempts: persistence.max_attempts.filter(|attempts| *attempts > 0),
            give_up_after: persistence.give_up_after,
            timeout: timeout.map(|timeout| timeout.as_millis() as u64),
        });
        self
    }
}
