// bull-board's API on a plain Node http server: the smallest server adapter that it accepts.
import { createServer } from "node:http";

export async function openBoard(load, queues) {
  const { createBullBoard } = load("@bull-board/api");
  const { BullMQAdapter } = load("@bull-board/api/bullMQAdapter");
  const adapter = new PlainAdapter();
  createBullBoard({
    queues: queues.map((queue) => new BullMQAdapter(queue)),
    serverAdapter: adapter,
    options: { validateResponses: true },
  });
  return adapter.listen();
}

class PlainAdapter {
  setQueues(queues) {
    this.queues = queues;
    return this;
  }

  setApiRoutes(routes) {
    this.routes = routes.flatMap((route) =>
      [route.route].flat().map((path) => ({ ...route, pattern: patternOf(path) })),
    );
    return this;
  }

  setErrorHandler(handler) {
    this.errorHandler = handler;
    return this;
  }

  setUIConfig(config) {
    this.uiConfig = config;
    return this;
  }

  // The web page itself is not served here.
  setViewsPath() {
    return this;
  }

  setStaticPath() {
    return this;
  }

  setEntryRoute() {
    return this;
  }

  async listen() {
    const server = createServer((request, response) => this.serve(request, response));
    await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
    const close = () => {
      server.closeAllConnections();
      return new Promise((resolve) => server.close(resolve));
    };
    return { port: server.address().port, close };
  }

  async serve(request, response) {
    const result = await this.answer(request).catch((error) => this.errorHandler(error));
    response.writeHead(result.status ?? 200, { "content-type": "application/json" });
    response.end(JSON.stringify(result.body));
  }

  async answer(request) {
    const url = new URL(request.url, "http://127.0.0.1");
    for (const { method, pattern, handler } of this.routes) {
      const match = pattern.exec(url.pathname);
      if (![method].flat().includes(request.method.toLowerCase()) || !match) continue;
      return handler({
        queues: this.queues,
        uiConfig: this.uiConfig,
        query: Object.fromEntries(url.searchParams),
        params: { ...match.groups },
        body: {},
        headers: request.headers,
      });
    }
    return { status: 404, body: { error: `no route for ${request.method} ${url.pathname}` } };
  }
}

// "/api/queues/:queueName" → a pattern with a group "queueName".
function patternOf(path) {
  return new RegExp(`^${path.replace(/:(\w+)/g, "(?<$1>[^/]+)")}$`);
}
