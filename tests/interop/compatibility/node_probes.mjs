// The probes of compatibility for BullMQ in Node: prints {name: "" or what went wrong}.
//
//   node node_probes.mjs <folder with node_modules> <bullmq package> <Redis socket>
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { mkdtempSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

const [, , modulesFolder, bullmqPackage, socketPath] = process.argv;
const load = createRequire(join(modulesFolder, "package.json"));
const bullmq = load(bullmqPackage);
const Redis = load("ioredis");
const connection = { path: socketPath, maxRetriesPerRequest: null };
const redis = new Redis(connection);
const FAR_MS = 3_600_000;

class Missing extends Error {}

// A missing method is an answer, not an accident.
function strict(object) {
  return new Proxy(object, {
    get(target, name) {
      const value = target[name];
      if (value === undefined && typeof name === "string" && name !== "then") {
        throw new Missing("no such call");
      }
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
}

async function until(condition) {
  for (const end = Date.now() + 5000; Date.now() < end; await sleep(10)) {
    if (await condition()) return;
  }
  throw new Error("did not come within 5 s");
}

async function run(q, process, job, options = {}) {
  const worker = new bullmq.Worker(q.name, process, { connection, ...options });
  worker.on("error", () => {});
  await until(async () => ["completed", "failed"].includes(await job.getState()));
  await worker.close();
  return q.getJob(job.id);
}

async function withFlow(q, use, childOptions = {}) {
  const producer = new bullmq.FlowProducer({ connection });
  const child = { name: "child", queueName: q.name, data: 2, opts: childOptions };
  const tree = { name: "parent", queueName: q.name, data: 1, children: [child] };
  try {
    return await use(await producer.add(tree), producer);
  } finally {
    await producer.close();
  }
}

async function heard(q, act, event) {
  const events = new bullmq.QueueEvents(q.name, { connection, lastEventId: "0-0" });
  events.on("error", () => {});
  let seen = false;
  events.on(event, () => (seen = true));
  await events.waitUntilReady();
  await act();
  await until(() => seen);
  await events.close();
}

async function refused(add) {
  const outcome = await add().then(
    () => "taken",
    () => "",
  );
  if (outcome) throw new Error(outcome);
}

const boom = () => Promise.reject(new Error("boom"));
const late = (q) => q.add("a", 1, { delay: FAR_MS });

const probes = {
  add: async (q) => assert.equal((await q.getJob((await q.add("a", 1)).id)).data, 1),
  add_bulk: async (q) => {
    await q.addBulk([{ name: "a", data: 1 }, { name: "b", data: 2 }]);
    assert.equal(await q.getWaitingCount(), 2);
  },
  pause: async (q) => {
    await q.pause();
    assert(await q.isPaused());
    await q.resume();
    assert(!(await q.isPaused()));
  },
  is_maxed: async (q) => {
    await q.setGlobalConcurrency(1);
    assert.equal(await q.isMaxed(), false);
  },
  version: async (q) => {
    await q.waitUntilReady();
    assert.match(await q.getVersion(), /bullmq/);
  },
  global_concurrency: async (q) => {
    await q.setGlobalConcurrency(3);
    assert.equal(await q.getGlobalConcurrency(), 3);
    await q.removeGlobalConcurrency();
    assert.equal(await q.getGlobalConcurrency(), null);
  },
  global_rate_limit: async (q) => {
    await q.setGlobalRateLimit(3, 500);
    assert.deepEqual(await q.getGlobalRateLimit(), { max: 3, duration: 500 });
    await q.removeGlobalRateLimit();
    assert.equal(await q.getGlobalRateLimit(), null);
  },
  rate_limit: async (q) => {
    await q.rateLimit(5000);
    assert((await q.getRateLimitTtl()) > 0);
    await q.removeRateLimitKey();
    assert((await q.getRateLimitTtl()) <= 0);
  },
  drain: async (q) => {
    await q.add("a", 1);
    await q.drain();
    assert.equal(await q.getWaitingCount(), 0);
  },
  clean: async (q) => {
    await late(q);
    await q.clean(0, 10, "delayed");
    assert.equal(await q.getDelayedCount(), 0);
  },
  obliterate: async (q) => {
    await q.add("a", 1);
    await q.obliterate();
    assert.equal((await redis.keys(`bull:${q.name}:*`)).length, 0);
  },
  retry_jobs: async (q) => {
    await run(q, boom, await q.add("a", 1));
    await q.retryJobs();
    assert.equal(await q.getWaitingCount(), 1);
  },
  promote_jobs: async (q) => {
    await late(q);
    await q.promoteJobs();
    assert.equal(await q.getWaitingCount(), 1);
  },
  trim_events: async (q) => {
    await q.addBulk([{ name: "a", data: 1 }, { name: "a", data: 1 }]);
    await q.trimEvents(0);
    assert.equal(await redis.xlen(`bull:${q.name}:events`), 0);
  },
  remove_orphaned_jobs: async (q) => {
    const job = await q.add("a", 1);
    await redis.lrem(`bull:${q.name}:wait`, 0, job.id);
    await q.removeOrphanedJobs();
    assert.equal(await q.getJob(job.id), undefined);
  },
  deduplication: async (q) => {
    const job = await q.add("a", 1, { deduplication: { id: "x" } });
    await q.add("a", 2, { deduplication: { id: "x" } });
    assert.equal(await q.getWaitingCount(), 1);
    assert.equal(await q.getDeduplicationJobId("x"), job.id);
  },
  remove_deduplication: async (q) => {
    await q.add("a", 1, { deduplication: { id: "x" } });
    assert.equal(await q.removeDeduplicationKey("x"), 1);
  },
  jobs_by_state: async (q) => {
    const job = await late(q);
    assert.equal((await q.getDelayed())[0].id, job.id);
  },
  counts: async (q) => {
    await late(q);
    assert.equal((await q.getJobCounts("delayed")).delayed, 1);
  },
  count: async (q) => {
    await late(q);
    assert.equal(await q.count(), 1);
  },
  counts_per_priority: async (q) => {
    await q.add("a", 1, { priority: 3 });
    assert.equal((await q.getCountsPerPriority([3]))[3], 1);
  },
  delayed_count: async (q) => {
    await q.add("a", 1, { delay: 5000 });
    await late(q);
    assert.equal(await q.getDelayedCount(Date.now() + 60_000), 1, "counts them all");
  },
  workers_of_node: async (q) => {
    const worker = new bullmq.Worker(q.name, async () => {}, { connection });
    await worker.waitUntilReady();
    await until(async () => (await q.getWorkers()).length === 1);
    await worker.close();
  },
  metrics: async (q) => {
    await run(q, async () => 1, await q.add("a", 1), { metrics: { maxDataPoints: 5 } });
    assert.equal((await q.getMetrics("completed")).meta.count, 1);
  },
  prometheus: async (q) => assert.match(await q.exportPrometheusMetrics(), /bullmq_job_count/),
  sync: async (q) => {
    const adding = q.add("a", 1);
    await adding;
    if (adding instanceof Promise) throw new Missing("JavaScript has none");
  },

  delay: async (q) => assert.equal(await (await late(q)).getState(), "delayed"),
  priority: async (q) => {
    await q.add("a", 1, { priority: 5 });
    const urgent = await q.add("a", 2, { priority: 1 });
    assert.equal((await q.getPrioritized())[0].id, urgent.id);
  },
  lifo: async (q) => {
    await q.add("a", 1);
    const last = await q.add("a", 2, { lifo: true });
    assert.equal((await q.getWaiting())[0].id, last.id);
  },
  size_limit: async (q) => refused(() => q.add("a", "x".repeat(50), { sizeLimit: 10 })),
  bad_priority: async (q) => refused(() => q.add("a", 1, { priority: -1 })),
  bad_id: async (q) => refused(() => q.add("a", 1, { jobId: "12" })),
  update: async (q) => {
    const job = await q.add("a", 1);
    await job.updateData({ b: 2 });
    await job.updateProgress(40);
    const { data, progress } = await q.getJob(job.id);
    assert.deepEqual([data, progress], [{ b: 2 }, 40]);
  },
  logs: async (q) => {
    const job = await q.add("a", 1);
    await job.log("row");
    assert.deepEqual((await q.getJobLogs(job.id)).logs, ["row"]);
  },
  clear_logs: async (q) => {
    const job = await q.add("a", 1);
    await job.log("row");
    await strict(job).clearLogs();
    assert.deepEqual((await q.getJobLogs(job.id)).logs, []);
  },
  promote: async (q) => {
    const job = await late(q);
    await job.promote();
    assert.equal(await job.getState(), "waiting");
  },
  change_delay: async (q) => {
    const job = await late(q);
    await strict(job).changeDelay(FAR_MS * 2);
    assert.equal((await q.getJob(job.id)).delay, FAR_MS * 2);
  },
  change_priority: async (q) => {
    const job = await q.add("a", 1, { priority: 3 });
    await job.changePriority({ priority: 7 });
    assert.equal((await q.getJob(job.id)).priority, 7);
  },
  retry: async (q) => {
    const job = await run(q, boom, await q.add("a", 1));
    await job.retry();
    assert.equal(await job.getState(), "waiting");
  },
  remove: async (q) => {
    const job = await q.add("a", 1);
    await job.remove();
    assert.equal(await q.getJob(job.id), undefined);
  },
  result: async (q) => {
    const job = await q.add("a", 1);
    const events = new bullmq.QueueEvents(q.name, { connection });
    await events.waitUntilReady();
    const result = strict(job).waitUntilFinished(events, 5000);
    await run(q, async () => "done", job);
    assert.equal(await result, "done");
    await events.close();
  },

  run: async (q) => {
    const job = await run(q, async (each) => each.data * 2, await q.add("a", 21));
    assert.equal(job.returnvalue, 42);
  },
  failed: async (q) => {
    const job = await run(q, boom, await q.add("a", 1));
    assert.equal(job.failedReason, "boom");
    assert.match(job.stacktrace[0], /boom/);
  },
  attempts: async (q) => {
    const options = { attempts: 3, backoff: { type: "exponential", delay: 20 } };
    const job = await run(q, boom, await q.add("a", 1, options));
    assert.equal(job.attemptsMade, 3);
  },
  jitter: async (q) => {
    const backoff = { type: "fixed", delay: FAR_MS, jitter: 0.9 };
    const job = await q.add("a", 1, { attempts: 2, backoff });
    const worker = new bullmq.Worker(q.name, boom, { connection });
    await until(async () => (await job.getState()) === "delayed");
    await worker.close();
    assert((await q.getJob(job.id)).delay < FAR_MS);
  },
  unrecoverable: async (q) => {
    const give_up = () => Promise.reject(new bullmq.UnrecoverableError("never"));
    assert.equal((await run(q, give_up, await q.add("a", 1, { attempts: 5 }))).attemptsMade, 1);
  },
  delayed_error: async (q) => {
    const later = async (job, token) => {
      if (job.attemptsStarted > 1) return "later";
      await job.moveToDelayed(Date.now() + 20, token);
      throw new bullmq.DelayedError();
    };
    assert.equal((await run(q, later, await q.add("a", 1))).returnvalue, "later");
  },
  waiting_error: async (q) => {
    const again = async (job, token) => {
      if (job.attemptsStarted > 1) return "again";
      await job.moveToWait(token);
      throw new bullmq.WaitingError();
    };
    assert.equal((await run(q, again, await q.add("a", 1))).returnvalue, "again");
  },
  rate_error: async (q) => {
    const limited = async (job) => {
      if (job.attemptsStarted > 1) return "again";
      await q.rateLimit(50);
      throw new bullmq.RateLimitError();
    };
    const job = await run(q, limited, await q.add("a", 1), { limiter: { max: 9, duration: 50 } });
    assert.equal(job.returnvalue, "again");
  },
  limiter: async (q) => {
    const [, , last] = await q.addBulk(Array(3).fill({ name: "a", data: 1 }));
    const started = Date.now();
    await run(q, async () => 1, last, { limiter: { max: 1, duration: 300 } });
    assert(Date.now() - started > 500);
  },
  crash: async (q) => {
    const file = join(mkdtempSync(join(tmpdir(), "probe-")), "dies.cjs");
    writeFileSync(file, "module.exports = async () => process.kill(process.pid, 'SIGKILL');");
    const job = await run(q, file, await q.add("a", 1));
    assert(job.failedReason);
  },
  worker_name: async (q) => {
    const job = await run(q, async () => 1, await q.add("a", 1), { name: "me" });
    assert.equal(job.processedBy, "me");
  },
  max_started: async (q) => {
    const again = async (job) => {
      await job.moveToDelayed(Date.now() + 1, job.token);
      throw new bullmq.DelayedError();
    };
    const job = await run(q, again, await q.add("a", 1), { maxStartedAttempts: 2 });
    assert.match(job.failedReason, /started more than/);
  },
  worker_pause: async (q) => {
    let runs = 0;
    const worker = new bullmq.Worker(q.name, async () => (runs += 1), { connection });
    await worker.waitUntilReady();
    await worker.pause();
    await q.add("a", 1);
    await sleep(300);
    assert.equal(runs, 0);
    worker.resume();
    await until(() => runs === 1);
    await worker.close();
  },
  by_hand: async (q) => {
    const { id } = await q.add("a", 1);
    const worker = new bullmq.Worker(q.name, null, { connection });
    const job = await worker.getNextJob("token");
    await job.moveToCompleted("done", "token", false);
    await worker.close();
    assert.equal((await q.getJob(id)).returnvalue, "done");
  },
  cancel_anywhere: async (q) => void strict(q).cancel,
  hard_timeout: async (q) => {
    const job = await q.add("a", 1, { timeout: 100 });
    const worker = new bullmq.Worker(q.name, () => sleep(1500), { connection });
    await sleep(1000);
    const state = await job.getState();
    await worker.close();
    if (state !== "failed") throw new Missing("no such option; a pattern for the processor only");
  },

  flow: (q) =>
    withFlow(q, async ({ job }) => assert.equal(await job.getState(), "waiting-children")),
  ignored: (q) =>
    withFlow(
      q,
      async ({ job }) => {
        const fail = async (each) => (each.name === "child" ? boom() : "ran");
        assert.equal((await run(q, fail, job)).returnvalue, "ran");
      },
      { ignoreDependencyOnFailure: true },
    ),
  fail_parent: (q) =>
    withFlow(
      q,
      async ({ job }) => {
        await run(q, boom, job);
        assert.equal(await job.getState(), "failed");
      },
      { failParentOnFailure: true },
    ),
  get_flow: (q) =>
    withFlow(q, async ({ job }, producer) => {
      const found = await producer.getFlow({ queueName: q.name, id: job.id });
      assert.equal(found.children[0].job.data, 2);
    }),
  children_values: (q) =>
    withFlow(q, async ({ job }) => {
      await run(q, async () => "v", job);
      assert.deepEqual(Object.values(await job.getChildrenValues()), ["v"]);
    }),
  dependencies: (q) =>
    withFlow(q, async ({ job }) => {
      assert.equal((await strict(job).getDependenciesCount()).unprocessed, 1);
      assert.equal((await job.getDependencies()).unprocessed.length, 1);
    }),
  remove_child: (q) =>
    withFlow(q, async ({ job, children }) => {
      assert(await strict(children[0].job).removeChildDependency());
      assert.equal(await job.getState(), "waiting");
    }),
  remove_unprocessed: (q) =>
    withFlow(
      q,
      async ({ job, children }) => {
        await strict(job).removeUnprocessedChildren();
        assert.equal(await q.getJob(children[0].job.id), undefined);
      },
      { delay: FAR_MS },
    ),

  every: async (q) => {
    const job = await q.upsertJobScheduler("s", { every: FAR_MS });
    assert.equal(job.repeatJobKey, "s");
  },
  cron: async (q) => {
    await q.upsertJobScheduler("s", { pattern: "30 0 3 * * *", tz: "Asia/Kolkata" });
    const next = new Date((await q.getJobScheduler("s")).next);
    assert.equal(next.toISOString().slice(11, 19), "21:30:30");
  },
  scheduler_calls: async (q) => {
    await q.upsertJobScheduler("s", { every: FAR_MS });
    assert.equal((await q.getJobScheduler("s")).every, FAR_MS);
    assert.equal((await q.getJobSchedulers()).length, 1);
    assert.equal(await q.getJobSchedulersCount(), 1);
    assert(await q.removeJobScheduler("s"));
  },

  events: (q) => heard(q, () => q.add("a", 1), "waiting"),
  bad_event: async (q) => {
    const key = `bull:${q.name}:events`;
    await redis.xadd(key, "*", "event", "completed", "jobId", "1", "returnvalue", "{no json");
    await heard(q, () => q.add("a", 1), "waiting");
  },
  custom_events: async (q) => {
    const producer = new bullmq.QueueEventsProducer(q.name, { connection });
    await heard(q, () => producer.publishEvent({ eventName: "mine", a: "1" }), "mine");
    await producer.close();
  },
};

async function found(probe) {
  const q = new bullmq.Queue(`q-${randomUUID().slice(0, 8)}`, { connection });
  try {
    const late = sleep(12_000, undefined, { ref: false });
    const outcome = await Promise.race([Promise.resolve(probe(strict(q))).then(() => "done"), late]);
    return outcome === "done" ? "" : "did not end within 12 s";
  } catch (error) {
    return error.message.replace(/\s+/g, " ").slice(0, 90);
  } finally {
    await q.close();
  }
}

process.on("unhandledRejection", () => {});
const answers = {};
for (const [name, probe] of Object.entries(probes)) answers[name] = await found(probe);
process.stdout.write(`${JSON.stringify(answers)}\n`);
process.exit(0);
