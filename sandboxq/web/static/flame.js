// The flame graph of a profile: the callers above, what they have called below, wide is long.
// Data: GET …/profile, {"tree": {functions: [[name, file, line]], nodes: [[parent, function, line, samples, wall, cpu]]}}.
"use strict";

(() => {
  const ROW = 22;
  const MOST_ROWS = 260;
  // Functions of one folder have one colour: that of the most time the first.
  const TONES = ["--warn", "--run", "--tree", "--late", "--ok"];
  let graph = null;

  function start() {
    const now = document.getElementById("flame-now");
    const box = document.getElementById("flame");
    if (!now || !box || graph?.id === now.dataset.id) return;
    graph = new Graph(box, now.dataset);
    graph.load();
  }

  class Graph {
    constructor(box, { id, clock, src }) {
      Object.assign(this, { box, id, clock, src, byLine: false, query: "" });
      this.frames = [];
      this.build();
    }

    build() {
      const make = (name, attributes = {}, ...children) => {
        const it = document.createElement(name);
        for (const [key, value] of Object.entries(attributes)) it.setAttribute(key, value);
        it.append(...children);
        return it;
      };
      this.search = make("input", { type: "search", placeholder: "Find a function", "aria-label": "Find a function", maxlength: 200, autocomplete: "off", spellcheck: "false" });
      this.lines = make("input", { type: "checkbox" });
      this.clocks = make("select", { "aria-label": "Clock" }, make("option", { value: "wall" }, "wall time"), make("option", { value: "cpu" }, "CPU time"));
      this.back = make("button", { class: "button small", type: "button" }, "Whole");
      this.found = make("span", { class: "faint small", role: "status" });
      this.canvas = make("canvas", { class: "flame-canvas", tabindex: 0, role: "img", "aria-describedby": "flame-says", "aria-label": "Flame graph; arrows move between frames, Enter enlarges one, Escape shows all. The table below has the same in words." });
      this.says = make("p", { class: "flame-says small", id: "flame-says", "aria-live": "polite" });
      this.box.replaceChildren(
        make("div", { class: "row flame-tools" }, this.search, this.clocks, make("label", { class: "row small" }, this.lines, "by line"), this.back, this.found),
        this.says,
        this.canvas,
      );
      this.clocks.value = this.clock;
      this.clocks.disabled = this.clock === "cpu"; // of wall time there are no samples then
      this.search.addEventListener("input", () => { this.query = this.search.value.trim().toLowerCase(); this.draw(); });
      this.lines.addEventListener("change", () => { this.byLine = this.lines.checked; this.arrange(); });
      this.clocks.addEventListener("change", () => { this.clock = this.clocks.value; this.arrange(); });
      this.back.addEventListener("click", () => this.zoom(this.root));
      this.canvas.addEventListener("mousemove", (event) => this.point(this.at(event)));
      this.canvas.addEventListener("mouseleave", () => this.point(null));
      this.canvas.addEventListener("click", (event) => this.zoom(this.at(event) ?? this.top));
      this.canvas.addEventListener("keydown", (event) => this.key(event));
      new ResizeObserver(() => this.draw()).observe(this.box);
      document.addEventListener("sq:theme", () => this.draw());
    }

    async load() {
      this.says.textContent = "Reading the profile …";
      try {
        const answer = await fetch(this.src, { headers: { accept: "application/json" } });
        const body = await answer.json();
        if (!answer.ok) throw new Error(body.error?.message || answer.statusText);
        this.tree = body.tree;
        this.arrange();
      } catch (error) {
        this.says.textContent = `The profile cannot be read: ${error.message}`;
      }
    }

    // Joins what is the same function (and line) below the same caller, and adds up.
    arrange() {
      const { functions, nodes } = this.tree;
      const column = this.clock === "cpu" ? 5 : 4;
      const root = { name: "all", file: "", line: 0, own: 0, total: 0, children: new Map(), depth: 0, parent: null };
      const of = [root];
      nodes.forEach((node, number) => {
        if (number) {
          const [parent, index, line] = node;
          const above = of[parent];
          const key = this.byLine ? `${index}:${line}` : index;
          let it = above.children.get(key);
          if (!it) {
            const [name, file, first] = functions[index];
            it = { name: name || "?", file, line: this.byLine ? line : first, own: 0, total: 0, children: new Map(), depth: above.depth + 1, parent: above };
            above.children.set(key, it);
          }
          of[number] = it;
        }
        of[number].own += node[column];
      });
      const rows = [];
      const spent = new Map();
      const add = (it) => { rows.push(it); for (const each of it.children.values()) add(each); };
      add(root);
      for (const it of rows.reverse()) {
        it.total += it.own;
        if (it.parent) {
          it.parent.total += it.total;
          spent.set(folder(it.file), (spent.get(folder(it.file)) ?? 0) + it.own);
        }
        it.list = [...it.children.values()].filter((each) => each.total > 0).sort((a, b) => b.total - a.total);
      }
      const folders = [...spent.keys()].sort((a, b) => spent.get(b) - spent.get(a));
      this.tones = new Map(TONES.map((tone, place) => [folders[place], tone]));
      this.root = this.top = root;
      this.depth = Math.min(MOST_ROWS, rows.reduce((most, it) => Math.max(most, it.total > 0 ? it.depth : 0), 0) + 1);
      this.zoom(root);
    }

    zoom(it) {
      if (!it) return;
      this.top = it;
      this.active = it;
      this.back.disabled = it === this.root;
      this.draw();
      this.tell(it);
    }

    // Places the frames, from the root over the enlarged one down, and paints them.
    draw() {
      if (!this.root) return;
      const width = Math.max(120, this.box.clientWidth - 24);
      const height = this.depth * ROW;
      const ratio = window.devicePixelRatio || 1;
      this.canvas.width = Math.round(width * ratio);
      this.canvas.height = Math.round(height * ratio);
      this.canvas.style.height = `${height}px`;
      const pen = this.canvas.getContext("2d");
      pen.scale(ratio, ratio);
      pen.font = `12px ${getComputedStyle(document.body).fontFamily}`;
      pen.textBaseline = "middle";
      this.frames = [];
      this.matched = 0;
      const colours = { text: sandboxq.colour("--text"), faint: sandboxq.colour("--faint"), line: sandboxq.colour("--surface"), accent: sandboxq.colour("--accent"), plain: sandboxq.colour("--sunken"), found: sandboxq.colour("--accent-soft") };
      for (let it = this.top.parent; it; it = it.parent) this.paint(pen, it, 0, width, colours);
      this.place(pen, this.top, 0, width, colours);
      const part = this.root.total ? this.matched / this.root.total : 0;
      this.found.textContent = this.query ? `${(part * 100).toFixed(1)} % in what was found` : "";
    }

    place(pen, it, x, width, colours) {
      if (width < 0.5 || it.depth >= MOST_ROWS) return;
      this.paint(pen, it, x, width, colours);
      const scale = it.total ? width / it.total : 0;
      for (const each of it.list) {
        this.place(pen, each, x, each.total * scale, colours);
        x += each.total * scale;
      }
    }

    paint(pen, it, x, width, colours) {
      const y = it.depth * ROW;
      const isFound = this.query && `${it.name} ${it.file}`.toLowerCase().includes(this.query);
      if (isFound && !this.isBelowFound(it)) this.matched += it.total;
      const tone = it.parent ? this.tones.get(folder(it.file)) ?? "--wait" : null;
      pen.fillStyle = this.query ? (isFound ? colours.accent : colours.plain) : tone ? sandboxq.colour(`${tone}-soft`) : colours.plain;
      const wide = Math.max(0.5, width - (width > 3 ? 1 : 0));
      pen.fillRect(x, y, wide, ROW - 1);
      if (tone && !this.query) {
        pen.fillStyle = sandboxq.colour(tone);
        pen.globalAlpha = 0.14;
        pen.fillRect(x, y, wide, ROW - 1);
        pen.globalAlpha = 1;
        if (width > 4) pen.fillRect(x, y, 2, ROW - 1);
      }
      if (it === this.active) {
        pen.strokeStyle = colours.accent;
        pen.lineWidth = 2;
        pen.strokeRect(x + 1, y + 1, Math.max(1, wide - 2), ROW - 3);
      }
      if (width > 26) {
        pen.save();
        pen.beginPath();
        pen.rect(x, y, width - 4, ROW);
        pen.clip();
        pen.fillStyle = this.query ? (isFound ? sandboxq.colour("--on-accent") : colours.faint) : colours.text;
        pen.fillText(this.label(it), x + 7, y + ROW / 2);
        pen.restore();
      }
      this.frames.push({ it, x, y, width });
    }

    isBelowFound(it) {
      for (let above = it.parent; above; above = above.parent) {
        if (`${above.name} ${above.file}`.toLowerCase().includes(this.query)) return true;
      }
      return false;
    }

    label(it) {
      return this.byLine && it.line ? `${it.name}:${it.line}` : it.name;
    }

    at(event) {
      const box = this.canvas.getBoundingClientRect();
      const [x, y] = [event.clientX - box.left, event.clientY - box.top];
      return this.frames.find((each) => x >= each.x && x < each.x + each.width && y >= each.y && y < each.y + ROW)?.it ?? null;
    }

    point(it) {
      const wanted = it ?? this.top;
      this.canvas.style.cursor = it ? "pointer" : "default";
      if (wanted === this.active) return;
      this.active = wanted;
      this.draw();
      this.tell(wanted);
    }

    tell(it) {
      const part = this.root.total ? (it.total / this.root.total) * 100 : 0;
      const place = it.file ? `, ${it.file}${it.line ? `:${it.line}` : ""}` : "";
      this.says.textContent = this.root.total
        ? `${it.name}: ${part.toFixed(1)} %, ${seconds(it.total)} (${seconds(it.own)} in itself)${place}`
        : "There are no samples.";
    }

    key(event) {
      const it = this.active ?? this.top;
      const beside = it.parent ? it.parent.list : [it];
      const place = beside.indexOf(it);
      const moves = {
        ArrowDown: () => it.list[0],
        ArrowUp: () => it.parent,
        ArrowRight: () => beside[place + 1],
        ArrowLeft: () => beside[place - 1],
        Home: () => this.root,
      };
      if (event.key in moves) {
        const next = moves[event.key]();
        if (next) this.point(next);
      } else if (event.key === "Enter" || event.key === " ") {
        this.zoom(it);
      } else if (event.key === "Escape") {
        this.zoom(this.root);
      } else {
        return;
      }
      event.preventDefault();
      event.stopPropagation();
    }
  }

  const folder = (file) => file.slice(0, Math.max(0, file.lastIndexOf("/")));

  function seconds(value) {
    return value >= 1 ? `${value.toFixed(2)} s` : `${(value * 1000).toFixed(1)} ms`;
  }

  document.addEventListener("htmx:afterSettle", start);
  start();
})();
