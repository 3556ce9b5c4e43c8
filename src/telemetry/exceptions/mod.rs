//! Reports exceptions to a service (contract §7). `docs/exceptions.md` says what operators see.
//!
//! An exception is an error in the log: whatever the bus logs at level ERROR, panics included
//! ([`panics`]). [`layer`] picks such events up beside the log and leaves them in a bounded queue;
//! nothing waits for what follows. [`reporter`] takes them out one by one, has [`scrub`] take the
//! secrets off them, and posts what [`service`] makes of them. A failed delivery is a warning, and
//! so are the reporter's own failures: neither is ever reported.

mod exception;
mod honeybadger;
mod layer;
mod limit;
mod new_relic;
pub mod panics;
mod report;
mod reporter;
mod scrub;
mod sentry;
mod service;

pub use layer::ExceptionLayer;
pub use reporter::{Reporter, queue};
pub use service::Service;
