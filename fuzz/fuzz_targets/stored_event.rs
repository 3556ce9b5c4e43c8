//! What the Redis of a Ruby Routemaster may hold. What is taken over must be JSON.
#![no_main]

use libfuzzer_sys::fuzz_target;
use routemaster::cli::import::messagepack::{Entry, read};
use serde_json::Value;

fuzz_target!(|entry: &[u8]| {
    if let Ok(Entry::Event(item)) = read(entry, 64) {
        let event: Value = serde_json::from_slice(&item).expect("what is delivered is JSON");
        assert!(event["url"].as_str().is_some_and(|url| url.starts_with("https://")));
    }
});
