// One long-lived Node process of the interop tests. Reads {"id", "command", "arguments"} lines on
// stdin, answers {"id", "value"} or {"id", "error"} lines on stdout, ends with its stdin.
//
//   node driver.mjs <folder with node_modules> <bullmq package> <Redis socket | host:port,… of a cluster>
import { createRequire } from "node:module";
import { join } from "node:path";
import { createInterface } from "node:readline";

import { openBoard } from "./board.mjs";
import { runByName } from "./processor.mjs";

const [, , modulesFolder, bullmqPackage, place] = process.argv;
const load = createRequire(join(modulesFolder, "package.json"));
const { FlowProducer, Queue, QueueEvents, Worker } = load(bullmqPackage);
const connection = place.startsWith("/") ? { path: place, maxRetriesPerRequest: null } : cluster();

const EVENT_NAMES = [
  ...["added", "waiting", "delayed", "waiting-children", "active", "progress", "completed", "failed"],
  ...["retries-exhausted", "stalled", "drained", "removed", "cleaned", "paused", "resumed"],
  ...["duplicated", "deduplicated", "debounced", "error"],
];
const JOB_FIELDS = [
  ...["id", "name", "data", "opts", "progress", "returnvalue", "failedReason", "stacktrace"],
  ...["timestamp", "delay", "priority", "attemptsMade", "attemptsStarted", "stalledCounter"],
  ...["processedOn", "processedBy", "finishedOn", "parent", "parentKey", "deduplicationId"],
  ...["repeatJobKey", "deferredFailure"],
];

function cluster() {
  const { Cluster } = load("ioredis");
  return new Cluster(place.split(","), { redisOptions: { maxRetriesPerRequest: null } });
}

// What one test opened, by queue name: {queue, events, heard, workers, runs, boards}.
const rooms = new Map();

function roomOf(name) {
  const empty = { workers: [], runs: [], heard: [], boards: [], held: new Map() };
  if (!rooms.has(name)) rooms.set(name, empty);
  return rooms.get(name);
}

function queueOf(name) {
  const room = roomOf(name);
  room.queue ??= new Queue(name, { connection });
  return room.queue;
}

async function eventsOf(name) {
  const room = roomOf(name);
  if (!room.events) {
    room.events = new QueueEvents(name, { connection, lastEventId: "0-0" });
    for (const event of EVENT_NAMES) {
      room.events.on(event, (fields) => room.heard.push(heardEvent(event, fields)));
    }
    await room.events.waitUntilReady();
  }
  return room.events;
}

// `drained`, `paused` and `resumed` carry no fields, or only the entry's id.
function heardEvent(event, fields) {
  if (fields instanceof Error) return { event, message: fields.message };
  return typeof fields === "object" ? { event, ...fields } : { event };
}

function isJob(value) {
  return typeof value?.toJSON === "function" && "attemptsMade" in value;
}

function plain(value) {
  if (Array.isArray(value)) return value.map(plain);
  if (!isJob(value)) return value;
  return Object.fromEntries(JOB_FIELDS.map((field) => [field, value[field] ?? null]));
}

function plainFlow({ job, children }) {
  return { job: plain(job), children: (children ?? []).map(plainFlow) };
}

async function withProducer(use) {
  const producer = new FlowProducer({ connection });
  try {
    return await use(producer);
  } finally {
    await producer.close();
  }
}

// Back-off of kinds that BullMQ has not; -1 is not to try again.
function backoffStrategy(attemptsMade, kind) {
  return { "at once": 0, never: -1, soon: 10 * attemptsMade }[kind];
}

const commands = {
  // Opens the queue as its owner would, with these options.
  openQueue: ({ queue, options }) => {
    roomOf(queue).queue = new Queue(queue, { connection, ...options });
  },

  // Any method of Queue.
  queue: async ({ queue, method, args }) => plain(await queueOf(queue)[method](...args)),

  // Any method of Job, on the job as it stands in Redis.
  jobMethod: async ({ queue, id, method, args }) =>
    plain(await (await queueOf(queue).getJob(id))[method](...args)),

  job: async ({ queue, id }) => {
    const job = await queueOf(queue).getJob(id);
    if (!job) return null;
    const [state, logs] = [await job.getState(), await queueOf(queue).getJobLogs(id)];
    return { ...plain(job), state, logs: logs.logs };
  },

  finished: async ({ queue, id, timeoutMs }) => {
    const [job, events] = [await queueOf(queue).getJob(id), await eventsOf(queue)];
    return job.waitUntilFinished(events, timeoutMs).then(
      (value) => ({ value }),
      (error) => ({ failedReason: error.message }),
    );
  },

  startWorker: async ({ queue, options }) => {
    const room = roomOf(queue);
    const process = (job) => runByName(job, room.runs, queueOf(queue));
    const settings = { backoffStrategy };
    const worker = new Worker(queue, process, { connection, settings, ...options });
    worker.on("error", (error) => console.error(`worker of ${queue}:`, error));
    room.workers.push(worker);
    await worker.waitUntilReady();
  },

  stopWorkers: async ({ queue }) => {
    const room = roomOf(queue);
    await Promise.all(room.workers.splice(0).map((worker) => worker.close()));
  },

  // Claims one job and does nothing with it, as a worker that dies; answers its id.
  claim: async ({ queue, holder, lockDuration }) => {
    const worker = new Worker(queue, null, { connection, lockDuration, skipStalledCheck: true });
    roomOf(queue).workers.push(worker);
    const job = await worker.getNextJob(holder);
    if (job) roomOf(queue).held.set(job.id, job);
    return job?.id;
  },

  // Any method of a job that `claim` took.
  heldMethod: async ({ queue, id, method, args }) =>
    plain(await roomOf(queue).held.get(id)[method](...args)),

  // Fails a job that `claim` took, as a worker would whose processor threw.
  heldFail: async ({ queue, id, reason, holder }) =>
    void (await roomOf(queue).held.get(id).moveToFailed(new Error(reason), holder, false)),

  runs: ({ queue }) => roomOf(queue).runs,

  startEvents: async ({ queue }) => void (await eventsOf(queue)),

  events: ({ queue }) => roomOf(queue).heard,

  flow: ({ tree, options }) =>
    withProducer(async (producer) => plainFlow(await producer.add(tree, options))),

  flows: ({ trees }) =>
    withProducer(async (producer) => (await producer.addBulk(trees)).map(plainFlow)),

  getFlow: ({ queue, id, limits }) =>
    withProducer(async (producer) =>
      plainFlow(await producer.getFlow({ queueName: queue, id, ...limits })),
    ),

  openBoard: async ({ queue }) => {
    const board = await openBoard(load, [queueOf(queue)]);
    roomOf(queue).boards.push(board);
    return board.port;
  },

  // Closes everything that was opened for this queue.
  leave: async ({ queue }) => {
    const room = roomOf(queue);
    rooms.delete(queue);
    await Promise.all(room.workers.map((worker) => worker.close(true)));
    await Promise.all(room.boards.map((board) => board.close()));
    await room.events?.close();
    await room.queue?.close();
  },
};

async function answer(line) {
  const { id, command, arguments: given } = JSON.parse(line);
  try {
    return { id, value: (await commands[command](given)) ?? null };
  } catch (error) {
    return { id, error: error.message };
  }
}

const lines = createInterface({ input: process.stdin });
lines.on("line", async (line) => process.stdout.write(`${JSON.stringify(await answer(line))}\n`));
lines.on("close", () => process.exit(0));
