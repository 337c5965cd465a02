// Keeps an open page as the log is: whenever the stream tells that something has happened, the same
// page is fetched again, and the regions that differ are put in place. Without this all views work,
// by reloading. Nothing here knows what a run is.
"use strict";

(() => {
  const PAUSE = 400; // milliseconds between two fetches: a busy run is not fetched for each event
  const RETRY = 3000;
  const seen = new Map(); // what the server said last of each region, by its id
  let seq = document.body.dataset.seq || "0";
  let source = null;
  let timer = 0;
  let fetched = -PAUSE;
  let under = null; // the fetch that is under way
  let isAgain = false;
  let address = location.href;

  const regions = () => document.querySelectorAll("[data-live]");
  const say = (state, text) => {
    const link = document.getElementById("link");
    if (link && link.dataset.state !== state) {
      link.dataset.state = state;
      link.textContent = text;
    }
  };

  // A region in which somebody writes stays as it is.
  const isInUse = (region) => {
    const active = document.activeElement;
    if (active && region.contains(active) && active.matches("input, select, textarea")) return true;
    return [...region.querySelectorAll("input:not([type=hidden]), textarea")].some(
      (each) => !each.matches("[data-slider]") && each.value !== each.defaultValue,
    );
  };

  const pathOf = (region, element) => {
    if (element.id) return `#${CSS.escape(element.id)}`;
    const href = element.getAttribute("href");
    if (href) return `a[href="${CSS.escape(href)}"]`;
    const owner = element.closest("[id]");
    const name = element.tagName.toLowerCase();
    if (!owner || owner === region) {
      return `${name}:nth-of-type(${[...element.parentNode.children].filter((each) => each.tagName === element.tagName).indexOf(element) + 1})`;
    }
    return `#${CSS.escape(owner.id)} ${name}`;
  };

  // Put what is new into a region; what the reader has opened, scrolled and focused stays so.
  const put = (region, next) => {
    const active = document.activeElement;
    const focused = active && active !== region && region.contains(active) ? pathOf(region, active) : "";
    const opened = new Map([...region.querySelectorAll("details[id]")].map((each) => [each.id, each.open]));
    const places = new Map();
    for (const each of region.querySelectorAll("[id]")) {
      if (each.scrollTop || each.scrollLeft) places.set(each.id, [each.scrollLeft, each.scrollTop]);
    }
    region.replaceChildren(...next.childNodes);
    for (const name of next.getAttributeNames()) region.setAttribute(name, next.getAttribute(name));
    for (const [id, isOpen] of opened) {
      const each = document.getElementById(id);
      if (each) each.open = isOpen;
    }
    for (const [id, [left, top]] of places) {
      const each = document.getElementById(id);
      if (each) each.scrollTo(left, top);
    }
    if (focused) {
      const each = region.querySelector(focused);
      if (each) each.focus({ preventScroll: true });
    }
    wake(region);
  };

  const take = (fresh) => {
    for (const region of regions()) {
      const next = fresh.getElementById(region.id);
      if (!next) continue;
      const said = next.innerHTML;
      if (seen.get(region.id) === said || isInUse(region)) continue;
      seen.set(region.id, said);
      put(region, next);
    }
    document.title = fresh.title;
    if (Number(fresh.body.dataset.seq) > Number(seq)) seq = fresh.body.dataset.seq;
    const stream = fresh.body.dataset.stream;
    if (Boolean(stream) !== Boolean(document.body.dataset.stream)) {
      document.body.dataset.stream = stream;
      connect();
    }
  };

  const load = async () => {
    timer = 0;
    if (under) {
      isAgain = true;
      return;
    }
    fetched = performance.now();
    const wanted = address;
    under = new AbortController();
    try {
      const response = await fetch(wanted, { signal: under.signal, cache: "no-store" });
      const text = await response.text();
      if (wanted === address && (response.ok || response.status === 404)) {
        take(new DOMParser().parseFromString(text, "text/html"));
      }
    } catch {
      // The server is gone for now: the stream says when it is there again.
    }
    under = null;
    if (isAgain) {
      isAgain = false;
      later();
    }
  };

  const later = () => {
    if (timer || document.hidden) return;
    timer = setTimeout(load, Math.max(30, PAUSE - (performance.now() - fetched)));
  };

  const connect = () => {
    if (source) source.close();
    source = null;
    const stream = document.body.dataset.stream;
    if (!stream || document.hidden) {
      say("none", "");
      return;
    }
    const from = new URL(stream, document.baseURI);
    from.searchParams.set("after", seq);
    const mine = new EventSource(from);
    source = mine;
    let isFirst = true;
    mine.addEventListener("hello", () => {
      say("live", "Live.");
      if (!isFirst) later();
      isFirst = false;
    });
    mine.addEventListener("message", (event) => {
      if (Number(event.lastEventId) > Number(seq)) seq = event.lastEventId;
      later();
    });
    mine.addEventListener("engine", later);
    mine.addEventListener("text", later);
    mine.addEventListener("error", () => {
      say("lost", "Not connected; it is tried again.");
      if (mine.readyState === EventSource.CLOSED && source === mine) {
        source = null;
        setTimeout(() => {
          if (!source) {
            connect();
            later();
          }
        }, RETRY);
      }
    });
  };

  // The slider: each place is fetched as its own address, which then stands in the address bar.
  const slide = async (slider) => {
    const id = slider.form.elements.id.value;
    const wanted = new URL(`run?id=${encodeURIComponent(id)}&place=${slider.value}`, document.baseURI);
    address = wanted.href;
    if (under) under.abort();
    under = null;
    await load();
    if (address !== wanted.href) return;
    const now = document.getElementById("pictures");
    if (now) {
      address = new URL(now.dataset.address, document.baseURI).href;
      history.replaceState(null, "", address);
    }
  };
  let sliding = 0;
  const wake = (within) => {
    for (const slider of within.querySelectorAll("[data-slider]")) {
      slider.hidden = false;
      slider.addEventListener("input", () => {
        clearTimeout(sliding);
        sliding = setTimeout(() => slide(slider), 60);
      });
    }
  };

  for (const region of regions()) seen.set(region.id, region.innerHTML);
  wake(document);
  connect();
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) {
      if (source) source.close();
      source = null;
    } else {
      connect();
      later();
    }
  });
  // Whoever comes back by the browser's own button sees what is now.
  window.addEventListener("pageshow", (event) => {
    if (event.persisted) {
      connect();
      later();
    }
  });
  window.addEventListener("pagehide", () => {
    if (source) source.close();
    source = null;
  });
})();
