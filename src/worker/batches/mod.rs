//! Batches: which one is sent when ([`dispatcher`], and in the order of entities [`windows`]), what comes of it ([`sender`]), and how ([`courier`]).

mod courier;
mod dispatcher;
mod sender;
#[cfg(test)]
mod simulation;
mod taken;
mod window;
mod windows;

pub use dispatcher::BatchWorker;
pub use sender::BatchSender;
