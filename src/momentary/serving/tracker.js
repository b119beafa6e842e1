/* momentary: tells the service what a page showed and what was clicked.
 *
 *   <script async src="https://SERVICE/tracker.js" data-key="A KEY WITH THE SCOPE write"></script>
 *   <a data-momentary-item="sku-1" data-momentary-recommendation="..." href="...">...</a>
 *
 * An item counts as seen (view_item_list) when half of it was on the screen for a second, and as
 * chosen (select_item) when it is clicked. Everything else: momentary.track({...}).
 * Nothing is stored but a random visitor id, a visit id and what is not sent yet;
 * data-storage="session" forgets them with the tab.
 */
(() => {
  "use strict";
  const script = document.currentScript;
  if (!script || window.momentary) return;
  const set = script.dataset;
  const url = new URL("/v1/events", script.src).href;
  const dwellMs = Number(set.dwellMs || 1000);
  const idleMs = 1800000;
  const mostWaiting = 500;
  const memory = new Map();

  const store = (kind) => {
    try {
      const found = kind === "local" && set.storage !== "session" ? localStorage : sessionStorage;
      found.setItem("momentary.try", "1");
      found.removeItem("momentary.try");
      return found;
    } catch {
      return {
        getItem: (name) => memory.get(name) ?? null,
        setItem: (name, value) => memory.set(name, value),
        removeItem: (name) => memory.delete(name),
      };
    }
  };
  const lasting = store("local");
  const passing = store("session");
  const newId = () =>
    Array.from(crypto.getRandomValues(new Uint8Array(16)), (b) => b.toString(16).padStart(2, "0")).join("");
  const read = (from, name, otherwise) => {
    try {
      return JSON.parse(from.getItem(name)) ?? otherwise;
    } catch {
      return otherwise;
    }
  };
  const write = (to, name, value) => {
    try {
      to.setItem(name, JSON.stringify(value));
    } catch {
      /* A full store loses nothing that is still in memory. */
    }
  };

  let visitor = read(lasting, "momentary.visitor", null);
  if (typeof visitor !== "string") {
    visitor = newId();
    write(lasting, "momentary.visitor", visitor);
  }
  let user = read(passing, "momentary.user", null);
  let waiting = read(lasting, "momentary.waiting", []);
  if (!Array.isArray(waiting)) waiting = [];
  let sending = false;
  let timer = null;
  let pauseMs = 1000;

  const visit = () => {
    const now = Date.now();
    const last = read(passing, "momentary.visit", null);
    const id = last && now - last.at < idleMs ? last.id : newId();
    write(passing, "momentary.visit", { id, at: now });
    return id;
  };

  const keep = () => write(lasting, "momentary.waiting", waiting);

  const send = async (leaving) => {
    clearTimeout(timer);
    timer = null;
    if (!waiting.length || (sending && !leaving)) return;
    const batch = waiting.slice(0, 50);
    sending = true;
    try {
      const headers = { "Content-Type": "application/json" };
      if (set.key) headers["X-API-Key"] = set.key;
      const body = JSON.stringify({ events: batch });
      const answer = await fetch(url, { method: "POST", headers, body, keepalive: leaving, credentials: "omit" });
      const refused = answer.status >= 400 && answer.status < 500 && answer.status !== 429;
      if (!answer.ok && !refused) throw new Error(String(answer.status));
      if (refused) console.warn("momentary refused events:", answer.status, await answer.text());
      const gone = new Set(batch.map((event) => event.event_id));
      waiting = waiting.filter((event) => !gone.has(event.event_id));
      pauseMs = 1000;
    } catch {
      pauseMs = Math.min(pauseMs * 2, 60000);
    } finally {
      sending = false;
      keep();
    }
    if (waiting.length) later(pauseMs);
  };

  const later = (ms) => {
    timer ??= setTimeout(() => send(false), ms);
  };

  const track = (event) => {
    const basic = {
      event_id: newId(),
      anonymous_id: visitor,
      session_id: visit(),
      timestamp: Date.now(),
    };
    if (user) basic.user_id = user;
    waiting.push({ ...basic, ...event });
    waiting = waiting.slice(-mostWaiting);
    keep();
    if (waiting.length >= 20) send(false);
    else later(pauseMs);
  };

  const facts = (element) => {
    const found = { item_id: element.dataset.momentaryItem };
    if (element.dataset.momentaryRecommendation) found.recommendation_id = element.dataset.momentaryRecommendation;
    if (element.dataset.momentaryPosition) found.position = Number(element.dataset.momentaryPosition);
    return found;
  };

  const seen = new WeakMap();
  const clocks = new WeakMap();
  const watcher = new IntersectionObserver(
    (entries) => {
      for (const entry of entries) {
        const element = entry.target;
        clearTimeout(clocks.get(element));
        if (entry.intersectionRatio < 0.5) continue;
        clocks.set(
          element,
          setTimeout(() => {
            const mark = JSON.stringify(facts(element));
            if (document.visibilityState !== "visible" || seen.get(element) === mark) return;
            seen.set(element, mark);
            track({ event_type: "view_item_list", ...facts(element) });
          }, dwellMs),
        );
      }
    },
    { threshold: [0, 0.5] },
  );
  const watch = (root) => {
    if (root.matches?.("[data-momentary-item]")) watcher.observe(root);
    root.querySelectorAll?.("[data-momentary-item]").forEach((element) => watcher.observe(element));
  };
  const begin = () => {
    watch(document);
    new MutationObserver((changes) => {
      for (const change of changes) change.addedNodes.forEach(watch);
    }).observe(document.documentElement, { childList: true, subtree: true });
  };
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", begin);
  else begin();

  document.addEventListener(
    "click",
    (event) => {
      const element = event.target.closest?.("[data-momentary-item]");
      if (!element) return;
      track({ event_type: "select_item", ...facts(element) });
      send(true);
    },
    true,
  );
  addEventListener("pagehide", () => send(true));
  document.addEventListener("visibilitychange", () => document.visibilityState === "hidden" && send(true));

  window.momentary = {
    track,
    identify: (id) => {
      user = id == null ? null : String(id);
      write(passing, "momentary.user", user);
    },
    forget: () => {
      for (const name of ["momentary.visitor", "momentary.waiting"]) lasting.removeItem(name);
      for (const name of ["momentary.visit", "momentary.user"]) passing.removeItem(name);
      visitor = newId();
      user = null;
      waiting = [];
    },
    flush: () => send(true),
    ids: () => ({ anonymous_id: visitor, session_id: visit(), ...(user ? { user_id: user } : {}) }),
  };
  if (waiting.length) later(100);
})();
