//! Journal and messages in a PostgreSQL: tables in a schema of their own, in parts of a day, so that what is old goes with
//! its table. There is an index for each filter.

mod days;
mod journal;
mod link;
mod messages;
mod tables;

pub use link::PostgresHistory;
