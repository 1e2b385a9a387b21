// @ts-check
// A page that is served asks for news of its run, and redraws itself where it stands.

const LEAST = 2_000, MOST = 60_000, AWAY = 10_000; // milliseconds between two questions
const REST = 150; // milliseconds without a scroll

/** @param {View} view */
function follow(view) {
  const url = document.body.dataset.live, note = $("live");
  if (!url) return;
  /** @type {Map<any, string>} */ const shown = new Map();
  let tag = "", wait = LEAST, timer = 0, last = new Date(), scrolled = -REST;
  document.body.dataset.updates = "0";
  note.hidden = false;
  /** @param {string} words @param {boolean} [well] */
  const say = (words, well = true) => { note.textContent = words; note.classList.toggle("away", !well); };
  say("Live");
  document.documentElement.style.overflowAnchor = "none"; // it is done below, and not twice

  /** Nothing scrolls: a page that moves under a scroll cuts it short. */
  async function rest() {
    while (performance.now() - scrolled < REST) await new Promise((then) => setTimeout(then, REST));
  }
  async function ask() {
    clearTimeout(timer);
    if (document.hidden) return; // asked again when it is looked at
    const begun = performance.now();
    try {
      const answer = await fetch(/** @type {string} */ (url), { headers: tag ? { "If-None-Match": tag } : {}, cache: "no-store", credentials: "same-origin" });
      if (answer.ok) {
        const text = await answer.text(), took = performance.now() - begun;
        tag = answer.headers.get("ETag") ?? "";
        await take(JSON.parse(text));
        wait = Math.min(MOST, Math.max(LEAST, 5 * took));
      }
      if (answer.ok || answer.status === 304) { last = new Date(); say(`Live · ${clock(last)}`); }
      else if (answer.status === 404 || answer.status === 410) { wait = MOST; say("This run is gone.", false); }
      else { wait = AWAY; say(`The server answers ${answer.status}; last news ${clock(last)}`, false); }
    } catch (error) {
      if (!(error instanceof TypeError)) throw error; // no answer is a TypeError, all else is ours
      wait = AWAY;
      say(`No answer from the server; last news ${clock(last)}`, false);
    }
    timer = setTimeout(ask, wait);
  }
  /** @param {{slots: Record<string, string>, blobs: Record<string, string>, data: any}} news */
  async function take(news) {
    const fresh = new RunData(news.data.run, await unpacked(news.blobs), news.data.edges);
    await rest();
    const put = held();
    for (const host of /** @type {any} */ (document.querySelectorAll("[data-slot]"))) {
      const html = news.slots[host.dataset.slot];
      if (html === undefined || shown.get(host) === html) continue;
      host.innerHTML = html; // escaped where it was written, and the page's policy lets no script in it run
      shown.set(host, html);
    }
    view.take(fresh, news.data.markdown);
    put();
    setTimeout(put); // the table of all layers is written after what is seen at first
    document.body.dataset.updates = String(Number(document.body.dataset.updates) + 1);
  }
  addEventListener("scroll", () => { scrolled = performance.now(); }, { passive: true });
  document.addEventListener("visibilitychange", () => { if (!document.hidden) ask(); });
  timer = setTimeout(ask, wait);
}

/**
 * What is looked at stays where it is, whatever grows above it.
 * @returns {() => void} puts it back, as often as it is called
 */
function held() {
  /** @param {string} what */
  const parts = (what) => [...document.querySelectorAll(what)].map((part) => ({ part, ...seat(part) })).filter((p) => p.bottom > p.top);
  if (parts("header.page")[0].bottom > 0) return () => {}; // who looks at the verdict sees what comes below it
  const all = parts("main > *, .panel");
  const seen = all.find((p) => p.top >= 0 && p.top < innerHeight / 2) ?? all.filter((p) => p.top < 0).pop();
  let before = seen ? seen.top + scrollY : 0; // in the page, for the reader may scroll meanwhile
  return () => {
    if (!seen) return;
    const now = seat(seen.part).top + scrollY;
    if (now !== before) scrollBy({ top: now - before, behavior: "instant" });
    before = now;
  };
}
/** @param {Element} part */
const seat = (part) => { const { top, bottom } = part.getBoundingClientRect(); return { top, bottom }; };

/** @param {Date} date */
const clock = (date) => date.toLocaleTimeString("en-GB");
