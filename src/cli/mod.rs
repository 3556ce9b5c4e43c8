//! The commands for people at work beside a running bus: see events arrive, publish some.
//!
//! They talk to the bus as any other client does, over its HTTPS API.

pub mod autodrop;
pub mod connect;
pub mod listen;
pub mod publish;
pub mod shell;
mod trouble;
