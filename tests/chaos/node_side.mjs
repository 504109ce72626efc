// A worker or a producer of Node in a campaign: node node_side.mjs worker|producer <orders, JSON>.
// It writes the same ledger as processor.py and producer.py, with one appended line a write.
import { createHash } from "node:crypto";
import { appendFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

const [, , role, text] = process.argv;
const orders = JSON.parse(text);
const { Queue, Worker } = createRequire(join(orders.modules, "package.json"))("bullmq");
const connection = { host: "127.0.0.1", port: orders.port, maxRetriesPerRequest: null };
const now = () => (Date.now() / 1000).toFixed(3);
const note = (file, ...words) => appendFileSync(orders[file], words.join(" ") + "\n");
// As hashlib.blake2b(u, digest_size=4) is not in Node: its proof is marked as Node's.
const proof = (u) => "node-" + createHash("md5").update(u).digest("hex").slice(0, 8);

async function run(job) {
  const { u, s = 0.005, times = 0 } = job.data;
  note("runs", "S", u, job.id, job.attemptsStarted, now());
  if (times > job.attemptsMade) {
    note("runs", "R", u, job.id);
    throw new Error("asked to fail");
  }
  if (job.name !== "noop") await sleep(s * 1000);
  note("runs", "E", u, job.id, now());
  return { u, proof: proof(u), value: null };
}

async function work() {
  const options = { connection, concurrency: 4, lockDuration: orders.lockMs, stalledInterval: 2000 };
  const worker = new Worker(orders.queue, run, { ...options, maxStalledCount: 50 });
  worker.on("error", (error) => console.error(String(error)));
  await worker.waitUntilReady();
  console.log("ready");
  process.on("SIGTERM", () => worker.close().then(() => process.exit(0)));
}

async function produce() {
  let stopped = false;
  process.on("SIGTERM", () => (stopped = true));
  const streams = { events: { maxLen: 10_000_000 } }; // all are counted in the end
  const queue = new Queue(orders.queue, { connection, streams });
  for (let i = 1; !stopped; i++) {
    const names = Array.from({ length: 10 }, (_, j) => `nap-node-${i * 10 + j}`);
    for (const u of names) note("adds", "T", u, "nap", now());
    try {
      const opts = { attempts: 20 };
      const jobs = await queue.addBulk(names.map((u) => ({ name: "nap", data: { u }, opts })));
      jobs.forEach((job, j) => note("adds", "A", names[j], job.id, now()));
    } catch (error) {
      for (const u of names) note("adds", "U", u, error.name);
    }
    await sleep(10_000 / orders.rate);
  }
  await queue.close();
  process.exit(0);
}

await (role === "worker" ? work() : produce());
