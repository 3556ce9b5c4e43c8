//! Calls: which one is made when ([`dispatcher`]), how ([`maker`], [`courier`]), and what comes of it ([`verdict`]).

mod courier;
mod dispatcher;
mod maker;
mod verdict;

pub use courier::{Answer, CallCourier, CallError};
pub use dispatcher::CallWorker;
