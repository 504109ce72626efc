// The graph of a flow: drawn by the server, moved and enlarged here.
"use strict";

(() => {
  const graph = document.querySelector(".graph");
  const svg = graph?.querySelector("svg");
  if (!svg) return;
  const whole = svg.viewBox.baseVal;
  const [width, height] = [whole.width, whole.height];
  // Part of the drawing that is seen.
  let view = null;

  function fit() {
    const box = graph.getBoundingClientRect();
    const scale = Math.min(1.25, box.width / width, box.height / height);
    // A large flow begins at its root, in a size that can be read.
    const readable = Math.max(scale, 0.75);
    view = { w: box.width / readable, h: box.height / readable, x: 0, y: 0 };
    view.x = view.w > width ? (width - view.w) / 2 : -12;
    const here = svg.querySelector(".node.here, .node.root");
    const y = here ? Number(here.dataset.y) : height / 2;
    view.y = view.h > height ? (height - view.h) / 2 : Math.min(height - view.h + 12, Math.max(-12, y - view.h / 2));
    show();
  }

  function show() {
    svg.setAttribute("viewBox", `${view.x} ${view.y} ${view.w} ${view.h}`);
  }

  function zoom(factor, x, y) {
    const box = graph.getBoundingClientRect();
    const wide = Math.min(Math.max(view.w * factor, 120), Math.max(width, box.width) * 4);
    const real = wide / view.w;
    const [atX, atY] = [view.x + view.w * (x ?? 0.5), view.y + view.h * (y ?? 0.5)];
    view = { w: wide, h: view.h * real, x: atX - (atX - view.x) * real, y: atY - (atY - view.y) * real };
    show();
  }

  graph.addEventListener(
    "wheel",
    (event) => {
      event.preventDefault();
      const box = graph.getBoundingClientRect();
      if (event.ctrlKey || !event.shiftKey) {
        zoom(Math.exp(event.deltaY * 0.0015), (event.clientX - box.left) / box.width,
          (event.clientY - box.top) / box.height);
      }
    },
    { passive: false },
  );

  const fingers = new Map();
  let moved = false;
  graph.addEventListener("pointerdown", (event) => {
    if (event.target.closest("button")) return;
    fingers.set(event.pointerId, event);
    moved = false;
  });
  addEventListener("pointermove", (event) => {
    const from = fingers.get(event.pointerId);
    if (!from) return;
    const box = graph.getBoundingClientRect();
    const [dx, dy] = [event.clientX - from.clientX, event.clientY - from.clientY];
    if (!moved && Math.hypot(dx, dy) < 4) return;
    moved = true;
    if (fingers.size === 2) {
      const [other] = [...fingers.values()].filter((each) => each.pointerId !== event.pointerId);
      const far = (one) => Math.hypot(one.clientX - other.clientX, one.clientY - other.clientY) || 1;
      zoom(far(from) / far(event));
    } else {
      view.x -= (dx / box.width) * view.w;
      view.y -= (dy / box.height) * view.h;
      show();
    }
    fingers.set(event.pointerId, event);
  });
  for (const end of ["pointerup", "pointercancel"]) {
    addEventListener(end, (event) => fingers.delete(event.pointerId));
  }
  // What ends a move is no click on the job below.
  graph.addEventListener("click", (event) => moved && event.preventDefault(), true);
  graph.addEventListener("dragstart", (event) => event.preventDefault());

  graph.addEventListener("keydown", (event) => {
    const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const step = steps[event.key];
    if (step) {
      view.x += step[0] * view.w * 0.1;
      view.y += step[1] * view.h * 0.1;
      show();
    } else if (event.key === "+" || event.key === "=") zoom(0.8);
    else if (event.key === "-") zoom(1.25);
    else if (event.key === "0") fit();
    else return;
    event.preventDefault();
  });
  // A job that is reached by Tab is brought into view.
  graph.addEventListener("focusin", (event) => {
    const node = event.target.closest(".node");
    if (!node || !node.matches(":focus-visible")) return;
    const [x, y] = [Number(node.dataset.x), Number(node.dataset.y)];
    if (x < view.x || x > view.x + view.w || y < view.y || y > view.y + view.h) {
      view.x = x - view.w / 2;
      view.y = y - view.h / 2;
      show();
    }
  });
  for (const button of graph.querySelectorAll("[data-zoom]")) {
    button.hidden = false;
    button.addEventListener("click", () => {
      if (button.dataset.zoom === "fit") fit();
      else zoom(Number(button.dataset.zoom));
    });
  }
  addEventListener("resize", fit);
  fit();
})();
