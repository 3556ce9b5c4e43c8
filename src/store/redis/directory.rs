//! Who and what the bus knows: topics, subscriptions, tokens.
//!
//! Topics are in the home lane, a subscription is in its subscriber's. What concerns both goes to one
//! after the other, and is undone where something came in between; a topic's birth tells it from one
//! of the same name that was deleted.

use std::collections::BTreeSet;
use std::time::Duration;

use async_trait::async_trait;
use fred::types::Value;
use futures_util::future::try_join_all;

use super::reply::Reply;
use super::{RedisStore, ms};
use crate::bus::signature::SigningSecrets;
use crate::bus::subscription::{Change, SubscriptionRequest, SubscriptionStatus, Terms};
use crate::bus::token::{ApiToken, ClientToken, random_hex};
use crate::bus::topic::{Topic, TopicName};
use crate::store::{
    BROKEN_OFF_AFTER, Directory, Lane, NEW_UUID_PAUSE, StoreError, StoreResult, Subscribed,
    TopicDeleted,
};

/// Of how many subscribers one script tells: what takes Redis a millisecond or two.
const SUBSCRIPTIONS_AT_ONCE: usize = 100;

/// A topic's birth, as the home lane writes it.
type Birth = String;

#[async_trait]
impl Directory for RedisStore {
    async fn subscribe(
        &self,
        subscriber: &ClientToken,
        request: &SubscriptionRequest,
        create_topics: bool,
    ) -> StoreResult<Subscribed> {
        subscribe(self, subscriber, request, create_topics).await
    }

    async fn unsubscribe(&self, subscriber: &ClientToken) -> StoreResult<bool> {
        unsubscribe(self, subscriber).await
    }

    async fn unsubscribe_topic(
        &self,
        subscriber: &ClientToken,
        topic: &TopicName,
    ) -> StoreResult<bool> {
        unsubscribe_topic(self, subscriber, topic).await
    }

    async fn delete_topic(
        &self,
        topic: &TopicName,
        owner: Option<&ClientToken>,
    ) -> StoreResult<TopicDeleted> {
        delete_topic(self, topic, owner).await
    }

    async fn topics(&self) -> StoreResult<Vec<Topic>> {
        topics(self).await
    }

    async fn subscriptions(&self) -> StoreResult<Vec<SubscriptionStatus>> {
        subscriptions(self).await
    }

    async fn subscription(
        &self,
        subscriber: &ClientToken,
    ) -> StoreResult<Option<SubscriptionStatus>> {
        subscription(self, subscriber).await
    }

    async fn api_tokens(&self) -> StoreResult<Vec<ApiToken>> {
        api_tokens(self).await
    }

    async fn add_api_token(&self, token: &ApiToken) -> StoreResult<()> {
        add_api_token(self, token).await
    }

    async fn set_publisher(&self, topic: &TopicName, publisher: &ClientToken) -> StoreResult<bool> {
        let args = vec![topic.as_str().into(), publisher.reveal().into()];
        Ok(self.change(&self.scripts.set_publisher, Lane::HOME, args).await?.integer()? > 0)
    }

    async fn client_secrets(&self) -> StoreResult<Vec<(ClientToken, SigningSecrets)>> {
        let secrets = self.connection.hash(&self.lane(Lane::HOME).keys, "client_secrets").await?;
        let secrets = secrets.iter().map(|(client, secrets)| {
            (ClientToken::from_stored(client), SigningSecrets::from_stored(secrets))
        });
        Ok(secrets.collect())
    }

    async fn set_client_secrets(
        &self,
        client: &ClientToken,
        secrets: &SigningSecrets,
    ) -> StoreResult<()> {
        let args = vec![client.reveal().into(), secrets.to_stored().into()];
        self.change(&self.scripts.set_client_secrets, Lane::HOME, args).await.map(drop)
    }

    async fn delete_api_token(&self, token: &ClientToken) -> StoreResult<()> {
        delete_api_token(self, token).await
    }
}

async fn subscribe(
    store: &RedisStore,
    subscriber: &ClientToken,
    request: &SubscriptionRequest,
    create_topics: bool,
) -> StoreResult<Subscribed> {
    let topics = &request.topics;
    if store.lane_of(subscriber).await? == Lane::HOME {
        let about_unknown = if create_topics { "create" } else { "refuse" };
        let topics = topics.iter().map(TopicName::as_str);
        return put(store, subscriber, request, about_unknown, topics).await;
    }
    let maker = create_topics.then_some(subscriber);
    let births = match require_topics(store, topics, maker).await? {
        Ok(births) => births,
        Err(refused) => return Ok(refused),
    };
    let born = topics.iter().zip(&births);
    let born = born.flat_map(|(topic, birth)| [topic.as_str(), birth]);
    let subscribed = put(store, subscriber, request, "known", born).await?;
    // One that was deleted meanwhile may have been taken out of this lane before it came in.
    let births_now = topic_births(store, topics).await?;
    for (topic, (before, now)) in topics.iter().zip(births.iter().zip(&births_now)) {
        if before != now {
            take_out(store, subscriber, topic, before).await?;
        }
    }
    Ok(subscribed)
}

/// Puts a subscription into its lane. `topics` go to the script as they are.
async fn put<'a>(
    store: &RedisStore,
    subscriber: &ClientToken,
    SubscriptionRequest { terms, retention, options, .. }: &SubscriptionRequest,
    about_unknown: &str,
    topics: impl Iterator<Item = &'a str>,
) -> StoreResult<Subscribed> {
    let queue = random_hex().map_err(|error| StoreError::Unavailable(error.to_string()))?;
    let mut args: Vec<Value> = vec![subscriber.reveal().into(), queue.into(), about_unknown.into()];
    args.extend(terms_args(terms));
    args.push(change_arg(retention.age, ms));
    args.push(change_arg(retention.count, |count| (count as i64).into()));
    args.push(store.origin.as_str().into());
    args.push(ms(BROKEN_OFF_AFTER));
    args.push(store.max_topics());
    args.push(ms(NEW_UUID_PAUSE));
    args.push(change_arg(options.secrets.clone(), |secrets| secrets.to_stored().into()));
    args.push(change_arg(options.format, |format| format.as_str().into()));
    args.push(change_arg(options.refusals_max, |max| i64::from(max).into()));
    args.push(change_arg(options.parallel, |batches| i64::from(batches).into()));
    args.extend(topics.map(Value::from));
    let lane = store.lane_of(subscriber).await?;
    let mut reply = store.change(&store.scripts.subscribe, lane, args).await?;
    store.lane(lane).alarm.ring_in(Duration::ZERO);
    Ok(match reply.part()?.text()?.as_str() {
        "unknown" => Subscribed::UnknownTopic(TopicName::from_stored(&reply.part()?.text()?)),
        "too many" => Subscribed::TooManyTopics,
        "too short" => Subscribed::KeptRetentionTooShort(reply.part()?.millis()?),
        _ => Subscribed::Done,
    })
}

/// What becomes of a value: a new one, none, or the one that is there.
fn change_arg<T>(change: Change<T>, value: impl FnOnce(T) -> Value) -> Value {
    match change {
        Change::Set(new) => value(new),
        Change::Clear => "".into(),
        Change::Keep => "keep".into(),
    }
}

/// What a script is told of how to deliver: callback, uuid, 1 if there is a uuid, timeout, max.
pub fn terms_args(terms: &Terms) -> [Value; 5] {
    [
        terms.target.to_string().into(),
        terms.uuid.as_deref().unwrap_or_default().into(),
        i64::from(terms.uuid.is_some()).into(),
        ms(terms.timeout),
        i64::from(terms.max).into(),
    ]
}

/// The births of topics that must exist, or are made by a maker; or else why the subscription is refused.
async fn require_topics(
    store: &RedisStore,
    topics: &BTreeSet<TopicName>,
    maker: Option<&ClientToken>,
) -> StoreResult<Result<Vec<Birth>, Subscribed>> {
    let lanes = store.lane_count().await? as i64;
    let maker = maker.map(ClientToken::reveal).unwrap_or_default();
    let mut args: Vec<Value> = vec![lanes.into(), maker.into(), store.max_topics()];
    args.extend(topics.iter().map(|topic| Value::from(topic.as_str())));
    let reply = store.change(&store.scripts.require_topics, Lane::HOME, args).await?;
    match reply.is_list() {
        true => reply.map(Reply::text).collect::<StoreResult<_>>().map(Ok),
        false => Ok(Err(match reply.text()?.as_str() {
            "" => Subscribed::TooManyTopics,
            unknown => Subscribed::UnknownTopic(TopicName::from_stored(unknown)),
        })),
    }
}

/// The births of topics; that of one which does not exist is empty.
pub async fn topic_births(
    store: &RedisStore,
    topics: &BTreeSet<TopicName>,
) -> StoreResult<Vec<Birth>> {
    let args = topics.iter().map(|topic| Value::from(topic.as_str())).collect();
    store.run(&store.scripts.topic_births, Lane::HOME, args).await?.map(Reply::text).collect()
}

async fn unsubscribe(store: &RedisStore, subscriber: &ClientToken) -> StoreResult<bool> {
    let lane = store.lane_of(subscriber).await?;
    let args = vec![subscriber.reveal().into()];
    Ok(store.change(&store.scripts.unsubscribe, lane, args).await?.integer()? > 0)
}

async fn unsubscribe_topic(
    store: &RedisStore,
    subscriber: &ClientToken,
    topic: &TopicName,
) -> StoreResult<bool> {
    take_out(store, subscriber, topic, "").await
}

/// Takes a topic out of a subscription; with a birth only if it is the topic of that birth.
async fn take_out(
    store: &RedisStore,
    subscriber: &ClientToken,
    topic: &TopicName,
    birth: &str,
) -> StoreResult<bool> {
    let lane = store.lane_of(subscriber).await?;
    let args = vec![subscriber.reveal().into(), topic.as_str().into(), birth.into()];
    Ok(store.change(&store.scripts.unsubscribe_topic, lane, args).await?.integer()? > 0)
}

async fn delete_topic(
    store: &RedisStore,
    topic: &TopicName,
    owner: Option<&ClientToken>,
) -> StoreResult<TopicDeleted> {
    let owner = owner.map(ClientToken::reveal).unwrap_or_default();
    let args = vec![topic.as_str().into(), owner.into()];
    let mut reply = store.change(&store.scripts.delete_topic, Lane::HOME, args).await?;
    let deleted = match reply.part()?.text()?.as_str() {
        "done" => TopicDeleted::Done,
        "unknown" => TopicDeleted::Unknown,
        _ => return Ok(TopicDeleted::OwnedByAnother),
    };
    let ended = reply.part()?.text()?;
    // Also of one that is unknown: an earlier try may have come no further.
    let others = Lane::first(store.lane_count().await?).skip(1);
    try_join_all(others.map(|lane| {
        let args = vec![topic.as_str().into(), ended.as_str().into()];
        store.change(&store.scripts.unsubscribe_all, lane, args)
    }))
    .await?;
    Ok(deleted)
}

async fn topics(store: &RedisStore) -> StoreResult<Vec<Topic>> {
    let rows = store.run(&store.scripts.topics, Lane::HOME, vec![]).await?;
    let mut topics = rows.map(Reply::topic).collect::<StoreResult<Vec<_>>>()?;
    topics.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(topics)
}

async fn subscriptions(store: &RedisStore) -> StoreResult<Vec<SubscriptionStatus>> {
    let lanes = Lane::first(store.lane_count().await?);
    let all = try_join_all(lanes.map(|lane| subscriptions_of(store, lane))).await?;
    let mut subscriptions = all.concat();
    subscriptions.sort_by(|one, other| one.subscriber.cmp(&other.subscriber));
    Ok(subscriptions)
}

/// The subscriptions of a lane, read in portions that nobody notices.
async fn subscriptions_of(store: &RedisStore, lane: Lane) -> StoreResult<Vec<SubscriptionStatus>> {
    let subscribers = store.connection.set(&store.lane(lane).keys, "subscribers").await?;
    let mut subscriptions = Vec::with_capacity(subscribers.len());
    for some in subscribers.chunks(SUBSCRIPTIONS_AT_ONCE) {
        subscriptions.extend(statuses(store, lane, some).await?);
    }
    Ok(subscriptions)
}

async fn subscription(
    store: &RedisStore,
    subscriber: &ClientToken,
) -> StoreResult<Option<SubscriptionStatus>> {
    let lane = store.lane_of(subscriber).await?;
    Ok(statuses(store, lane, &[subscriber.reveal()]).await?.pop())
}

/// The subscriptions of some subscribers of a lane, as far as they have one.
async fn statuses(
    store: &RedisStore,
    lane: Lane,
    subscribers: &[impl AsRef<str>],
) -> StoreResult<Vec<SubscriptionStatus>> {
    let args = subscribers.iter().map(|subscriber| subscriber.as_ref().into()).collect();
    store.run(&store.scripts.subscriptions, lane, args).await?.map(Reply::subscription).collect()
}

async fn api_tokens(store: &RedisStore) -> StoreResult<Vec<ApiToken>> {
    let tokens = store.connection.hash(&store.lane(Lane::HOME).keys, "api_tokens").await?;
    let mut tokens: Vec<ApiToken> =
        tokens.into_iter().map(|(token, known)| api_token(&token, &known)).collect();
    tokens.sort_by(|one, other| (&one.name, &one.token).cmp(&(&other.name, &other.token)));
    Ok(tokens)
}

/// A token as it is kept: its name and, of one of several of a client, that client and until when it is good.
fn api_token(token: &str, known: &str) -> ApiToken {
    let mut parts = known.split(' ');
    let name = parts.next().unwrap_or_default().to_owned();
    let token = ClientToken::from_stored(token);
    let client = parts.next().map_or_else(|| token.clone(), ClientToken::from_stored);
    ApiToken { name, token, client, until_ms: parts.next().and_then(|until| until.parse().ok()) }
}

async fn add_api_token(store: &RedisStore, token: &ApiToken) -> StoreResult<()> {
    let ApiToken { name, token, client, until_ms } = token;
    let known = match until_ms {
        None if client == token => name.clone(),
        None => format!("{name} {} -", client.reveal()),
        Some(until_ms) => format!("{name} {} {until_ms}", client.reveal()),
    };
    let args = vec![token.reveal().into(), known.into()];
    store.change(&store.scripts.add_api_token, Lane::HOME, args).await.map(drop)
}

async fn delete_api_token(store: &RedisStore, token: &ClientToken) -> StoreResult<()> {
    let args = vec![token.reveal().into()];
    store.change(&store.scripts.delete_api_token, Lane::HOME, args).await.map(drop)
}
