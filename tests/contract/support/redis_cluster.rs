//! A Redis Cluster of three masters, with replicas if they are asked for.

use super::redis_server::{RedisServer, free_port};
use super::run::eventually;

/// How many slots a Cluster has.
const SLOTS: u16 = 16384;
const MASTERS: u16 = 3;

pub struct RedisCluster {
    nodes: Vec<Node>,
}

struct Node {
    server: RedisServer,
    id: String,
    bus_port: u16,
}

impl RedisCluster {
    /// Three servers, each with a third of the slots.
    pub async fn start() -> Self {
        Self::start_nodes(MASTERS).await
    }

    /// The same with so many replicas of each.
    pub async fn start_with_replicas(of_each: u16) -> Self {
        let cluster = Self::start_nodes((1 + of_each) * MASTERS).await;
        let (masters, replicas) = cluster.nodes.split_at(usize::from(MASTERS));
        for (master, replica) in masters.iter().cycle().zip(replicas) {
            replica.server.command(&["CLUSTER", "REPLICATE", &master.id]).unwrap();
        }
        cluster.become_whole().await;
        cluster
    }

    async fn start_nodes(count: u16) -> Self {
        let nodes: Vec<_> = (0..count).map(Node::start).collect();
        for node in &nodes[1..] {
            let (port, bus_port) = (node.server.port().to_string(), node.bus_port.to_string());
            let meet = ["CLUSTER", "MEET", "127.0.0.1", &port, &bus_port];
            nodes[0].server.command(&meet).unwrap();
        }
        let cluster = Self { nodes };
        cluster.is_formed().await;
        cluster
    }

    async fn is_formed(&self) {
        let knows_all = |node: &Node| node.knows(self.nodes.len());
        let formed = async || self.nodes.iter().all(knows_all).then_some(());
        eventually("the Cluster is formed", formed).await;
    }

    /// Waits until all nodes know each other, and each replica follows its master.
    pub async fn become_whole(&self) {
        self.is_formed().await;
        let replicas = self.nodes.len() - usize::from(MASTERS);
        let following = |node: &Node| node.server.online_replicas().unwrap();
        let whole =
            async || (self.nodes.iter().map(following).sum::<usize>() == replicas).then_some(());
        eventually("each replica follows its master", whole).await;
    }

    /// The value of `ROUTEMASTER_REDIS_URL`.
    pub fn url(&self) -> String {
        let port = |index: usize| self.nodes[index].server.port();
        format!("redis-cluster://127.0.0.1:{}?node=127.0.0.1:{}", port(0), port(1))
    }

    pub fn server(&mut self, node: usize) -> &mut RedisServer {
        &mut self.nodes[node].server
    }

    /// The nodes that are masters now.
    pub fn masters(&self) -> Vec<usize> {
        (0..self.nodes.len()).filter(|node| self.nodes[*node].is_master()).collect()
    }

    /// Waits until as many other nodes are masters as were in the beginning; this one hangs or is dead.
    pub async fn has_masters_without(&self, node: usize) {
        let others = || (0..self.nodes.len()).filter(|other| *other != node);
        let promoted = async || {
            let masters = others().filter(|other| self.nodes[*other].is_master()).count();
            (masters == usize::from(MASTERS)).then_some(())
        };
        eventually("a replica takes over", promoted).await;
    }

    /// How many keys each node has.
    pub fn keys(&self) -> Vec<u64> {
        let size = |node: &Node| node.server.command(&["DBSIZE"]).unwrap().parse().unwrap();
        self.nodes.iter().map(size).collect()
    }

    /// The slot of a key.
    pub fn slot_of(&self, key: &str) -> u16 {
        let slot = self.nodes[0].server.command(&["CLUSTER", "KEYSLOT", key]).unwrap();
        slot.parse().unwrap()
    }

    /// The node that has a slot.
    pub fn owner_of(&self, slot: u16) -> usize {
        let owns =
            |node: &Node| node.is_master() && node.count_keys(slot).is_ok_and(|keys| keys > 0);
        self.nodes.iter().position(owns).expect("a node has the slot's keys")
    }

    /// Moves a slot to another node as an operator's tool does, key by key. `half_way` is awaited
    /// while each of the two nodes has a part of the keys.
    pub async fn move_slot(&self, slot: u16, to: usize, half_way: impl Future<Output = ()>) {
        let from = &self.nodes[self.owner_of(slot)];
        let to = &self.nodes[to];
        let name = slot.to_string();
        let set = |node: &Node, state: &str, other: &Node| {
            node.server.command(&["CLUSTER", "SETSLOT", &name, state, &other.id]).unwrap();
        };
        set(to, "IMPORTING", from);
        set(from, "MIGRATING", to);
        let before = from.count_keys(slot).unwrap();
        from.migrate(slot, (before / 2).max(1), to);
        half_way.await;
        while from.count_keys(slot).unwrap() > 0 {
            from.migrate(slot, 100, to);
        }
        set(to, "NODE", to);
        set(from, "NODE", to);
        for node in self.masters() {
            set(&self.nodes[node], "NODE", to);
        }
    }
}

impl Node {
    /// Starts a server; one of the first ones gets its part of the slots.
    fn start(index: u16) -> Self {
        let bus_port = free_port();
        let server = RedisServer::start_with(&[
            "--cluster-enabled",
            "yes",
            "--cluster-port",
            &bus_port.to_string(),
            "--cluster-node-timeout",
            "3000",
            "--repl-diskless-sync-delay",
            "0",
            "--save",
            "",
        ]);
        if index < MASTERS {
            let (first, last) = (SLOTS / MASTERS * index, SLOTS / MASTERS * (index + 1) - 1);
            let last = if index + 1 == MASTERS { SLOTS - 1 } else { last };
            let range = [first.to_string(), last.to_string()];
            server.command(&["CLUSTER", "ADDSLOTSRANGE", &range[0], &range[1]]).unwrap();
        }
        // Else all of them begin with the same number, and sort that out later.
        let epoch = (index + 1).to_string();
        server.command(&["CLUSTER", "SET-CONFIG-EPOCH", &epoch]).unwrap();
        let id = server.command(&["CLUSTER", "MYID"]).unwrap();
        Self { server, id, bus_port }
    }

    fn is_master(&self) -> bool {
        self.server.role().is_ok_and(|role| role == "master")
    }

    fn knows(&self, nodes: usize) -> bool {
        let info = self.server.command(&["CLUSTER", "INFO"]).unwrap();
        let all = format!("cluster_known_nodes:{nodes}\r");
        info.contains("cluster_state:ok") && info.contains(&all)
    }

    fn count_keys(&self, slot: u16) -> std::io::Result<u64> {
        let count = self.server.command(&["CLUSTER", "COUNTKEYSINSLOT", &slot.to_string()])?;
        Ok(count.parse().unwrap())
    }

    /// Moves some keys of a slot.
    fn migrate(&self, slot: u16, count: u64, to: &Node) {
        let (slot, count) = (slot.to_string(), count.to_string());
        let keys = self.server.command(&["CLUSTER", "GETKEYSINSLOT", &slot, &count]).unwrap();
        let port = to.server.port().to_string();
        for key in keys.lines() {
            // One that is gone meanwhile is answered with NOKEY.
            self.server.command(&["MIGRATE", "127.0.0.1", &port, key, "0", "5000"]).unwrap();
        }
    }
}
