// @ts-check
// The map of all layers, and what chooses its metric, its tensor and its rows.

/** @param {View} view */
function mapOf(view) {
  const tools = $("map-tools");
  const map = new HeatMap($("map"), view.time, view.run, {
    gutter: () => gutterOf(view), label: "Map of layers over time. Arrow keys move, Enter opens the layer.", tools,
    title: () => `${view.run.metric(view.metric)?.title ?? ""} of the ${view.tensor}s over time`,
    open: (site, step) => { if (step !== undefined) view.time.pin(step); view.open(site); },
    fold: (block) => view.fold(block),
    say: (text) => { $("readout").textContent = text; },
  });
  $("metric").addEventListener("change", () => view.measure($("metric").value));
  $("filter").addEventListener("input", () => {
    const input = $("filter");
    try { view.filter = new RegExp(input.value, "i"); input.classList.remove("bad"); } catch { input.classList.add("bad"); return; }
    show();
  });
  $("fold").addEventListener("click", () => {
    const all = blocksOf(view.run, view.shown);
    view.closed = new Set(all.every((b) => view.closed.has(b)) ? [] : all);
    view.tell("map");
  });
  $("reset").addEventListener("click", () => view.time.reset());
  view.time.listeners.push(() => {
    const { time } = view;
    $("reset").hidden = !time.zoomed;
    $("range").textContent = time.zoomed ? `Steps ${whole(time.lo)}–${whole(Math.max(time.lo, time.hi - 1))}.` : "Drag to zoom, double click to reset.";
  });

  function controls() {
    const { tensors, modes, metrics } = view;
    const words = { output: "Output", input: "Input", gradient: "Gradient", weight: "Weight", update: "Update" };
    segmented($("tensor"), "Tensor", tensors.map((t) => [t, /** @type {any} */ (words)[t] ?? t]), view.tensor, (t) => view.look(t));
    $("mode").hidden = modes.length < 2;
    segmented($("mode"), "Mode", [["train", "Training"], ["eval", "Evaluation"]], view.mode, (m) => view.look(view.tensor, m));
    const select = $("metric"), known = [...select.options].map((o) => o.value).join("\n");
    if (known !== metrics.map((/** @type {any} */ m) => m.key).join("\n"))
      select.replaceChildren(...metrics.map((/** @type {any} */ m) => h("option", { value: m.key }, m.title)));
    select.value = view.metric;
  }
  function show() {
    const { run } = view, metric = run.metric(view.metric), sites = view.sitesOf(), shown = metric ? view.shown : [];
    map.run = run;
    const scale = metric ? colourScale(metric, [reachOf(run, metric.key, sites)]) : null;
    mark();
    const rows = inBlocks(run, shown, view.closed);
    map.show(metric, rows, scale, view.mode === "eval");
    if (metric) legend($("legend"), metric, scale, map.has); else $("legend").replaceChildren();
    $("shown").textContent = shown.length === sites.length ? "" : `${shown.length} of ${sites.length}`;
    const blocks = rows.filter((r) => typeof r !== "number");
    $("fold").hidden = !blocks.length;
    $("fold").textContent = blocks.every((/** @type {any} */ b) => !b.open) ? "Unfold blocks" : "Fold blocks";
    $("metric-words").textContent = metric ? metric.words : "";
  }
  /** The row of the open layer. */
  function mark() {
    const sites = view.sitesOf();
    map.selected = sites.includes(view.site) ? view.site : sites.find((/** @type {number} */ s) => view.run.sites[s].name === view.layer) ?? -1;
  }
  const all = () => { controls(); show(); };
  view.on("map", all);
  view.on("site", () => { mark(); map.chart.redraw(); });
  return { show: all, name: (/** @type {number} */ site) => map.name(site) };
}
