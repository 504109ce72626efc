// Adds a resize job for each photograph named, waits for the thumbnails, and prints what they are.
//
//   npm install bullmq
//   node add.mjs WIDTH THUMBNAILS PHOTO...
//
// Where Redis is: $SANDBOXQ_URL or $REDIS_URL (redis://… or unix:///path/to/socket), else port 6379.
import { basename, join, resolve } from "node:path";

import { Queue, QueueEvents } from "bullmq";

const [width, thumbnails, ...photographs] = process.argv.slice(2);
const url = process.env.SANDBOXQ_URL ?? process.env.REDIS_URL ?? "redis://localhost:6379";
const connection = url.startsWith("unix://") ? { path: url.slice("unix://".length) } : { url };

const queue = new Queue("thumbnails", { connection });
const events = new QueueEvents("thumbnails", { connection });
await events.waitUntilReady();

const jobs = await queue.addBulk(
  photographs.map((photograph) => ({
    name: "resize",
    data: {
      src: resolve(photograph),
      dst: resolve(join(thumbnails, basename(photograph))),
      width: Number(width),
    },
    opts: { attempts: 3, backoff: { type: "fixed", delay: 1000 } },
  })),
);
for (const job of jobs) {
  const size = await job.waitUntilFinished(events);
  console.log(`${job.data.dst}: ${size.width} x ${size.height}, ${size.bytes} bytes`);
}
await events.close();
await queue.close();
