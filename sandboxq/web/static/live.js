// Parts of a page that are live: <div data-topic="workers"> is morphed to each HTML event of /live.
// Where there are no streams (a WSGI mount), the page is fetched again every two seconds.
"use strict";

(() => {
  const shown = document.querySelector("#link-state");
  const words = { live: "Live", away: "Offline", held: "Paused" };

  function state(word) {
    if (!shown) return;
    shown.dataset.state = word;
    shown.textContent = words[word];
  }

  // Who selects text or types is not to be disturbed.
  const busy = (part) =>
    !getSelection().isCollapsed || part.contains(document.activeElement?.closest("input, textarea"));

  function put(part, html) {
    if (busy(part)) {
      state("held");
      return;
    }
    Idiomorph.morph(part, html, { morphStyle: "innerHTML" });
    state("live");
  }

  function poll(part) {
    setTimeout(async () => {
      try {
        const answer = await fetch(location.href, { headers: { accept: "text/html" } });
        const whole = new DOMParser().parseFromString(await answer.text(), "text/html");
        const found = whole.getElementById(part.id);
        if (!document.hidden && found) put(part, found.innerHTML);
      } catch {
        state("away");
      }
      poll(part);
    }, 2000);
  }

  function listen(part) {
    const topic = encodeURIComponent(part.dataset.topic);
    let source = null;
    let heard = false;
    let failures = 0;

    function open() {
      source = new EventSource(`${sandboxq.base}/live?topic=${topic}&html=1`);
      source.addEventListener("html", (event) => {
        heard = true;
        failures = 0;
        put(part, event.data);
      });
      source.addEventListener("error", () => {
        state("away");
        failures += 1;
        if (source.readyState !== EventSource.CLOSED) return;
        // Refused: no streams here, or too many viewers. The page works all the same.
        if (heard || failures < 3) setTimeout(open, 3000);
        else poll(part);
      });
    }

    // A page that nobody sees is no viewer.
    document.addEventListener("visibilitychange", () => {
      if (document.hidden) source?.close();
      else open();
    });
    if (!document.hidden) open();
  }

  for (const part of document.querySelectorAll("[data-topic]")) listen(part);
  window.addEventListener("pagehide", () => state("away"));
})();
