//! The settings: every value that is not allowed, every name that means nothing, and what is allowed
//! and hardly meant.

use super::finding::Finding;
use crate::config::{Role, SETTINGS, SettingError, Survey};
use crate::roles::warnings_about;

const CHECK: &str = "settings";

/// `files` is what is wrong with `.env`, or with the file of a secret.
pub fn check(survey: &Survey, files: Option<SettingError>) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some(error) = files {
        let advice = "a line of .env is NAME=value; the file that <NAME>_FILE names can be read by the \
                      user of the bus, and holds the secret alone";
        findings.push(Finding::problem(CHECK, error.to_string(), advice));
    }
    findings.extend(survey.errors.iter().map(problem));
    if findings.is_empty() {
        let (set, all) = (survey.set, SETTINGS.len());
        let found = format!("every value is allowed; {set} of {all} are set, the others default");
        findings.push(Finding::ok(CHECK, found));
    }
    findings.extend(survey.unknown.iter().map(|name| {
        let found = format!("{name} is not a setting of this version and has no effect");
        Finding::warning(CHECK, found, advice_on(name))
    }));
    findings.extend(
        warnings_about(&survey.settings, Role::Serve)
            .into_iter()
            .map(|warning| Finding::warning(CHECK, warning.found, warning.advice)),
    );
    findings
}

fn problem(error: &SettingError) -> Finding {
    match error {
        SettingError::BadValue { name, value, allowed } => {
            let found = format!("{name}={value} is not allowed: the bus does not start");
            Finding::problem(CHECK, found, format!("it must be {allowed}"))
        }
        SettingError::Conflict(reason) => {
            let found = format!("{reason}: the bus does not start");
            Finding::problem(CHECK, found, "change one of them")
        }
    }
}

/// What was probably meant by a name.
fn advice_on(name: &str) -> String {
    let distance = |setting: &&str| edits(name, setting);
    let names = SETTINGS.iter().map(|setting| setting.name);
    match names.min_by_key(|name| distance(name)) {
        Some(near) if distance(&near) <= 3 => format!("is {near} meant?"),
        _ => "remove it; `routemaster serve --help` lists the settings".into(),
    }
}

/// How many characters must be changed, put in or taken out to make one word of the other.
fn edits(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (index, here) in one.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = index + 1;
        for (column, there) in other.iter().enumerate() {
            let change = diagonal + usize::from(here != *there);
            diagonal = row[column + 1];
            row[column + 1] = change.min(row[column] + 1).min(diagonal + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_that_was_meant_is_found() {
        assert_eq!(edits("kitten", "sitting"), 3);
        assert_eq!(advice_on("ROUTEMASTER_CLINETS"), "is ROUTEMASTER_CLIENTS meant?");
        assert!(advice_on("ROUTEMASTER_SOMETHING_ELSE").contains("--help"));
    }
}
