// bull-board and Arena on one loopback port, as their own documentation mounts them.
export async function serve(load, socketPath, names) {
  const connection = { path: socketPath };
  const app = load("express")();
  const queues = mountBoard(load, app, connection, names);
  mountArena(load, app, connection, names);
  const server = app.listen(0, "127.0.0.1");
  await new Promise((resolve) => server.once("listening", resolve));
  const close = async () => {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
    await Promise.all(queues.map((queue) => queue.close()));
  };
  return { port: server.address().port, close };
}

function mountBoard(load, app, connection, names) {
  const { createBullBoard } = load("@bull-board/api");
  const { BullMQAdapter } = load("@bull-board/api/bullMQAdapter");
  const { ExpressAdapter } = load("@bull-board/express");
  const { Queue } = load("bullmq");
  const queues = names.map((name) => new Queue(name, { connection }));
  const serverAdapter = new ExpressAdapter();
  serverAdapter.setBasePath("/board");
  createBullBoard({ queues: queues.map((queue) => new BullMQAdapter(queue)), serverAdapter });
  app.use("/board", serverAdapter.getRouter());
  return queues;
}

// Arena 4.10 reads `queue.client` of BullMQ 5, which BullMQ 6 has no more.
function mountArena(load, app, connection, names) {
  const arena = load("bull-arena");
  const { FlowProducer, Queue } = load("bullmq5");
  const place = { type: "bullmq", hostId: "ours", redis: connection };
  const config = {
    BullMQ: Queue,
    FlowBullMQ: FlowProducer,
    queues: names.map((name) => ({ ...place, name })),
    flows: [{ ...place, name: "flows" }],
  };
  // No CDN: its own copies of bootstrap and jQuery, so that a machine without a network will do.
  app.use("/arena", arena(config, { basePath: "/", disableListen: true, useCdn: false }));
}
