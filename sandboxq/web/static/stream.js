// The task stream: bars of jobs on a canvas, a row for each child, as /live?topic=stream sends them.
// Bars lie in one array a row, ordered by their end; only what is in sight is looked at and drawn.
"use strict";

(() => {
  const canvas = document.querySelector("#stream");
  if (!canvas) return;
  const pen = canvas.getContext("2d");
  const one = (selector) => document.querySelector(selector);

  const HOUR = 3600_000;
  const [ROW, GAP, TOP, LEFT, EDGE] = [18, 4, 24, 170, 14];
  const MOST_LANES = 6;
  const MOST_TEXT_ROWS = 100;
  const BAR = { row: 0, begin: 1, end: 2, name: 3, job: 4, state: 5, count: 6, busy: 7 };

  let rows = []; // as the server numbers them
  let bars = []; // by row: arrays of bars, ordered by end
  let running = [];
  let marks = [];
  let order = []; // rows from top to bottom: { title } or { row }
  let offset = 0; // the server's clock minus ours, ms
  let span = 60_000; // ms in sight
  let end = 0; // where the sight ends; 0: now
  let scroll = 0; // px from the top
  let paused = false;
  let frozen = 0;
  let pointer = null;
  let under = null;
  let dirty = true;
  let colours = {};

  const clock = () => (paused ? frozen : Date.now() + offset);
  const right = () => end || clock();

  // ── what comes ────────────────────────────────────────────────────────────────────────────────

  function take(told, isWhole) {
    if (isWhole) {
      bars = [];
      marks = [];
    }
    offset = told.now - Date.now();
    rows = told.rows;
    for (const bar of told.bars) insert(bar);
    marks.push(...told.marks);
    running = told.running;
    forget(told.now - HOUR);
    arrange();
    fit();
    notes(told);
    dirty = true;
  }

  function insert(bar) {
    const list = (bars[bar[BAR.row]] ??= []);
    let at = list.length;
    while (at > 0 && list[at - 1][BAR.end] > bar[BAR.end]) at -= 1;
    list.splice(at, 0, bar);
  }

  function forget(before) {
    for (const list of bars) {
      if (!list) continue;
      let gone = 0;
      while (gone < list.length && list[gone][BAR.end] < before) gone += 1;
      if (gone) list.splice(0, gone);
    }
    marks = marks.filter((mark) => mark[1] > before);
  }

  // Workers in order of their queues; of each a title, then its children. Places of which nobody
  // knows the child are left out when what they had has gone out of sight.
  function arrange() {
    const groups = new Map();
    for (const row of rows) {
      if (!row.pid && !(bars[row.id]?.at(-1)?.[BAR.end] > right() - span)) continue;
      const key = `${row.queue}\n${row.worker}`;
      if (!groups.has(key)) groups.set(key, []);
      groups.get(key).push(row);
    }
    order = [];
    for (const key of [...groups.keys()].sort()) {
      const group = groups.get(key).sort((a, b) => a.lane - b.lane);
      order.push({ title: `${group[0].queue} · ${group[0].worker}` });
      for (const row of group) order.push({ row: row.id });
    }
  }

  function state(word) {
    const shown = one("#link-state");
    shown.dataset.state = word;
    shown.textContent = { live: "Live", away: "Offline", held: "Paused" }[word];
  }

  // As high as its rows, within reason.
  function fit() {
    const wanted = Math.min(Math.max(TOP + 24 + order.length * (ROW + GAP), 220), innerHeight * 0.68);
    if (Math.abs(wanted - canvas.clientHeight) > 1) canvas.style.height = `${wanted}px`;
  }

  function notes(told) {
    state(paused ? "held" : told.is_live ? "live" : "away");
    const count = told.workers === 1 ? "1 worker" : `${told.workers} workers`;
    let text = told.note || (told.workers ? `Live from ${count}` : "No worker of sandboxq answers: start one with python -m sandboxq run");
    if (told.left_out) text += `; ${told.left_out} short jobs are not drawn`;
    one("#stream-note").textContent = text;
    if (one("#stream-text").open) table();
    legend();
  }

  // ── colours ───────────────────────────────────────────────────────────────────────────────────

  function theme() {
    colours = {};
    for (const name of ["text", "muted", "faint", "line", "surface", "sunken", "bad", "warn", "accent"]) {
      colours[name] = sandboxq.colour(`--${name}`);
    }
    colours.dark = sandboxq.theme() === "dark";
    names.clear();
    dirty = true;
  }

  const names = new Map();
  // The colour of a name: always the same, told apart by hue.
  function colour(name) {
    let found = names.get(name);
    if (!found) {
      let hash = 2166136261;
      for (let at = 0; at < name.length; at += 1) hash = Math.imul(hash ^ name.charCodeAt(at), 16777619);
      const hue = ((hash >>> 0) * 137.508) % 360;
      found = `hsl(${hue.toFixed(0)} ${colours.dark ? "55% 62%" : "52% 52%"})`;
      if (names.size > 500) names.clear();
      names.set(name, found);
    }
    return found;
  }

  function legend() {
    const box = one("#stream-legend");
    const seen = [...new Set(running.map((each) => each[2]).concat([...names.keys()]))].slice(0, 8);
    if (box.dataset.names === seen.join("\n")) return;
    box.dataset.names = seen.join("\n");
    box.replaceChildren(
      ...seen.map((name) => {
        const item = document.createElement("span");
        const swatch = document.createElement("span");
        swatch.className = "swatch";
        swatch.style.borderTopColor = colour(name);
        item.append(swatch, name || "(no name)");
        return item;
      }),
    );
  }

  // ── drawing ───────────────────────────────────────────────────────────────────────────────────

  let [width, height] = [0, 0];
  function size() {
    const ratio = window.devicePixelRatio || 1;
    [width, height] = [canvas.clientWidth, canvas.clientHeight];
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    dirty = true;
  }

  const left = () => (width < 560 ? 74 : LEFT);
  const x = (at) => left() + ((at - (right() - span)) / span) * (width - left() - EDGE);
  const timeAt = (px) => right() - span + ((px - left()) / (width - left() - EDGE)) * span;

  // The first bar of a row that ends in sight: a binary search.
  function firstAfter(list, at) {
    let [low, high] = [0, list.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (list[middle][BAR.end] < at) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  let boxes = []; // what is drawn, to be found under the pointer

  function draw() {
    pen.clearRect(0, 0, width, height);
    boxes = [];
    const [to, from] = [right(), right() - span];
    grid(from, to);
    pen.save();
    pen.beginPath();
    pen.rect(0, TOP, width, height - TOP);
    pen.clip();
    let y = TOP + 6 - scroll;
    for (const line of order) {
      if (y > -ROW && y < height) {
        if (line.title) title(line.title, y);
        else row(line.row, y, from, to);
      }
      y += ROW + GAP;
    }
    whole(from, to);
    pen.restore();
    one("#stream-span").textContent = spanText(span);
  }

  function grid(from, to) {
    const step = [100, 500, 1000, 5000, 15000, 60000, 300000, 900000].find((it) => span / it <= width / 90) || 900000;
    pen.font = "11px system-ui, sans-serif";
    pen.textBaseline = "middle";
    pen.textAlign = "center";
    for (let at = Math.ceil(from / step) * step; at <= to; at += step) {
      const px = Math.round(x(at)) + 0.5;
      pen.fillStyle = colours.line;
      pen.fillRect(px, TOP, 1, height);
      pen.fillStyle = colours.faint;
      if (px > left() + 24 && px < width - 28) pen.fillText(clockText(at, step), px, 12);
    }
  }

  function title(text, y) {
    pen.fillStyle = colours.muted;
    pen.textAlign = "left";
    pen.font = "600 12px system-ui, sans-serif";
    pen.fillText(text, 12, y + ROW / 2, width - 24);
  }

  function label(id, y) {
    const row = rows[id];
    pen.fillStyle = colours.faint;
    pen.textAlign = "right";
    pen.font = "11px ui-monospace, monospace";
    pen.fillText(row.pid ? `child ${row.pid}` : "before", left() - 10, y + ROW / 2, left() - 16);
  }

  function row(id, y, from, to) {
    label(id, y);
    pen.fillStyle = colours.sunken;
    pen.fillRect(left(), y, width - left() - EDGE, ROW);
    const list = bars[id] || [];
    const now = clock();
    const seen = [];
    for (let at = firstAfter(list, from); at < list.length; at += 1) {
      if (list[at][BAR.begin] <= to) seen.push(list[at]);
    }
    for (const [of, begin, name, job] of running) {
      if (of === id && begin <= to) seen.push([of, begin, now, name, job, "running", 1, now - begin]);
    }
    lanes(seen, y);
    for (const mark of marks) if (mark[0] === id) sign(mark, y, from, to);
  }

  // Jobs of an event loop overlap: they share the height of the row.
  function lanes(seen, y) {
    const overlap = seen.some((bar, at) => at && bar[BAR.begin] < seen[at - 1][BAR.end] - 2);
    if (!overlap) {
      let last = -1;
      for (const bar of seen) last = box(bar, y, ROW, last);
      return;
    }
    seen.sort((a, b) => a[BAR.begin] - b[BAR.begin]);
    const ends = [];
    const placed = seen.map((bar) => {
      let lane = ends.findIndex((until) => until <= bar[BAR.begin]);
      if (lane < 0) lane = Math.min(ends.length, MOST_LANES - 1);
      ends[lane] = bar[BAR.end];
      return lane;
    });
    const tall = ROW / Math.min(ends.length || 1, MOST_LANES);
    seen.forEach((bar, at) => box(bar, y + placed[at] * tall, tall, -1));
  }

  // Draw a bar; what would lie in a pixel that is drawn already is left out. Return where it ends.
  function box(bar, y, tall, last) {
    const begin = Math.max(x(bar[BAR.begin]), left());
    const until = Math.min(x(bar[BAR.end]), width - EDGE);
    const state = bar[BAR.state];
    const bad = state === "failed" || state === "died";
    if (until - last < 0.5 && !bad) return last;
    const wide = Math.max(until - begin, 1);
    pen.fillStyle = colour(bar[BAR.name]);
    pen.globalAlpha = state === "running" ? 0.55 : 1;
    pen.fillRect(begin, y, wide, tall - (tall > 4 ? 1 : 0));
    pen.globalAlpha = 1;
    if (bad) {
      pen.fillStyle = colours.bad;
      pen.fillRect(begin, y + tall - 4, wide, 3);
      if (state === "died") pen.fillRect(until - 2, y, 2, tall);
    }
    if (wide > 54 && tall > 12) {
      pen.fillStyle = colours.dark ? "#0b0b0d" : "#ffffff";
      pen.textAlign = "left";
      pen.font = "11px system-ui, sans-serif";
      const count = bar[BAR.count] > 1 ? `${bar[BAR.count]} × ` : "";
      pen.fillText(count + bar[BAR.name], begin + 5, y + tall / 2, wide - 8);
    }
    boxes.push([begin, y, wide, tall, bar]);
    return until;
  }

  function sign(mark, y, from, to) {
    const [, at, kind] = mark;
    if (at < from || at > to) return;
    const px = x(at);
    pen.fillStyle = kind === "recycled" ? colours.accent : kind === "died" ? colours.bad : colours.warn;
    pen.beginPath();
    pen.moveTo(px - 5, y);
    pen.lineTo(px + 5, y);
    pen.lineTo(px, y + 8);
    pen.fill();
    boxes.push([px - 6, y, 12, 10, mark, "mark"]);
  }

  // Marks of a whole worker: lines from top to bottom.
  function whole(from, to) {
    for (const mark of marks) {
      if (mark[0] !== null || mark[1] < from || mark[1] > to) continue;
      const px = x(mark[1]);
      pen.fillStyle = colours.warn;
      pen.fillRect(px, TOP, 1.5, height);
      boxes.push([px - 4, TOP, 8, height, mark, "mark"]);
    }
  }

  const spanText = (ms) => (ms >= 60000 ? `${Math.round(ms / 6000) / 10} min` : `${Math.round(ms / 100) / 10} s`);
  const took = (ms) => (ms < 1 ? `${Math.round(ms * 1000)} µs` : ms < 1000 ? `${Math.round(ms)} ms` : ms < 60000 ? `${(ms / 1000).toFixed(1)} s` : spanText(ms));
  function clockText(at, step) {
    const text = new Date(at).toTimeString().slice(0, 8);
    return step < 1000 ? `${text}.${String(at % 1000).padStart(3, "0").slice(0, 1)}` : text;
  }

  let last = 0;
  function frame(at) {
    // What stands still is not drawn again; what moves, no more than it can be seen to.
    const moves = !paused && !end && (span < 120_000 || at - last > 250);
    if (width !== canvas.clientWidth || height !== canvas.clientHeight) size();
    if (dirty || moves) {
      dirty = false;
      last = at;
      draw();
      if (pointer) hover();
    }
    requestAnimationFrame(frame);
  }

  // ── pointer, keyboard ─────────────────────────────────────────────────────────────────────────

  function found() {
    for (let at = boxes.length - 1; at >= 0; at -= 1) {
      const [px, y, wide, tall] = boxes[at];
      const slack = wide < 6 ? 3 : 0;
      if (pointer[0] >= px - slack && pointer[0] <= px + wide + slack && pointer[1] >= y && pointer[1] <= y + tall) return boxes[at];
    }
    return null;
  }

  function hover() {
    under = found();
    canvas.style.cursor = under && !under[5] ? "pointer" : "";
    const shown = one("#stream-details");
    shown.textContent = under ? details(under) : "\u00a0";
  }

  function details([, , , , it, kind]) {
    if (kind) return `${clockText(it[1], 1000)}: ${it[3]}`;
    const of = rows[it[BAR.row]];
    const many = it[BAR.count] > 1 ? `${it[BAR.count]} jobs one after the other, together ` : "";
    const where = `${of.queue}, ${of.pid ? `child ${of.pid}` : of.worker}`;
    return `${it[BAR.name]} (${it[BAR.job]}): ${it[BAR.state]}, ${many}${took(it[BAR.busy])}, began ${clockText(it[BAR.begin], 100)}, ${where}`;
  }

  const path = (bar) => `${sandboxq.base}/queues/${sandboxq.part(rows[bar[BAR.row]].queue)}/jobs/${sandboxq.part(bar[BAR.job])}`;

  let drag = null;
  canvas.addEventListener("pointerdown", (event) => {
    drag = { x: event.clientX, y: event.clientY, end: right(), scroll, moved: false };
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener("pointermove", (event) => {
    const edges = canvas.getBoundingClientRect();
    pointer = [event.clientX - edges.left, event.clientY - edges.top];
    if (drag && Math.hypot(event.clientX - drag.x, event.clientY - drag.y) > 3) drag.moved = true;
    if (drag?.moved) {
      look(drag.end - ((event.clientX - drag.x) / (width - left() - EDGE)) * span);
      rollTo(drag.scroll - (event.clientY - drag.y));
    } else hover();
  });
  canvas.addEventListener("pointerup", () => {
    if (drag && !drag.moved && under && !under[5]) location.assign(path(under[4]));
    drag = null;
  });
  canvas.addEventListener("pointerleave", () => {
    pointer = null;
    one("#stream-details").textContent = "\u00a0";
  });
  canvas.addEventListener(
    "wheel",
    (event) => {
      if (event.ctrlKey || event.metaKey) {
        event.preventDefault();
        zoom(event.deltaY > 0 ? 1.2 : 1 / 1.2, pointer ? timeAt(pointer[0]) : right());
      } else if (order.length * (ROW + GAP) > height - TOP) {
        event.preventDefault();
        rollTo(scroll + event.deltaY);
      }
    },
    { passive: false },
  );

  function rollTo(at) {
    scroll = Math.max(0, Math.min(at, order.length * (ROW + GAP) + 12 - (height - TOP)));
    dirty = true;
  }

  function look(at) {
    const now = clock();
    end = at >= now ? 0 : Math.max(at, now - HOUR + span);
    arrange();
    fit();
    dirty = true;
  }

  function zoom(by, around) {
    const share = (right() - around) / span;
    span = Math.min(HOUR, Math.max(500, span * by));
    look(end ? around + share * span : Infinity);
  }

  function pause() {
    frozen = clock();
    paused = !paused;
    const button = one("#stream-pause");
    button.setAttribute("aria-pressed", String(paused));
    button.querySelector("span").textContent = paused ? "Go on" : "Pause";
    dirty = true;
  }

  one("#stream-pause").addEventListener("click", pause);
  one("#stream-in").addEventListener("click", () => zoom(0.5, right()));
  one("#stream-out").addEventListener("click", () => zoom(2, right()));
  const keys = {
    " ": pause,
    "+": () => zoom(0.5, right()),
    "=": () => zoom(0.5, right()),
    "-": () => zoom(2, right()),
    ArrowLeft: () => look(right() - span / 4),
    ArrowRight: () => look(right() + span / 4),
    ArrowUp: () => rollTo(scroll - 3 * (ROW + GAP)),
    ArrowDown: () => rollTo(scroll + 3 * (ROW + GAP)),
    Home: () => look(clock() - HOUR),
    End: () => look(clock()),
  };
  canvas.addEventListener("keydown", (event) => {
    if (!keys[event.key] || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    keys[event.key]();
  });

  // ── the same as text ──────────────────────────────────────────────────────────────────────────

  function table() {
    const newest = bars.flatMap((list) => (list || []).slice(-MOST_TEXT_ROWS));
    newest.sort((a, b) => b[BAR.end] - a[BAR.end]);
    one("#stream-rows").replaceChildren(...newest.slice(0, MOST_TEXT_ROWS).map(textRow));
  }

  function textRow(bar) {
    const line = document.createElement("tr");
    const link = document.createElement("a");
    link.href = path(bar);
    link.textContent = `${bar[BAR.name]} (${bar[BAR.job]})${bar[BAR.count] > 1 ? ` and ${bar[BAR.count] - 1} more` : ""}`;
    const of = rows[bar[BAR.row]];
    const texts = [`${of.queue}, ${of.pid || of.worker}`, bar[BAR.state], clockText(bar[BAR.begin], 100), took(bar[BAR.busy])];
    const cells = [link, ...texts].map((each, at) => {
      const cell = document.createElement("td");
      if (at > 2) cell.className = "num";
      cell.append(each);
      return cell;
    });
    line.append(...cells);
    return line;
  }
  one("#stream-text").addEventListener("toggle", table);

  // ── begin ─────────────────────────────────────────────────────────────────────────────────────

  let source = null;
  let place = 0;
  function open() {
    source = new EventSource(`${sandboxq.base}/live?topic=stream`);
    for (const name of ["all", "more"]) {
      source.addEventListener(name, (event) => take(JSON.parse(event.data), name === "all"));
    }
    source.addEventListener("error", () => {
      one("#stream-note").textContent = "The page's server does not answer";
      state("away");
      if (source.readyState === EventSource.CLOSED) setTimeout(poll, 2000);
    });
  }

  // Where there are no streams.
  async function poll() {
    try {
      const answer = await fetch(`${sandboxq.base}/api/v1/stream?place=${place}`);
      const told = await answer.json();
      if (answer.ok) {
        place = told.place;
        take(told, told.event === "all");
      }
    } catch {
      one("#stream-note").textContent = "The page's server does not answer";
    }
    if (!document.hidden) setTimeout(poll, 1000);
  }

  document.addEventListener("visibilitychange", () => {
    if (document.hidden) source?.close();
    else open();
  });
  document.addEventListener("sq:theme", theme);
  window.addEventListener("resize", size);
  theme();
  size();
  open();
  requestAnimationFrame(frame);
  // For measuring: how long drawing takes with what is there.
  window.sandboxqStream = { take, draw, count: () => bars.reduce((sum, list) => sum + (list?.length || 0), 0) };
})();
