//! Batches: which one is sent when ([`dispatcher`]), and how ([`courier`]).

mod courier;
mod dispatcher;

pub use dispatcher::BatchWorker;
