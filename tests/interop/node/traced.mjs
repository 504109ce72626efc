// BullMQ with bullmq-otel, for one step of a trace: prints what it did as one line of JSON.
//
//   node traced.mjs <folder with node_modules> <Redis socket> <queue> produce|consume
import { createRequire } from "node:module";
import { join } from "node:path";

const [, , modulesFolder, socketPath, queueName, step] = process.argv;
const load = createRequire(join(modulesFolder, "package.json"));
const { context, propagation, trace } = load("@opentelemetry/api");
const { AsyncLocalStorageContextManager } = load("@opentelemetry/context-async-hooks");
const { W3CTraceContextPropagator } = load("@opentelemetry/core");
const sdk = load("@opentelemetry/sdk-trace-base");
const { Queue, Worker } = load("bullmq");
const { BullMQOtel } = load("bullmq-otel");

const exporter = new sdk.InMemorySpanExporter();
const spanProcessors = [new sdk.SimpleSpanProcessor(exporter)];
trace.setGlobalTracerProvider(new sdk.BasicTracerProvider({ spanProcessors }));
context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable());
propagation.setGlobalPropagator(new W3CTraceContextPropagator());

const connection = { path: socketPath, maxRetriesPerRequest: null };
const options = { connection, telemetry: new BullMQOtel("test") };

function plain(span) {
  const { traceId, spanId } = span.spanContext();
  const parent = span.parentSpanContext?.spanId ?? null;
  return { name: span.name, kind: span.kind, traceId, spanId, parent, attributes: span.attributes };
}

const steps = {
  // Adds a job inside of a span of the application.
  produce: async () => {
    const queue = new Queue(queueName, options);
    const job = await trace.getTracer("app").startActiveSpan("request", async (span) => {
      const added = await queue.add("echo", { from: "node" });
      span.end();
      return added;
    });
    await queue.close();
    return { id: job.id };
  },

  // Runs one job, and a span of the application inside of it.
  consume: async () => {
    let finished;
    const ended = new Promise((resolve) => (finished = resolve));
    const worker = new Worker(
      queueName,
      async () => trace.getTracer("app").startActiveSpan("in the job", (span) => span.end()),
      options,
    );
    worker.on("completed", (job) => finished(job.id));
    const id = await ended;
    await worker.close();
    return { id };
  },
};

const done = await steps[step]();
console.log(JSON.stringify({ ...done, spans: exporter.getFinishedSpans().map(plain) }));
process.exit(0);
