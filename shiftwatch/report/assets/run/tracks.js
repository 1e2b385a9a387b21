// @ts-check
// The charts of one layer, one under the other over the same steps.

class Tracks {
  /** @param {View} view @param {any} host */
  constructor(view, host) {
    this.view = view; this.host = host;
    /** @type {Chart[]} */ this.charts = [];
  }
  /** @param {number} [from] the first chart to take away */
  clear(from = 0) {
    if (!from) this.host.style.minHeight = `${this.host.offsetHeight}px`; // what is below does not jump
    for (const chart of this.charts.splice(from)) chart.remove();
    while (this.host.children.length > from) this.host.lastChild.remove();
  }
  /** All are there: draw them, with the steps under the last. @param {number} [from] the first that is new */
  done(from = 0) {
    if (!this.charts.length) this.host.append(h("p", { class: "quiet" }, "No value was seen here."));
    this.charts.forEach((chart, i) => {
      const axis = i === this.charts.length - 1;
      if (i >= from || !!chart.o.axis !== axis) { chart.o.axis = axis; chart.redraw(); }
    });
    this.host.style.minHeight = "";
  }
  /**
   * A titled chart of the open layer.
   * @param {string} title @param {any[][]} keys colour, words, shape @param {number} height
   * @param {(g: any, box: any, x: (s: number) => number) => void} draw
   * @param {{name: string, values: ArrayLike<number>, colour?: string, word?: (v: number) => string}[]} series for the tip and the table
   * @param {any[] | null} [extra] a line of the tip
   */
  add(title, keys, height, draw, series, extra = null) {
    const { view } = this, { run } = view;
    this.chart(title, keys, height, draw, (step) => [titleOf(run, run.column(step)), ...series.map((s) => [s.name, (s.word ?? three)(s.values[run.column(step)]), s.colour]), extra],
      (all) => {
        const [from, to] = run.between(view.time, all), rows = [];
        for (let c = from; c <= to; c++) rows.push([run.json.time.first[c], run.json.time.last[c], ...series.map((s) => s.values[c])]);
        return { heads: ["First step", "Last step", ...series.map((s) => s.name)], rows };
      });
  }
  /**
   * The same, of anything. @param {string} title @param {any[][]} keys @param {number} height @param {(g: any, box: any, x: (s: number) => number) => void} draw
   * @param {(step: number, y: number) => any[]} words for the tip @param {(all: boolean) => {heads: string[], rows: any[][]}} data
   */
  chart(title, keys, height, draw, words, data) {
    const { view } = this, { run } = view, marks = run.alerts.filter((/** @type {any} */ a) => a.layer === view.layer);
    const tools = h("span", { class: "tools-place" });
    const host = h("div", { class: "track" }, h("h3", {}, title,
      keys.map(([colour, words, shape]) => h("span", {}, colour ? dot(colour, shape ?? "") : null, words)), tools));
    this.host.append(host);
    /** @type {Chart} */ const chart = new Chart(host, view.time, {
      height: () => height, gutter: () => gutterOf(view), tools,
      title: `${view.layer} ${run.sites[view.site].label}: ${title}`, label: `${title} of ${view.layer} over time`,
      draw: (/** @type {any} */ g, /** @type {any} */ box, /** @type {any} */ x) => { draw(g, box, x); inside(g, { ...box, y: 0, h: box.y + box.h }, () => alertMarks(g, box, marks, x)); },
      tip: (/** @type {number} */ step, /** @type {number} */ y) => {
        const near = marks.filter((/** @type {any} */ a) => Math.abs(chart.x(a.step) - chart.x(step)) < 5);
        return [...words(step, y), ...near.slice(0, 3).map((/** @type {any} */ a) => a.message)];
      },
      data,
    });
    this.charts.push(chart);
  }
  /**
   * Lines of several series on one scale.
   * @param {string} title @param {{name: string, values: Float64Array, colour: string}[]} lines @param {string} kind
   * @param {{height?: number, share?: boolean, limits?: number[], zero?: boolean}} [o]
   */
  lines(title, lines, kind, o = {}) {
    const { view } = this, joined = view.run.sites[view.site].mode === "eval";
    const word = o.share ? percent : three, named = lines.length > 1 || o.share;
    const keys = [...(named ? lines.map((l) => [l.colour, l.name]) : []), ...(o.limits?.length ? [[ink.critical, "limit"]] : [])];
    this.add(title, keys, o.height ?? 92, (g, box, x) => {
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
        for (const l of lines) polyline(g, view.run.edges, kind === "log" ? l.values.map((v) => (v <= 0 ? lo : v)) : l.values, x, scale, l.colour, { joined });
      });
    }, lines.map((l) => ({ ...l, word })));
  }
}

/** @param {number} v */
const three = (v) => fmt(v, 3);

/** Median size of what is not zero. @param {Float64Array} values */
function median(values) {
  const sizes = values.map(Math.abs).filter((v) => Number.isFinite(v) && v > 0).sort();
  return sizes.length ? sizes[sizes.length >> 1] : 0;
}
