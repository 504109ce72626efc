// Adds notifications, from Node:
//
//   node notify.mjs news TEXT         to every subscriber, when there is time
//   node notify.mjs alert NAME TEXT   to one of them, before all news
//
// Where Redis is: $SANDBOXQ_URL or $REDIS_URL (redis://… or unix:///path/to/socket), else port 6379.
import { Queue } from "bullmq";

const url = process.env.SANDBOXQ_URL ?? process.env.REDIS_URL ?? "redis://localhost:6379";
const connection = url.startsWith("unix://") ? { path: url.slice("unix://".length) } : { url };
const queue = new Queue("notifications", {
  connection,
  defaultJobOptions: { attempts: 5, backoff: { type: "exponential", delay: 1000 } },
});

const [kind, ...words] = process.argv.slice(2);
const job =
  kind === "alert"
    ? await queue.add("push", { to: words[0], text: words[1] }, { priority: 1 })
    : await queue.add("announce", { text: words[0] });
console.log(`added ${job.name} ${job.id}`);
await queue.close();
