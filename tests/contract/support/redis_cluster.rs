//! A Redis Cluster of three masters without replicas.

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
}

impl RedisCluster {
    /// Starts three servers and makes a Cluster of them, each with a third of the slots.
    pub async fn start() -> Self {
        let nodes = (0..MASTERS).map(|index| {
            let bus = free_port();
            let server = RedisServer::start_with(&[
                "--cluster-enabled",
                "yes",
                "--cluster-port",
                &bus.to_string(),
                "--cluster-node-timeout",
                "3000",
                "--save",
                "",
            ]);
            let (first, last) = (SLOTS / MASTERS * index, SLOTS / MASTERS * (index + 1) - 1);
            let last = if index + 1 == MASTERS { SLOTS - 1 } else { last };
            let range = [first.to_string(), last.to_string()];
            server.command(&["CLUSTER", "ADDSLOTSRANGE", &range[0], &range[1]]).unwrap();
            // Else all of them begin with the same number, and sort that out later.
            let epoch = (index + 1).to_string();
            server.command(&["CLUSTER", "SET-CONFIG-EPOCH", &epoch]).unwrap();
            let id = server.command(&["CLUSTER", "MYID"]).unwrap();
            (Node { server, id }, bus)
        });
        let (nodes, buses): (Vec<_>, Vec<_>) = nodes.unzip();
        for (node, bus) in nodes.iter().zip(&buses).skip(1) {
            let port = node.server.port().to_string();
            let meet = ["CLUSTER", "MEET", "127.0.0.1", &port, &bus.to_string()];
            nodes[0].server.command(&meet).unwrap();
        }
        let cluster = Self { nodes };
        let formed = async || cluster.nodes.iter().all(Node::knows_all).then_some(());
        eventually("the Cluster is formed", formed).await;
        cluster
    }

    /// The value of `ROUTEMASTER_REDIS_URL`.
    pub fn url(&self) -> String {
        let port = |index: usize| self.nodes[index].server.port();
        format!("redis-cluster://127.0.0.1:{}?node=127.0.0.1:{}", port(0), port(1))
    }

    /// How many keys each node has.
    pub fn keys(&self) -> Vec<u64> {
        let size = |node: &Node| node.server.command(&["DBSIZE"]).unwrap().parse().unwrap();
        self.nodes.iter().map(size).collect()
    }

    /// The node that has a slot.
    pub fn owner_of(&self, slot: u16) -> usize {
        let owns = |node: &Node| node.count_keys(slot).is_ok_and(|keys| keys > 0);
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
        for node in &self.nodes {
            set(node, "NODE", to);
        }
    }
}

impl Node {
    fn knows_all(&self) -> bool {
        let info = self.server.command(&["CLUSTER", "INFO"]).unwrap();
        let all = format!("cluster_known_nodes:{MASTERS}\r");
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
