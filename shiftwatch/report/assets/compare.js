// The page of a comparison: every run after the first is held against the first, A.

await start(async () => {
  const page = JSON.parse($("data").textContent);
  /** @type {string[]} */ const names = page.names;
  const runs = await Promise.all(page.runs.map(async (/** @type {any} */ json, /** @type {number} */ i) => new RunData(json, await blobsOf(`r${i}-`), page.edges)));
  /** The edges of each run's columns, in steps. @type {number[][]} */
  const stepEdges = runs.map((r) => r.edges);
  const measures = page.measures;
  const state = { other: page.lead, align: page.align, measure: "", layer: 0, filter: /(?:)/, axis: "" };
  theme();

  // ---- the common axis ----
  /** On the line through known points, which goes on beyond them. @param {number[]} xs ascending @param {number[]} ys @param {number} x */
  function between(xs, ys, x) {
    const k = Math.max(0, Math.min(xs.length - 2, below(xs, x)));
    return ys[k] + ((x - xs[k]) / (xs[k + 1] - xs[k])) * (ys[k + 1] - ys[k]);
  }
  /** Where a step of a run lies on it. @param {number} run @param {number} step */
  function place(run, step) {
    const { steps, epochs } = page.axes[run];
    if (state.align === "share") return (100 * step) / steps;
    if (state.align !== "epoch") return step;
    return between(epochs.steps, epochs.done, step);
  }
  const unit = () => ({ step: "step", share: "%", epoch: "epoch" })[/** @type {"step"} */ (state.align)];
  /** @param {number} at */
  const moment = (at) => (state.align === "share" ? `${fmt(at, 3)} % of training` : state.align === "epoch" ? `Epoch ${fmt(at, 3)}` : `Step ${whole(at)}`);
  /** The step of a run that lies there. @param {number} run @param {number} at */
  function stepAt(run, at) {
    const { steps, epochs } = page.axes[run];
    if (state.align === "share") return Math.round((at * steps) / 100);
    if (state.align !== "epoch") return Math.round(at);
    return Math.round(between(epochs.done, epochs.steps, at));
  }
  const time = new Time(0, 1);
  function stretch() {
    runs.forEach((r, i) => { r.edges = stepEdges[i].map((s) => place(i, s)); });
    const first = Math.min(...runs.map((r) => r.edges[0])), last = Math.max(...runs.map((r) => r.edges[r.columns]));
    Object.assign(time, { first, last, lo: first, hi: last });
  }
  /** Columns in view, or all. @param {RunData} r @param {boolean} all @returns {number[]} */
  const columnsOf = (r, all) => { const [from, to] = r.between(time, all); return Array.from({ length: to - from + 1 }, (_, i) => from + i); };
  /** @param {RunData} r @param {number} at */
  const within = (r, at) => r.columns > 0 && at >= r.edges[0] && at < r.edges[r.columns];
  /** The axis says in what it counts. @param {any} chart */
  function counted(chart) {
    chart.o.unit = unit;
    return chart;
  }

  // ---- what is held against what: three tables of one run against the first ----
  /** @type {Map<string, any>} */ const views = new Map();
  for (let i = 0; i < page.against.length; i++)
    for (const align of page.alignments) {
      const json = page.against[i][align], blobs = await blobsOf(`c${i}-${align}-`);
      const edges = json.at.map((/** @type {number} */ v) => (align === "share" ? 100 * v : v));
      /** @param {any} maps @param {any} span */
      const table = (maps, span) => {
        const data = new RunData({ ...json, maps, time: span }, blobs, page.edges);
        data.edges = edges;
        data.metrics = measures.filter((/** @type {any} */ m) => maps[m.key]);
        return data;
      };
      const a = table(json.sizes[0], json.time_a), b = table(json.sizes[1], json.time);
      json.pairs.forEach((/** @type {string[]} */ [name], /** @type {number} */ k) => { a.sites[k].name = name; });
      views.set(`${i} ${align}`, { json, difference: table(json.maps, json.time), sides: [a, b] });
    }
  const view = () => views.get(`${state.other} ${state.align}`);
  const compared = () => [0, state.other + 1];
  const measure = () => view().difference.metrics.find((/** @type {any} */ m) => m.key === state.measure) ?? view().difference.metrics[0];
  const palette = () => [ink.accent, ink.second, ink.fourth, ink.third];
  /** @param {number} run */
  const colour = (run) => palette()[run % 4];
  /** @param {string} shade @param {string} [kind] */
  function spot(shade, kind = "") { const i = h("i", { class: kind }); i.style.background = shade; return i; }
  /** @param {number} run */
  const key = (run) => h("span", {}, spot(colour(run)), names[run]);
  const longest = Math.max(0, ...page.against.flatMap((/** @type {any} */ of) => of[page.align].pairs.flatMap((/** @type {string[]} */ p) => [p[0].length, p[1].length])));
  const gutter = () => (narrow() ? 96 : Math.max(92, Math.min(220, 24 + 6.6 * longest)));

  // ---- losses and learning rates ----
  const losses = runs.map((r) => Float64Array.from(r.json.losses, (v) => real(v)));
  const span = extent(losses);
  const rates = runs.map((r) => Float64Array.from(r.json.rates.length ? r.json.rates : r.json.time.first.map(() => null), (v) => real(v)));
  const hasRate = !!extent(rates);
  const serious = runs.map((r) => r.alerts.filter((/** @type {any} */ q) => q.severity !== "info"));
  $("strip").hidden = !span;
  $("strip-heading").textContent = hasRate ? (span ? "Loss and learning rate" : "Learning rate") : "Loss";
  const lossTools = h("span", { class: "tools-place" });
  const strip = counted(new Chart($("strip"), time, {
    title: `Loss of ${names.join(", ")}`, tools: lossTools,
    data: (all) => ({
      heads: ["Run", "First step", "Last step", "Loss"],
      rows: runs.flatMap((r, i) => columnsOf(r, all).map((c) => [names[i], r.json.time.first[c], r.json.time.last[c], losses[i][c]])),
    }),
    height: () => 120, gutter, axis: !hasRate, top: 8, label: "Loss of the runs over time",
    draw: (g, box, x) => {
      if (!span) return;
      const log = span[0] > 0 && span[1] / span[0] > 30, pad = log ? (span[1] / span[0]) ** 0.06 : 0.06 * (span[1] - span[0]);
      const scale = log ? vertical("log", span[0] / pad, span[1] * pad, box.y, box.h) : vertical("linear", span[0] - pad, span[1] + pad, box.y, box.h);
      valueAxis(g, box, scale);
      inside(g, box, () => runs.forEach((r, i) => polyline(g, r.edges, losses[i], x, scale, colour(i), { joined: true })));
      serious.forEach((alerts, i) => {
        for (const alert of alerts) {
          const px = x(place(i, alert.step)), y = box.y - 1;
          if (px < box.x || px > box.x + box.w) continue;
          g.fillStyle = colour(i);
          g.beginPath(); g.moveTo(px - 5, y - 5); g.lineTo(px + 5, y - 5); g.lineTo(px, y + 4); g.closePath(); g.fill();
        }
      });
    },
    tip: (at) => [moment(at), ...runs.map((r, i) => [names[i], fmt(within(r, at) ? losses[i][r.column(at)] : NaN), colour(i)]),
      ...serious.flatMap((alerts, i) => alerts.filter((/** @type {any} */ q) => Math.abs(strip.x(place(i, q.step)) - strip.x(at)) < 6).slice(0, 2).map((/** @type {any} */ q) => `${names[i]}: ${q.message}`))],
  }));
  /** @type {any} */ let rate = null;
  const rateTools = h("span", { class: "tools-place" });
  if (hasRate) rate = counted(new Chart($("rates"), time, {
    title: `Learning rate of ${names.join(", ")}`, tools: rateTools,
    data: (all) => ({
      heads: ["Run", "First step", "Last step", "Learning rate"],
      rows: runs.flatMap((r, i) => columnsOf(r, all).map((c) => [names[i], r.json.time.first[c], r.json.time.last[c], rates[i][c]])),
    }),
    height: () => 64, gutter, axis: true, label: "Learning rate of the runs over time",
    draw: (g, box, x) => {
      const scale = rateScale(box, Float64Array.from(rates.flatMap((v) => [...v])));
      valueAxis(g, box, scale);
      inside(g, { ...box, y: box.y - 1, h: box.h + 2 }, () => runs.forEach((r, i) => polyline(g, r.edges, rates[i], x, scale, colour(i), { joined: true })));
    },
    tip: (at) => [moment(at), ...runs.map((r, i) => [names[i], fmt(within(r, at) ? rates[i][r.column(at)] : NaN), colour(i)])],
  }));
  $("reset").addEventListener("click", () => time.reset());
  time.listeners.push(() => { $("reset").hidden = !time.zoomed; });
  $("unpin").addEventListener("click", () => time.pin(null));
  time.pinners.push((at) => {
    $("unpin").hidden = at === null;
    $("unpin").textContent = at === null ? "" : `Unmark ${moment(at).toLowerCase()}`;
  });
  function showStrip() {
    $("loss-title").hidden = !span;
    $("loss-title").replaceChildren("Loss", ...runs.map((_, i) => key(i)), ...(serious.some((q) => q.length) ? [h("span", {}, "triangles: alerts")] : []), lossTools);
    strip.redraw();
    if (!rate) return;
    $("rates").hidden = false;
    $("rate-title").replaceChildren("Learning rate", ...runs.map((_, i) => key(i)), rateTools);
    rate.redraw();
  }

  // ---- maps ----
  const say = (/** @type {string} */ text) => { $("readout").textContent = text; };
  const open = (/** @type {number} */ layer, /** @type {number | undefined} */ at) => { if (at !== undefined) time.pin(at); choose(layer); };
  const against = () => `${names[state.other + 1]} against ${names[0]}`;
  const big = new HeatMap($("difference"), time, view().difference, { gutter, tools: $("difference-tools"), title: () => `${against()}: ${measure().title}, difference`, label: "Map of differences over time. Arrow keys move, Enter opens the layer.", open, say });
  const sideTools = [0, 1].map(() => h("span", { class: "tools-place" }));
  const sides = ["a", "b"].map((id, i) => new HeatMap($(`map-${id}`), time, view().sides[i], {
    tools: sideTools[i], title: () => `${names[compared()[i]]}: ${measure().size?.title ?? ""}`,
    gutter: () => (narrow() ? 96 : i ? 8 : Math.min(150, gutter())), labels: !i || narrow(), open, say,
    label: `Map of ${i ? "the run in question" : "the first run"} over time. Arrow keys move, Enter opens the layer.`,
  }));
  for (const map of [big, ...sides]) counted(map.chart);

  let changed = () => {};
  function showMaps() {
    changed();
    const { difference, sides: tables } = view(), m = measure(), [a, b] = compared();
    const known = difference.order.filter((/** @type {number} */ s) => difference.row(m.key, s));
    const layers = known.filter((/** @type {number} */ s) => state.filter.test(difference.sites[s].name) || state.filter.test(tables[0].sites[s].name));
    $("shown").textContent = layers.length === known.length ? "" : `${layers.length} of ${known.length}`;
    $("charts-title").textContent = against();
    $("measure").replaceChildren(...difference.metrics.map((/** @type {any} */ o) => h("option", { value: o.key }, o.title)));
    $("measure").value = m.key;
    $("difference-title").textContent = `${m.title}: difference`;
    $("difference-words").textContent = m.words.replaceAll("B's", "its").replace(/\bB\b/g, names[b]).replace(/\bA\b/g, names[a]);
    const scale = colourScale(m, [reachOf(difference, m.key, difference.order)]);
    difference.alerts = [];
    Object.assign(big, { run: difference, selected: state.layer });
    big.show(m, layers, scale, false);
    legend($("difference-legend"), m, scale, big.has);
    $("both").hidden = !m.size || !tables.every((/** @type {any} */ t) => t.rows.has(m.key));
    if ($("both").hidden) return;
    const size = { ...m.size, key: m.key };
    $("both-title").textContent = `${size.title}, side by side`;
    // Both plots of one width: only the left one has names.
    $("pair").style.gridTemplateColumns = narrow() ? "" : `calc((100% - 12px + ${sides[0].o.gutter() - sides[1].o.gutter()}px) / 2) minmax(0, 1fr)`;
    const common = colourScale(size, tables.map((/** @type {any} */ t) => reachOf(t, m.key, t.order)));
    sides.forEach((map, i) => {
      const run = compared()[i];
      $(`of-${"ab"[i]}`).replaceChildren(key(run), sideTools[i]);
      tables[i].alerts = serious[run].map((/** @type {any} */ q) => ({ ...q, step: place(run, q.step), tensor: tables[i].sites[0].tensor }));
      Object.assign(map, { run: tables[i], selected: state.layer });
      map.show(size, layers, common, false);
    });
    legend($("legend"), size, common, { missing: sides.some((x) => x.has.missing), wild: sides.some((x) => x.has.wild) });
  }
  $("measure").addEventListener("change", () => { state.measure = $("measure").value; showMaps(); showLayer(); });
  $("filter").addEventListener("input", () => {
    const input = $("filter");
    try { state.filter = new RegExp(input.value, "i"); input.classList.remove("bad"); } catch { input.classList.add("bad"); return; }
    showMaps();
  });

  // ---- the ranking ----
  const ranked = () => view().json.differences;
  function showTable() {
    const keys = view().difference.metrics.map((/** @type {any} */ m) => m.key);
    const heads = [{ head: "Layer" }, { head: "Score", num: true }, { head: "From step", num: true },
      ...keys.map((/** @type {string} */ k) => ({ head: measures.find((/** @type {any} */ m) => m.key === k).title, num: true }))];
    const lines = ranked().map((/** @type {any} */ [layer, words, score, since, , , scores]) => ({
      cells: [h("button", { type: "button", class: "link", title: words || null }, big.name(layer)), h("b", {}, fmt(real(score), 3)), since === null ? "–" : whole(since),
        ...keys.map((/** @type {string} */ k) => (scores[k] === undefined ? "–" : h("span", { class: real(scores[k]) >= 1 ? "over" : "under" }, fmt(real(scores[k]), 2))))],
      sort: [layer, real(score), since, ...keys.map((/** @type {string} */ k) => (scores[k] === undefined ? null : real(scores[k])))],
      open: () => choose(layer, true),
    }));
    sortable($("table"), heads, lines, { column: 1, down: true });
  }

  // ---- one layer of both ----
  /** @type {any[]} */ let charts = [];
  /** @param {number} layer @param {boolean} [scroll] */
  function choose(layer, scroll = false) {
    state.layer = layer;
    showMaps(); showLayer();
    if (scroll) $("layer").scrollIntoView();
  }
  /** @param {number} by */
  function neighbour(by) {
    const list = ranked(), at = list.findIndex((/** @type {any} */ d) => d[0] === state.layer);
    choose(list[Math.max(0, Math.min(list.length - 1, at + by))][0]);
  }
  $("previous").addEventListener("click", () => neighbour(-1));
  $("next").addEventListener("click", () => neighbour(1));

  /**
   * @param {string} title @param {any[]} keys @param {number} height
   * @param {(g: any, box: any, x: (s: number) => number) => void} draw @param {(at: number) => any[]} lines
   * @param {(all: boolean) => {heads: string[], rows: any[][]}} data
   */
  function track(title, keys, height, draw, lines, data) {
    const tools = h("span", { class: "tools-place" }), host = h("div", { class: "track" }, h("h3", {}, title, keys, tools));
    $("tracks").append(host);
    charts.push(counted(new Chart(host, time, {
      height: () => height, gutter, label: `${title} of both runs over time`, draw, tools, data,
      title: `${against()}, ${$("layer-name").textContent}: ${title}`,
      tip: (at) => [moment(at), ...lines(at)],
    })));
  }

  function showLayer() {
    for (const chart of charts) chart.remove();
    charts = [];
    $("tracks").replaceChildren();
    const { json, difference, sides: tables } = view(), pair = json.pairs[state.layer], both = compared();
    const entry = ranked().find((/** @type {any} */ d) => d[0] === state.layer);
    $("layer-name").textContent = difference.sites[state.layer].name;
    $("layer-words").textContent = [difference.layers[state.layer].module, pair[0] !== pair[1] && `${pair[0]} in ${names[0]}`, entry[1] || "does not depart"].filter(Boolean).join(" · ");
    const keys = () => both.map((run) => key(run));
    const sites = both.map((run, i) => runs[run].sites.findIndex((/** @type {any} */ s) => s.name === pair[i]));
    const tracks = both.map((run, i) => (sites[i] < 0 ? null : runs[run].tracks(sites[i])));
    const range = extent(tracks.flatMap((t) => (t ? t.q : [])));
    const width = Math.max(...tracks.map((t) => t?.unit ?? 0)) || 1;
    const kind = state.axis || (range && Math.max(Math.abs(range[0]), Math.abs(range[1])) > 12 * width ? "symlog" : "linear");
    segmented($("axis"), "Axis of values", [["linear", "Linear"], ["symlog", "Logarithmic far out"]], kind, (v) => { state.axis = v; showLayer(); });
    if (range) track("Percentiles 5, 15, 50, 85, 95", keys(), 210, (g, box, x) => {
      const pad = 0.04 * (range[1] - range[0]);
      const scale = vertical(kind, range[0] - pad, range[1] + pad, box.y, box.h, width);
      valueAxis(g, box, scale);
      inside(g, box, () => tracks.forEach((t, i) => {
        if (!t) return;
        const { edges } = runs[both[i]], shade = colour(both[i]);
        area(g, edges, t.q[0], t.q[4], x, scale, shade, 0.14);
        area(g, edges, t.q[1], t.q[3], x, scale, shade, 0.22);
        for (const k of [0, 1, 3, 4]) polyline(g, edges, t.q[k], x, scale, shade, { width: 0.8 });
        polyline(g, edges, t.q[2], x, scale, shade, { width: 2 });
      }));
    }, (at) => tracks.flatMap((t, i) => {
      const run = runs[both[i]];
      if (!t || !within(run, at)) return [];
      const c = run.column(at);
      return [[`${names[both[i]]}, median`, fmt(t.q[2][c], 3), colour(both[i])], ["5 … 95 %", `${fmt(t.q[0][c], 3)} … ${fmt(t.q[4][c], 3)}`]];
    }), (all) => ({
      heads: ["Run", "First step", "Last step", "5 %", "15 %", "50 %", "85 %", "95 %"],
      rows: tracks.flatMap((t, i) => {
        const r = runs[both[i]];
        return t ? columnsOf(r, all).map((c) => [names[both[i]], r.json.time.first[c], r.json.time.last[c], ...t.q.map((/** @type {any} */ q) => q[c])]) : [];
      }),
    }));
    /** @param {string[]} heads @param {any[]} series @returns {(all: boolean) => {heads: string[], rows: any[][]}} */
    const paired = (heads, series) => (all) => ({
      heads: ["First step", "Last step", ...heads],
      rows: columnsOf(difference, all).map((c) => [json.time.first[c], json.time.last[c], ...series.map((v) => v?.[c] ?? NaN)]),
    });
    const chosen = measure();
    const row = difference.series(chosen.key, state.layer);
    if (row) track(`${chosen.title}: difference`, [h("span", {}, spot(ink.critical), "limit")], 92, (g, box, x) => {
      const { limit } = chosen, [lo, hi] = extent([row, [limit, chosen.scale === "signed" ? -limit : 0]]) ?? [0, 1], pad = 0.08 * (hi - lo);
      const scale = vertical("linear", lo - (lo < 0 ? pad : 0), hi + pad, box.y, box.h);
      valueAxis(g, box, scale, SHARES.has(chosen.key) ? percent : undefined);
      inside(g, box, () => {
        g.strokeStyle = ink.critical; g.lineWidth = 1; g.setLineDash([5, 4]);
        for (const v of chosen.scale === "signed" ? [limit, -limit] : [limit]) { g.beginPath(); g.moveTo(box.x, scale.at(v)); g.lineTo(box.x + box.w, scale.at(v)); g.stroke(); }
        g.setLineDash([]);
        polyline(g, difference.edges, row, x, scale, ink.text, { width: 1.5 });
      });
    }, (at) => [[chosen.title, within(difference, at) ? reading(chosen.key, row[difference.column(at)]) : "–"]], paired([chosen.title], [row]));
    for (const m of measures) {
      if (!m.size) continue;
      const series = tables.map((/** @type {any} */ t) => t.series(m.key, state.layer));
      const share = SHARES.has(m.key), bounds = extent(series.map((/** @type {any} */ v) => v ?? []));
      if (!bounds || (share && bounds[1] <= 0)) continue;
      track(m.size.title, keys(), 88, (g, box, x) => {
        let [lo, hi] = bounds;
        const log = m.size.scale === "log" && lo > 0 && hi / lo > 10;
        if (share) { lo = 0; hi = hi > 0.5 ? 1 : Math.max(0.02, hi * 1.15); } else if (!log) { const pad = 0.08 * (hi - lo || Math.abs(hi) || 1); lo -= pad; hi += pad; }
        const scale = vertical(log ? "log" : "linear", lo, hi, box.y, box.h);
        valueAxis(g, box, scale, share ? percent : undefined);
        inside(g, box, () => series.forEach((/** @type {any} */ v, /** @type {number} */ i) => v && polyline(g, difference.edges, v, x, scale, colour(both[i]))));
      }, (at) => series.map((/** @type {any} */ v, /** @type {number} */ i) => [names[both[i]], v && within(difference, at) ? reading(m.key, v[difference.column(at)]) : "–", colour(both[i])]),
      paired(both.map((run) => names[run]), series));
    }
    const bottom = charts[charts.length - 1];
    if (bottom) bottom.o.axis = true;
    else $("tracks").append(h("p", { class: "quiet" }, "No value was seen here."));
    for (const chart of charts) chart.redraw();
  }

  // ---- choices ----
  function showChoices() {
    $("choices").hidden = names.length < 3 && page.alignments.length < 2;
    $("other").hidden = names.length < 3;
    $("align").hidden = page.alignments.length < 2;
    segmented($("other"), "Run held against the first", names.slice(1).map((name, i) => [String(i), name]), String(state.other), (v) => { state.other = Number(v); lead(); all(); });
    /** @type {Record<string, string>} */ const words = { step: "By step", epoch: "By epoch", share: "By share of training" };
    segmented($("align"), "How moments are matched", page.alignments.map((/** @type {string} */ k) => [k, words[k]]), state.align, (v) => { align(v); lead(); all(); time.zoom(time.first, time.last); });
  }
  /** The largest difference leads. */
  function lead() {
    const [layer, , , , , told] = ranked()[0];
    Object.assign(state, { layer, measure: told });
  }
  /** What is marked stays marked. @param {string} how */
  function align(how) {
    const run = state.other + 1, step = time.pinned === null ? null : stepAt(run, time.pinned);
    state.align = how;
    stretch();
    if (step !== null) time.pin(place(run, step));
  }

  // ---- the address: steps are those of the run that is held against the first ----
  function address() {
    const run = state.other + 1;
    /** @type {[string, string | number][]} */ const parts = names.length > 2 ? [["run", run]] : [];
    parts.push(["layer", view().json.pairs[state.layer][1]], ["measure", measure().key]);
    if (state.align !== page.align) parts.push(["align", state.align]);
    if (time.pinned !== null) parts.push(["step", stepAt(run, time.pinned)]);
    if (time.zoomed) parts.push(["from", stepAt(run, time.lo)], ["to", stepAt(run, time.hi)]);
    return hashOf(parts);
  }
  /** @param {string} hash */
  function goTo(hash) {
    const { words, number } = readHash(hash), name = words.get("layer");
    if (name === null) return false;
    const how = words.get("align") ?? "", run = number("run") ?? state.other + 1;
    if (!names[run]) return false;
    const other = run ? run - 1 : state.other, by = page.alignments.includes(how) ? how : state.align;
    const at = views.get(`${other} ${by}`).json.pairs.findIndex((/** @type {string[]} */ p) => p[run ? 1 : 0] === name);
    if (at < 0) return false;
    state.other = other;
    if (by !== state.align) align(by);
    const told = ranked().find((/** @type {any} */ d) => d[0] === at)[5], asked = words.get("measure");
    Object.assign(state, { layer: at, measure: measures.some((/** @type {any} */ m) => m.key === asked) ? asked : told || state.measure });
    all();
    const step = number("step"), from = number("from"), to = number("to");
    if (step !== null) { time.pin(place(run, step)); if (step < stepAt(run, time.lo) || step >= stepAt(run, time.hi)) time.reset(); }
    if (from !== null && to !== null && to > from) time.zoom(place(run, from), place(run, to));
    return true;
  }
  function all() { showChoices(); showStrip(); showTable(); showMaps(); showLayer(); }
  stretch();
  lead();
  const { note, there } = keepHash(address, goTo);
  if (!there) all();
  changed = note;
  time.pinners.push(note);
  time.listeners.push(note);
  whenever(all);
});
