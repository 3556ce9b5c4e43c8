//! Calls: which one is made when ([`dispatcher`]), how ([`courier`]), and what comes of it ([`verdict`]).

mod courier;
mod dispatcher;
mod verdict;

pub use dispatcher::CallWorker;
