//! What may stand in the environment: lines of `NAME=value`.
#![no_main]

use std::collections::HashMap;

use libfuzzer_sys::fuzz_target;
use routemaster::config::{SETTINGS, Settings, Sources};

fuzz_target!(|lines: &str| {
    // A number in the place of a name stands for that setting, so that names need not be guessed.
    let name = |text: &str| match text.parse::<usize>() {
        Ok(index) => SETTINGS[index % SETTINGS.len()].name.to_owned(),
        Err(_) => text.to_owned(),
    };
    let pairs = lines.lines().filter_map(|line| line.split_once('='));
    let environment: HashMap<String, String> =
        pairs.map(|(key, value)| (name(key), value.to_owned())).collect();
    let sources = Sources { flags: &|_| None, environment: &|name| environment.get(name).cloned() };
    if let Err(error) = Settings::load(&sources) {
        assert!(!error.to_string().is_empty());
    }
});
