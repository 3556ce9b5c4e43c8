//! The store of the settings: whether it is there and fit for the bus, and whether it has room. It is
//! only looked at; one that is not there yet is not made.

use std::path::Path;
use std::time::Duration;

use indicatif::DecimalBytes;

use super::finding::Finding;
use crate::config::Survey;
use crate::files;
use crate::roles::{Access, open_and_check_store};
use crate::store::Budget;
use crate::store::sqlite::SqliteStore;
use crate::store::{StoreError, Usage, fullest_usage};

const CHECK: &str = "store";

/// How long looking into an SQLite file may take.
const LIMIT: Duration = Duration::from_secs(5);
/// Of the room that is used before autodrop begins, the share from which on it is worth a word, in
/// per cent.
const CLOSE: u64 = 80;
/// With less free than this, in bytes, a disk is full.
const DISK_FULL: u64 = 50_000_000;

pub async fn check(survey: &Survey) -> Vec<Finding> {
    let settings = &survey.settings;
    for name in ["ROUTEMASTER_REDIS_URL", "ROUTEMASTER_DATA_DIR"] {
        if survey.is_bad(name) {
            let why = format!("not looked at: {name} does not say where it is");
            return vec![Finding::skipped(CHECK, why)];
        }
    }
    match settings.redis_url {
        Some(_) => redis(survey).await,
        None => sqlite(&settings.data_dir, settings.budget()).await,
    }
}

async fn redis(survey: &Survey) -> Vec<Finding> {
    let settings = &survey.settings;
    let (store, checked) = match open_and_check_store(settings, Access::Look).await {
        Ok(opened) => opened,
        Err(error) => {
            let advice = "correct ROUTEMASTER_REDIS_URL";
            return vec![Finding::problem(CHECK, format!("{error:#}"), advice)];
        }
    };
    let name = store.describe();
    let warnings = match checked {
        Ok(warnings) => warnings,
        Err(error) if error.is::<StoreError>() => {
            let reason = match error.downcast_ref() {
                Some(StoreError::Unavailable(reason)) => {
                    reason.trim_start_matches("Redis: ").into()
                }
                _ => format!("{error:#}"),
            };
            return vec![Finding::problem(
                CHECK,
                format!("{name}: {reason}"),
                "start that Redis, or correct ROUTEMASTER_REDIS_URL: address, user and password",
            )];
        }
        Err(error) => {
            let advice = "change that Redis, or use another one: the bus does not start with it";
            return vec![Finding::problem(CHECK, format!("{name}: {error:#}"), advice)];
        }
    };
    let mut findings = match fullest_usage(&*store).await {
        Ok(usage) => vec![room(&name, &usage, settings.budget(), "ROUTEMASTER_REDIS_MAX_MEM")],
        Err(error) => {
            let advice = "it answered before: look at its log";
            vec![Finding::problem(CHECK, format!("{name}: {error}"), advice)]
        }
    };
    findings.extend(warnings.into_iter().map(|warning| {
        let advice = "docs/durability.md says what is lost when";
        Finding::warning(CHECK, warning, advice)
    }));
    findings
}

async fn sqlite(directory: &Path, budget: Budget) -> Vec<Finding> {
    let shown = std::path::absolute(directory).unwrap_or_else(|_| directory.to_owned());
    let name = format!("SQLite in {}", shown.display());
    let finding = match SqliteStore::find_in(directory) {
        Ok(false) => Finding::warning(
            CHECK,
            format!("{name}: there is no store yet"),
            "a bus makes it when it starts; if one runs here already, give this command its \
             ROUTEMASTER_DATA_DIR or ROUTEMASTER_REDIS_URL, and its directory",
        ),
        Err(error) => Finding::problem(
            CHECK,
            format!("{name}: {error}"),
            "run this as the user that the bus runs as, or correct ROUTEMASTER_DATA_DIR",
        ),
        Ok(true) => match usage_in(directory).await {
            Ok(usage) => {
                let free = files::free_space(directory).ok();
                let full = free.and_then(|free| disk(&name, free, &usage, budget));
                full.unwrap_or_else(|| room(&name, &usage, budget, "ROUTEMASTER_SQLITE_MAX_BYTES"))
            }
            Err(error) => Finding::problem(
                CHECK,
                format!("{name}: {error:#}"),
                "if permission is missing, run this as the user that the bus runs as; if the file \
                 is damaged or another program's, restore a backup or set ROUTEMASTER_DATA_DIR",
            ),
        },
    };
    vec![finding]
}

async fn usage_in(directory: &Path) -> anyhow::Result<Usage> {
    let directory = directory.to_owned();
    let look = tokio::task::spawn_blocking(move || SqliteStore::usage_in(&directory));
    match tokio::time::timeout(LIMIT, look).await {
        Ok(looked) => looked?,
        Err(_) => anyhow::bail!("it did not answer within {} s", LIMIT.as_secs()),
    }
}

/// Judges a disk with so many bytes free; nothing if there are enough for what the store may still take.
fn disk(name: &str, free: u64, usage: &Usage, budget: Budget) -> Option<Finding> {
    let left = budget.high_mark().saturating_sub(usage.used);
    let shown = DecimalBytes(free);
    if free < DISK_FULL.min(left) {
        let found = format!("{name}: its disk is full ({shown} free)");
        let advice = "make room on that disk: publishes get 503 until there is some";
        return Some(Finding::problem(CHECK, found, advice));
    }
    if free < left {
        let found = format!(
            "{name}: {} used, and its disk has less free ({shown}) than it may still take",
            DecimalBytes(usage.used)
        );
        let advice = "make room on that disk, or lower ROUTEMASTER_SQLITE_MAX_BYTES, so that autodrop \
                      begins before the disk is full";
        return Some(Finding::warning(CHECK, found, advice));
    }
    None
}

/// Judges how full it is.
fn room(name: &str, usage: &Usage, budget: Budget, setting: &str) -> Finding {
    let budget = budget.limited_by(usage);
    let (used, high) = (DecimalBytes(usage.used), DecimalBytes(budget.high_mark()));
    let found = format!("{name}: {used} used, autodrop begins over {high}");
    if budget.is_exceeded_by(usage) {
        let found = format!("{name}: {used} used, over {high}: autodrop drops the oldest events");
        let advice = format!(
            "see below whose queue is long, and mend that subscriber; or give it more room with \
             {setting}; `routemaster autodrop --dry-run` tells what would go"
        );
        return Finding::problem(CHECK, found, advice);
    }
    if usage.used.saturating_mul(100) > budget.high_mark().saturating_mul(CLOSE) {
        let advice = format!(
            "see below whose queue is long, and mend that subscriber; or give it more room with \
             {setting}"
        );
        return Finding::warning(CHECK, found, advice);
    }
    Finding::ok(CHECK, found)
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict;
    use super::*;

    #[test]
    fn a_disk_has_to_have_what_the_store_may_still_take() {
        let budget = Budget { max: 1_000_000_000, min_free: 100_000_000 };
        let result = |free, used| {
            let usage = Usage { used, limit: None, cpu: None };
            disk("it", free, &usage, budget).map(|finding| finding.result)
        };
        assert_eq!(result(2_000_000_000, 0), None);
        assert_eq!(result(300_000_000, 0), Some(Verdict::Warning));
        assert_eq!(result(300_000_000, 700_000_000), None);
        assert_eq!(result(1_000_000, 0), Some(Verdict::Problem));
    }

    #[test]
    fn a_store_that_is_nearly_full_is_a_warning_and_one_that_drops_a_problem() {
        let budget = Budget { max: 1000, min_free: 100 };
        let result = |used| {
            let usage = Usage { used, limit: None, cpu: None };
            room("it", &usage, budget, "ROUTEMASTER_REDIS_MAX_MEM").result
        };
        assert_eq!((result(0), result(720)), (Verdict::Ok, Verdict::Ok));
        assert_eq!((result(721), result(900)), (Verdict::Warning, Verdict::Warning));
        assert_eq!(result(901), Verdict::Problem);
    }
}
