// @ts-check
// All layers in figures: the last window of each, and the worst of the run.

const FIGURES = ["mean_shift", "variance_shift", "kl", "js", "saturation", "dead_fraction", "zero_fraction", "nonfinite", "std", "relative_update"];

/** @param {View} view @param {(site: number) => string} name */
function overviewOf(view, name) {
  const by = { column: 0, down: false }; // how it is sorted, kept when the run grows
  function show() {
    const { run } = view, place = new Map(run.order.map((/** @type {number} */ s, /** @type {number} */ i) => [s, i]));
    const rows = view.sitesOf().filter((/** @type {number} */ s) => view.hasData(s));
    const keys = FIGURES.filter((k) => rows.some((/** @type {number} */ s) => run.json.table[k]?.[s]));
    const scales = Object.fromEntries(keys.map((k) => [k, colourScale(run.metric(k), [reachOf(run, k, rows)])]));
    const heads = [{ head: "Layer" }, { head: "Type" }, ...keys.flatMap((k) => [{ head: "last", group: run.metric(k).title, num: true }, { head: "worst, at step", group: run.metric(k).title, num: true }])];
    const lines = rows.map((/** @type {number} */ site) => {
      const s = run.sites[site], layer = run.layers[s.layer];
      const link = h("a", { class: "layer", href: `#layer=${encodeURIComponent(s.name.toWellFormed())}` }, name(site));
      const cells = [link, layer?.module ?? ""], sort = [place.get(site), layer?.module ?? ""];
      for (const k of keys) {
        const entry = run.json.table[k]?.[site];
        if (!entry) { cells.push("–", "–"); sort.push(null, null); continue; }
        const [last, worst] = entry.map(real), scale = scales[k];
        const swatch = h("i", { class: "swatch" });
        swatch.style.background = Number.isFinite(worst) ? rgb(scale.lut[scale.index(worst)]) : ink.wild;
        cells.push(reading(k, last), h("span", {}, swatch, reading(k, worst), h("small", {}, whole(entry[2]))));
        sort.push(Math.abs(last), Math.abs(worst));
      }
      return { cells, sort, open: () => { view.open(site); $("layer").scrollIntoView(); } };
    });
    sortable($("table"), heads, lines, by);
  }
  let shown = "";
  view.on("map", () => { // only the tensor and the mode matter here
    const now = `${view.tensor} ${view.mode}`;
    if (now !== shown) { shown = now; show(); }
  });
  shown = `${view.tensor} ${view.mode}`;
  return show;
}
