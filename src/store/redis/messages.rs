//! Messages and their deliveries, all in the home lane: what a message and its deliveries have in common changes in one
//! step.

use std::time::Duration;

use async_trait::async_trait;
use fred::types::Value;
use tokio::time::Instant;

use super::reply::Reply;
use super::{RedisStore, ms};
use crate::bus::call::CallState;
use crate::bus::message::MessageText;
use crate::bus::token::ClientToken;
use crate::store::messages::{
    CATCH_UP_AHEAD, MESSAGES_FORGOTTEN_FOR_ROOM, MESSAGES_MAX_BYTES, ONCE_KEPT,
};
use crate::store::{
    AcceptedMessage, Forgotten, Lane, MESSAGES_AT_ONCE, MessageAcceptance, MessageCounts,
    MessageDelivery, MessageRecord, Messages, MessagesAccepted, NewMessageGroup, PublisherBehind,
    StoreError, StoreResult,
};

/// What a message costs beyond its content, and what each of its deliveries, about, in bytes: measured.
pub const MESSAGE_OVERHEAD: u64 = 750;
pub const DELIVERY_OVERHEAD: u64 = 370;

#[async_trait]
impl Messages for RedisStore {
    async fn accept_messages(
        &self,
        groups: Vec<NewMessageGroup>,
        max_bytes: u64,
        give_up: Instant,
    ) -> StoreResult<MessageAcceptance> {
        let slot = self.slots.take();
        let home = self.lane(Lane::HOME);
        let deadline_ms = home.server_time.at(give_up);
        let mut args: Vec<Value> = vec![
            slot.name.as_str().into(),
            slot.number.to_string().into(),
            deadline_ms.map_or(String::new(), |ms| ms.to_string()).into(),
            self.origin.as_str().into(),
            i64::try_from(max_bytes).unwrap_or(i64::MAX).into(),
            (MESSAGE_OVERHEAD as i64).into(),
            (DELIVERY_OVERHEAD as i64).into(),
            (MESSAGES_FORGOTTEN_FOR_ROOM as i64).into(),
            ms(ONCE_KEPT),
        ];
        for group in &groups {
            args.push(group.topic.as_str().into());
            args.push(group.sender.reveal().into());
            args.push(group.at_ms.unwrap_or(0).to_string().into());
            args.push(group.once.as_deref().unwrap_or_default().into());
            args.push(group.only.map_or(String::new(), |id| id.to_string()).into());
            args.push((group.contents.len() as i64).into());
            args.extend(group.contents.iter().cloned().map(Value::Bytes));
        }
        let script = &self.scripts.accept_messages;
        let mut reply = self.connection.run_replicated(script, &home.keys, args, give_up).await?;
        self.slots.give_back(slot);
        if !reply.is_list() {
            return Err(StoreError::Unavailable("Redis: too late".into()));
        }
        let forgotten = forgotten(&mut reply)?;
        home.call_alarm.ring_in(Duration::ZERO);
        let mut kept = Vec::with_capacity(groups.len());
        for group in &groups {
            kept.push(accepted(reply.part()?, group.contents.len() as u64)?);
        }
        Ok(MessageAcceptance { groups: kept, forgotten })
    }

    async fn forget_once(&self, names: &[String]) -> StoreResult<()> {
        let args = names.iter().map(|name| name.as_str().into()).collect();
        self.change(&self.scripts.forget_once, Lane::HOME, args).await?;
        Ok(())
    }

    async fn message(&self, number: u64) -> StoreResult<Option<MessageRecord>> {
        let args: Vec<Value> = vec![number.to_string().into()];
        let reply = self.run(&self.scripts.message_status, Lane::HOME, args).await?;
        reply.is_list().then(|| record(reply)).transpose()
    }

    async fn messages_before(
        &self,
        number: u64,
        topic_id: Option<u64>,
        _text: Option<&MessageText>,
        at_most: usize,
    ) -> StoreResult<Vec<MessageRecord>> {
        let args: Vec<Value> = vec![
            number.to_string().into(),
            topic_id.map_or(String::new(), |id| id.to_string()).into(),
            (at_most.min(MESSAGES_AT_ONCE) as i64).into(),
            (MESSAGES_MAX_BYTES as i64).into(),
        ];
        self.run(&self.scripts.messages_before, Lane::HOME, args).await?.map(record).collect()
    }

    /// All of it is looked through.
    async fn index_texts(&self) -> StoreResult<usize> {
        Ok(0)
    }

    async fn message_counts(&self) -> StoreResult<MessageCounts> {
        let mut reply = self.run(&self.scripts.message_counts, Lane::HOME, Vec::new()).await?;
        let (messages, bytes) = (reply.part()?.unsigned()?, reply.part()?.unsigned()?);
        let deliveries = reply.part()?.unsigned()?;
        let bytes = bytes + MESSAGE_OVERHEAD * messages + DELIVERY_OVERHEAD * deliveries;
        Ok(MessageCounts { messages, bytes })
    }

    async fn forget_messages(&self, before_ms: u64) -> StoreResult<Forgotten> {
        let args: Vec<Value> = vec![before_ms.to_string().into(), (MESSAGES_AT_ONCE as i64).into()];
        forgotten(&mut self.run(&self.scripts.forget_messages, Lane::HOME, args).await?)
    }

    async fn erase_messages(&self, numbers: &[u64]) -> StoreResult<Vec<bool>> {
        let args = numbers.iter().map(|number| number.to_string().into()).collect();
        let reply = self.change(&self.scripts.erase_messages, Lane::HOME, args).await?;
        reply.map(|one| Ok(one.integer()? > 0)).collect()
    }

    async fn discard_deliveries(&self) -> StoreResult<u64> {
        let args = vec![(MESSAGES_AT_ONCE as i64).into()];
        self.change(&self.scripts.discard_deliveries, Lane::HOME, args).await?.unsigned()
    }

    async fn publishers_behind(&self) -> StoreResult<Vec<PublisherBehind>> {
        let reply = self.run(&self.scripts.publishers_behind, Lane::HOME, Vec::new()).await?;
        let read = |mut one: Reply| {
            Ok(PublisherBehind {
                publisher: one.part()?.unsigned()?,
                topic_id: one.part()?.unsigned()?,
                caught_up_to: one.part()?.unsigned()?,
            })
        };
        reply.map(read).collect()
    }

    async fn catch_up(
        &self,
        publisher: u64,
        from_history: Vec<MessageRecord>,
    ) -> StoreResult<usize> {
        let mut args: Vec<Value> = vec![
            publisher.to_string().into(),
            (CATCH_UP_AHEAD as i64).into(),
            (MESSAGES_AT_ONCE as i64).into(),
            self.origin.as_str().into(),
        ];
        for message in from_history {
            args.push(message.number.to_string().into());
            args.push(message.topic_id.to_string().into());
            args.push(message.sender.reveal().into());
            args.push(message.received_ms.to_string().into());
            args.push(message.due_ms.to_string().into());
            args.push(Value::Bytes(message.content));
        }
        let given = self.change(&self.scripts.catch_up, Lane::HOME, args).await?.unsigned()?;
        if given > 0 {
            self.lane(Lane::HOME).call_alarm.ring_in(Duration::ZERO);
        }
        Ok(given as usize)
    }

    async fn closed_messages(&self, after: u64) -> StoreResult<Vec<MessageRecord>> {
        let args: Vec<Value> = vec![
            after.to_string().into(),
            (MESSAGES_AT_ONCE as i64).into(),
            (MESSAGES_MAX_BYTES as i64).into(),
        ];
        self.run(&self.scripts.closed_messages, Lane::HOME, args).await?.map(record).collect()
    }

    async fn forget_closed(&self, numbers: &[u64]) -> StoreResult<u64> {
        let args = numbers.iter().map(|number| number.to_string().into()).collect();
        self.run(&self.scripts.forget_closed, Lane::HOME, args).await?.unsigned()
    }
}

fn forgotten(reply: &mut Reply) -> StoreResult<Forgotten> {
    Ok(Forgotten { messages: reply.part()?.unsigned()?, dead: reply.part()?.unsigned()? })
}

/// What became of a group of so many messages.
fn accepted(mut reply: Reply, messages: u64) -> StoreResult<MessagesAccepted> {
    if !reply.is_list() {
        return Ok(match reply.text()?.as_str() {
            "full" => MessagesAccepted::Full,
            "known" => MessagesAccepted::Known,
            _ => MessagesAccepted::UnknownTopic,
        });
    }
    let (first, deliveries) = (reply.part()?.unsigned()?, reply.part()?.unsigned()?);
    let message = |index| {
        let number = first + index * (deliveries + 1);
        AcceptedMessage { number, deliveries: (number + 1..=number + deliveries).collect() }
    };
    Ok(MessagesAccepted::Kept((0..messages).map(message).collect()))
}

/// Reads what `message_status` in `message.lua` writes.
fn record(mut reply: Reply) -> StoreResult<MessageRecord> {
    let number = reply.part()?.unsigned()?;
    let topic_id = reply.part()?.unsigned()?;
    let sender = ClientToken::from_stored(&reply.part()?.text()?);
    let (received_ms, due_ms) = (reply.part()?.unsigned()?, reply.part()?.unsigned()?);
    let content = reply.part()?.bytes()?;
    let deliveries = reply.map(delivery).collect::<StoreResult<_>>()?;
    Ok(MessageRecord { number, topic_id, sender, received_ms, due_ms, content, deliveries })
}

fn delivery(mut reply: Reply) -> StoreResult<MessageDelivery> {
    let (number, publisher_id) = (reply.part()?.unsigned()?, reply.part()?.unsigned()?);
    let (over, leased) = (reply.part()?.text()?, reply.part()?.text()?);
    let attempts = reply.part()?.unsigned()? as u32;
    let over = Some(over.as_str()).filter(|over| !over.is_empty());
    Ok(MessageDelivery {
        number,
        publisher_id,
        state: CallState::of(over, !leased.is_empty(), attempts),
        attempts,
        due_ms: reply.part()?.text()?.parse().ok(),
        ended_ms: reply.part()?.text()?.parse().ok(),
        status: reply.part()?.text()?.parse().ok(),
        reason: reply.part()?.text()?,
    })
}
