// BullMQ for Node: `work` runs jobs in this process, `sandboxed` in child processes; `add`, `latency`,
// `one_by_one` and `in_bulk` take the JSON of command.py on standard input.
'use strict';

const path = require('node:path');
const { Queue, QueueEvents, Worker } = require('bullmq');

const NAME = 'peers';
const BATCH = 1000;
const WARM_UP = 20;
const NAP_MS = 10;
const connection = { path: process.env.PEERS_SOCKET, maxRetriesPerRequest: null };
const atOnce = Number(process.env.PEERS_AT_ONCE || 1);

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
// Nanoseconds of CLOCK_MONOTONIC, which all processes of a machine share.
const now = () => Number(process.hrtime.bigint());
const tasks = { noop: async () => null, nap: () => sleep(NAP_MS), stamp: async () => now() };

function work(processor) {
  const worker = new Worker(NAME, processor, { connection, concurrency: atOnce });
  worker.on('error', (error) => console.error(error));
  process.on('SIGTERM', () => worker.close(true).then(() => process.exit(0)));
}

async function read() {
  const parts = [];
  for await (const part of process.stdin) parts.push(part);
  return JSON.parse(Buffer.concat(parts));
}

async function addInBulk(queue, { task, data }) {
  for (let first = 0; first < data.length; first += BATCH) {
    const batch = data.slice(first, first + BATCH);
    await queue.addBulk(batch.map((item) => ({ name: task, data: item })));
  }
}

async function addOneByOne(queue, { task, data }) {
  for (const item of data) await queue.add(task, item);
}

async function timed(add, queue, order) {
  const began = now();
  await add(queue, order);
  const seconds = (now() - began) / 1e9;
  console.log(JSON.stringify({ seconds, producer: process.cpuUsage() }));
}

async function latency(queue, { jobs, pause }) {
  const events = new QueueEvents(NAME, { connection });
  await events.waitUntilReady();
  const found = [];
  for (let number = 0; number < WARM_UP + jobs; number++) {
    await sleep(pause * 1000);
    const began = now();
    const job = await queue.add('stamp', {});
    const started = await job.waitUntilFinished(events);
    found.push([(started - began) / 1e6, (now() - began) / 1e6]);
  }
  console.log(JSON.stringify(found.slice(WARM_UP)));
  await events.close();
}

async function produce(verb) {
  const order = await read();
  const queue = new Queue(NAME, { connection });
  await queue.waitUntilReady();
  if (verb === 'add') await addInBulk(queue, order);
  else if (verb === 'latency') await latency(queue, order);
  else await timed(verb === 'in_bulk' ? addInBulk : addOneByOne, queue, order);
  await queue.close();
}

const verb = process.argv[2];
if (verb === 'work') work((job) => tasks[job.name](job));
else if (verb === 'sandboxed') work(path.join(__dirname, 'bullmq_sandboxed.cjs'));
else produce(verb);
