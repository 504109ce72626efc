// What every page has: theme, keyboard, live updates, actions with their answers, selection.
"use strict";

(() => {
  const root = document.documentElement;
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const one = (selector, within = document) => within.querySelector(selector);
  const dark = matchMedia("(prefers-color-scheme: dark)");

  // ── theme ─────────────────────────────────────────────────────────────────────────────────────

  const theme = () => root.dataset.theme || (dark.matches ? "dark" : "light");

  function toggleTheme() {
    const next = theme() === "dark" ? "light" : "dark";
    root.dataset.theme = next;
    try {
      localStorage.setItem("sandboxq-theme", next);
    } catch {
      // Kept for this page only.
    }
    document.dispatchEvent(new CustomEvent("sq:theme"));
  }
  dark.addEventListener("change", () => document.dispatchEvent(new CustomEvent("sq:theme")));

  // Canvases need colours as values: sandboxq.colour("--run").
  const probe = document.createElement("i");
  probe.hidden = true;
  function colour(name) {
    if (!probe.isConnected) document.body.append(probe);
    probe.style.color = `var(${name})`;
    return getComputedStyle(probe).color;
  }

  // A name as a part of an address; browsers leave out those that are dots (answers.py).
  const part = (name) => (/^~*\.{1,2}$/.test(name) ? "~" : "") + encodeURIComponent(name);

  // ── toasts and questions ──────────────────────────────────────────────────────────────────────

  function toast(text, failed = false) {
    const box = document.createElement("div");
    box.className = failed ? "toast failed" : "toast";
    const words = document.createElement("p");
    words.textContent = text;
    const close = document.createElement("button");
    close.type = "button";
    close.className = "button quiet small";
    close.textContent = "Close";
    close.addEventListener("click", () => box.remove());
    box.append(words, close);
    one("#toasts").append(box);
    setTimeout(() => box.remove(), failed ? 15000 : 6000);
  }

  function asked(form, submitter) {
    const question = submitter?.dataset.confirm || form.dataset.confirm;
    if (!question) return Promise.resolve(true);
    const dialog = one("#confirm");
    one("h2", dialog).textContent = submitter?.dataset.title || form.dataset.title || "Are you sure?";
    one("p", dialog).textContent = question;
    one("[value=yes]", dialog).textContent = submitter?.textContent.trim() || "Yes";
    dialog.returnValue = "";
    dialog.showModal();
    return new Promise((resolve) => {
      dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
    });
  }

  // ── actions: <form data-act action="…/api/v1/…">, answered by what came of it, in words ────────

  // The fields of a form as JSON; data-type says what a text stands for.
  function values(form, submitter) {
    const body = {};
    for (const field of form.elements) {
      if (!field.name || field.disabled || field.type === "submit") continue;
      if (field.type === "radio" && !field.checked) continue;
      if (field.type === "checkbox") {
        if (field.dataset.type === "flag") body[field.name] = field.checked;
        else if (field.checked) (body[field.name] ??= []).push(field.value);
        continue;
      }
      const text = field.value;
      if (text === "" && field.dataset.type !== "text") continue;
      if (field.dataset.type === "number") body[field.name] = Number(text);
      else if (field.dataset.type === "json") {
        // What redact.py hides would take the secret's place.
        if (text.includes("\u2022\u2022\u2022")) throw new Error("write the hidden values (\u2022\u2022\u2022) anew");
        body[field.name] = JSON.parse(text);
      }
      else if (field.dataset.type === "lines") body[field.name] = text.split("\n").filter(Boolean);
      else body[field.name] = text;
    }
    if (submitter?.name) body[submitter.name] = submitter.value;
    return body;
  }

  function nested(flat) {
    const body = {};
    for (const [name, value] of Object.entries(flat)) {
      const [first, ...rest] = name.split(".");
      if (rest.length) (body[first] ??= {})[rest.join(".")] = value;
      else body[first] = value;
    }
    return body;
  }

  async function act(form, submitter) {
    let body;
    try {
      body = nested(values(form, submitter));
    } catch (error) {
      toast(`The data cannot be sent: ${error.message}`, true);
      return;
    }
    if (!(await asked(form, submitter))) return;
    const button = submitter || one("button", form);
    button?.setAttribute("aria-busy", "true");
    try {
      const answer = await fetch(submitter?.getAttribute("formaction") || form.action, {
        method: "POST",
        headers: { "content-type": "application/json", accept: "application/json" },
        body: JSON.stringify(body),
      });
      const told = await answer.json().catch(() => ({}));
      const words = told.message || told.error || (answer.ok ? "Done." : `Refused (${answer.status}).`);
      toast(typeof words === "string" ? words : words.message || JSON.stringify(words), !answer.ok);
      if (!answer.ok) return;
      form.dispatchEvent(new CustomEvent("sq:acted", { bubbles: true, detail: told }));
      form.closest("dialog")?.close();
      if (form.hasAttribute("data-reset")) form.reset();
      for (const box of all(".pick:checked, .pick-all:checked")) box.checked = false;
      picked();
      if (form.dataset.then) location.assign(form.dataset.then);
      else if (form.dataset.follow && told.id) location.assign(form.dataset.follow + part(told.id));
      else refresh();
    } catch {
      toast("The page's server does not answer. Is it still running?", true);
    } finally {
      button?.removeAttribute("aria-busy");
    }
  }

  document.addEventListener("submit", (event) => {
    if (!event.target.matches("form[data-act]")) return;
    event.preventDefault();
    act(event.target, event.submitter);
  });

  // ── live: the part #live of the page is fetched again and morphed into place ──────────────────

  const live = () => one("#live[data-live]");
  const busy = () =>
    document.hidden || one("dialog[open]") || one("#live .pick:checked") ||
    document.activeElement?.matches("#live input:not(.pick), #live textarea, #live select") ||
    !getSelection().isCollapsed;

  function refresh() {
    const part = one("#live");
    if (part) htmx.trigger(part, "sq:refresh");
  }

  function state(word) {
    const shown = one("#link-state");
    if (!shown || !live()) return;
    shown.dataset.state = word;
    shown.textContent = { live: "Live", away: "Offline", held: "Paused" }[word];
  }

  let due = null;
  function schedule() {
    clearTimeout(due);
    const part = live();
    if (!part) return;
    due = setTimeout(() => {
      if (busy()) {
        if (!document.hidden) state("held");
        schedule();
      } else refresh();
    }, Number(part.dataset.live) * 1000);
  }

  document.addEventListener("visibilitychange", () => {
    if (!document.hidden && live()) refresh();
  });
  document.addEventListener("htmx:afterRequest", (event) => {
    if (event.detail.successful) {
      if (live()?.hasAttribute("data-reload")) location.reload();
      state("live");
    }
    schedule();
  });
  document.addEventListener("htmx:sendError", () => state("away"));
  document.addEventListener("htmx:responseError", () => state("away"));
  document.addEventListener("htmx:afterSettle", () => {
    picked();
    markKeys();
  });

  if (window.Idiomorph) {
    // What the reader opened, ticked or drew stays as it is.
    Object.assign(Idiomorph.defaults.callbacks, {
      beforeAttributeUpdated: (name, node) =>
        !(name === "open" && node.matches("details, dialog")) &&
        !(name === "checked" && node.matches(".pick, .pick-all")),
      // What a script draws of a job that has just ended is still read.
      beforeNodeRemoved: (node) => !(node.nodeType === 1 && node.id === "running"),
      beforeNodeMorphed: (node) => !(node.nodeType === 1 && node.hasAttribute("data-keep")),
    });
  }

  // ── selection ─────────────────────────────────────────────────────────────────────────────────

  let last = null;

  function picked() {
    const boxes = all(".pick");
    const count = boxes.filter((box) => box.checked).length;
    for (const shown of all(".picked")) {
      shown.textContent = count ? `${count} selected` : "None selected";
    }
    for (const button of all("[data-needs-picked]")) button.disabled = count === 0;
    for (const box of all(".pick-all")) {
      box.checked = count > 0 && count === boxes.length;
      box.indeterminate = count > 0 && count < boxes.length;
    }
  }

  document.addEventListener("click", (event) => {
    const box = event.target.closest(".pick, .pick-all");
    if (!box) return;
    const boxes = all(".pick");
    if (box.matches(".pick-all")) for (const each of boxes) each.checked = box.checked;
    else {
      const [from, to] = [boxes.indexOf(last), boxes.indexOf(box)].sort((a, b) => a - b);
      if (event.shiftKey && from >= 0) {
        for (const each of boxes.slice(from, to + 1)) each.checked = box.checked;
      }
      last = box;
    }
    picked();
  });

  // ── clicks ────────────────────────────────────────────────────────────────────────────────────

  const clicks = {
    theme: toggleTheme,
    help: () => one("#help").showModal(),
    menu: () => one("#side").classList.toggle("open"),
    refresh,
    dialog: (button) => {
      const dialog = one(`#${CSS.escape(button.dataset.dialog)}`);
      const form = one("form[data-act]", dialog);
      if (button.dataset.action) form.setAttribute("action", button.dataset.action);
      if (button.dataset.fill) {
        const told = JSON.parse(button.dataset.fill);
        form.reset();
        for (const [name, value] of Object.entries(told)) {
          if (value != null && form.elements[name]) form.elements[name].value = value;
        }
      }
      dialog.showModal();
    },
    close: (button) => button.closest("dialog").close(),
    copy: (button) =>
      navigator.clipboard.writeText(button.dataset.copy).then(
        () => toast("Copied."),
        () => toast("The browser did not allow copying.", true),
      ),
    unfold: (button) => {
      const parts = all("details", one(`#${CSS.escape(button.dataset.unfold)}`));
      const open = parts.some((part) => !part.open);
      for (const part of parts) part.open = open;
    },
  };

  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-click]");
    if (button) {
      if (button.matches("a")) event.preventDefault();
      clicks[button.dataset.click]?.(button);
    }
    const side = one("#side");
    if (side?.classList.contains("open") && !event.target.closest("#side, [data-click=menu]")) {
      side.classList.remove("open");
    }
    if (event.target.matches("dialog")) event.target.close(); // its backdrop
  });

  // ── keyboard ──────────────────────────────────────────────────────────────────────────────────

  let prefix = 0;

  function rows(step) {
    const links = all("a.cover").filter((link) => link.offsetParent !== null);
    if (!links.length) return;
    const at = links.indexOf(document.activeElement?.closest("tr, li")?.querySelector("a.cover"));
    const next = links[Math.min(links.length - 1, Math.max(0, at + step))];
    next.focus();
    next.scrollIntoView({ block: "nearest" });
  }

  const keys = {
    "/": () => one("#find")?.focus(),
    "?": () => one("#help").showModal(),
    j: () => rows(1),
    k: () => rows(-1),
    x: () => document.activeElement?.closest("tr")?.querySelector(".pick")?.click(),
    r: refresh,
    t: toggleTheme,
    "[": () => one("a[rel=prev]")?.click(),
    "]": () => one("a[rel=next]")?.click(),
  };

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Escape") {
      one("#side")?.classList.remove("open");
      if (document.activeElement?.matches("input, textarea")) document.activeElement.blur();
      return;
    }
    if (one("dialog[open]") || event.target.closest("input:not([type=checkbox]), textarea, select")) return;
    if (Date.now() - prefix < 1500) {
      prefix = 0;
      const link = one(`[data-key="g ${CSS.escape(event.key)}"]`);
      if (link) {
        event.preventDefault();
        link.click();
      }
    } else if (event.key === "g") prefix = Date.now();
    else if (keys[event.key]) {
      event.preventDefault();
      keys[event.key]();
    }
  });

  function markKeys() {
    for (const link of all("[data-key]")) link.setAttribute("aria-keyshortcuts", link.dataset.key);
    // A log is read from its end.
    for (const log of all("[data-tail]")) {
      if (!log.dataset.read) log.scrollTop = log.scrollHeight;
      log.dataset.read = "yes";
    }
  }

  window.sandboxq = { colour, theme, toast, refresh, part, base: root.dataset.root || "" };
  picked();
  markKeys();
  if (live()) {
    state(live().hasAttribute("data-reload") ? "away" : "live");
    schedule();
  }
})();
