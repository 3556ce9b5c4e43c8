//! All that is wrong with the settings at once, for whoever looks into a bus that does not start.

use super::{SETTINGS, SettingError, Settings, Sources, unknown_names};

/// Settings as far as they can be used, and what is wrong with them.
pub struct Survey {
    /// With the default in the place of each value that is not allowed.
    pub settings: Settings,
    pub errors: Vec<SettingError>,
    /// Names in the environment that look like settings but are none.
    pub unknown: Vec<String>,
    /// How many settings have a value of their own.
    pub set: usize,
}

impl Survey {
    /// Reads all settings. `names` are those of the environment.
    ///
    /// # Errors
    /// If not even the defaults can be used.
    pub fn of(
        sources: &Sources<'_>,
        names: impl Iterator<Item = String>,
    ) -> Result<Self, SettingError> {
        let unknown = unknown_names(names);
        let set = SETTINGS.iter().filter(|setting| sources.is_set(setting)).count();
        let errors = match Settings::read(sources) {
            Ok(settings) => {
                let errors = settings.conflicts();
                return Ok(Self { settings, errors, unknown, set });
            }
            Err(errors) => errors,
        };
        // What is left of them is not held against each other: what is missing now was meant.
        let bad = |is_name: &dyn Fn(&str) -> bool| {
            errors.iter().any(|error| error.setting().is_some_and(is_name))
        };
        let good = Sources {
            flags: &|flag| {
                let hidden =
                    bad(&|name| SETTINGS.iter().any(|s| s.name == name && s.flag() == flag));
                if hidden { None } else { (sources.flags)(flag) }
            },
            environment: &|variable| {
                let is_it = |name: &str| {
                    let aliases = SETTINGS.iter().filter(|setting| setting.name == name);
                    name == variable || aliases.filter_map(|s| s.alias).any(|a| a == variable)
                };
                if bad(&is_it) { None } else { (sources.environment)(variable) }
            },
        };
        match Settings::read(&good) {
            Ok(settings) => Ok(Self { settings, errors, unknown, set }),
            Err(mut errors) => Err(errors.swap_remove(0)),
        }
    }

    /// Whether the value of this variable is not allowed, so that its default stands in its place.
    pub fn is_bad(&self, name: &str) -> bool {
        self.errors.iter().any(|error| error.setting() == Some(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn survey(pairs: &[(&str, &str)]) -> Survey {
        let find = |name: &str| {
            pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        };
        let names = pairs.iter().map(|(name, _)| (*name).to_owned());
        Survey::of(&Sources { flags: &|_| None, environment: &find }, names).unwrap()
    }

    #[test]
    fn every_bad_value_is_told_and_the_others_are_taken() {
        let survey = survey(&[
            ("PORT", "70000"),
            ("MAX_BACKOFF_MS", "soon"),
            ("ROUTEMASTER_TIMEOUT", "7"),
            ("ROUTEMASTER_CLINETS", "demo"),
        ]);
        assert_eq!(survey.errors.len(), 2, "{:?}", survey.errors);
        assert!(survey.is_bad("PORT") && survey.is_bad("ROUTEMASTER_MAX_BACKOFF_MS"));
        assert!(!survey.is_bad("ROUTEMASTER_TIMEOUT"));
        assert_eq!((survey.settings.port, survey.settings.timeout.as_secs()), (17890, 7));
        assert_eq!(survey.unknown, ["ROUTEMASTER_CLINETS"]);
        assert_eq!(survey.set, 3);
    }

    #[test]
    fn every_contradiction_is_told() {
        let survey =
            survey(&[("ROUTEMASTER_TLS_CERT", "Cargo.toml"), ("ROUTEMASTER_PUBLISH_BURST", "5")]);
        assert_eq!(survey.errors.len(), 2, "{:?}", survey.errors);
    }
}
