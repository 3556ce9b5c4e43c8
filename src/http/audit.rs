//! Who did what, from where: a line for each act that changes what the bus keeps.

use std::fmt::Display;
use std::net::IpAddr;

use super::authentication::Caller;

/// Somebody who may change something.
pub struct Actor {
    pub caller: Caller,
    /// Where the request came from.
    pub from: Option<IpAddr>,
}

impl Actor {
    /// Tells that it was done: what, and of what.
    pub fn did(&self, what: &'static str, of: impl Display) {
        let from = self.from.map(|from| from.to_string());
        match &self.caller {
            Caller::Root => tracing::info!(by = "root", from, what, %of, "done"),
            Caller::Monitor => tracing::info!(by = "monitor", from, what, %of, "done"),
            Caller::Client(client) => tracing::info!(by = %client, from, what, %of, "done"),
        }
    }
}
