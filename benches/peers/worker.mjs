// Delivers what a broker has over HTTP, 32 at a time: again until it is taken, and acknowledged after that.
import { connect as connectNats } from "@nats-io/transport-node";
import { jetstream } from "@nats-io/jetstream";
import amqp from "amqplib";
import { Worker } from "bullmq";
import { Agent, request } from "undici";

const AT_ONCE = 32;
const [kind, setup] = [process.argv[2], JSON.parse(process.argv[3])];
const agent = new Agent({ connections: AT_ONCE });

async function deliver(body) {
  const answer = await request(setup.callback, {
    method: "POST", dispatcher: agent, body, headers: { "content-type": "application/json" },
  });
  await answer.body.dump();
  if (answer.statusCode >= 300) throw new Error(`${answer.statusCode}`);
}

const workers = {
  async bullmq() {
    const connection = { host: "127.0.0.1", port: setup.port };
    new Worker("peers", (job) => deliver(JSON.stringify(job.data)), { connection, concurrency: AT_ONCE, lockDuration: 5000, stalledInterval: 5000 })
      .on("error", () => {});
  },
  async rabbitmq() {
    const channel = await (await amqp.connect(`amqp://127.0.0.1:${setup.port}`)).createChannel();
    await channel.assertQueue("peers", { durable: true });
    await channel.prefetch(AT_ONCE);
    await channel.consume("peers", (message) => {
      deliver(message.content).then(() => channel.ack(message), () => channel.nack(message));
    });
  },
  async nats() {
    const connection = await connectNats({ servers: `127.0.0.1:${setup.port}` });
    const consumer = await jetstream(connection).consumers.get("peers", "http");
    const messages = await consumer.consume({ max_messages: 100 });
    let underWay = 0;
    for await (const message of messages) {
      underWay += 1;
      const done = deliver(message.data).then(() => message.ack(), () => message.nak(200));
      done.finally(() => { underWay -= 1; });
      while (underWay >= AT_ONCE) await done;
    }
  },
};
await workers[kind]();
