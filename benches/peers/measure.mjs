// What each peer does with the same load: 32 publishers, each one message at a time; a receiver over HTTPS that answers 204.
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import https from "node:https";
import os from "node:os";
import path from "node:path";
import { parseArgs } from "node:util";
import * as peers from "./peers.mjs";

const PUBLISHERS = 32;
const DRAIN_MS = 60_000;
const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { seconds: { type: "string", default: "5" } },
});
const seconds = Number(values.seconds);
const names = positionals.length ? positionals : Object.keys(peers.all);
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const directory = mkdtempSync(path.join(os.tmpdir(), "peers-"));

function certificate() {
  const at = (name) => path.join(directory, name);
  const openssl = (...args) => execFileSync("openssl", args, { stdio: "ignore" });
  openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
    "-keyout", at("ca.key"), "-out", at("ca.pem"), "-subj", "/CN=peers");
  openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", at("key.pem"),
    "-out", at("request.pem"), "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost");
  openssl("x509", "-req", "-in", at("request.pem"), "-CA", at("ca.pem"), "-CAkey", at("ca.key"), "-CAcreateserial",
    "-days", "2", "-copy_extensions", "copy", "-out", at("cert.pem"));
  return { ca: at("ca.pem"), key: readFileSync(at("key.pem")), cert: readFileSync(at("cert.pem")) };
}

// What has arrived: how often each number, and how long it took.
const arrived = { times: new Map(), took: [], last: 0 };
function forget() {
  arrived.times.clear();
  arrived.took = [];
}
function take({ n, t }) {
  arrived.times.set(n, (arrived.times.get(n) ?? 0) + 1);
  arrived.last = performance.now();
  arrived.took.push(arrived.last - t);
}
function receive(request, response) {
  const parts = [];
  request.on("data", (part) => parts.push(part));
  request.on("end", () => {
    const body = JSON.parse(Buffer.concat(parts));
    for (const one of Array.isArray(body) ? body : [body]) take(one.data ?? one);
    response.writeHead(204).end();
  });
}

function cpuMs(pids) {
  const ticks = (pid) => {
    try {
      const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1].split(" ");
      return Number(fields[11]) + Number(fields[12]);
    } catch { return 0; }
  };
  return pids.reduce((sum, pid) => sum + ticks(pid), 0) * 10;
}
function megabytes(pids) {
  const peak = (pid) => {
    try {
      return Number(/VmHWM:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1] ?? 0);
    } catch { return 0; }
  };
  return pids.reduce((sum, pid) => sum + peak(pid), 0) / 1024;
}

let next = 0;
const acknowledged = new Set();
async function publishFor(peer, ms, pause = 0) {
  const until = performance.now() + ms;
  let count = 0;
  await Promise.all(Array.from({ length: PUBLISHERS }, async (_, publisher) => {
    if (pause) await sleep((pause / PUBLISHERS) * publisher);
    while (performance.now() < until) {
      const n = next++;
      try {
        await peer.publish({ n, t: performance.now() });
        acknowledged.add(n);
        count += 1;
      } catch { await sleep(50); }
      if (pause) await sleep(pause);
    }
  }));
  return count;
}
async function drained() {
  const until = performance.now() + DRAIN_MS;
  const missing = () => [...acknowledged].filter((n) => !arrived.times.has(n)).length;
  while (missing() > 0 && performance.now() < until) await sleep(200);
  return missing();
}
function quantile(values, share) {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? NaN;
}

const tls = certificate();
const server = https.createServer({ key: tls.key, cert: tls.cert, keepAlive: true }, receive);
await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
const callback = `https://localhost:${server.address().port}/`;

async function measure(name) {
  const place = mkdtempSync(path.join(directory, `${name}-`));
  const peer = await peers.all[name]({ directory: place, callback, ca: tls.ca });
  try {
    await publishFor(peer, 1000);
    await drained();
    const before = cpuMs(await peer.pids());
    forget();
    acknowledged.clear();
    const started = performance.now();
    const published = await publishFor(peer, seconds * 1000);
    await drained();
    const deliveredIn = arrived.last - started;
    const cpu = cpuMs(await peer.pids()) - before;
    forget();
    acknowledged.clear();
    await publishFor(peer, seconds * 1000, 1000 * PUBLISHERS / 50);
    await drained();
    const took = arrived.took;
    forget();
    acknowledged.clear();
    // Everything is killed at once in the middle, and started again.
    const killed = sleep(1500).then(() => peer.killAndStart());
    const sent = await publishFor(peer, 4000, 1000 * PUBLISHERS / 500);
    await killed;
    const lost = await drained();
    const twice = [...arrived.times.values()].filter((times) => times > 1).length;
    return {
      peer: name,
      "published/s": Math.round(published / seconds),
      "delivered/s": Math.round((1000 * published) / deliveredIn),
      "p50 ms": quantile(took, 0.5).toFixed(1),
      "p99 ms": quantile(took, 0.99).toFixed(1),
      "CPU µs each": Math.round((1000 * cpu) / published),
      "MB": Math.round(megabytes(await peer.pids())),
      "sent over kill -9": sent,
      lost,
      twice,
    };
  } finally {
    await peer.stop();
    forget();
    acknowledged.clear();
  }
}

const rows = [];
try {
  for (const name of names) {
    process.stderr.write(`${name}…\n`);
    rows.push(await measure(name).catch((error) => ({ peer: name, error: String(error?.message ?? error) })));
  }
} finally {
  rmSync(directory, { recursive: true, force: true });
}
console.table(Object.fromEntries(rows.map(({ peer, ...row }) => [peer, row])));
process.exit(rows.some((row) => row.error) ? 1 : 0);
