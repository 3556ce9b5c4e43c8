//! Runs property tests: from a seed that a failure names, as often as is asked for.
#![allow(dead_code, reason = "each crate of tests uses a part of it")]

use std::env;
use std::fmt::Debug;

use proptest::strategy::Strategy;
use proptest::test_runner::{Config, RngSeed, TestRunner};

/// How long proptest may look for a shorter case that fails, in milliseconds.
const SHRINK_MS: u32 = 30_000;

/// Checks a property, which panics where it does not hold, on so many inputs; `PROPTEST_CASES` asks
/// for another number of them, and `PROPTEST_RNG_SEED` for the inputs of an earlier run.
pub fn check<I: Debug>(cases: u32, inputs: &impl Strategy<Value = I>, property: impl Fn(I)) {
    let cases = number("PROPTEST_CASES").unwrap_or(cases);
    // Seeded by hand, so that a failure can name its seed.
    let seed = number("PROPTEST_RNG_SEED").unwrap_or_else(|| fastrand::u64(..));
    let config = Config {
        cases,
        rng_seed: RngSeed::Fixed(seed),
        failure_persistence: None,
        max_shrink_time: SHRINK_MS,
        ..Config::default()
    };
    let outcome = TestRunner::new(config).run(inputs, |input| {
        property(input);
        Ok(())
    });
    if let Err(failure) = outcome {
        panic!("{failure}\nrun it again with PROPTEST_RNG_SEED={seed}");
    }
}

fn number<N: std::str::FromStr>(variable: &str) -> Option<N> {
    env::var(variable).ok().and_then(|number| number.parse().ok())
}
