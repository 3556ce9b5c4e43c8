//! Google Cloud, over its REST interfaces: access tokens ([`tokens`]), and Pub/Sub ([`pubsub`]).

mod answer;
pub mod pubsub;
pub mod tokens;
