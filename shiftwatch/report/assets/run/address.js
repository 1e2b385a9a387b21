// @ts-check
// What the address of a report names: layer, tensor, part, mode, metric, step and the steps in view.

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
  return hashOf(parts);
}

/**
 * Go where an address points; what it does not name stays.
 * @param {View} view @param {string} hash
 * @returns {boolean} whether it named a layer or a step of this run
 */
function goTo(view, hash) {
  const { words: wanted, number } = readHash(hash);
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
  const step = number("step"), from = number("from"), to = number("to"), { time } = view;
  if (step !== null) {
    time.pin(step);
    if (step < time.lo || step >= time.hi) time.reset();
  }
  if (from !== null && to !== null && to > from) time.zoom(from, to);
  if (name === null && metric === null) return true; // the times were told
  view.tell("site"); // which reads the layout, and so comes before what changes it
  view.tell("map");
  return true;
}

/** @param {View} view */
function keepAddress(view) {
  const { note } = keepHash(() => (view.empty ? "" : addressOf(view)), (hash) => goTo(view, hash));
  view.on("site", note);
  view.on("map", note);
  view.time.pinners.push(note);
  view.time.listeners.push(note);
}
