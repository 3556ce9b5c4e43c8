//! The worker: leases queues that are due, sends their batches, settles the outcomes.
//!
//! How a batch is sent ([`courier`]) is kept apart from which one is sent when ([`dispatcher`]).

mod courier;
mod dispatcher;
mod failure_log;
mod leases;

pub use courier::Courier;
pub use dispatcher::Worker;
