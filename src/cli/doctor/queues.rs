//! The queues: who has not received for a while, and who has lost events.

use super::finding::Finding;
use crate::bus::attempt::is_success;
use crate::cli::monitoring::{LastError, Paused, Subscription, veil};
use crate::cli::words::{age_in_seconds, clean, counted};

const CHECK: &str = "queues";

/// For how long an event may wait, beyond the subscriber's own `timeout`, in seconds.
const OLD_S: u64 = 10 * 60;

/// For how long one may wait before it is worth a word, though no delivery failed.
const LATE_S: u64 = 15;

/// `now_s` is the bus's clock, in seconds since the epoch.
pub fn check(subscriptions: Option<&[Subscription]>, now_s: u64) -> Vec<Finding> {
    let Some(subscriptions) = subscriptions else {
        return vec![Finding::skipped(CHECK, "not looked at: the bus has not told them")];
    };
    let waited_s = |s: &Subscription| s.events.oldest.map(|oldest| now_s.saturating_sub(oldest));
    let mut findings = Vec::new();
    for subscription in subscriptions {
        let about = veil(&subscription.subscriber);
        let waits_long = waited_s(subscription)
            .filter(|waited_s| *waited_s > OLD_S + subscription.timeout / 1000);
        if let Some(pause) = &subscription.paused {
            findings.push(paused(subscription, pause, now_s).about(about));
            continue;
        }
        match (&subscription.last_error, waits_long) {
            (Some(error), _) if error.status.is_some_and(is_success) => {
                findings.push(misunderstood(error).about(about));
            }
            (error, Some(waited_s)) => {
                findings.push(stuck(subscription, error.as_ref(), waited_s).about(about));
            }
            (Some(error), None) => findings.push(failing(error).about(about)),
            (None, None) => {
                findings.extend(late(subscription, waited_s(subscription)).map(|f| f.about(about)))
            }
        }
        if subscription.events.autodropped > 0 {
            findings.push(dropped(subscription.events.autodropped).about(about));
        }
    }
    if findings.is_empty() {
        let queued = subscriptions.iter().map(|s| s.events.queued).sum();
        let oldest = subscriptions.iter().filter_map(waited_s).max();
        let oldest =
            oldest.map_or(String::new(), |s| format!(", the oldest for {}", age_in_seconds(s)));
        let waiting = counted(queued, "event waits", "events wait");
        findings.push(Finding::ok(CHECK, format!("{waiting}{oldest}")));
    }
    findings
}

fn paused(subscription: &Subscription, pause: &Paused, now_s: u64) -> Finding {
    let waiting = counted(subscription.events.queued, "event waits", "events wait");
    let since = age_in_seconds(now_s.saturating_sub(pause.since / 1000));
    let found = format!("paused for {since}, {waiting}: {}", clean(&pause.reason));
    let name = veil(&subscription.subscriber);
    Finding::warning(CHECK, found, format!("`routemaster resume {name}` sends it what waits"))
}

fn stuck(subscription: &Subscription, error: Option<&LastError>, waited_s: u64) -> Finding {
    let waiting = counted(subscription.events.queued, "event waits", "events wait");
    let found = format!("{waiting}, the oldest for {}", age_in_seconds(waited_s));
    match error {
        Some(error) => {
            let found = format!("{found}; {}", attempt(error));
            Finding::problem(CHECK, found, "mend its callback: the batch is sent again until then")
        }
        None => Finding::problem(
            CHECK,
            found,
            "mend its callback if that has a problem above; else see that a worker runs, and look \
             for `failed to deliver` in its log: it names the reason",
        ),
    }
}

/// Nothing has failed, and nothing goes out.
fn late(subscription: &Subscription, waited_s: Option<u64>) -> Option<Finding> {
    let waited_s = waited_s.filter(|s| *s > LATE_S + subscription.timeout.div_ceil(1000))?;
    let waiting = counted(subscription.events.queued, "event waits", "events wait");
    Some(Finding::warning(
        CHECK,
        format!(
            "{waiting}, the oldest for {}, and no delivery has failed",
            age_in_seconds(waited_s)
        ),
        "see above whether a worker runs and has places left; a long backlog takes its time, and a \
         receiver that is slow to answer holds it up",
    ))
}

fn failing(error: &LastError) -> Finding {
    let advice = "look at its callback: the batch is sent again, after ever longer pauses";
    Finding::warning(CHECK, attempt(error), advice)
}

/// Its receiver has handled the batch, and gets it again for ever.
fn misunderstood(error: &LastError) -> Finding {
    Finding::problem(
        CHECK,
        attempt(error),
        "let the receiver answer 200 or 204, or set ROUTEMASTER_ACK=2xx for the workers, which takes \
         any 2xx as the Ruby Routemaster did",
    )
}

fn attempt(LastError { attempt, reason, .. }: &LastError) -> String {
    format!("attempt {attempt} failed: {}", clean(reason))
}

fn dropped(events: u64) -> Finding {
    let dropped = counted(events, "event was dropped", "events were dropped");
    Finding::warning(
        CHECK,
        format!("{dropped} since it subscribed, because the store ran out of room"),
        "let the subscriber fetch anew what it missed; see that it receives as fast as others \
         publish, or give the store more room (ROUTEMASTER_SQLITE_MAX_BYTES, \
         ROUTEMASTER_REDIS_MAX_MEM)",
    )
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict;
    use super::*;

    fn subscription(timeout_ms: u64, oldest: Option<u64>, autodropped: u64) -> Subscription {
        let row = serde_json::json!({
            "subscriber": "shop--0123", "callback": "https://a.example/", "uuid": null,
            "max_events": 100, "timeout": timeout_ms, "topics": [],
            "events": {"sent": 0, "queued": 7, "oldest": oldest, "autodropped": autodropped},
        });
        serde_json::from_value(row).unwrap()
    }

    #[test]
    fn one_that_is_paused_is_told_with_why_and_how_it_ends() {
        let mut held = subscription(500, Some(1_000), 0);
        let pause = serde_json::json!({"since": 999_000_000, "by": "root", "reason": "because"});
        held.paused = serde_json::from_value(pause).unwrap();
        let findings = check(Some(&[held]), 1_000_000);
        assert_eq!((findings.len(), findings[0].result), (1, Verdict::Warning));
        assert_eq!(findings[0].found, "paused for 16 min, 7 events wait: because");
        assert!(findings[0].advice.as_deref().unwrap().contains("routemaster resume shop"));
    }

    #[test]
    fn an_event_that_waits_for_long_is_a_problem_and_a_dropped_one_a_warning() {
        let now_s = 1_000_000;
        let check = |all: &[Subscription]| check(Some(all), now_s);
        let well = check(&[
            subscription(500, None, 0),
            subscription(500, Some(now_s - LATE_S), 0),
            subscription(3_600_000, Some(now_s - 3_600), 0),
        ]);
        assert_eq!(well.len(), 1);
        assert_eq!(well[0].found, "21 events wait, the oldest for 60 min");
        let late = check(&[subscription(500, Some(now_s - OLD_S), 0)]);
        assert_eq!(late[0].result, Verdict::Warning);
        assert!(late[0].found.contains("no delivery has failed"), "{}", late[0].found);
        let ill = check(&[subscription(500, Some(now_s - 3_000), 5)]);
        let results: Vec<_> = ill.iter().map(|finding| finding.result).collect();
        assert_eq!(results, [Verdict::Problem, Verdict::Warning]);
        assert_eq!(
            ill[0].text(" ").split(" → ").next(),
            Some("shop: 7 events wait, the oldest for 50 min")
        );
    }
    #[test]
    fn why_a_batch_is_sent_again_is_told_and_a_misunderstanding_by_its_name() {
        let with_error = |status: Option<u16>, oldest: u64| Subscription {
            last_error: Some(LastError { at: 1, attempt: 3, status, reason: "no\u{1b}!".into() }),
            ..subscription(500, Some(oldest), 0)
        };
        let look = |status, oldest| check(Some(&[with_error(status, oldest)]), 1_000_000).remove(0);
        let failing = look(Some(503), 999_999);
        assert_eq!(failing.result, Verdict::Warning);
        assert!(failing.found.starts_with("attempt 3 failed: no"), "{}", failing.found);
        let stuck = look(None, 1);
        assert_eq!(stuck.result, Verdict::Problem);
        assert!(stuck.found.contains("attempt 3"), "{}", stuck.found);
        let misunderstood = look(Some(202), 999_999);
        assert_eq!(misunderstood.result, Verdict::Problem);
        assert!(misunderstood.text(" ").contains("ROUTEMASTER_ACK=2xx"));
    }
}
