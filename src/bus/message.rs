//! Messages: what Postoffice's clients send to topics, and the publishers that forward them (contract §11).
//!
//! Message topics have a name space of their own, and their publishers are what elsewhere is called a subscriber;
//! the names are the original's.

mod content;
mod params;
mod publisher;
mod text;
mod topic;

pub use content::{Attributes, KEPT_MAX, MessageContent, MessageForm, NewMessages, Payload};
pub use params::{Faults, NotTaken};
pub use publisher::{NewPublisher, PublisherChange, PublisherTarget, TargetKind, Terms};
pub use text::MessageText;
pub use topic::{MessageTopicName, NewTopic};
