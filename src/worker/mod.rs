//! The worker: leases what is due, sends it, settles the outcomes. Batches of events, and single calls with messages,
//! are worked off side by side, each with places of their own, so that neither holds up the other.

mod attempts;
mod batches;
mod calls;
mod client_secrets;
mod contents;
mod failure_log;
mod google;
mod leases;
mod messages;
mod pause;
mod places;
mod receivers;
mod recovery;
mod reporting;
mod work;

pub use attempts::Attempts;
pub use batches::{BatchSender, BatchWorker};
pub use calls::CallWorker;
pub use google::pubsub;
pub use receivers::Receivers;
pub use recovery::Recovery;
pub use reporting::Reporting;
