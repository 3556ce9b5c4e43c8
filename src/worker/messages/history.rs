//! The historical topic: a Pub/Sub topic that is told of each message that was forwarded, by messages of its own.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde_json::value::RawValue;
use tokio::time::Instant;
use url::Url;

use crate::bus::message::{
    Attributes, MessageContent, MessageTopicName, NewPublisher, NewTopic, PublisherTarget,
    TargetKind, Terms,
};
use crate::bus::token::ClientToken;
use crate::bus::user_info;
use crate::config::Settings;
use crate::store::{
    LeasedCall, MessagePublisher, MessagesAccepted, NewMessageGroup, Store, StoreError, StoreResult,
};
use crate::telemetry::metrics::record;
use crate::telemetry::sparing::SparingLine;
use crate::worker::pause::Pause;

static FULL: SparingLine = SparingLine::new();

/// How long the store may take.
const TIMEOUT: Duration = Duration::from_millis(4500);
/// Whose the topic is that brings messages there.
const OWNER: &str = "root";
/// Of how many topics and publishers it is one.
const NO_LIMIT: u32 = u32::MAX;

/// Tells of messages that were forwarded.
pub struct Historian {
    store: Arc<dyn Store>,
    /// The name of the topic on Google Pub/Sub.
    target: String,
    topic: MessageTopicName,
    attributes: Attributes,
    max_bytes: u64,
    /// Where Google Pub/Sub is.
    endpoint: Url,
}

/// What is told.
#[derive(Serialize)]
struct Told<'a> {
    consumer_id: u64,
    target: &'a str,
    r#type: &'static str,
    message_payload: &'a RawValue,
    attributes: &'a Attributes,
}

impl Historian {
    /// `None` if the settings name no such topic.
    pub fn of(settings: &Settings, store: &Arc<dyn Store>) -> Option<Self> {
        let target = settings.messages_historical_topic.clone()?;
        let cluster = settings.cluster_name.clone();
        Some(Self {
            store: store.clone(),
            topic: MessageTopicName::from_checked(&format!("historical: {target}")),
            target,
            attributes: Attributes::from([("cluster_name".to_owned(), cluster)]),
            max_bytes: settings.messages_room(),
            endpoint: settings.pubsub_endpoint.clone(),
        })
    }

    /// Tells of a message that was forwarded, as soon as the store can keep that.
    pub async fn tell(&self, publisher: &MessagePublisher, delivery: &LeasedCall) {
        let Some(group) = self.group(publisher, delivery) else { return };
        let mut pause = Pause::default();
        loop {
            match self.keep(group.clone()).await {
                Ok(()) => return,
                // It may be full for long, and the message must not be forwarded again for that.
                Err(StoreError::Full(_)) => {
                    record::history_untold();
                    if let Some(untold) = FULL.is_due() {
                        tracing::error!(
                            untold,
                            "the historical topic is not told: messages have no more room"
                        );
                    }
                    return;
                }
                Err(error) => {
                    pause.log_first(&error, "failed to tell the historical topic; trying on");
                    pause.sleep().await;
                }
            }
        }
    }

    /// What is told; `None` of what was told to the topic itself.
    fn group(
        &self,
        publisher: &MessagePublisher,
        delivery: &LeasedCall,
    ) -> Option<NewMessageGroup> {
        if publisher.kind == TargetKind::PubSub && publisher.target == self.target {
            return None;
        }
        let content = MessageContent::from_bytes(&delivery.content)?;
        let told = Told {
            consumer_id: publisher.id,
            target: &user_info::taken_out(&publisher.target).0,
            r#type: publisher.kind.as_str(),
            message_payload: content.payload.as_json(),
            attributes: &content.attributes,
        };
        let told = serde_json::value::to_raw_value(&told).ok()?;
        let content = MessageContent::new(&told, &self.attributes)?;
        Some(NewMessageGroup {
            topic: self.topic.clone(),
            sender: ClientToken::from_stored(OWNER),
            contents: vec![content.to_bytes()],
            at_ms: None,
            once: None,
            only: None,
        })
    }

    async fn keep(&self, group: NewMessageGroup) -> StoreResult<()> {
        for _ in 0..2 {
            let groups = vec![group.clone()];
            let give_up = Instant::now() + TIMEOUT;
            let accepted = self.store.accept_messages(groups, self.max_bytes, give_up).await?;
            match accepted.groups.first() {
                Some(MessagesAccepted::UnknownTopic) => self.make_topic().await?,
                Some(MessagesAccepted::Full) => {
                    return Err(StoreError::Full("messages have no more room".into()));
                }
                _ => return Ok(()),
            }
        }
        Err(StoreError::Unavailable("the topic for it cannot be made".into()))
    }

    async fn make_topic(&self) -> StoreResult<()> {
        let owner = ClientToken::from_stored(OWNER);
        let topic = NewTopic::internal(&self.topic, self.endpoint.clone());
        self.store.add_message_topic(&topic, &owner, NO_LIMIT).await?;
        let publisher = NewPublisher {
            topic: self.topic.clone(),
            target: PublisherTarget::PubSub(self.target.clone()),
            from_now: false,
            terms: Terms { active: true, ..Terms::default() },
        };
        self.store.add_message_publisher(&publisher, &owner, NO_LIMIT).await?;
        Ok(())
    }
}
