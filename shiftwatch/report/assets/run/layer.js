// @ts-check
// One layer: how its values were spread over time, with the reference behind, and what follows from it.

/** Metrics that hold a window against the reference. */
const COMPARED = new Set(["mean_shift", "variance_shift", "kl", "reverse_kl", "gaussian_kl", "js", "psi", "wasserstein", "ks", "hellinger", "octaves"]);
const SHARE_TRACKS = () => [["saturation", "saturated", ink.second], ["dead_fraction", "dead units", ink.critical], ["zero_fraction", "zeros", ink.info], ["nonfinite", "not finite", ink.wild]];

/** @param {View} view */
function layerOf(view) {
  const tracks = new Tracks(view, $("tracks"));
  /** @param {number} by */
  const neighbour = (by) => {
    const rows = view.shown.filter((/** @type {number} */ s) => view.hasData(s));
    const at = rows.findIndex((/** @type {number} */ s) => view.run.sites[s].name === view.layer);
    const to = rows[Math.max(0, Math.min(rows.length - 1, at + by))];
    if (to !== undefined) view.open(to);
  };
  $("previous").addEventListener("click", () => neighbour(-1));
  $("next").addEventListener("click", () => neighbour(1));

  let lasting = 0; // charts that do not ask for the metric
  function show() {
    const { run, site } = view;
    tracks.clear();
    $("layer").hidden = site < 0;
    if (site < 0) return;
    head();
    const t = run.tracks(site), span = t && extent(t.q);
    const kind = view.axis || (t && span && Math.max(Math.abs(span[0]), Math.abs(span[1])) > 12 * t.unit ? "symlog" : "linear");
    $("axis").hidden = !t;
    segmented($("axis"), "Axis of values", [["linear", "Linear"], ["symlog", "Logarithmic far out"]], kind, (v) => { view.axis = v; show(); });
    if (t && span) distribution(t, span, kind);
    shares();
    unitMap(tracks);
    lasting = tracks.charts.length;
    rest(0);
  }

  /** @param {number} from the first chart that is new */
  function rest(from) {
    metric();
    training();
    tracks.done(from);
  }

  function head() {
    const { run, site } = view, s = run.sites[site], layer = run.layers[s.layer];
    $("layer-name").textContent = s.name;
    $("layer-words").textContent = [layer?.module, layer?.activation && layer.activation !== layer.module?.toLowerCase() ? `activation ${layer.activation}` : "",
      layer?.norm ? `${layer.norm} normalisation` : "", s.mode === "eval" ? "evaluation" : ""].filter(Boolean).join(" · ");
    const own = run.order.filter((/** @type {number} */ i) => run.sites[i].name === s.name && run.sites[i].mode === s.mode && view.hasData(i));
    segmented($("site"), "Tensor of this layer", own.map((/** @type {number} */ i) => [String(i), capital(run.sites[i].part === run.sites[i].tensor ? run.sites[i].tensor : run.sites[i].label)]), String(site), (v) => view.open(Number(v)));
  }

  /** Percentiles, histogram, mean and standard deviation. @param {any} t @param {[number, number]} span @param {string} kind */
  function distribution(t, span, kind) {
    const { run, site } = view, joined = run.sites[site].mode === "eval";
    const reference = run.json.reference.sites[site]?.map(real);
    const lo = Math.min(span[0], ...(reference ?? [])), hi = Math.max(span[1], ...(reference ?? []));
    const names = ["5 %", "15 %", "50 %", "85 %", "95 %"];
    tracks.add("Percentiles", [[ink.accent, "5, 15, 50, 85, 95 %"], ...(reference ? [[ink.faint, `reference, ${run.json.reference.later[site] ?? run.json.reference.words}`, "box"]] : [])], 176, (g, box, x) => {
      const scale = vertical(kind, lo - 0.04 * (hi - lo), hi + 0.04 * (hi - lo), box.y, box.h, t.unit);
      valueAxis(g, box, scale);
      inside(g, box, () => {
        if (reference) bandsBehind(g, box, scale, reference);
        area(g, run.edges, t.q[0], t.q[4], x, scale, ink.accent, 0.16, joined);
        area(g, run.edges, t.q[1], t.q[3], x, scale, ink.accent, 0.24, joined);
        for (const k of [0, 1, 3, 4]) polyline(g, run.edges, t.q[k], x, scale, ink.accent, { width: 0.9, joined });
        polyline(g, run.edges, t.q[2], x, scale, ink.accent, { width: 2, joined });
      });
    }, [4, 3, 2, 1, 0].map((k) => ({ name: names[k], values: t.q[k], colour: k === 2 ? ink.accent : undefined })),
    reference ? ["reference median", three(reference[2]), ink.faint] : null);

    /** @type {any} */ let picture, /** @type {any} */ colours; // the same for all steps in view
    tracks.add("Histogram", [[rgb(ink.density[200]), `${night() ? "brighter" : "darker"} is denser`, "box"]], 176, (g, box, x) => {
      const [a, b] = bulk(run, site) ?? [lo, hi];
      const scale = vertical(kind, Math.min(a, lo), Math.max(b, hi), box.y, box.h, t.unit);
      valueAxis(g, box, scale);
      if (colours !== ink.density) { colours = ink.density; picture = densityPicture(box, run, site, scale); }
      inside(g, box, () => densityMap(g, box, x, run.sliceEdges, picture, joined));
    }, [{ name: "mean", values: t.mean }, { name: "std", values: t.std }, { name: "median", values: t.q[2] }]);

    const low = t.mean.map((/** @type {number} */ m, /** @type {number} */ i) => m - t.std[i]), high = t.mean.map((/** @type {number} */ m, /** @type {number} */ i) => m + t.std[i]);
    tracks.add("Mean ± standard deviation", [], 110, (g, box, x) => {
      const [a, b] = extent([low, high]) ?? [0, 1], pad = 0.06 * (b - a);
      const wide = Math.max(Math.abs(a), Math.abs(b)) > 12 * t.unit && kind === "symlog";
      const scale = vertical(wide ? "symlog" : "linear", a - pad, b + pad, box.y, box.h, t.unit);
      valueAxis(g, box, scale);
      inside(g, box, () => {
        area(g, run.edges, low, high, x, scale, ink.fourth, 0.2, joined);
        polyline(g, run.edges, t.mean, x, scale, ink.fourth, { width: 1.8, joined });
      });
    }, [{ name: "mean", values: t.mean, colour: ink.fourth }, { name: "std", values: t.std }]);
  }

  function shares() {
    const lines = SHARE_TRACKS().map(([key, name, colour]) => ({ name, colour, values: view.run.series(key, view.site) }))
      .filter((l) => l.values && l.values.some((v) => v > 0));
    if (lines.length) tracks.lines("Shares", /** @type {any} */ (lines), "linear", { share: true });
  }

  /** The metric of the map. */
  function metric() {
    const { run, site } = view, s = run.sites[site], metric = run.metric(view.metric), series = metric && run.series(metric.key, site);
    if (!series || metric.scale === "share" || ["std", "mean"].includes(metric.key)) return;
    const limits = [...new Set(run.alerts.filter((/** @type {any} */ a) => a.layer === s.name && a.tensor === s.tensor && a.metric === metric.key)
      .map((/** @type {any} */ a) => (real(a.value) * real(a.limit) < 0 ? -real(a.limit) : real(a.limit))))].filter(Number.isFinite);
    tracks.lines(COMPARED.has(metric.key) ? `${metric.title} from the reference` : metric.title,
      [{ name: metric.title, values: series, colour: ink.accent }], metric.scale === "log" ? "log" : "linear", { limits, zero: true });
  }

  /** How it learns: gradient, and update against weight. */
  function training() {
    const { run } = view, pen = [ink.accent, ink.second, ink.fourth, ink.third];
    for (const [tensor, key, title] of [["gradient", "std", "Gradient: standard deviation"], ["update", "relative_update", "Update ÷ weight"]]) {
      const lines = run.order.filter((/** @type {number} */ i) => run.sites[i].name === view.layer && run.sites[i].mode === "train" && run.sites[i].tensor === tensor && run.row(key, i))
        .slice(0, 4).map((/** @type {number} */ i, /** @type {number} */ k) => ({ name: run.sites[i].part || tensor, values: /** @type {any} */ (run.series(key, i)), colour: pen[k] }));
      if (lines.length) tracks.lines(title, lines, "log");
    }
  }
  view.on("site", show);
  view.on("metric", () => { if (view.site >= 0) { tracks.clear(lasting); rest(lasting); } });
  return show;
}

/** The reference's percentiles behind those of the run. @param {any} g @param {any} box @param {any} scale @param {number[]} reference */
function bandsBehind(g, box, scale, reference) {
  g.fillStyle = ink.faint;
  for (const [a, b] of [[0, 4], [1, 3]]) {
    g.globalAlpha = 0.13;
    g.fillRect(box.x, scale.at(reference[b]), box.w, scale.at(reference[a]) - scale.at(reference[b]));
  }
  g.globalAlpha = 0.8; g.strokeStyle = ink.faint; g.lineWidth = 1; g.setLineDash([2, 3]);
  for (const v of reference) { g.beginPath(); g.moveTo(box.x, scale.at(v)); g.lineTo(box.x + box.w, scale.at(v)); g.stroke(); }
  g.setLineDash([]); g.globalAlpha = 1;
}
