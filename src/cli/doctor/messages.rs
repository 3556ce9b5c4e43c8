//! Messages: whether some were given up or fail, whether history can be had, and whether Google Pub/Sub lets us in.

use serde::Deserialize;
use serde_json::Value;

use super::finding::Finding;
use crate::cli::connect::Bus;
use crate::cli::words::clean;
use crate::config::{Settings, Survey};
use crate::roles::Records;
use crate::worker::pubsub;

const CHECK: &str = "messages";

/// What the bus tells of messages that are not well.
pub struct UnwellMessages {
    dead: Option<Value>,
    failing: Option<Value>,
}

#[derive(Deserialize)]
struct List {
    data: Vec<Value>,
}

impl UnwellMessages {
    /// Asks a bus for one message of each kind, as far as its token may see them.
    ///
    /// # Errors
    /// If it cannot be asked.
    pub async fn at(bus: &Bus) -> anyhow::Result<Self> {
        let one = async |state: &str| {
            let answer = bus.get(&format!("/api/messages?limit=1&state={state}")).await?;
            let list: Option<List> =
                if answer.status.is_success() { answer.json().ok() } else { None };
            anyhow::Ok(list.and_then(|list| list.data.into_iter().next()))
        };
        Ok(Self { dead: one("dead").await?, failing: one("failing").await? })
    }
}

/// What the bus tells, and what the settings here name.
pub async fn check(unwell: Option<&UnwellMessages>, survey: &Survey) -> Vec<Finding> {
    let mut findings = of_bus(unwell);
    findings.extend(of_history(&survey.settings).await);
    findings.extend(of_pubsub(&survey.settings).await);
    findings
}

fn of_bus(unwell: Option<&UnwellMessages>) -> Vec<Finding> {
    let Some(unwell) = unwell else {
        return vec![Finding::skipped(CHECK, "not looked at: the bus has not told them")];
    };
    let mut findings = Vec::new();
    if let Some(dead) = &unwell.dead {
        let (told, target) = told(dead, "dead");
        let found = format!("messages were given up, the newest one after {told}");
        let advice = "see `routemaster messages --state dead`; retry them once their target is well, or erase them";
        findings.push(Finding::warning(CHECK, found, advice).about(target));
    }
    if let Some(failing) = &unwell.failing {
        let (told, target) = told(failing, "failing");
        let found = format!("messages are not forwarded, the newest one after {told}");
        let advice = "look at the target: they are tried again; `routemaster messages show` has all attempts";
        findings.push(Finding::warning(CHECK, found, advice).about(target));
    }
    if findings.is_empty() {
        findings.push(Finding::ok(CHECK, "none was given up, and none fails"));
    }
    findings
}

/// How it stands with the first publisher of this state, and where that leads.
fn told(message: &Value, state: &str) -> (String, String) {
    let publishers = message["publishers"].as_array().into_iter().flatten();
    let publisher = publishers.into_iter().find(|publisher| publisher["state"] == state);
    let Some(publisher) = publisher else { return ("some attempts".into(), String::new()) };
    let attempts = publisher["attempts"].as_u64().unwrap_or_default();
    let word = if attempts == 1 { "attempt" } else { "attempts" };
    let error = clean(publisher["error"].as_str().unwrap_or("no reason is known"));
    let target = clean(publisher["target"].as_str().unwrap_or("a removed publisher"));
    (format!("{attempts} {word}: {error}"), target)
}

async fn of_history(settings: &Settings) -> Option<Finding> {
    settings.history_url.as_ref()?;
    let asked = async {
        if let Some(history) = Records::open(settings)?.history {
            history.ping().await?;
        }
        anyhow::Ok(())
    };
    Some(match asked.await {
        Ok(()) => Finding::ok(CHECK, "PostgreSQL takes journal and history"),
        Err(error) => Finding::problem(
            CHECK,
            format!("{error:#}"),
            "correct ROUTEMASTER_HISTORY_URL, or look at PostgreSQL: deliveries go on, and history is lacking",
        ),
    })
}

async fn of_pubsub(settings: &Settings) -> Option<Finding> {
    let is_meant = settings.google_credentials.is_some()
        || settings.pubsub_emulator.is_some()
        || settings.pubsub_project.is_some();
    if !is_meant {
        return None;
    }
    let asked = async {
        let pubsub = pubsub(settings)?;
        anyhow::Ok(pubsub.look().await?)
    };
    Some(match asked.await {
        Ok(project) => {
            Finding::ok(CHECK, format!("Google Pub/Sub is that of the project {project}"))
        }
        Err(error) => Finding::problem(
            CHECK,
            format!("{error:#}"),
            "correct GOOGLE_APPLICATION_CREDENTIALS and GCLOUD_PUBSUB_PROJECT_ID",
        ),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cli::doctor::finding::Verdict;

    #[test]
    fn what_was_given_up_or_fails_is_told() {
        let none = UnwellMessages { dead: None, failing: None };
        assert_eq!(of_bus(Some(&none))[0].result, Verdict::Ok);
        assert_eq!(of_bus(None)[0].result, Verdict::Skipped);
        let message = |state: &str| {
            Some(json!({"publishers": [
                {"state": "done", "attempts": 1, "target": "https://other.example"},
                {"state": state, "attempts": 3, "target": "https://a.example", "error": "it answered 500"},
            ]}))
        };
        let unwell = UnwellMessages { dead: message("dead"), failing: message("failing") };
        let found = of_bus(Some(&unwell));
        assert_eq!(found.len(), 2);
        assert!(found[0].found.contains("after 3 attempts: it answered 500"), "{}", found[0].found);
        assert_eq!(found[0].about.as_deref(), Some("https://a.example"));
    }
}
