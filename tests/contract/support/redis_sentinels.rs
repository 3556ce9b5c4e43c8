//! A Redis master with replicas, and two Sentinels that watch them.
#![allow(dead_code, reason = "each crate of tests uses a part of it")]

use super::redis_server::RedisServer;
use super::run::eventually;

const OPTIONS: [&str; 4] = ["--save", "", "--repl-diskless-sync-delay", "0"];

pub struct RedisSentinels {
    /// The first one is the master until there is a failover.
    pub servers: Vec<RedisServer>,
    sentinels: [RedisServer; 2],
}

impl RedisSentinels {
    pub async fn start(replicas: usize) -> Self {
        let servers: Vec<_> = (0..=replicas).map(|_| RedisServer::start_with(&OPTIONS)).collect();
        let port = servers[0].port().to_string();
        for replica in &servers[1..] {
            replica.command(&["REPLICAOF", "127.0.0.1", &port]).unwrap();
        }
        let followed = async || (servers[0].online_replicas().ok() == Some(replicas)).then_some(());
        eventually("the replicas follow their master", followed).await;
        let sentinel = || RedisServer::start_sentinel_of(&servers[0]);
        let sentinels = [sentinel(), sentinel()];
        let known = format!("slaves={replicas},sentinels=2");
        let know_all = async || {
            let knows = |sentinel: &RedisServer| {
                sentinel.command(&["INFO", "sentinel"]).unwrap().contains(&known)
            };
            sentinels.iter().all(knows).then_some(())
        };
        eventually("the Sentinels know each other and the replicas", know_all).await;
        Self { servers, sentinels }
    }

    /// The value of `ROUTEMASTER_REDIS_URL`.
    pub fn url(&self) -> String {
        let [one, other] = self.sentinels.each_ref().map(RedisServer::port);
        format!("redis-sentinel://127.0.0.1:{one}?sentinelServiceName=bus&node=127.0.0.1:{other}")
    }

    /// Which of the servers the Sentinels call the master.
    pub fn master(&self) -> usize {
        let ask = ["SENTINEL", "GET-MASTER-ADDR-BY-NAME", "bus"];
        let address = self.sentinels[0].command(&ask).unwrap();
        let is_it = |server: &RedisServer| {
            address.lines().last() == Some(server.port().to_string().as_str())
        };
        self.servers.iter().position(is_it).expect("the master is one of the servers")
    }

    /// Asks for a failover, and waits until another server is the master.
    pub async fn fail_over(&self) {
        let before = self.master();
        let accepted = async || {
            self.sentinels[0].command(&["SENTINEL", "FAILOVER", "bus"]).is_ok().then_some(())
        };
        eventually("the Sentinels agree to a failover", accepted).await;
        self.master_after(before).await;
    }

    /// Waits until another server than this one is the master.
    pub async fn master_after(&self, before: usize) {
        let other = async || (self.master() != before).then_some(());
        eventually("there is another master", other).await;
    }

    /// Waits until at least one other server follows the master.
    pub async fn has_replica(&self) {
        let followed = async || {
            let master = &self.servers[self.master()];
            master.online_replicas().is_ok_and(|replicas| replicas > 0).then_some(())
        };
        eventually("a server follows the master", followed).await;
    }

    /// Waits until all other servers follow the master.
    pub async fn become_whole(&self) {
        let replicas = self.servers.len() - 1;
        let whole = async || {
            let master = &self.servers[self.master()];
            (master.online_replicas().ok() == Some(replicas)).then_some(())
        };
        eventually("all servers follow the master", whole).await;
    }

    /// Waits until a server is `master` or `slave`. One that changes cuts its connections.
    pub async fn becomes(&self, server: usize, role: &str) {
        let server = &self.servers[server];
        let has_role = async || server.role().is_ok_and(|now| now == role).then_some(());
        eventually(role, has_role).await;
    }
}
