//! Group commits: what waits is handed to the store together, and each is answered for when its group is
//! committed.
//!
//! [`group`] is how, whatever it is; [`publishes`] are what.

mod group;
mod publishes;

pub use group::GroupCommit;
pub use publishes::{PublishGroups, Publishes};
