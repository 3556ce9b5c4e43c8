//! Messages: which of them one request carries ([`parcel`]), and how they are forwarded ([`forwarder`]): to a service
//! ([`http`]), or into Google Pub/Sub ([`pubsub`]).

mod forwarder;
mod history;
mod http;
mod parcel;
mod pubsub;

pub use forwarder::Forwarder;
pub use parcel::{Parcel, parcels};
