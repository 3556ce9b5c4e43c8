//! Group commits: what waits is handed to the store together, and each is answered for when its group is
//! committed.
//!
//! [`group`] is how, whatever it is; [`publishes`], [`settlements`], [`calls`] and [`messages`] are what. [`news`] go
//! by themselves.

mod calls;
mod group;
mod messages;
mod news;
mod publishes;
mod settlements;

pub use calls::{AcceptGroups, CallAcceptance, CallSettleGroups, CallSettlements};
pub use group::{GroupCommit, Groups};
pub use messages::{MessageGroups, MessageIntake};
pub use news::NewsDesk;
pub use publishes::{PublishGroups, Publishes};
pub use settlements::{SettleGroups, Settlements, Settling};
