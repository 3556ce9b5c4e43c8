//! The names of topics on Google Pub/Sub.

/// What a name has to be.
pub const PUBSUB_TOPIC_RULE: &str =
    "must be a topic's name: 3 to 255 of letters, digits, - _ . ~ + %, a letter first";

/// Whether Google has topics of this name.
pub fn is_pubsub_topic(name: &str) -> bool {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || "-_.~+%".contains(c);
    (3..=255).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.chars().all(is_allowed)
}
