//! The calls: whether some were given up, and whether one is late.

use serde::Deserialize;

use super::finding::Finding;
use crate::cli::connect::Bus;
use crate::cli::words::{age, clean};

const CHECK: &str = "calls";

/// How long a call may be due before it is worth a word, in milliseconds.
const LATE_MS: u64 = 60_000;

/// What the bus tells of calls that are not well.
pub struct Unwell {
    dead: Option<Call>,
    failing: Option<Call>,
    waiting: Option<Call>,
}

#[derive(Deserialize)]
struct Call {
    destination: String,
    attempts: u32,
    due: Option<u64>,
    error: Option<String>,
}

#[derive(Deserialize)]
struct List {
    calls: Vec<Call>,
}

impl Unwell {
    /// Asks a bus for one call of each kind, as far as its token may see them.
    ///
    /// # Errors
    /// If it cannot be asked.
    pub async fn at(bus: &Bus) -> anyhow::Result<Self> {
        let one = async |state: &str| {
            let answer = bus.get(&format!("/calls?limit=1&state={state}")).await?;
            let list: Option<List> =
                if answer.status.is_success() { answer.json().ok() } else { None };
            anyhow::Ok(list.and_then(|list| list.calls.into_iter().next()))
        };
        Ok(Self {
            dead: one("dead").await?,
            failing: one("failing").await?,
            waiting: one("waiting").await?,
        })
    }
}

/// `now_ms` is the bus's clock.
pub fn check(unwell: Option<&Unwell>, now_ms: u64) -> Vec<Finding> {
    let Some(unwell) = unwell else {
        return vec![Finding::skipped(CHECK, "not looked at: the bus has not told them")];
    };
    let mut findings = Vec::new();
    if let Some(dead) = &unwell.dead {
        let found = format!("calls were given up, the newest one after {}", told(dead));
        let advice =
            "see `routemaster dead-letters`; retry them once their receiver is well, or purge them";
        findings.push(Finding::warning(CHECK, found, advice).about(&dead.destination));
    }
    if let Some(failing) = &unwell.failing {
        let found = format!("calls fail, the newest one after {}", told(failing));
        let advice = "look at the receiver: they are made again; `routemaster journal --failed` has all attempts";
        findings.push(Finding::warning(CHECK, found, advice).about(&failing.destination));
    }
    let late_ms = |call: &Call| call.due.map(|due| now_ms.saturating_sub(due));
    if let Some(late) = unwell.waiting.as_ref().and_then(late_ms).filter(|late| *late > LATE_MS) {
        let found = format!("a call is {} late, and was not tried", age(late as i64));
        let advice = "see above whether a worker runs and has places left; a hanging destination holds up its own";
        findings.push(Finding::warning(CHECK, found, advice));
    }
    if findings.is_empty() {
        findings.push(Finding::ok(CHECK, "none was given up, and none fails"));
    }
    findings
}

fn told(call: &Call) -> String {
    let attempts = if call.attempts == 1 { "attempt" } else { "attempts" };
    let error = clean(call.error.as_deref().unwrap_or("no reason is known"));
    format!("{} {attempts}: {error}", call.attempts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::finding::Verdict;

    fn call(due: Option<u64>) -> Option<Call> {
        let error = Some("it answered 500".into());
        Some(Call { destination: "https://a.example:443".into(), attempts: 3, due, error })
    }

    #[test]
    fn what_was_given_up_fails_or_is_late_is_told() {
        let none = Unwell { dead: None, failing: None, waiting: None };
        assert_eq!(check(Some(&none), 0)[0].result, Verdict::Ok);
        assert_eq!(check(None, 0)[0].result, Verdict::Skipped);
        let unwell =
            Unwell { dead: call(None), failing: call(Some(9)), waiting: call(Some(1_000)) };
        let found = check(Some(&unwell), 62_000);
        assert_eq!(found.len(), 3);
        assert!(found[0].found.contains("after 3 attempts: it answered 500"));
        assert!(found[2].found.contains("61 s late"), "{}", found[2].found);
        assert_eq!(check(Some(&unwell), 2_000).len(), 2);
    }
}
