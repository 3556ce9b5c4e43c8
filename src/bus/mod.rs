//! The domain: what an event, a topic, a subscriber and a batch are. No I/O happens here.
//!
//! Values of these types are checked once, where they enter the bus; nothing behind that point
//! looks at a raw string again.

pub mod attempt;
pub mod basic;
pub mod batch;
pub mod call;
pub mod clock;
pub mod cloudevents;
pub mod entity;
pub mod event;
pub mod health;
pub mod hex;
pub mod item;
pub mod json;
pub mod message;
pub mod news;
pub mod pause;
pub mod position;
pub mod postback;
pub mod process;
pub mod pubsub;
pub mod signature;
pub mod subscription;
pub mod tally;
pub mod token;
pub mod topic;
pub mod trace;
pub mod user_info;
