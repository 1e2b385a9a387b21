// The page of two runs: A counts as good, B is asked about.

await start(async () => {
  const page = JSON.parse($("data").textContent);
  const [a, b, against] = await Promise.all(["a", "b", "against"].map(async (name, i) =>
    new RunData(page[name], await blobsOf(`${"abc"[i]}-`), page.edges)));
  theme();
  const firsts = [a, b].filter((r) => r.columns);
  const empty = !against.columns || !against.sites.length;
  for (const id of ["ranked", "charts", "both", "layer"]) $(id).hidden = empty;
  const time = new Time(Math.min(...firsts.map((r) => r.edges[0]), Infinity) || 0, Math.max(...firsts.map((r) => r.edges[r.columns]), 1));
  if (!firsts.length) { $("strip-section").hidden = true; return; }
  const longest = Math.max(0, ...b.layers.map((/** @type {any} */ l) => l.name.length));
  const gutter = () => (narrow() ? 96 : Math.max(92, Math.min(220, 24 + 6.6 * longest)));
  const colours = () => [ink.accent, ink.second];
  const runs = [a, b];

  /** @param {string} colour @param {string} [kind] */
  function dot(colour, kind = "") { const i = h("i", { class: kind }); i.style.background = colour; return i; }

  // ---- both losses ----
  const losses = runs.map((r) => Float64Array.from(r.json.losses, (v) => real(v)));
  const span = extent(losses);
  $("strip-section").hidden = !span && !a.alerts.length && !b.alerts.length;
  const heading = () => $("loss-title").replaceChildren(
    h("span", {}, dot(colours()[0]), "A"), h("span", {}, dot(colours()[1]), "B"),
    h("span", {}, "triangles: alerts, of A above, of B below"));
  const strip = new Chart($("strip"), time, {
    height: () => 120, gutter, axis: true, top: 8, label: "Loss of both runs over time",
    draw: (g, box, x) => {
      if (span) {
        const log = span[0] > 0 && span[1] / span[0] > 30, pad = log ? (span[1] / span[0]) ** 0.06 : 0.06 * (span[1] - span[0]);
        const scale = log ? vertical("log", span[0] / pad, span[1] * pad, box.y, box.h) : vertical("linear", span[0] - pad, span[1] + pad, box.y, box.h);
        valueAxis(g, box, scale);
        inside(g, box, () => runs.forEach((r, i) => polyline(g, r.edges, losses[i], x, scale, colours()[i], { joined: true })));
      }
      runs.forEach((r, i) => {
        for (const alert of r.alerts.filter((/** @type {any} */ q) => q.severity !== "info")) {
          const px = x(alert.step), y = i ? box.y + box.h : box.y, up = i ? -1 : 1;
          if (px < box.x || px > box.x + box.w) continue;
          g.fillStyle = colours()[i];
          g.beginPath(); g.moveTo(px - 4, y - up * 4); g.lineTo(px + 4, y - up * 4); g.lineTo(px, y + up * 4); g.closePath(); g.fill();
        }
      });
    },
    tip: (step) => [`Step ${whole(step)}`, ...runs.map((r, i) => ["Loss of " + "AB"[i], fmt(within(r, step) ? losses[i][r.column(step)] : NaN), colours()[i]]),
      ...runs.flatMap((r, i) => r.alerts.filter((/** @type {any} */ q) => Math.abs(strip.x(q.step) - strip.x(step)) < 6).slice(0, 2).map((/** @type {any} */ q) => `${"AB"[i]}: ${q.message}`))],
  });
  /** @param {RunData} r @param {number} step */
  const within = (r, step) => r.columns > 0 && step >= r.edges[0] && step < r.edges[r.columns];
  $("reset").addEventListener("click", () => time.reset());
  time.listeners.push(() => { $("reset").hidden = !time.zoomed; });
  heading();
  strip.redraw();
  whenever(() => { heading(); strip.redraw(); if (!empty) all(); });
  if (empty) return;

  // ---- differences ----
  const state = { site: against.json.differences[0][0], difference: "", metric: "", filter: /(?:)/, axis: "" };
  const ranked = against.json.differences;
  /** @param {RunData} r @param {number} site of `against` */
  const twin = (r, site) => {
    const s = against.sites[site];
    return r.sites.findIndex((/** @type {any} */ o) => o.name === s.name && o.tensor === s.tensor && o.part === s.part && o.mode === s.mode);
  };
  const difference = new HeatMap($("against"), time, against, {
    gutter, label: "Map of differences over time. Arrow keys move, Enter opens the layer.", open: (site) => open(site), say: (t) => { $("readout").textContent = t; },
  });
  const maps = runs.map((r, i) => new HeatMap($(`map-${"ab"[i]}`), time, r, {
    gutter: () => (narrow() ? 96 : i ? 8 : Math.min(150, gutter())), labels: !i || narrow(), label: `Map of run ${"AB"[i]} over time.`,
    open: (site) => { const at = against.order.find((/** @type {number} */ s) => twin(r, s) === site); if (at !== undefined) open(at); },
    say: (t) => { $("readout").textContent = t; },
  }));
  const shared = () => a.metrics.filter((/** @type {any} */ m) => b.metric(m.key)
    && against.order.some((/** @type {number} */ s) => a.row(m.key, twin(a, s)) && b.row(m.key, twin(b, s))));
  const lead = ranked[0][3];
  state.difference = against.metric(lead) ? lead : against.metrics[0]?.key ?? "";
  const offered = shared();
  state.metric = ["std", "js", "mean_shift"].find((k) => offered.some((/** @type {any} */ m) => m.key === k)) ?? offered[0]?.key ?? "";
  for (const [id, list, key] of /** @type {[string, any[], "difference" | "metric"][]} */ ([["difference", against.metrics, "difference"], ["metric", offered, "metric"]])) {
    $(id).replaceChildren(...list.map((m) => h("option", { value: m.key }, m.title)));
    $(id).value = state[key];
    $(id).addEventListener("change", () => { state[key] = $(id).value; showMaps(); });
  }
  $("filter").addEventListener("input", () => {
    const input = $("filter");
    try { state.filter = new RegExp(input.value, "i"); input.classList.remove("bad"); } catch { input.classList.add("bad"); return; }
    showMaps();
  });

  function showMaps() {
    const rows = against.order.filter((/** @type {number} */ s) => state.filter.test(against.sites[s].name));
    $("shown").textContent = rows.length === against.order.length ? "" : `${rows.length} of ${against.order.length}`;
    const d = against.metric(state.difference);
    if (d) {
      const scale = colourScale(d, [reachOf(against, d.key, against.order)]);
      difference.selected = state.site;
      difference.show(d, rows, scale, false);
      legend($("difference-legend"), d, scale, difference.has);
      $("difference-words").textContent = d.words;
    }
    const m = a.metric(state.metric);
    $("both").hidden = !m;
    if (!m) return;
    // Both plots of one width: only the left one has names.
    $("pair").style.gridTemplateColumns = narrow() ? "" : `calc((100% - 12px + ${maps[0].o.gutter() - maps[1].o.gutter()}px) / 2) minmax(0, 1fr)`;
    const scale = colourScale({ ...m, full: Math.max(m.full, b.metric(m.key).full) }, runs.map((r) => reachOf(r, m.key, against.order.map((/** @type {number} */ s) => twin(r, s)))));
    runs.forEach((r, i) => {
      maps[i].selected = twin(r, state.site);
      maps[i].show(m, rows.map((/** @type {number} */ s) => twin(r, s)), scale, false);
    });
    legend($("legend"), m, scale, { missing: maps.some((x) => x.has.missing), wild: maps.some((x) => x.has.wild) });
    $("metric-words").textContent = m.words;
  }

  function showTable() {
    const keys = against.metrics.map((/** @type {any} */ m) => m.key)
      .filter((/** @type {string} */ k) => ranked.some((/** @type {any} */ d) => d[4][k])); // what is zero everywhere takes no column
    const scales = Object.fromEntries(keys.map((/** @type {string} */ k) => [k, colourScale(against.metric(k), [reachOf(against, k, against.order)])]));
    const heads = [{ head: "Layer" }, { head: "Score", num: true }, { head: "Departs at step", num: true },
      ...keys.map((/** @type {string} */ k) => ({ head: against.metric(k).title, num: true }))];
    const lines = ranked.map((/** @type {any} */ d) => {
      const [site, since, score, , worst] = d;
      return {
        cells: [difference.name(site), h("b", {}, fmt(real(score), 3)), since === null ? "–" : whole(since),
          ...keys.map((/** @type {string} */ k) => {
            if (worst[k] === undefined) return "–";
            const v = real(worst[k]), scale = scales[k], swatch = h("i", { class: "swatch" });
            swatch.style.background = Number.isFinite(v) ? rgb(scale.lut[scale.index(v)]) : ink.wild;
            return h("span", { title: `limit ${fmt(page.limits[k], 3)}` }, swatch, reading(k, v));
          })],
        sort: [site, real(score), since, ...keys.map((/** @type {string} */ k) => (worst[k] === undefined ? null : Math.abs(real(worst[k]))))],
        open: () => open(site, true),
      };
    });
    sortable($("table"), heads, lines, { column: 1, down: true });
  }

  // ---- one layer of both ----
  /** @type {Chart[]} */ let charts = [];
  /** @param {number} site @param {boolean} [scroll] */
  function open(site, scroll = false) {
    state.site = site;
    showMaps(); showLayer();
    if (scroll) $("layer").scrollIntoView();
  }
  /** @param {number} by */
  function neighbour(by) {
    const at = ranked.findIndex((/** @type {any} */ d) => d[0] === state.site);
    open(ranked[Math.max(0, Math.min(ranked.length - 1, at + by))][0]);
  }
  $("previous").addEventListener("click", () => neighbour(-1));
  $("next").addEventListener("click", () => neighbour(1));

  /**
   * @param {string} title @param {any[][]} keys @param {number} height
   * @param {(g: CanvasRenderingContext2D, box: any, x: (s: number) => number) => void} draw @param {(step: number) => any[]} lines
   */
  function track(title, keys, height, draw, lines) {
    const host = h("div", { class: "track" }, h("h3", {}, title, keys.map(([colour, words]) => h("span", {}, dot(colour), words))));
    $("tracks").append(host);
    charts.push(new Chart(host, time, {
      height: () => height, gutter, label: `${title} of both runs over time`, draw,
      tip: (step) => [`Step ${whole(step)}`, ...lines(step)],
    }));
  }
  const key = () => [[colours()[0], "A"], [colours()[1], "B"]];

  function showLayer() {
    for (const chart of charts) chart.remove();
    charts = [];
    $("tracks").replaceChildren();
    const s = against.sites[state.site], entry = ranked.find((/** @type {any} */ d) => d[0] === state.site);
    $("layer-name").textContent = difference.name(state.site);
    $("layer-words").textContent = [against.layers[s.layer].module, entry[1] === null ? "does not depart" : `departs at step ${whole(entry[1])}`].filter(Boolean).join(" · ");
    const sites = runs.map((r) => twin(r, state.site)), tracks = runs.map((r, i) => r.tracks(sites[i]));
    const all = tracks.flatMap((t) => (t ? t.q : [])), range = extent(all);
    const unit = Math.max(...tracks.map((t) => t?.unit ?? 0)) || 1;
    const kind = state.axis || (range && Math.max(Math.abs(range[0]), Math.abs(range[1])) > 12 * unit ? "symlog" : "linear");
    segmented($("axis"), "Axis of values", [["linear", "Linear"], ["symlog", "Logarithmic far out"]], kind, (v) => { state.axis = v; showLayer(); });
    if (range) track("Percentiles 5, 15, 50, 85, 95", key(), 210, (g, box, x) => {
      const pad = 0.04 * (range[1] - range[0]);
      const scale = vertical(kind, range[0] - pad, range[1] + pad, box.y, box.h, unit);
      valueAxis(g, box, scale);
      inside(g, box, () => tracks.forEach((t, i) => {
        if (!t) return;
        area(g, runs[i].edges, t.q[0], t.q[4], x, scale, colours()[i], 0.14);
        area(g, runs[i].edges, t.q[1], t.q[3], x, scale, colours()[i], 0.22);
        for (const k of [0, 1, 3, 4]) polyline(g, runs[i].edges, t.q[k], x, scale, colours()[i], { width: 0.8 });
        polyline(g, runs[i].edges, t.q[2], x, scale, colours()[i], { width: 2 });
      }));
    }, (step) => tracks.flatMap((t, i) => {
      if (!t || !within(runs[i], step)) return [];
      const c = runs[i].column(step);
      return [["AB"[i] + " median", fmt(t.q[2][c], 3), colours()[i]], ["AB"[i] + " 5 … 95 %", `${fmt(t.q[0][c], 3)} … ${fmt(t.q[4][c], 3)}`]];
    }));
    for (const [name, title] of [["std", "Standard deviation"], ["saturation", "Saturation"], ["dead_fraction", "Dead units"], ["zero_fraction", "Zeros"], ["nonfinite", "Non-finite"]]) {
      const series = runs.map((r, i) => r.series(name, sites[i]));
      const share = SHARES.has(name), bounds = extent(series.map((v) => v ?? []));
      if (!bounds || (share && bounds[1] <= 0)) continue;
      track(title, key(), 88, (g, box, x) => {
        let [lo, hi] = bounds;
        const log = name === "std" && lo > 0 && hi / lo > 30;
        if (share) { lo = 0; hi = hi > 0.5 ? 1 : Math.max(0.02, hi * 1.15); } else if (!log) { const pad = 0.08 * (hi - lo || hi); lo -= pad; hi += pad; }
        const scale = vertical(log ? "log" : "linear", lo, hi, box.y, box.h);
        valueAxis(g, box, scale, share ? percent : undefined);
        inside(g, box, () => series.forEach((v, i) => v && polyline(g, runs[i].edges, v, x, scale, colours()[i])));
      }, (step) => series.map((v, i) => ["AB"[i], v && within(runs[i], step) ? reading(name, v[runs[i].column(step)]) : "–", colours()[i]]));
    }
    const metric = against.metric(state.difference), row = metric && against.series(metric.key, state.site);
    if (row) track(`${metric.title}, B against A`, [[ink.critical, "limit"]], 92, (g, box, x) => {
      const limit = page.limits[metric.key], [lo, hi] = extent([row, [limit, metric.scale === "signed" ? -limit : 0]]) ?? [0, 1], pad = 0.08 * (hi - lo);
      const scale = vertical("linear", lo - (lo < 0 ? pad : 0), hi + pad, box.y, box.h);
      valueAxis(g, box, scale, SHARES.has(metric.key) ? percent : undefined);
      inside(g, box, () => {
        g.strokeStyle = ink.critical; g.lineWidth = 1; g.setLineDash([5, 4]);
        for (const v of metric.scale === "signed" ? [limit, -limit] : [limit]) { g.beginPath(); g.moveTo(box.x, scale.at(v)); g.lineTo(box.x + box.w, scale.at(v)); g.stroke(); }
        g.setLineDash([]);
        polyline(g, against.edges, row, x, scale, ink.text, { width: 1.5 });
      });
    }, (step) => [[metric.title, within(against, step) ? reading(metric.key, row[against.column(step)]) : "–"]]);
    const bottom = charts[charts.length - 1];
    if (bottom) bottom.o.axis = true;
    else $("tracks").append(h("p", { class: "quiet" }, "No value was seen here."));
    for (const chart of charts) chart.redraw();
  }

  document.addEventListener("click", (e) => {
    const link = /** @type {any} */ (e.target).closest?.("a.layer");
    if (!link) return;
    e.preventDefault();
    const at = against.order.find((/** @type {number} */ s) => against.sites[s].name === link.dataset.layer);
    if (at !== undefined) open(at, true);
  });
  function all() { showTable(); showMaps(); showLayer(); }
  all();
});
