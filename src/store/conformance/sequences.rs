//! Runs random sequences of steps, each on an empty store. On a failure proptest shrinks it and shows the
//! steps.

use std::cell::RefCell;
use std::fmt::Debug;

use proptest::strategy::Strategy;

use super::fixture::Fixture;
use super::property;

/// Plays so many sequences on a store that `empty` makes and `reset` empties again.
pub fn play<S: Debug>(
    cases: u32,
    sequences: &impl Strategy<Value = Vec<S>>,
    mut empty: impl FnMut() -> Fixture,
    reset: impl FnMut(&mut Fixture),
    play_one: impl AsyncFn(Vec<S>, &Fixture),
) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let _entered = runtime.enter();
    let fixture = RefCell::new(empty());
    let reset = RefCell::new(reset);
    property::check(cases, sequences, |steps| {
        let mut fixture = fixture.borrow_mut();
        (reset.borrow_mut())(&mut fixture);
        runtime.block_on(play_one(steps, &fixture));
    });
}
