//! The commands for people at work beside a running bus: see events arrive, publish some.
//!
//! They talk to the bus as any other client does, over its HTTPS API; `autodrop` and `import` open
//! its store themselves.

pub mod autodrop;
pub mod connect;
pub mod import;
pub mod listen;
pub mod publish;
pub mod shell;
mod trouble;
