//! Queues: what a publication does, when a batch leaves, who may deliver it, and how a delivery ends.

mod leases;
mod publishing;
mod schedule;
mod settling;
