//! Batches: which one is sent when ([`dispatcher`], and in the order of entities [`windows`]), and how ([`courier`]).

mod courier;
mod dispatcher;
mod window;
mod windows;

pub use dispatcher::BatchWorker;
