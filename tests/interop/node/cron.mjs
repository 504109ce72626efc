// Node's cron-parser, as BullMQ asks it for the next time of a scheduler. Reads one JSON list of
// [pattern, tz, after ms, hash seed] on stdin, writes the list of times (ms), or error texts.
//
//   node cron.mjs <folder with node_modules>
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

const load = createRequire(join(process.argv[2], "package.json"));
// The newer one: bullmq 6.7.0 still pins 5.10.3, which skips a midnight that clocks jump over.
const { CronExpressionParser } = load("cron-parser");

function nextTime([pattern, tz, after, hashSeed]) {
  try {
    const options = { tz, hashSeed, currentDate: new Date(after) };
    return CronExpressionParser.parse(pattern, options).next().getTime();
  } catch (error) {
    return error.message;
  }
}

process.stdout.write(JSON.stringify(JSON.parse(readFileSync(0, "utf8")).map(nextTime)));
