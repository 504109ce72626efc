// What a job does, chosen by its name; processor.py beside the tests does the same in Python.
import { existsSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";

function failSomeTimes(job) {
  const message = job.data.message.replace("{n}", job.attemptsMade);
  if (job.attemptsMade < job.data.times) throw new Error(message);
  return "recovered";
}

function giveUp(job) {
  const error = new Error(job.data.message);
  error.name = "UnrecoverableError";
  throw error;
}

async function report(job) {
  await job.updateProgress(25);
  await job.updateProgress({ step: 2, of: "größer" });
  await job.log("first row");
  await job.log("second row: größer 🙂");
  await job.updateData({ ...job.data, seen: true });
  return "reported";
}

// What a job knows of itself, at its second attempt of the first one's failure too.
function tell(job) {
  if (job.opts.attempts > 1 && job.attemptsMade === 0) throw new Error("zu groß");
  return {
    prefix: job.prefix,
    queue: job.queueQualifiedName,
    hasBegun: job.processedOn >= job.timestamp,
    deduplication: job.deduplicationId ?? null,
    scheduler: job.repeatJobKey ?? null,
    failure: job.failedReason ?? null,
  };
}

function named(name) {
  return Object.assign(new Error(), { name });
}

// Each moves its job at the first run only.
async function postpone(job) {
  if (job.attemptsStarted > 1) return job.attemptsStarted;
  await job.moveToDelayed(Date.now() + job.data.ms, job.token);
  throw named("DelayedError");
}

async function putBack(job) {
  if (job.attemptsStarted > 1) return job.attemptsStarted;
  await job.moveToWait(job.token);
  throw named("WaitingError");
}

async function limitRate(job, queue) {
  if (job.attemptsStarted > 1) return job.attemptsStarted;
  await queue.rateLimit(job.data.ms);
  throw new Error("bullmq:rateLimitExceeded");
}

async function awaitChildren(job) {
  if (await job.moveToWaitingChildren(job.token)) throw named("WaitingChildrenError");
  return job.attemptsStarted;
}

// Runs for as long as the test wants.
async function waitForFile(job) {
  await job.log("waits");
  while (!existsSync(job.data.path)) await sleep(20);
  return "there";
}

const KINDS = {
  "wait-for-file": waitForFile,
  postpone,
  "put-back": putBack,
  "limit-rate": limitRate,
  "await-children": awaitChildren,
  echo: (job) => job.data,
  sleep: async (job) => (await sleep(job.data.ms), "slept"),
  fail: failSomeTimes,
  "give-up": giveUp,
  report,
  tell,
  nothing: () => null,
  family,
  children: async (job) => Object.values(await job.getChildrenValues()).sort(),
};

async function family(job) {
  const [values, ignored] = [await job.getChildrenValues(), await job.getIgnoredChildrenFailures()];
  const counts = await job.getDependenciesCount();
  return { values: Object.values(values).sort(), ignored: Object.values(ignored).sort(), counts };
}

export async function runByName(job, runs, queue) {
  runs.push(job.id);
  return (KINDS[job.name] ?? KINDS.echo)(job, queue);
}
