//! Who runs: each process says from time to time that it is there.

use std::time::Duration;

use async_trait::async_trait;

use super::StoreResult;
use crate::bus::process::Process;

/// How many processes are known at most; further ones are not.
pub const PROCESSES_MAX: usize = 10_000;

/// Who runs.
#[async_trait]
pub trait Processes: Send + Sync + 'static {
    /// Says that a process is there, from now on for `term`; a term of zero is its farewell. Returns whether somebody
    /// wants it to deliver nothing more.
    async fn announce(&self, process: &Process, term: Duration) -> StoreResult<bool>;

    /// Asks a process to deliver nothing more, or to deliver again; `false` if it is not there. It hears of it when it
    /// says next that it is there.
    async fn drain(&self, process: &str, is_draining: bool) -> StoreResult<bool>;

    /// Those that are there, by role, host and the time of their start.
    async fn processes(&self) -> StoreResult<Vec<Process>>;
}

/// What stores keep of a process.
pub(super) fn to_text(process: &Process) -> String {
    serde_json::to_string(process).unwrap_or_default()
}

/// Reads what stores keep, in order; what a newer version wrote otherwise is passed over.
pub(super) fn from_texts<'a>(texts: impl Iterator<Item = &'a str>) -> Vec<Process> {
    let mut processes: Vec<Process> =
        texts.filter_map(|text| serde_json::from_str(text).ok()).collect();
    processes.sort_by(|one, other| {
        (&one.role, &one.host, one.since).cmp(&(&other.role, &other.host, other.since))
    });
    processes
}
