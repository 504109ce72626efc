// What a job does, chosen by its name; processor.py beside the tests does the same in Python.
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

const KINDS = {
  echo: (job) => job.data,
  sleep: async (job) => (await sleep(job.data.ms), "slept"),
  fail: failSomeTimes,
  "give-up": giveUp,
  report,
  nothing: () => null,
  children: async (job) => Object.values(await job.getChildrenValues()).sort(),
};

export async function runByName(job, runs) {
  runs.push(job.id);
  return (KINDS[job.name] ?? KINDS.echo)(job);
}
