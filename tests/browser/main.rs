//! What people see of the bus in a browser: the real binary, and a real Chromium.
//!
//! They stand apart from the contract tests and run one after the other: a browser takes all of a small machine, and others
//! measure how long something takes.

// A harness fails by panicking: that is how it says what went wrong.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod chromium;
mod console;

#[macro_use]
#[path = "../contract/support/mod.rs"]
#[allow(dead_code, unused_imports, unused_macros, reason = "the contract tests use more of it")]
mod support;
