// @ts-check
// The address of what is looked at: #layer=fc2&step=250. It can be sent, kept, and gone back to.

/** @param {View} view */
function addressOf(view) {
  const { run, time } = view, s = run.sites[view.site];
  /** @type {[string, string | number][]} */ const parts = [];
  if (s) {
    parts.push(["layer", s.name]);
    if (s.tensor !== "output") parts.push(["tensor", s.tensor]);
    if (s.part) parts.push(["part", s.part]);
    if (s.mode !== "train") parts.push(["mode", s.mode]);
  }
  if (view.metric) parts.push(["metric", view.metric]);
  if (time.pinned !== null) parts.push(["step", time.pinned]);
  if (time.zoomed) parts.push(["from", Math.round(time.lo)], ["to", Math.round(time.hi)]);
  return `#${parts.map(([k, v]) => `${k}=${encodeURIComponent(String(v).toWellFormed())}`).join("&")}`;
}

/**
 * Go where an address points; what it does not name stays.
 * @param {View} view @param {string} hash
 * @returns {boolean} whether it named a layer or a step of this run
 */
function goTo(view, hash) {
  const wanted = new URLSearchParams(hash.replace(/^#/, "").replaceAll("+", "%2B"));
  if (view.empty || !["layer", "step", "from"].some((k) => wanted.has(k))) return false;
  const name = wanted.get("layer");
  if (name !== null) {
    const mode = wanted.get("mode") ?? "train", tensor = wanted.get("tensor") ?? (wanted.has("metric") ? "output" : undefined);
    if (!view.find(name, tensor, wanted.get("part") ?? undefined, view.modes.includes(mode) ? mode : view.mode)) return false;
    const s = view.run.sites[view.site];
    view.mode = s.mode;
    view.tensor = s.name === INPUT ? "output" : s.tensor;
    view.closed.delete(blockOf(name));
  }
  const metric = wanted.get("metric");
  if (metric !== null && view.run.metric(metric)) view.metric = metric;
  view.settle();
  /** @param {string} key */
  const number = (key) => (wanted.has(key) && Number.isFinite(Number(wanted.get(key))) ? Number(wanted.get(key)) : null);
  const step = number("step"), from = number("from"), to = number("to"), { time } = view;
  if (step !== null) {
    time.pin(step);
    if (step < time.lo || step >= time.hi) time.reset();
  }
  if (from !== null && to !== null && to > from) time.zoom(from, to);
  view.tell("map");
  view.tell("site");
  return true;
}

/** Keep the address in step with the view, and the view with the address. @param {View} view */
function keepAddress(view) {
  let due = 0;
  const write = () => {
    if (view.empty) return;
    try { history.replaceState(null, "", addressOf(view)); } catch { /* a page inside a page has no address of its own */ }
  };
  const note = () => { clearTimeout(due); due = setTimeout(write, 150); }; // Safari allows 100 in 30 s
  /** @param {string} hash @param {boolean} scroll */
  const go = (hash, scroll) => {
    const there = goTo(view, hash);
    clearTimeout(due);
    if (there && scroll) $("layer").scrollIntoView();
    return there;
  };
  addEventListener("hashchange", () => go(location.hash, true));
  document.addEventListener("click", (e) => {
    const link = /** @type {any} */ (e.target).closest?.("a.layer");
    if (!link || e.ctrlKey || e.metaKey || e.shiftKey) return;
    e.preventDefault();
    const hash = link.getAttribute("href");
    if (go(hash, true)) try { history.pushState(null, "", hash); } catch { /* as above */ }
  });
  const there = location.hash && go(location.hash, false);
  view.on("site", note);
  view.on("map", note);
  view.time.pinners.push(note);
  view.time.listeners.push(note);
  return there;
}
