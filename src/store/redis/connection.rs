//! What the store asks of Redis: scripts, each on the keys of one lane.

use std::collections::HashMap;

use fred::error::Error;
use fred::prelude::{Client, ClientLike, HashesInterface, LuaInterface};
use fred::types::scripts::Script;
use fred::types::{ClusterHash, CustomCommand, Value};
use tokio::sync::watch;
use tokio::time::Instant;

use super::lanes::LaneKeys;
use super::link::{Link, Resend, info};
use super::options::{CALL_TIMEOUT, RedisOptions};
use super::replicas::Replicas;
use super::reply::Reply;
use super::scripts::is_not_loaded;
use crate::store::StoreResult;

pub struct Connection {
    link: Link,
    replicas: Option<Replicas>,
}

impl Connection {
    /// Starts to connect, and to connect anew whenever the connection is lost.
    pub fn open(options: &RedisOptions) -> anyhow::Result<Self> {
        let link = Link::open(&options.builder()?, options.describe())?;
        Ok(Self { link, replicas: Replicas::open(options)? })
    }

    /// Tells whenever another server was looked for in place of one that answers nothing.
    pub fn left(&self) -> watch::Receiver<()> {
        self.link.left()
    }

    /// Runs a script on a lane.
    pub async fn run(
        &self,
        script: &Script,
        lane: &LaneKeys,
        args: Vec<Value>,
        resend: Resend,
        give_up: Instant,
    ) -> StoreResult<Reply> {
        let call = || run_once(self.link.client(), script, lane, args.clone());
        self.link.call(lane.slot, give_up, resend, call).await.map(Reply::from)
    }

    /// Runs a script on a lane, and answers when as many replicas have what it changed as the
    /// settings ask for. It must be one that may be done twice.
    pub async fn run_replicated(
        &self,
        script: &Script,
        lane: &LaneKeys,
        args: Vec<Value>,
        give_up: Instant,
    ) -> StoreResult<Reply> {
        match &self.replicas {
            None => self.run(script, lane, args, Resend::Yes, give_up).await,
            Some(replicas) => replicas.run(script, lane, args, give_up).await.map(Reply::from),
        }
    }

    /// The account that the server which has a lane gives of itself.
    pub async fn info(&self, lane: &LaneKeys) -> StoreResult<String> {
        let give_up = Instant::now() + CALL_TIMEOUT;
        let call = || info(self.link.client(), lane.slot);
        self.link.call(lane.slot, give_up, Resend::Yes, call).await
    }

    /// A hash of a lane.
    pub async fn hash(&self, lane: &LaneKeys, name: &str) -> StoreResult<HashMap<String, String>> {
        let give_up = Instant::now() + CALL_TIMEOUT;
        let call = || self.link.client().hgetall(format!("{}{name}", lane.prefix));
        self.link.call(lane.slot, give_up, Resend::Yes, call).await
    }

    /// What a field of a hash of a lane has.
    pub async fn field(
        &self,
        lane: &LaneKeys,
        name: &str,
        field: &str,
    ) -> StoreResult<Option<String>> {
        let give_up = Instant::now() + CALL_TIMEOUT;
        let call = || self.link.client().hget(format!("{}{name}", lane.prefix), field.to_owned());
        self.link.call(lane.slot, give_up, Resend::Yes, call).await
    }

    /// A set of a lane.
    pub async fn set(&self, lane: &LaneKeys, name: &str) -> StoreResult<Vec<String>> {
        let give_up = Instant::now() + CALL_TIMEOUT;
        let members =
            || CustomCommand::new_static("SMEMBERS", ClusterHash::Custom(lane.slot), false);
        let key = format!("{}{name}", lane.prefix);
        let call = || self.link.client().custom(members(), vec![key.clone()]);
        self.link.call(lane.slot, give_up, Resend::Yes, call).await
    }
}

async fn run_once(
    client: &Client,
    script: &Script,
    lane: &LaneKeys,
    args: Vec<Value>,
) -> Result<Value, Error> {
    let key = lane.prefix.as_str();
    match client.evalsha(script.sha1().clone(), key, args.clone()).await {
        // This loads it, too, and on the right node of a Cluster.
        Err(error) if is_not_loaded(&error) => {
            client.eval(script.lua().cloned().unwrap_or_default(), key, args).await
        }
        result => result,
    }
}
