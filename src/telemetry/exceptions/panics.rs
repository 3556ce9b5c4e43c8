//! Panics: each one is an error in the log, and so reported like every other one.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::panic::{self, PanicHookInfo};
use std::thread;

/// Logs panics of all threads from now on, instead of the plain text that Rust prints.
pub fn log_all() {
    panic::set_hook(Box::new(log));
}

/// Logs one panic, on the thread that panics. There is a backtrace if RUST_BACKTRACE asks for it.
fn log(panic: &PanicHookInfo<'_>) {
    let thread = thread::current();
    let backtrace = Backtrace::capture();
    let backtrace =
        (backtrace.status() == BacktraceStatus::Captured).then(|| backtrace.to_string());
    tracing::error!(
        error = panic.payload_as_str().unwrap_or("a panic without a message"),
        thread = thread.name().unwrap_or("unnamed"),
        // The name is `exception::LOCATION`: fields are named where they are logged.
        location = panic.location().map(ToString::to_string),
        backtrace,
        "a thread panicked"
    );
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt;
    use tracing_subscriber::{Layer, Registry};

    use super::super::{ExceptionLayer, queue};
    use super::*;

    #[test]
    fn a_panic_is_an_exception_at_its_own_place() {
        const NAME: &str = "this-one-panics";
        // Other tests may fail meanwhile: what they say is printed as ever.
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |panic| match thread::current().name() {
            Some(NAME) => log(panic),
            _ => usual(panic),
        }));
        let (reports, mut waiting) = queue();
        let layer = ExceptionLayer::new(reports).with_filter(ExceptionLayer::filter());
        let log = Registry::default().with(layer);
        let panics = || tracing::subscriber::with_default(log, || panic!("boom {}", 42));
        let line = line!() - 1;
        let thread = thread::Builder::new().name(NAME.into()).spawn(panics).unwrap();
        assert!(thread.join().is_err());

        let taken = waiting.taken();
        assert_eq!(taken.len(), 1, "{taken:?}");
        assert_eq!((&*taken[0].class, &*taken[0].error), ("a thread panicked", "boom 42"));
        assert_eq!((&*taken[0].place.file, taken[0].place.line), (file!(), line));
        assert_eq!(taken[0].fields["thread"], NAME);
    }
}
