// The peers: each takes a message durably, and POSTs it to a callback until that answers 2xx. What has no delivery over HTTP
// of its own gets a worker (worker.mjs) as its users write one.
import { spawn, execFileSync } from "node:child_process";
import { mkdirSync, readFileSync } from "node:fs";
import net from "node:net";
import path from "node:path";
import readline from "node:readline";
import { fileURLToPath } from "node:url";
import { connect as connectNats } from "@nats-io/transport-node";
import { jetstream, jetstreamManager } from "@nats-io/jetstream";
import amqp from "amqplib";
import { Queue } from "bullmq";
import { Agent, request } from "undici";

const here = path.dirname(fileURLToPath(import.meta.url));
const BUS = path.join(here, "../release/routemaster");
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const freePort = () => new Promise((resolve) => {
  const server = net.createServer().listen(0, "127.0.0.1", () => {
    const { port } = server.address();
    server.close(() => resolve(port));
  });
});

async function until(what, look, ms = 30_000) {
  const end = Date.now() + ms;
  for (;;) {
    try {
      const found = await look();
      if (found !== false) return found;
    } catch { /* not yet */ }
    if (Date.now() > end) throw new Error(`this did not happen: ${what}`);
    await sleep(50);
  }
}
const listens = (port) => until(`something listens on ${port}`, () => new Promise((resolve, reject) => {
  const socket = net.connect(port, "127.0.0.1", () => { socket.end(); resolve(true); });
  socket.on("error", reject);
}));

// Processes that live and die together.
class Group {
  #start; #children = [];
  constructor(start) { this.#start = start; }
  run(command, args, options = {}) {
    const child = spawn(command, args, { stdio: "ignore", ...options });
    this.#children.push(child);
    return child;
  }
  async start() { await this.#start(this); }
  pids() {
    const own = this.#children.map((child) => child.pid);
    const all = execFileSync("ps", ["-eo", "pid=,ppid="], { encoding: "utf8" }).trim().split("\n")
      .map((line) => line.trim().split(/\s+/).map(Number));
    const found = new Set(own);
    for (let size = -1; size !== found.size;) {
      size = found.size;
      for (const [pid, parent] of all) if (found.has(parent)) found.add(pid);
    }
    return [...found];
  }
  async kill() {
    const ended = this.#children.map((child) => new Promise((resolve) => {
      if (child.exitCode !== null || child.signalCode !== null) resolve();
      else child.once("exit", resolve);
    }));
    for (const pid of this.pids()) try { process.kill(pid, "SIGKILL"); } catch { /* gone */ }
    await Promise.all(ended);
    this.#children = [];
  }
}

async function served(start, publish, close = async () => {}) {
  const group = new Group(start);
  await group.start().catch(async (error) => { await group.kill(); throw error; });
  return {
    publish,
    pids: async () => group.pids(),
    killAndStart: async () => { await group.kill(); await group.start(); },
    stop: async () => {
      try { await close(); } finally { await group.kill(); }
    },
  };
}

const redisArgs = (port, directory) => ["--port", `${port}`, "--bind", "127.0.0.1", "--dir", directory, "--save", "",
  "--appendonly", "yes", "--appendfsync", "everysec", "--maxmemory-policy", "noeviction"];

function worker(group, kind, setup) {
  group.run(process.execPath, [path.join(here, "worker.mjs"), kind, JSON.stringify(setup)],
    { env: { ...process.env, NODE_EXTRA_CA_CERTS: setup.ca } });
}

function bus({ store, publishTo, body, subscribe }) {
  return async ({ directory, callback, ca }) => {
    const [port, plain, redis] = [await freePort(), await freePort(), await freePort()];
    const data = path.join(directory, "data");
    const env = {
      PATH: process.env.PATH, PORT: `${port}`, ROUTEMASTER_PLAIN_BIND: `127.0.0.1:${plain}`,
      ROUTEMASTER_DATA_DIR: data, ROUTEMASTER_CALLBACK_CA_FILE: ca, ROUTEMASTER_CLIENTS: "demo,receiver",
      ...(store === "redis" && { ROUTEMASTER_REDIS_URL: `redis://127.0.0.1:${redis}` }),
    };
    const start = async (group) => {
      if (store === "redis") {
        group.run("redis-server", redisArgs(redis, directory));
        await listens(redis);
      }
      group.run(BUS, ["serve"], { env, cwd: directory });
      await listens(port);
    };
    let agent;
    const url = `https://localhost:${port}`;
    const post = async (path, token, content) => {
      agent ??= new Agent({ connections: 32, connect: { ca: readFileSync(`${data}/tls/ca.pem`) } });
      const answer = await request(url + path, {
        method: "POST", dispatcher: agent, body: JSON.stringify(content),
        headers: { authorization: `Basic ${btoa(`${token}:`)}`, "content-type": "application/json" },
      });
      const text = await answer.body.text();
      if (answer.statusCode >= 300) throw new Error(`${answer.statusCode} ${text}`);
    };
    const peer = await served(start, (message) => post(publishTo, "demo", body(message, callback)));
    if (subscribe) {
      await post(publishTo, "demo", body({ n: -1, t: 0 }, callback));
      await post("/subscription", "receiver", { topics: ["bench"], callback, uuid: "peers", ...subscribe });
    }
    return peer;
  };
}
const event = (message) => ({ type: "update", url: `https://a.example/${message.n}`, data: message });
const events = (store) => bus({
  store, publishTo: "/topics/bench", body: event, subscribe: { max: 100, timeout: 0 },
});
const calls = (store) => bus({
  store, publishTo: "/calls",
  body: (message, callback) => ({
    url: callback, method: "POST", body: JSON.stringify(message), headers: { "Content-Type": "application/json" },
  }),
});

async function bullmq({ directory, callback, ca }) {
  const port = await freePort();
  const start = async (group) => {
    group.run("redis-server", redisArgs(port, directory));
    await listens(port);
    worker(group, "bullmq", { port, callback, ca });
  };
  const queue = new Queue("peers", { connection: { host: "127.0.0.1", port } }).on("error", () => {});
  const publish = async (message) => {
    await queue.add("message", message, {
      attempts: 1000, backoff: { type: "fixed", delay: 200 }, removeOnComplete: true,
    });
  };
  return served(start, publish, () => queue.disconnect());
}

async function rabbitmq({ directory, callback, ca }) {
  const port = await freePort();
  const distribution = await freePort();
  const env = {
    ...process.env, HOME: directory, RABBITMQ_NODENAME: `peers${port}@localhost`, RABBITMQ_NODE_PORT: `${port}`,
    RABBITMQ_NODE_IP_ADDRESS: "127.0.0.1", RABBITMQ_DIST_PORT: `${distribution}`, RABBITMQ_MNESIA_BASE: `${directory}/mnesia`,
    RABBITMQ_LOG_BASE: `${directory}/log`, RABBITMQ_ENABLED_PLUGINS_FILE: `${directory}/plugins`,
    RABBITMQ_PID_FILE: `${directory}/pid`,
  };
  mkdirSync(`${directory}/log`, { recursive: true });
  const start = async (group) => {
    group.run("/usr/lib/rabbitmq/bin/rabbitmq-server", [], { env });
    await listens(port);
    await until("RabbitMQ takes a connection", async () => (await amqp.connect(`amqp://127.0.0.1:${port}`)).close());
    worker(group, "rabbitmq", { port, callback, ca });
  };
  let channel;
  // Whoever waits for a confirmation, to be told that the connection is gone.
  const waiting = new Set();
  const open = async () => {
    const connection = await amqp.connect(`amqp://127.0.0.1:${port}`);
    const forget = () => {
      channel = undefined;
      for (const reject of waiting) reject(new Error("the connection is gone"));
    };
    connection.on("error", forget).on("close", forget);
    const made = await connection.createConfirmChannel();
    await made.assertQueue("peers", { durable: true });
    return made;
  };
  const publish = async (message) => {
    channel ??= open().catch((error) => { channel = undefined; throw error; });
    const confirming = await channel;
    let forgotten;
    await new Promise((resolve, reject) => {
      waiting.add((forgotten = reject));
      confirming.sendToQueue("peers", Buffer.from(JSON.stringify(message)), { persistent: true },
        (error) => (error ? reject(error) : resolve()));
    }).finally(() => waiting.delete(forgotten));
  };
  return served(start, publish);
}

async function nats({ directory, callback, ca }) {
  const port = await freePort();
  const start = async (group) => {
    group.run("nats-server", ["-a", "127.0.0.1", "-p", `${port}`, "-js", "-sd", directory]);
    await listens(port);
    await until("the stream is there", async () => {
      const connection = await connectNats({ servers: `127.0.0.1:${port}` });
      const manager = await jetstreamManager(connection);
      await manager.streams.add({ name: "peers", subjects: ["peers"], retention: "workqueue" });
      await manager.consumers.add("peers", { durable_name: "http", ack_policy: "explicit", max_ack_pending: 1000 });
      await connection.close();
    });
    worker(group, "nats", { port, callback, ca });
  };
  let stream;
  const publish = async (message) => {
    stream ??= jetstream(await connectNats({ servers: `127.0.0.1:${port}`, maxReconnectAttempts: -1, reconnectTimeWait: 100 }));
    await stream.publish("peers", JSON.stringify(message), { timeout: 5000 });
  };
  return served(start, publish);
}

// What publishes from Python does so from a process of its own, which is no part of the peer.
const python = (kind) => async ({ directory, callback, ca }) => {
  const port = await freePort();
  const run = path.join(here, "python/bin/python");
  const args = (role) => [path.join(here, "tasks.py"), role, kind, JSON.stringify({ port, callback, ca })];
  const start = async (group) => {
    group.run("redis-server", redisArgs(port, directory));
    await listens(port);
    group.run(run, args("deliver"), { cwd: directory });
  };
  const publisher = spawn(run, args("publish"), { cwd: directory, stdio: ["pipe", "pipe", "ignore"] });
  const waiting = new Map();
  readline.createInterface({ input: publisher.stdout }).on("line", (line) => {
    const [, failed, n] = /^(- )?(\d+)$/.exec(line);
    const { resolve, reject } = waiting.get(Number(n));
    waiting.delete(Number(n));
    if (failed) reject(new Error("it was not taken"));
    else resolve();
  });
  publisher.on("exit", () => {
    for (const { reject } of waiting.values()) reject(new Error("the publisher is gone"));
    waiting.clear();
  });
  const publish = (message) => new Promise((resolve, reject) => {
    if (publisher.exitCode !== null) return reject(new Error("the publisher is gone"));
    waiting.set(message.n, { resolve, reject });
    publisher.stdin.write(`${JSON.stringify(message)}\n`);
  });
  return served(start, publish, async () => { publisher.kill("SIGKILL"); });
};

export const all = {
  "events-sqlite": events("sqlite"),
  "events-redis": events("redis"),
  "calls-sqlite": calls("sqlite"),
  "calls-redis": calls("redis"),
  bullmq,
  rabbitmq,
  nats,
  celery: python("celery"),
  dramatiq: python("dramatiq"),
};
