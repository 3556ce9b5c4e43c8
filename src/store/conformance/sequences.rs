//! Runs random sequences of steps, each on an empty store. On a failure proptest shrinks it and shows the
//! steps.

use std::cell::RefCell;
use std::fmt::Debug;

use proptest::strategy::Strategy;

use super::fixture::Fixture;
use super::property;

/// Plays so many sequences on SQLite, each in a file of its own.
pub fn play_on_sqlite<S: Debug>(
    cases: u32,
    sequences: &impl Strategy<Value = Vec<S>>,
    play_one: impl AsyncFn(Vec<S>, &Fixture),
) {
    let reset = |fixture: &mut Fixture| *fixture = Fixture::sqlite();
    play(cases, sequences, Fixture::sqlite, reset, play_one);
}

/// Plays so many sequences on one Redis, which is flushed between them.
pub fn play_on_redis<S: Debug>(
    cases: u32,
    sequences: &impl Strategy<Value = Vec<S>>,
    play_one: impl AsyncFn(Vec<S>, &Fixture),
) {
    let reset = |fixture: &mut Fixture| {
        fixture.server().command(&["FLUSHALL"]).unwrap();
    };
    play(cases, sequences, Fixture::redis, reset, play_one);
}

/// Plays so many sequences on a store that `empty` makes and `reset` empties again.
fn play<S: Debug>(
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
