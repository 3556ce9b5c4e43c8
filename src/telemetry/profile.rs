//! A profile of this process: where its threads spend their processor time, as a flame graph.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Looks a second of processor time: no divisor of what happens at round intervals.
const FREQUENCY: i32 = 199;

/// Code during which no stack is looked at: it may hold locks that looking needs.
const LEFT_OUT: [&str; 4] = ["libc", "libgcc", "pthread", "vdso"];

/// How long it may be looked, in seconds.
pub const SECONDS_MAX: u64 = 20;

/// What is drawn of a process that only waited.
const NOTHING_SEEN: &str = r#"<svg xmlns="http://www.w3.org/2000/svg" width="640" height="48">
<text x="16" y="30" font-family="sans-serif">This process used no processor time meanwhile.</text>
</svg>
"#;

pub const BUSY: &str = "a profile is being made already: ask again when it is done";

/// Why there is no profile.
#[derive(Debug, thiserror::Error)]
pub enum NoProfile {
    #[error("{BUSY}")]
    Busy,
    #[error("this process cannot be profiled: {0}")]
    Failed(String),
}

/// Looks at all threads for so long; a flame graph, as SVG. Another one must wait: what is looked at is the process.
///
/// # Errors
/// If one is being made already, or the system does not let it.
pub async fn flame_graph(time: Duration) -> Result<Vec<u8>, NoProfile> {
    static IS_MADE: AtomicBool = AtomicBool::new(false);
    if IS_MADE.swap(true, Ordering::AcqRel) {
        return Err(NoProfile::Busy);
    }
    let _made = Made(&IS_MADE);
    let failed = |error: pprof::Error| NoProfile::Failed(error.to_string());
    let looks = pprof::ProfilerGuardBuilder::default();
    let looking = looks.frequency(FREQUENCY).blocklist(&LEFT_OUT).build().map_err(failed)?;
    tokio::time::sleep(time).await;
    let drawn = tokio::task::spawn_blocking(move || {
        let report = looking.report().build()?;
        drop(looking);
        let mut svg = Vec::new();
        report.flamegraph(&mut svg)?;
        // Nothing is drawn where nothing was seen.
        Ok(if svg.is_empty() { NOTHING_SEEN.into() } else { svg })
    });
    let drawn = drawn.await.map_err(|error| NoProfile::Failed(error.to_string()))?;
    drawn.map_err(failed)
}

/// That a profile is made.
struct Made(&'static AtomicBool);

impl Drop for Made {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}
