// @ts-check
// One layer at one step: its distribution then, and that of the reference behind.

/** @param {View} view */
function momentOf(view) {
  let column = -1, slice = -1;
  /** @type {any} */ let kind = null;
  const plot = new Plot($("moment-plot"), {
    height: () => 150, gutter: () => (narrow() ? 14 : 40), top: 8, tools: $("moment-tools"), label: "Histogram of the layer at the chosen step, over that of the reference",
    get title() { return `${view.layer} ${view.run.sites[view.site]?.label ?? ""} at ${slice < 0 ? "" : sliceWords(slice)}`; },
    draw: (g, box) => {
      if (slice < 0 || !kind) return;
      const { run, site } = view, [lo, hi] = kind.span, pad = 0.03 * (hi - lo);
      // A vertical scale, laid on its side.
      const scale = vertical(kind.name, lo - pad, hi + pad, 0, box.w, kind.unit);
      const across = (/** @type {number} */ v) => box.x + box.w - scale.at(v);
      const now = heights(run, site, slice, scale, box.w), then = heights(run, site, kind.first, scale, box.w);
      const top = Math.max(...now, ...then) || 1, plotted = box.h - 18;
      g.strokeStyle = ink.line; g.fillStyle = ink.quiet; g.textAlign = "center"; g.lineWidth = 1;
      let free = -Infinity;
      for (const v of kind.name === "linear" ? niceTicks(lo, hi, box.w / 90) : [...scale.ticks].sort((a, b) => across(a) - across(b))) {
        const px = Math.round(across(v)) + 0.5, half = g.measureText(three(v)).width / 2;
        if (px - half < free) continue;
        free = px + half + 12;
        g.beginPath(); g.moveTo(px, box.y); g.lineTo(px, box.y + plotted + 4); g.stroke();
        g.fillText(three(v), px, box.y + plotted + 12);
      }
      for (const [values, colour, alpha] of /** @type {[Float64Array, string, number][]} */ ([[then, ink.faint, 0.28], [now, ink.accent, 0.24]])) {
        const floor = box.y + plotted, inner = Array.from(values, (v, i) => [box.x + i + 0.5, floor - (plotted * v) / top]);
        /** @type {any} */ const trace = [[box.x, floor], ...inner, [box.x + box.w, floor]];
        g.fillStyle = colour; g.globalAlpha = alpha; filled(g, trace, trace.map((/** @type {number[]} */ [px]) => [px, floor]));
        g.globalAlpha = 1; g.strokeStyle = colour; g.lineWidth = 1.4; stroked(g, trace);
      }
    },
    data: () => {
      const { run, site } = view, head = run.json.shades[site], rows = [];
      for (let b = 0; head && b < head[2]; b++) {
        const [p, q] = [kind.first, slice].map((s) => run.share(site, s, b));
        if (p || q) rows.push([run.binEdges[head[1] + b], run.binEdges[head[1] + b + 1], p, q]);
      }
      return { heads: ["From", "To", "Share in the reference", "Share now"], rows };
    },
  });
  /** @param {number} s */
  function sliceWords(s) {
    const { first, last } = view.run.json.slices;
    return first[s] === last[s] ? `step ${whole(first[s])}` : `steps ${whole(first[s])}–${whole(last[s])}`;
  }
  $("unpin").addEventListener("click", () => view.time.pin(null));

  function show() {
    const { run, site, time } = view, head = site < 0 ? null : run.json.shades[site], t = site < 0 ? null : run.tracks(site);
    const there = time.pinned !== null && head && t;
    $("moment").hidden = !there;
    slice = -1;
    if (!there) return;
    column = run.column(time.pinned ?? 0);
    /** @param {number} s */
    const filled = (s) => run.share(site, s, -1) > 0;
    const all = run.sliceEdges.length - 1;
    slice = Math.max(0, Math.min(all - 1, below(run.sliceEdges, time.pinned ?? 0)));
    while (slice > 0 && !filled(slice)) slice--; // the last one known, as in evaluation
    let first = 0;
    while (first < all && !filled(first)) first++;
    const span = bulk(run, site) ?? [0, 1];
    kind = { span, first, unit: t.unit, name: view.axis || (Math.max(Math.abs(span[0]), Math.abs(span[1])) > 12 * t.unit ? "symlog" : "linear") };
    $("moment-title").replaceChildren(`At ${sliceWords(slice)}`, h("span", {}, dot(ink.accent, "box"), "then"), h("span", {}, dot(ink.faint, "box"), `reference, ${sliceWords(first)}`), $("moment-tools"));
    const figures = [["mean", three(t.mean[column])], ["std", three(t.std[column])], ["median", three(t.q[2][column])], ["5 to 95 %", `${three(t.q[0][column])} to ${three(t.q[4][column])}`],
      ...run.metrics.filter((/** @type {any} */ m) => !["mean", "std"].includes(m.key)).map((/** @type {any} */ m) => [m, run.series(m.key, site)?.[column]])
        .filter(([, v]) => v !== undefined && !Number.isNaN(v)).map(([m, v]) => [m.title, reading(m.key, v)])];
    $("moment-figures").replaceChildren(...figures.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));
    plot.redraw();
  }
  view.on("site", show);
  view.time.pinners.push(show);
  return show;
}

/**
 * Density per pixel of the axis, evened out over the width of its bins.
 * @param {RunData} run @param {number} site @param {number} slice @param {any} scale @param {number} width
 */
function heights(run, site, slice, scale, width) {
  const [, first, bins] = run.json.shades[site], n = Math.round(width), out = new Float64Array(n), sum = new Float64Array(n + 1), widths = new Float64Array(n).fill(1);
  for (let b = 0; b < bins; b++) {
    const left = Math.max(-n, width - scale.at(run.binEdges[first + b])), right = Math.min(2 * n, width - scale.at(run.binEdges[first + b + 1]));
    const weight = run.share(site, slice, b), span = Math.max(1, right - left), start = right - left < 1 ? (left + right) / 2 - 0.5 : left;
    for (let p = Math.max(0, Math.floor(start)); p < Math.min(n, start + span); p++) {
      out[p] += (weight * Math.max(0, Math.min(p + 1, start + span) - Math.max(p, start))) / span;
      widths[p] = Math.max(widths[p], span);
    }
  }
  for (let p = 0; p < n; p++) sum[p + 1] = sum[p] + out[p];
  /** @param {number} q */
  const mass = (q) => sum[Math.max(0, Math.min(n, Math.round(q)))];
  // Bins about zero are narrower than what a sample can tell.
  return out.map((_, p) => { const w = Math.max(widths[p], 0.012 * n); return (mass(p + 0.5 + w) - mass(p + 0.5 - w)) / (2 * w); });
}
