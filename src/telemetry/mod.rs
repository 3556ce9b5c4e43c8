//! What the bus tells its operator. Logs today; metrics and exception reports have their place
//! here.

pub mod logging;
