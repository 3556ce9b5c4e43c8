//! What topics of messages are called: the API tells publishers with the ids of theirs.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::api::console::problem::Problem;
use crate::api::console::visit::Visit;

/// Names of topics by their ids.
pub struct TopicNames(BTreeMap<u64, String>);

#[derive(Deserialize)]
struct Topics {
    data: Vec<Topic>,
}

#[derive(Deserialize)]
struct Topic {
    id: u64,
    name: String,
}

impl TopicNames {
    /// Those of the first thousand topics, which is as many as one can choose from.
    ///
    /// # Errors
    /// If the API refuses.
    pub async fn all(visit: &Visit) -> Result<Self, Problem> {
        let topics: Topics = visit.inside.get("/api/topics?limit=1000").await?;
        Ok(Self(topics.data.into_iter().map(|topic| (topic.id, topic.name)).collect()))
    }

    pub fn of_one(id: u64, name: String) -> Self {
        Self([(id, name)].into())
    }

    /// The name of a topic, or its id if that is not among them.
    pub fn of(&self, id: u64) -> String {
        self.0.get(&id).cloned().unwrap_or_else(|| id.to_string())
    }

    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.values().map(String::as_str)
    }
}
