// A running job: its stack, what it uses, what is left of its time, what it prints, as
// /live?topic=job:<queue>:<id> tells. After its end: the last stack, marked as old.
"use strict";

(() => {
  const box = document.querySelector("#running");
  if (!box) return;
  const POINTS = 180;
  const history = [];
  const topic = `job:${box.dataset.queue}:${box.dataset.job}`;

  function make(tag, attributes = {}, ...inner) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...inner);
    return element;
  }

  function panel(title, ...inner) {
    const note = make("span", { class: "faint small" });
    const section = make("section", { class: "panel" }, make("header", {}, make("h2", {}, title), note), ...inner);
    return { section, note };
  }

  function drawing(label) {
    const space = "http://www.w3.org/2000/svg";
    const svg = document.createElementNS(space, "svg");
    const line = document.createElementNS(space, "polyline");
    svg.setAttribute("class", "spark");
    svg.setAttribute("viewBox", "0 0 120 26");
    svg.setAttribute("preserveAspectRatio", "none");
    svg.setAttribute("role", "img");
    svg.setAttribute("aria-label", label);
    line.setAttribute("class", "path");
    svg.append(line);
    return { svg, line };
  }

  const cpu = drawing("CPU of the last three minutes");
  const rss = drawing("Memory of the last three minutes");
  const facts = make("dl", { class: "inline-facts" });
  const used = panel("Running", make("div", { class: "body" }, facts, make("div", { class: "sparks" }, ...[["CPU", cpu.svg], ["Memory", rss.svg]].map(([name, svg]) => make("div", {}, make("span", { class: "small faint" }, name), svg)))));
  const code = make("pre", { class: "code", tabindex: "0", "aria-label": "Stack" });
  const stack = panel("Stack", code);
  const lines = make("ol", { class: "log", tabindex: "0", "aria-label": "What it prints" });
  const prints = panel("Prints", lines);
  const unknown = make("p", { class: "body muted" });
  const none = panel("Not known", unknown);
  const parts = [used, stack, prints, none];
  for (const part of parts) part.section.hidden = true;
  box.classList.add("stack");
  box.append(...parts.map((part) => part.section));

  const MB = 1 << 20;
  const seconds = (value) => {
    if (value < 60) return `${value.toFixed(1)} s`;
    if (value < 3600) return `${Math.floor(value / 60)} min ${Math.floor(value % 60)} s`;
    return `${Math.floor(value / 3600)} h ${Math.floor((value % 3600) / 60)} min`;
  };

  function show(pairs) {
    facts.replaceChildren(
      ...pairs
        .filter(([, value]) => value)
        .map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, value))),
    );
  }

  function draw(line, values, top) {
    const most = Math.max(top || 0, ...values, 1e-9);
    const step = 120 / (POINTS - 1);
    const start = 120 - (values.length - 1) * step;
    line.setAttribute(
      "points",
      values.map((value, at) => `${(start + at * step).toFixed(1)},${(25 - (value / most) * 24).toFixed(1)}`).join(" "),
    );
  }

  // CPU is told as seconds used: its part of each second is what lies between two.
  function remember(job) {
    const before = history.at(-1);
    const at = Date.now() / 1000;
    if (before && before.child !== job.child) history.length = 0;
    const part = before && at > before.at ? Math.max(0, (job.cpu - before.cpu) / (at - before.at)) : null;
    history.push({ at, child: job.child, cpu: job.cpu, rss: job.rss, part });
    if (history.length > POINTS) history.shift();
    return part;
  }

  function running(job) {
    const part = job.cpu === null ? null : remember(job);
    const memory = job.memory ? ` of ${(job.memory / MB).toFixed(0)} MB` : "";
    show([
      ["Worker", `${job.worker}, child ${job.child}`],
      ["Attempt", String(job.attempt)],
      ["Runs for", job.seconds === null ? job.state : seconds(job.seconds)],
      ["Deadline", job.left === null ? "none" : job.left > 0 ? `in ${seconds(job.left)}` : "is over: it is being ended"],
      ["CPU", part === null ? "" : `${(part * 100).toFixed(0)} %`],
      ["Memory", job.rss === null ? "" : `${(job.rss / MB).toFixed(1)} MB${memory}`],
      ["Beside it", job.beside ? `${job.beside} jobs of the same event loop` : ""],
    ]);
    used.section.classList.toggle("bad-edge", job.left !== null && job.left < 5);
    draw(cpu.line, history.map((each) => each.part ?? 0), 1);
    draw(rss.line, history.map((each) => each.rss ?? 0), job.memory);
    code.textContent = job.stack || job.note || job.state;
    stack.note.textContent = [job.stack && "newest call first", job.source && `by ${job.source}`, job.stack && job.note].filter(Boolean).join(", ");
    tail(job.lines);
  }

  function tail(told) {
    const atEnd = lines.scrollTop + lines.clientHeight >= lines.scrollHeight - 8;
    lines.replaceChildren(
      ...told.map(([stream, text]) =>
        make("li", {}, make("span", { class: "at" }, stream === "stdout" ? "" : stream.slice(0, 6)), make("span", {}, text)),
      ),
    );
    if (atEnd) lines.scrollTop = lines.scrollHeight;
  }

  function take(told) {
    const { job } = told;
    if (getSelection().isCollapsed || !box.contains(getSelection().anchorNode)) {
      if (job) running(job);
      else if (told.last_stack) {
        code.textContent = told.last_stack.text;
        stack.note.textContent = `old: ${told.last_stack.why}`;
      }
    }
    used.section.hidden = !job;
    prints.section.hidden = !job?.lines.length;
    stack.section.hidden = !(job || told.last_stack);
    none.section.hidden = !told.unknown;
    unknown.textContent = told.unknown;
    if (told.state && !told.is_running && told.state !== "waiting") {
      source.close();
      sandboxq.refresh();
    }
  }

  let source = null;
  function open() {
    source = new EventSource(`${sandboxq.base}/live?topic=${encodeURIComponent(topic)}`);
    source.addEventListener("state", (event) => take(JSON.parse(event.data)));
    source.addEventListener("error", () => {
      if (source.readyState === EventSource.CLOSED) setTimeout(poll, 2000);
    });
  }

  // Where there are no streams.
  async function poll() {
    const path = [box.dataset.queue, "jobs", box.dataset.job].map(sandboxq.part).join("/");
    try {
      const answer = await fetch(`${sandboxq.base}/api/v1/queues/${path}/live`);
      if (answer.ok) take(await answer.json());
    } catch {
      used.note.textContent = "the page's server does not answer";
    }
    if (!document.hidden && box.isConnected) setTimeout(poll, 2000);
  }

  document.addEventListener("visibilitychange", () => {
    if (document.hidden) source?.close();
    else if (box.isConnected) open();
  });
  open();
})();
