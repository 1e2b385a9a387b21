// The page of one run. Everything shown comes from the JSON and the blobs in this file.

await start(async () => {
  const page = JSON.parse($("data").textContent);
  const run = new RunData(page.run, await blobsOf(""), page.edges);
  theme();
  const time = new Time(run.edges[0] ?? 0, run.edges[run.columns] ?? 1);
  const longest = Math.max(0, ...run.layers.map((/** @type {any} */ l) => l.name.length));
  const gutter = () => (narrow() ? 96 : Math.max(92, Math.min(220, 24 + 6.6 * longest)));
  const empty = !run.columns || !run.sites.length;
  for (const id of ["charts", "layer", "all"]) $(id).hidden = empty;
  if (empty) return;

  // ---- what is shown ----
  const incident = run.json.incidents.filter((/** @type {any} */ i) => i.severity !== "info")
    .sort((/** @type {any} */ a, /** @type {any} */ b) => a.step - b.step)[0];
  const cause = run.alerts.find((/** @type {any} */ a) => incident && a.incident === incident.number) ?? run.alerts[0];
  const modes = ["train", "eval"].filter((m) => run.sites.some((/** @type {any} */ s) => s.mode === m));
  const TENSORS = ["output", "input", "gradient", "weight", "update"];
  const state = { mode: modes[0], tensor: "output", metric: "", filter: /(?:)/, layer: "", site: -1, axis: "" };

  const INPUT = "<input>";
  /** The model's input stands above the outputs. @param {string} tensor @param {string} [mode] */
  const sitesOf = (tensor, mode = state.mode) =>
    run.order.filter((/** @type {number} */ i) => run.sites[i].mode === mode
      && (run.sites[i].tensor === tensor || (tensor === "output" && run.sites[i].name === INPUT)));
  const tensors = () => [...TENSORS, ...new Set(run.sites.map((/** @type {any} */ s) => s.tensor))]
    .filter((t, i, all) => all.indexOf(t) === i
      && sitesOf(t).some((/** @type {number} */ s) => hasData(s) && (t === "output" || run.sites[s].name !== INPUT)));
  /** @param {number} site */
  function hasData(site) { return !!run.json.tracks[site] || run.metrics.some((/** @type {any} */ m) => run.row(m.key, site)); }
  const metrics = () => run.metrics.filter((/** @type {any} */ m) => sitesOf(state.tensor).some((/** @type {number} */ s) => run.row(m.key, s)));
  const mapRows = () => sitesOf(state.tensor).filter((/** @type {number} */ s) => state.filter.test(run.sites[s].name));

  // ---- loss and events ----
  const losses = Float64Array.from(run.json.losses, (v) => real(v));
  const hasLoss = losses.some(Number.isFinite);
  const events = run.json.events;
  const loud = run.alerts.filter((/** @type {any} */ a) => a.severity !== "info");
  $("loss-title").replaceChildren(...[
    hasLoss ? "Loss" : "Alerts and events",
    loud.length && h("span", {}, dot(ink.critical), "alert"),
    events.length && h("span", {}, dot(ink.third), "event, such as a new learning rate"),
  ].filter(Boolean));
  $("strip-panel").hidden = !hasLoss && !events.length && !run.alerts.length;
  const strip = new Chart($("strip"), time, {
    height: () => (hasLoss ? 96 : 26), gutter, label: "Loss over time, with alerts and events", top: 8,
    draw: (g, box, x) => {
      const plot = { ...box, h: box.h - (hasLoss && events.length ? 12 : 0) };
      if (hasLoss) {
        const known = losses.filter((v) => Number.isFinite(v));
        const [lo, hi] = /** @type {[number, number]} */ (extent([known]));
        const log = lo > 0 && hi / lo > 30;
        const pad = log ? (hi / lo) ** 0.06 : 0.06 * (hi - lo);
        const scale = log ? vertical("log", lo / pad, hi * pad, plot.y, plot.h) : vertical("linear", lo - pad, hi + pad, plot.y, plot.h);
        valueAxis(g, plot, scale);
        inside(g, plot, () => polyline(g, run.edges, losses, x, scale, ink.text, { width: 1.5, joined: true }));
        inside(g, plot, () => {
          g.fillStyle = ink.wild;
          losses.forEach((v, i) => { if (v === Infinity || v === -Infinity) g.fillRect(x(run.edges[i]), plot.y, 3, plot.h); });
        });
      }
      inside(g, { x: box.x - 6, y: 0, w: box.w + 12, h: box.y + box.h + 8 }, () => {
        alertMarks(g, plot, run.alerts, x);
        g.fillStyle = ink.third;
        for (const e of events) {
          const px = x(e.step), y = box.y + box.h - 3;
          g.globalAlpha = events.length > 60 ? 0.5 : 0.9;
          g.beginPath(); g.moveTo(px, y - 4); g.lineTo(px + 4, y); g.lineTo(px, y + 4); g.lineTo(px - 4, y); g.closePath(); g.fill();
        }
        g.globalAlpha = 1;
      });
    },
    tip: (step) => {
      const c = run.column(step), reach = ((time.hi - time.lo) / strip.box.w) * 6;
      const near = [...run.alerts.map((/** @type {any} */ a) => [a.step, a.message]), ...events.map((/** @type {any} */ e) => [e.step, `${e.kind.replaceAll("_", " ")}: ${e.detail}`])]
        .filter(([s]) => Math.abs(s - step) <= reach);
      return [
        `Step ${whole(run.json.time.last[c])}`,
        hasLoss ? ["Loss", fmt(losses[c])] : null,
        ...near.slice(0, 4).map(([s, words]) => `Step ${whole(s)}: ${words}`),
        near.length > 4 ? `and ${near.length - 4} more` : null,
      ];
    },
  });

  // ---- the map ----
  const map = new HeatMap($("map"), time, run, {
    gutter, label: "Map of layers over time. Arrow keys move, Enter opens the layer.",
    open: (site) => openSite(site), say: (text) => { $("readout").textContent = text; },
  });
  const metricSelect = $("metric");
  metricSelect.addEventListener("change", () => { state.metric = metricSelect.value; showMap(); showLayer(); });
  $("filter").addEventListener("input", () => {
    const input = $("filter");
    try { state.filter = new RegExp(input.value, "i"); input.classList.remove("bad"); } catch { input.classList.add("bad"); return; }
    showMap();
  });
  $("reset").addEventListener("click", () => time.reset());
  time.listeners.push(() => { $("reset").hidden = !time.zoomed; });

  function controls() {
    const words = { output: "Output", input: "Input", gradient: "Gradient", weight: "Weight", update: "Update" };
    segmented($("tensor"), "Tensor", tensors().map((t) => [t, /** @type {any} */ (words)[t] ?? t]), state.tensor, (t) => {
      state.tensor = t;
      controls(); showMap();
      const other = sitesOf(t).find((/** @type {number} */ s) => run.sites[s].name === state.layer);
      if (other !== undefined) openSite(other, false);
      showTable();
    });
    $("mode").hidden = modes.length < 2;
    segmented($("mode"), "Mode", [["train", "Training"], ["eval", "Evaluation"]], state.mode, (m) => {
      state.mode = m;
      if (!tensors().includes(state.tensor)) state.tensor = tensors()[0] ?? "output";
      controls(); showMap();
      const twin = sitesOf(state.tensor).find((/** @type {number} */ s) => run.sites[s].name === state.layer) ?? mapRows()[0];
      if (twin !== undefined) openSite(twin, false);
      showTable();
    });
    const offered = metrics();
    if (!offered.some((/** @type {any} */ m) => m.key === state.metric)) state.metric = offered[0]?.key ?? "";
    metricSelect.replaceChildren(...offered.map((/** @type {any} */ m) => h("option", { value: m.key }, m.title)));
    metricSelect.value = state.metric;
  }
  function showMap() {
    const metric = run.metric(state.metric), rows = metric ? mapRows() : [];
    const scale = metric ? colourScale(metric, [reachOf(run, metric.key, sitesOf(state.tensor))]) : null;
    map.selected = state.site;
    map.show(metric, rows, scale, state.mode === "eval");
    if (metric) legend($("legend"), metric, scale, map.has); else $("legend").replaceChildren();
    const all = sitesOf(state.tensor).length;
    $("shown").textContent = rows.length === all ? "" : `${rows.length} of ${all}`;
    $("metric-words").textContent = metric ? metric.words : "";
  }

  // ---- one layer ----
  const COMPARED = new Set(["mean_shift", "variance_shift", "kl", "reverse_kl", "gaussian_kl", "js", "psi", "wasserstein", "ks", "hellinger", "octaves"]);
  /** @type {Chart[]} */ let charts = [];
  /** @param {number} site @param {boolean} [scroll] */
  function openSite(site, scroll = false) {
    state.site = site; state.layer = run.sites[site].name;
    map.selected = sitesOf(state.tensor).find((/** @type {number} */ s) => s === site)
      ?? sitesOf(state.tensor).find((/** @type {number} */ s) => run.sites[s].name === state.layer) ?? -1;
    map.chart.redraw();
    showLayer();
    if (scroll) $("layer").scrollIntoView();
  }
  /** @param {string} name @param {boolean} [scroll] */
  function openLayer(name, scroll = true) {
    const here = run.order.filter((/** @type {number} */ i) => run.sites[i].name === name && hasData(i));
    const best = here.find((/** @type {number} */ i) => run.sites[i].tensor === state.tensor && run.sites[i].mode === state.mode)
      ?? here.find((/** @type {number} */ i) => run.sites[i].mode === state.mode) ?? here[0];
    if (best !== undefined) openSite(best, scroll);
  }
  /** @param {number} by */
  function neighbour(by) {
    const rows = mapRows().filter(hasData), at = rows.findIndex((/** @type {number} */ s) => run.sites[s].name === state.layer);
    const to = rows[Math.max(0, Math.min(rows.length - 1, at + by))];
    if (to !== undefined) openSite(to);
  }
  $("previous").addEventListener("click", () => neighbour(-1));
  $("next").addEventListener("click", () => neighbour(1));

  /** @param {string} colour @param {string} [kind] */
  function dot(colour, kind = "dot") { const i = h("i", { class: kind }); i.style.background = colour; return i; }

  /**
   * A titled chart of the open layer.
   * @param {string} title @param {any[][]} keys colour, words, shape @param {number} height
   * @param {(g: CanvasRenderingContext2D, box: any, x: (s: number) => number) => void} draw
   * @param {(column: number) => any[]} tipLines
   */
  function track(title, keys, height, draw, tipLines) {
    const marks = run.alerts.filter((/** @type {any} */ a) => a.layer === state.layer);
    const host = h("div", { class: "track" }, h("h3", {}, title,
      keys.map(([colour, words, shape]) => h("span", {}, colour ? dot(colour, shape ?? "") : null, words))));
    $("tracks").append(host);
    charts.push(new Chart(host, time, {
      height: () => height, gutter, label: `${title} of ${state.layer} over time`,
      draw: (g, box, x) => { draw(g, box, x); alertMarks(g, box, marks, x); },
      tip: (step) => {
        const c = run.column(step), from = run.json.time.first[c], to = run.json.time.last[c];
        const near = marks.filter((/** @type {any} */ a) => Math.abs(charts[0].x(a.step) - charts[0].x(step)) < 5);
        return [from === to ? `Step ${whole(from)}` : `Steps ${whole(from)}–${whole(to)}`, ...tipLines(c),
          ...near.slice(0, 3).map((/** @type {any} */ a) => a.message)];
      },
    }));
  }
  /**
   * Lines of several series on one scale.
   * @param {string} title @param {{name: string, values: Float64Array, colour: string}[]} lines @param {string} kind
   * @param {{height?: number, share?: boolean, limits?: number[], zero?: boolean, key?: string}} [o]
   */
  function lineTrack(title, lines, kind, o = {}) {
    const joined = run.sites[state.site].mode === "eval";
    const word = o.share ? percent : (/** @type {number} */ v) => fmt(v, 3);
    track(title, lines.length > 1 || o.share || o.limits?.length ? [...(lines.length > 1 || o.share ? lines.map((l) => [l.colour, l.name]) : []), ...(o.limits?.length ? [[ink.critical, "limit"]] : [])] : [], o.height ?? 92,
      (g, box, x) => {
        const known = kind === "log" ? lines.map((l) => l.values.map((v) => (v > 0 ? v : NaN))) : lines.map((l) => l.values);
        const span = extent([...known, Float64Array.from(o.limits ?? [])]);
        if (!span) { g.fillStyle = ink.quiet; g.textAlign = "left"; g.fillText("No finite value.", box.x + 8, box.y + box.h / 2); return; }
        let [lo, hi] = span;
        if (o.share) { lo = 0; hi = hi > 0.5 ? 1 : Math.max(0.02, hi * 1.15); }
        else if (kind === "linear") { if (o.zero) { lo = Math.min(lo, 0); hi = Math.max(hi, 0); } const pad = 0.08 * (hi - lo || Math.abs(hi) || 1); lo -= lo < 0 || !o.zero ? pad : 0; hi += pad; }
        else if (kind === "log") { const pad = hi / lo < 4 ? 2 : (hi / lo) ** 0.07; lo /= pad; hi *= pad; }
        const typical = lines.length ? median(lines[0].values) || 1 : 1;
        const far = kind === "linear" && !o.share && Math.max(Math.abs(lo), Math.abs(hi)) > 300 * typical;
        const scale = vertical(far ? "symlog" : kind, lo, hi, box.y, box.h, typical);
        valueAxis(g, box, scale, word);
        inside(g, box, () => {
          for (const limit of o.limits ?? []) {
            g.strokeStyle = ink.critical; g.lineWidth = 1; g.setLineDash([5, 4]);
            g.beginPath(); g.moveTo(box.x, scale.at(limit)); g.lineTo(box.x + box.w, scale.at(limit)); g.stroke(); g.setLineDash([]);
          }
          // On a logarithmic axis zero lies at the bottom: a gradient that is gone is seen.
          for (const l of lines) polyline(g, run.edges, kind === "log" ? l.values.map((v) => (v <= 0 ? lo : v)) : l.values, x, scale, l.colour, { joined });
        });
      },
      (c) => lines.map((l) => [l.name, word(l.values[c]), l.colour]));
  }
  /** Median size of what is not zero. @param {Float64Array} values */
  function median(values) {
    const sizes = values.map(Math.abs).filter((v) => Number.isFinite(v) && v > 0).sort();
    return sizes.length ? sizes[sizes.length >> 1] : 0;
  }

  function showLayer() {
    for (const chart of charts) chart.remove();
    charts = [];
    $("tracks").replaceChildren();
    const site = state.site;
    if (site < 0) { $("layer").hidden = true; return; }
    const s = run.sites[site], layer = run.layers[s.layer], joined = s.mode === "eval";
    $("layer-name").textContent = s.name;
    $("layer-words").textContent = [layer?.module, layer?.activation && layer.activation !== layer.module?.toLowerCase() ? `activation ${layer.activation}` : "",
      layer?.norm ? `${layer.norm} normalisation` : "", s.mode === "eval" ? "evaluation" : ""].filter(Boolean).join(" · ");
    const own = run.order.filter((/** @type {number} */ i) => run.sites[i].name === s.name && run.sites[i].mode === s.mode && hasData(i));
    segmented($("site"), "Tensor of this layer", own.map((/** @type {number} */ i) => [String(i), run.sites[i].part === run.sites[i].tensor ? run.sites[i].tensor : run.sites[i].label]), String(site), (v) => openSite(Number(v)));
    const t = run.tracks(site);
    const reference = run.json.reference.sites[site]?.map(real);
    const span = t ? extent(t.q) : null;
    const range = span ? Math.max(Math.abs(span[0]), Math.abs(span[1])) : 0;
    const kind = state.axis || (t && range > 12 * t.unit ? "symlog" : "linear");
    $("axis").hidden = !t;
    segmented($("axis"), "Axis of values", [["linear", "Linear"], ["symlog", "Logarithmic far out"]], kind, (v) => { state.axis = v; showLayer(); });
    if (t && span) {
      const lo = Math.min(span[0], ...(reference ?? [])), hi = Math.max(span[1], ...(reference ?? []));
      /** @param {any} box */
      const values = (box) => vertical(kind, lo - 0.04 * (hi - lo), hi + 0.04 * (hi - lo), box.y, box.h, t.unit);
      track("Percentiles", [[ink.accent, "5, 15, 50, 85, 95 %"], ...(reference ? [[ink.faint, `reference, ${run.json.reference.later[site] ?? run.json.reference.words}`, "box"]] : [])], 176, (g, box, x) => {
        const scale = values(box);
        valueAxis(g, box, scale);
        inside(g, box, () => {
          if (reference) {
            g.fillStyle = ink.faint;
            for (const [a, b, alpha] of [[0, 4, 0.13], [1, 3, 0.13]]) {
              g.globalAlpha = alpha;
              g.fillRect(box.x, scale.at(reference[b]), box.w, scale.at(reference[a]) - scale.at(reference[b]));
            }
            g.globalAlpha = 0.8; g.strokeStyle = ink.faint; g.lineWidth = 1; g.setLineDash([2, 3]);
            for (const v of reference) { g.beginPath(); g.moveTo(box.x, scale.at(v)); g.lineTo(box.x + box.w, scale.at(v)); g.stroke(); }
            g.setLineDash([]); g.globalAlpha = 1;
          }
          area(g, run.edges, t.q[0], t.q[4], x, scale, ink.accent, 0.16, joined);
          area(g, run.edges, t.q[1], t.q[3], x, scale, ink.accent, 0.24, joined);
          for (const k of [0, 1, 3, 4]) polyline(g, run.edges, t.q[k], x, scale, ink.accent, { width: 0.9, joined });
          polyline(g, run.edges, t.q[2], x, scale, ink.accent, { width: 2, joined });
        });
      }, (c) => [["95 %", fmt(t.q[4][c], 3)], ["85 %", fmt(t.q[3][c], 3)], ["50 %", fmt(t.q[2][c], 3), ink.accent], ["15 %", fmt(t.q[1][c], 3)], ["5 %", fmt(t.q[0][c], 3)],
        reference ? ["reference median", fmt(reference[2], 3), ink.faint] : null]);
      track("Histogram", [[rgb(ink.density[200]), "darker is denser", "box"]].map(([a, b, c]) => [a, dark.matches ? "brighter is denser" : b, c]), 176, (g, box, x) => {
        const [a, b] = bulk(run, site) ?? [lo, hi];
        const scale = vertical(kind, Math.min(a, lo), Math.max(b, hi), box.y, box.h, t.unit);
        valueAxis(g, box, scale);
        inside(g, box, () => densityMap(g, box, x, run, site, scale, joined));
      }, (c) => [["mean", fmt(t.mean[c], 3)], ["std", fmt(t.std[c], 3)], ["median", fmt(t.q[2][c], 3)]]);
      const low = t.mean.map((m, i) => m - t.std[i]), high = t.mean.map((m, i) => m + t.std[i]);
      track("Mean ± standard deviation", [], 110, (g, box, x) => {
        const [a, b] = extent([low, high]) ?? [0, 1], pad = 0.06 * (b - a);
        const wide = Math.max(Math.abs(a), Math.abs(b)) > 12 * t.unit && kind === "symlog";
        const scale = vertical(wide ? "symlog" : "linear", a - pad, b + pad, box.y, box.h, t.unit);
        valueAxis(g, box, scale);
        inside(g, box, () => {
          area(g, run.edges, low, high, x, scale, ink.fourth, 0.2, joined);
          polyline(g, run.edges, t.mean, x, scale, ink.fourth, { width: 1.8, joined });
        });
      }, (c) => [["mean", fmt(t.mean[c], 3), ink.fourth], ["std", fmt(t.std[c], 3)]]);
    }
    const shares = [["saturation", "saturated", ink.second], ["dead_fraction", "dead units", ink.critical], ["zero_fraction", "zeros", ink.info], ["nonfinite", "not finite", ink.wild]]
      .map(([key, name, colour]) => ({ name, colour, values: run.series(key, site) }))
      .filter((l) => l.values && l.values.some((v) => v > 0));
    if (shares.length) lineTrack("Shares", /** @type {any} */ (shares), "linear", { share: true });
    const metric = run.metric(state.metric), series = metric && run.series(metric.key, site);
    if (series && metric.scale !== "share" && !["std", "mean"].includes(metric.key)) {
      const limits = [...new Set(run.alerts.filter((/** @type {any} */ a) => a.layer === s.name && a.tensor === s.tensor && a.metric === metric.key).map((/** @type {any} */ a) => (real(a.value) * real(a.limit) < 0 ? -real(a.limit) : real(a.limit))))].filter(Number.isFinite);
      lineTrack(COMPARED.has(metric.key) ? `${metric.title} from the reference` : metric.title,
        [{ name: metric.title, values: series, colour: ink.accent }], metric.scale === "log" ? "log" : "linear", { limits, zero: true });
    }
    const pen = [ink.accent, ink.second, ink.fourth, ink.third];
    for (const [tensor, key, title] of [["gradient", "std", "Gradient: standard deviation"], ["update", "relative_update", "Update ÷ weight"]]) {
      const lines = run.order.filter((/** @type {number} */ i) => run.sites[i].name === s.name && run.sites[i].mode === "train" && run.sites[i].tensor === tensor && run.row(key, i))
        .slice(0, 4).map((/** @type {number} */ i, /** @type {number} */ k) => ({ name: run.sites[i].part || tensor, values: /** @type {any} */ (run.series(key, i)), colour: pen[k] }));
      if (lines.length) lineTrack(title, lines, "log");
    }
    const bottom = charts[charts.length - 1];
    if (bottom) bottom.o.axis = true;
    else $("tracks").append(h("p", { class: "quiet" }, "No value was seen here."));
    for (const chart of charts) chart.redraw();
  }

  // ---- the table ----
  const KEYS = ["mean_shift", "variance_shift", "kl", "js", "saturation", "dead_fraction", "zero_fraction", "nonfinite", "std", "relative_update"];
  function showTable() {
    const rows = sitesOf(state.tensor).filter(hasData);
    const keys = KEYS.filter((k) => rows.some((/** @type {number} */ s) => run.json.table[k]?.[s]));
    const scales = Object.fromEntries(keys.map((k) => [k, colourScale(run.metric(k), [reachOf(run, k, rows)])]));
    const heads = [{ head: "Layer" }, { head: "Type" }, ...keys.flatMap((k) => [{ head: "last", group: run.metric(k).title, num: true }, { head: "worst, at step", group: run.metric(k).title, num: true }])];
    const lines = rows.map((/** @type {number} */ site) => {
      const s = run.sites[site], layer = run.layers[s.layer];
      const cells = [map.name(site), layer?.module ?? ""], sort = [site_order.get(site), layer?.module ?? ""];
      for (const k of keys) {
        const entry = run.json.table[k]?.[site];
        if (!entry) { cells.push("–", "–"); sort.push(null, null); continue; }
        const [last, worst] = entry.map(real), scale = scales[k];
        const swatch = h("i", { class: "swatch" });
        swatch.style.background = Number.isFinite(worst) ? rgb(scale.lut[scale.index(worst)]) : ink.wild;
        cells.push(reading(k, last), h("span", {}, swatch, reading(k, worst), h("small", {}, whole(entry[2]))));
        sort.push(Math.abs(last), Math.abs(worst));
      }
      return { cells, sort, open: () => openSite(site, true) };
    });
    sortable($("table"), heads, lines, { column: 0, down: false });
  }
  const site_order = new Map(run.order.map((/** @type {number} */ s, /** @type {number} */ i) => [s, i]));

  document.addEventListener("click", (e) => {
    const link = /** @type {any} */ (e.target).closest?.("a.layer");
    if (!link) return;
    e.preventDefault();
    openLayer(link.dataset.layer);
  });

  // ---- begin where it matters ----
  const begin = cause && cause.layer !== INPUT && tensors().includes(cause.tensor) ? cause.tensor : tensors()[0];
  state.tensor = begin ?? "output";
  state.metric = cause?.metric ?? "";
  controls();
  const first = [incident?.origin, cause?.layer, run.sites[mapRows().find((/** @type {number} */ s) => hasData(s) && run.sites[s].name !== INPUT) ?? mapRows().find(hasData) ?? 0]?.name].find((name) =>
    name && run.sites.some((/** @type {any} */ s) => s.name === name && hasData(s.index)));
  if (first) openLayer(first, false);
  showMap(); showTable();
  if (state.site < 0) showLayer();
  strip.redraw();
  whenever(() => { showMap(); showLayer(); showTable(); strip.redraw(); });
});
