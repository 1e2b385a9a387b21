// @ts-check
// What both pages share: reading the packed data, colours, scales, and charts on canvas that
// keep one time axis. No name from a run is ever parsed as markup: text goes in as text.

/** @param {string} id @returns {any} */
const $ = (id) => document.getElementById(id);

/**
 * An element with properties and children; strings become text nodes.
 * @param {string} tag @param {Record<string, any>} [props] @param {...any} children
 * @returns {any}
 */
function h(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(props)) {
    if (value === undefined || value === null || value === false) continue;
    if (key === "class") node.className = value;
    else if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else node.setAttribute(key, value === true ? "" : String(value));
  }
  node.append(...children.flat().filter((c) => c !== null && c !== undefined && c !== false));
  return node;
}

/** A number as people read it. @param {any} v @param {number} [digits] */
function fmt(v, digits = 4) {
  if (v === null || v === undefined || Number.isNaN(v)) return "–";
  if (v === "inf" || v === Infinity) return "∞";
  if (v === "-inf" || v === -Infinity) return "−∞";
  const size = Math.abs(v);
  let text;
  if (size === 0) text = "0";
  else if (size >= 1e7 || size < 1e-4) {
    const [m, e] = v.toExponential(Math.max(digits - 2, 0)).split("e");
    text = `${m.includes(".") ? m.replace(/\.?0+$/, "") : m}e${Number(e)}`;
  } else if (size >= 1000) text = Math.round(v).toLocaleString("en");
  else text = String(Number(v.toPrecision(digits)));
  return text.replaceAll("-", "−");
}
/** @param {number} v */
const whole = (v) => Math.round(v).toLocaleString("en");
/** @param {number} v */
const percent = (v) => (Number.isFinite(v) ? `${fmt(100 * v, 3)} %` : fmt(v));
/** @param {any} v */
const real = (v) => (v === "inf" ? Infinity : v === "-inf" ? -Infinity : v === null ? NaN : v);
/** @param {string} key @param {any} v */
const reading = (key, v) => (SHARES.has(key) ? percent(real(v)) : fmt(v, 3));
const SHARES = new Set(["saturation", "dead_fraction", "zero_fraction", "nonfinite", "subnormal", "dormant"]);

/** @param {string} id @returns {Promise<Uint8Array>} */
async function unpack(id) {
  const text = atob($(id).textContent.trim());
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  const gunzip = new DecompressionStream("gzip"), writer = gunzip.writable.getWriter();
  const failed = writer.write(bytes).then(() => writer.close()); // not awaited: the reader drains it
  failed.catch(() => {}); // the reader reports it
  const parts = [], reader = gunzip.readable.getReader();
  let size = 0;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    parts.push(value); size += value.length;
  }
  const out = new Uint8Array(size);
  let at = 0;
  for (const part of parts) { out.set(part, at); at += part.length; }
  return out;
}

/** The packed run, read where asked. */
class RunData {
  /** @param {any} json @param {{maps: Uint8Array, tracks: Uint8Array, shades: Uint8Array}} blobs @param {number[]} binEdges */
  constructor(json, blobs, binEdges) {
    /** @type {any} */ this.json = json;
    this.blobs = blobs;
    this.binEdges = binEdges;
    const { first, last } = json.time;
    this.columns = first.length;
    // A column reaches to the next one: steps that were not watched belong to the last seen.
    this.edges = [...first, this.columns ? last[this.columns - 1] + 1 : 1];
    const slice = json.slices;
    this.sliceEdges = [...slice.first, slice.last.length ? slice.last[slice.last.length - 1] + 1 : 1];
    this.layers = json.layers.map((/** @type {any} */ l) => ({
      name: l[0], module: l[1], activation: l[2], parameters: !!l[3], norm: l[4],
    }));
    this.sites = json.sites.map((/** @type {any} */ s, /** @type {number} */ i) => ({
      index: i, layer: s[0], name: s[0] < 0 ? "?" : this.layers[s[0]].name, tensor: s[1], part: s[2], mode: s[3],
      label: s[2] ? `${s[1]}[${s[2]}]` : s[1],
    }));
    this.order = this.sites.map((/** @type {any} */ s) => s.index);
    this.order.sort((/** @type {number} */ a, /** @type {number} */ b) =>
      this.sites[a].layer - this.sites[b].layer || a - b);
    /** @type {Map<string, Map<number, any>>} */
    this.rows = new Map();
    for (const [key, map] of Object.entries(/** @type {Record<string, any>} */ (json.maps))) {
      const rows = new Map();
      for (const [site, offset, low, high] of map.rows)
        rows.set(site, { codes: blobs.maps.subarray(offset, offset + this.columns), low, high, unit: map.unit });
      this.rows.set(key, rows);
    }
    this.metrics = json.metrics;
    this.alerts = json.alerts;
  }
  /** @param {string} key */
  metric(key) { return this.metrics.find((/** @type {any} */ m) => m.key === key); }
  /** @param {string} key @param {number} site */
  row(key, site) { return this.rows.get(key)?.get(site) ?? null; }
  /** Values of a metric at a site. @param {string} key @param {number} site @returns {Float64Array | null} */
  series(key, site) {
    const row = this.row(key, site);
    if (!row) return null;
    const table = levels(row);
    return Float64Array.from(row.codes, (/** @type {number} */ c) => table[c]);
  }
  /** Percentiles, mean and std of a site. @param {number} site */
  tracks(site) {
    const head = this.json.tracks[site];
    if (!head) return null;
    const [offset, low, high, unit] = head;
    const n = this.columns, bytes = this.blobs.tracks, all = [];
    for (let r = 0; r < 7; r++) {
      const track = new Float64Array(n);
      let code = 0;
      for (let c = 0; c < n; c++) {
        const at = offset + r * n + c;
        code = (code + bytes[at] + (bytes[at + 7 * n] << 8)) & 0xffff;
        track[c] = code === 65535 ? NaN : unit * Math.sinh(low + ((high - low) * code) / 4095);
      }
      all.push(track);
    }
    return { q: all.slice(0, 5), mean: all[5], std: all[6], unit };
  }
  /** Column that holds a step. @param {number} step */
  column(step) { return Math.max(0, Math.min(this.columns - 1, below(this.edges, step))); }
}

/** Index of the last edge at or under a value. @param {number[]} edges @param {number} value */
function below(edges, value) {
  let lo = 0, hi = edges.length;
  while (lo < hi) { const mid = (lo + hi) >> 1; if (edges[mid] <= value) lo = mid + 1; else hi = mid; }
  return lo - 1;
}

/** What each code of a packed row stands for. @param {any} row @returns {Float64Array} */
function levels(row) {
  const table = new Float64Array(256);
  for (let c = 0; c <= 252; c++) table[c] = row.unit * Math.sinh(row.low + ((row.high - row.low) * c) / 252);
  if (row.low < 0) table[126] = 0;
  table[253] = -Infinity; table[254] = Infinity; table[255] = NaN;
  return table;
}

// ---- colour: ramps with even steps of lightness in OKLab (Ottosson, 2020) ----

/** @param {number} L @param {number} C @param {number} H @returns {[number, number, number]} */
function srgb(L, C, H) {
  const turn = (H * Math.PI) / 180;
  for (let chroma = C; ; chroma *= 0.94) {
    const a = chroma * Math.cos(turn), b = chroma * Math.sin(turn);
    const l = (L + 0.3963377774 * a + 0.2158037573 * b) ** 3;
    const m = (L - 0.1055613458 * a - 0.0638541728 * b) ** 3;
    const s = (L - 0.0894841775 * a - 1.291485548 * b) ** 3;
    const rgb = [
      4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s,
      -1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s,
      -0.0041960863 * l - 0.7034186147 * m + 1.707614701 * s,
    ];
    if (chroma < 1e-3 || rgb.every((v) => v > -1e-4 && v < 1.0001)) {
      const [r, g, bl] = rgb.map((v) => {
        const x = Math.max(0, Math.min(1, v));
        return Math.round(255 * (x <= 0.0031308 ? 12.92 * x : 1.055 * x ** (1 / 2.4) - 0.055));
      });
      return [r, g, bl];
    }
  }
}

/** @param {(t: number) => [number, number, number]} lch @returns {Uint32Array} packed ABGR, 256 of them */
function ramp(lch) {
  const out = new Uint32Array(256);
  for (let i = 0; i < 256; i++) {
    const [r, g, b] = srgb(...lch(i / 255));
    out[i] = (255 << 24) | (b << 16) | (g << 8) | r;
  }
  return out;
}

const dark = matchMedia("(prefers-color-scheme: dark)");
/** @type {any} */
let ink = {};

/** Colours of the current theme. */
function theme() {
  const css = getComputedStyle(document.documentElement);
  /** @param {string} n */
  const v = (n) => css.getPropertyValue(n).trim();
  const night = dark.matches;
  const base = night ? 0.235 : 0.972;
  const end = night ? 0.93 : 0.3;
  ink = {
    text: v("--text"), quiet: v("--quiet"), faint: v("--faint"), line: v("--line"), page: v("--page"), panel: v("--panel"),
    accent: v("--accent"), critical: v("--critical"), warning: v("--warning"), info: v("--info"), good: v("--good"),
    second: v("--second"), third: v("--third"), fourth: v("--fourth"), missing: v("--missing"), wild: v("--wild"),
    // Nothing happening has the colour of the page; lightness moves in even steps.
    sequential: ramp((t) => [base + (end - base) * t, night ? 0.19 * Math.min(1, 2.6 * t) : 0.185 * Math.min(1, 2.2 * t), night ? -55 + 160 * t : 98 - 100 * t]),
    diverging: ramp((t) => {
      const d = Math.abs(2 * t - 1);
      const far = night ? 0.84 : 0.4;
      return [base + (far - base) * d, 0.17 * Math.min(1, 1.7 * d), t < 0.5 ? 252 : 38];
    }),
    density: ramp((t) => [base + ((night ? 0.93 : 0.34) - base) * t, 0.13 * Math.min(1, 2 * t), night ? 250 - 50 * t : 225 + 35 * t]),
  };
  return ink;
}
/** @param {number} abgr */
const rgb = (abgr) => `rgb(${abgr & 255},${(abgr >> 8) & 255},${(abgr >> 16) & 255})`;
/** @param {string} severity */
const severityColour = (severity) => ink[severity === "critical" ? "critical" : severity === "info" ? "info" : "warning"];

/**
 * How far the values of some rows reach: sizes that all but one in 200 stay under, and over.
 * @param {RunData} run @param {string} key @param {number[]} sites
 */
function reachOf(run, key, sites) {
  /** @type {[number, number][]} */ const sizes = [];
  let total = 0, positive = 0;
  for (const site of sites) {
    const row = run.row(key, site);
    if (!row) continue;
    const table = levels(row), count = new Uint32Array(256);
    for (const c of row.codes) count[c]++;
    for (let c = 0; c <= 252; c++)
      if (count[c]) { const size = Math.abs(table[c]); sizes.push([size, count[c]]); total += count[c]; if (size > 0) positive += count[c]; }
  }
  sizes.sort((p, q) => p[0] - q[0]);
  let seen = 0, top = 0, bottom = 0;
  for (const [size, n] of sizes) {
    if (size > 0 && !bottom && seen + n - (total - positive) > 0.005 * positive) bottom = size;
    if (seen < 0.995 * total) top = size;
    seen += n;
  }
  return { top, bottom };
}

/**
 * How a metric's values become colours 0 … 255.
 * @param {any} metric @param {{top: number, bottom: number}[]} maps of all runs that share the scale
 */
function colourScale(metric, maps) {
  const top = Math.max(0, ...maps.map((m) => m.top).filter(Number.isFinite));
  const bottoms = maps.map((m) => m.bottom).filter((b) => b > 0 && Number.isFinite(b));
  const kind = metric.scale;
  if (kind === "signed") {
    const full = metric.full || 0;
    const reach = Math.max(full, full ? Math.min(top, 2 * full) : top) || 1;
    return { lut: ink.diverging, ticks: [-reach, 0, reach], clips: top > reach, low: -reach, high: reach, middle: 128,
      index: (/** @type {number} */ v) => Math.round(127.5 + 127.5 * Math.max(-1, Math.min(1, v / reach))) };
  }
  if (kind === "log") {
    let low = bottoms.length ? Math.log10(Math.min(...bottoms)) : -1;
    let high = top > 0 ? Math.log10(top) : low + 1;
    if (high - low < 1) { const mid = (low + high) / 2; low = mid - 0.5; high = mid + 0.5; }
    return { lut: ink.sequential, ticks: [10 ** low, 10 ** ((low + high) / 2), 10 ** high], clips: true, low: 10 ** low, high: 10 ** high, middle: 128,
      index: (/** @type {number} */ v) => (v > 0 ? Math.round(255 * Math.max(0, Math.min(1, (Math.log10(v) - low) / (high - low)))) : 0) };
  }
  let reach = top;
  if (kind === "share") reach = top > 0.25 ? 1 : 0.25;
  else if (metric.full) reach = Math.max(metric.full, Math.min(top, 3 * metric.full));
  reach = reach || 1;
  return { lut: ink.sequential, ticks: [0, reach / 2, reach], clips: top > reach, low: 0, high: reach, middle: 0,
    index: (/** @type {number} */ v) => Math.round(255 * Math.max(0, Math.min(1, v / reach))) };
}

/** Legend of a colour scale. @param {any} host @param {any} metric @param {any} scale @param {{missing?: boolean, wild?: boolean}} has */
function legend(host, metric, scale, has) {
  const canvas = h("canvas", { width: 256, height: 1, "aria-hidden": "true" });
  const g = canvas.getContext("2d"), image = g.createImageData(256, 1);
  new Uint32Array(image.data.buffer).set(scale.lut);
  g.putImageData(image, 0, 0);
  /** @param {number} v @param {number} i */
  const tick = (v, i) => {
    const sign = scale.clips && i === 2 ? "≥ " : scale.clips && i === 0 && metric.scale !== "positive" && metric.scale !== "share" ? "≤ " : "";
    return h("span", {}, sign + (SHARES.has(metric.key) ? percent(v) : fmt(v, 2)));
  };
  const keys = [
    h("span", { class: "ramp" }, canvas, h("span", { class: "ticks" }, scale.ticks.map(tick))),
    has.missing && h("span", { class: "key" }, h("i", { class: "swatch missing" }), "no data"),
    has.wild && h("span", { class: "key" }, h("i", { class: "swatch wild" }), "not finite"),
  ];
  host.replaceChildren(...keys.filter(Boolean));
}

// ---- scales ----

/** Round ticks between two values. @param {number} lo @param {number} hi @param {number} n */
function niceTicks(lo, hi, n) {
  const span = hi - lo;
  if (!(span > 0) || !Number.isFinite(span)) return [lo];
  const raw = span / Math.max(1, n), mag = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].map((m) => m * mag).find((s) => s >= raw) ?? raw;
  const out = [];
  for (let k = Math.ceil(lo / step - 1e-9); k * step <= hi + 1e-9 * span; k++) out.push(Number((k * step).toPrecision(12)));
  return out;
}

/**
 * Vertical scale: "linear", "symlog" (asinh of value / unit) or "log".
 * @param {string} kind @param {number} lo @param {number} hi @param {number} y @param {number} height @param {number} [unit]
 */
function vertical(kind, lo, hi, y, height, unit = 1) {
  const bend = kind === "log" ? Math.log10 : kind === "symlog" ? (/** @type {number} */ v) => Math.asinh(v / unit) : (/** @type {number} */ v) => v;
  let a = bend(lo), b = bend(hi);
  if (!(b > a)) { const pad = Math.abs(a) * 0.1 || 1; a -= pad; b += pad; }
  const at = (/** @type {number} */ v) => y + height - ((bend(v) - a) / (b - a)) * height;
  /** @type {number[]} */ let ticks;
  const room = Math.max(2, Math.floor(height / 26));
  if (kind === "linear") ticks = niceTicks(a, b, room);
  else {
    /** @type {number[]} */ const wanted = [];
    if (kind === "log") {
      for (const m of b - a < 2.2 ? [1, 2, 5] : [1]) // whole powers of ten come first
        for (let e = Math.floor(a) - 1; e <= b; e++) wanted.push(m * 10 ** e);
    } else {
      wanted.push(0);
      const most = Math.log10(Math.max(Math.abs(lo), Math.abs(hi), 1e-300));
      for (let e = Math.floor(most); e >= Math.floor(Math.log10(unit)) - 1; e--) wanted.push(10 ** e, -(10 ** e));
      if (most - Math.log10(unit) < 1) wanted.push(...niceTicks(lo, hi, room));
    }
    ticks = [];
    for (const v of wanted) {
      const p = at(v);
      if (p < y - 1 || p > y + height + 1) continue;
      if (ticks.every((t) => Math.abs(at(t) - p) >= 17)) ticks.push(v);
    }
  }
  return { at, ticks, bend, a, b, clamp: (/** @type {number} */ v) => Math.max(y, Math.min(y + height, at(v))) };
}

/** Smallest and largest finite value of several series, in a range of columns. @param {ArrayLike<number>[]} all @param {number} [from] @param {number} [to] */
function extent(all, from = 0, to = Infinity) {
  let lo = Infinity, hi = -Infinity;
  for (const series of all)
    for (let i = Math.max(0, from); i < Math.min(series.length, to); i++) {
      const v = series[i];
      if (Number.isFinite(v)) { if (v < lo) lo = v; if (v > hi) hi = v; }
    }
  return lo <= hi ? [lo, hi] : null;
}

// ---- time ----

/** The steps that all charts of a page show, and the step under the pointer. */
class Time {
  /** @param {number} first @param {number} last */
  constructor(first, last) {
    this.first = first; this.last = Math.max(last, first + 1);
    this.lo = this.first; this.hi = this.last;
    /** @type {Set<Chart>} */ this.charts = new Set();
    /** @type {(() => void)[]} */ this.listeners = [];
  }
  /** @param {number} a @param {number} b */
  zoom(a, b) {
    const least = Math.max(2, (this.last - this.first) / 2000);
    let lo = Math.max(this.first, Math.min(a, b)), hi = Math.min(this.last, Math.max(a, b));
    if (hi - lo < least) { const mid = (lo + hi) / 2; lo = Math.max(this.first, mid - least / 2); hi = Math.min(this.last, lo + least); }
    this.lo = lo; this.hi = hi;
    this.redraw();
    for (const f of this.listeners) f();
  }
  reset() { this.zoom(this.first, this.last); }
  get zoomed() { return this.lo > this.first || this.hi < this.last; }
  redraw() { for (const chart of this.charts) chart.redraw(); }
  /** @param {number | null} step */
  hover(step) { for (const chart of this.charts) chart.cross(step); }
}

const FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif";

/** A canvas over the common time axis. */
class Chart {
  /**
   * @param {any} host @param {Time} time
   * @param {{height: () => number, gutter: () => number, draw: (g: CanvasRenderingContext2D, box: any, x: (s: number) => number) => void,
   *   tip?: (step: number, y: number) => any[] | null, click?: (step: number, y: number) => void,
   *   axis?: boolean, label: string, top?: number, right?: number, key?: (e: KeyboardEvent) => boolean}} o
   */
  constructor(host, time, o) {
    this.host = host; this.time = time; this.o = o;
    this.canvas = h("canvas", { role: "img", "aria-label": o.label });
    this.line = h("div", { class: "cross", hidden: true });
    this.brush = h("div", { class: "brush", hidden: true });
    this.node = h("div", { class: "chart" }, this.canvas, this.line, this.brush);
    host.append(this.node);
    if (o.key) { this.canvas.tabIndex = 0; this.canvas.addEventListener("keydown", (/** @type {KeyboardEvent} */ e) => { if (o.key?.(e)) e.preventDefault(); }); }
    time.charts.add(this);
    /** @type {number | null} */ let from = null;
    this.canvas.addEventListener("pointermove", (/** @type {PointerEvent} */ e) => {
      const [px, py] = this.local(e);
      if (from !== null) this.showBrush(from, px);
      this.point(px, py, e);
    });
    this.canvas.addEventListener("pointerdown", (/** @type {PointerEvent} */ e) => {
      if (e.button !== 0) return;
      from = this.local(e)[0];
      if (e.pointerType !== "touch") this.canvas.setPointerCapture(e.pointerId);
    });
    this.canvas.addEventListener("pointerup", (/** @type {PointerEvent} */ e) => {
      const [px, py] = this.local(e), begun = from;
      from = null; this.brush.hidden = true;
      if (begun === null) return;
      if (Math.abs(px - begun) > 6) this.time.zoom(this.step(begun), this.step(px));
      else o.click?.(this.step(px), py);
    });
    const leave = () => { from = null; this.brush.hidden = true; tip(null); time.hover(null); };
    this.canvas.addEventListener("pointerleave", leave);
    this.canvas.addEventListener("pointercancel", leave);
    this.canvas.addEventListener("dblclick", () => time.reset());
  }
  remove() { this.time.charts.delete(this); this.node.remove(); }
  /** @param {PointerEvent | MouseEvent} e */
  local(e) { const r = this.canvas.getBoundingClientRect(); return [e.clientX - r.left, e.clientY - r.top]; }
  /** @param {number} px */
  step(px) {
    const { x, w } = this.box;
    return this.time.lo + (Math.max(0, Math.min(w, px - x)) / w) * (this.time.hi - this.time.lo);
  }
  /** @param {number} step */
  x(step) { return this.box.x + ((step - this.time.lo) / (this.time.hi - this.time.lo)) * this.box.w; }
  /** @param {number} px @param {number} py @param {{clientX: number, clientY: number}} e */
  point(px, py, e) {
    if (px < this.box.x || px > this.box.x + this.box.w) { tip(null); this.time.hover(null); return; }
    const step = this.step(px);
    this.time.hover(step);
    tip(this.o.tip?.(step, py) ?? null, e.clientX, e.clientY);
  }
  /** @param {number} a @param {number} b */
  showBrush(a, b) {
    const lo = Math.max(this.box.x, Math.min(a, b)), hi = Math.min(this.box.x + this.box.w, Math.max(a, b));
    this.brush.hidden = hi - lo < 3;
    Object.assign(this.brush.style, { left: `${lo}px`, width: `${hi - lo}px`, top: `${this.box.y}px`, height: `${this.box.h}px` });
  }
  /** @param {number | null} step */
  cross(step) {
    this.line.hidden = step === null || step < this.time.lo || step > this.time.hi;
    if (step !== null && !this.line.hidden)
      Object.assign(this.line.style, { left: `${this.x(step)}px`, top: `${this.box.y}px`, height: `${this.box.h}px` });
  }
  get box() {
    const gutter = this.o.gutter(), top = this.o.top ?? 6;
    return { x: gutter, y: top, w: Math.max(20, this.node.clientWidth - gutter - (this.o.right ?? 8)), h: this.o.height() };
  }
  redraw() {
    const width = this.node.clientWidth;
    if (!width) return;
    const box = this.box, height = box.y + box.h + (this.o.axis ? 24 : 6), dpr = Math.min(3, devicePixelRatio || 1);
    this.canvas.width = Math.round(width * dpr); this.canvas.height = Math.round(height * dpr);
    this.canvas.style.width = `${width}px`; this.canvas.style.height = `${height}px`;
    const g = /** @type {CanvasRenderingContext2D} */ (this.canvas.getContext("2d"));
    g.scale(dpr, dpr);
    g.font = `11px ${FONT}`; g.textBaseline = "middle";
    this.o.draw(g, box, (s) => this.x(s));
    if (this.o.axis) stepAxis(g, box, this.time, (s) => this.x(s));
  }
}

/** @param {CanvasRenderingContext2D} g @param {any} box @param {Time} time @param {(s: number) => number} x */
function stepAxis(g, box, time, x) {
  g.save();
  g.fillStyle = ink.quiet; g.strokeStyle = ink.line; g.lineWidth = 1; g.textBaseline = "top";
  const y = box.y + box.h;
  const ticks = niceTicks(time.lo, time.hi, Math.max(2, Math.floor(box.w / 110))).filter((t) => Number.isInteger(t));
  let free = -Infinity;
  for (const t of ticks) {
    const px = x(t), label = whole(t), half = g.measureText(label).width / 2;
    const centre = Math.max(box.x - 4 + half, Math.min(box.x + box.w + 4 - half, px));
    if (centre - half < free) continue;
    free = centre + half + 10;
    g.beginPath(); g.moveTo(Math.round(px) + 0.5, y); g.lineTo(Math.round(px) + 0.5, y + 4); g.stroke();
    g.textAlign = "center"; g.fillText(label, centre, y + 8);
  }
  g.textAlign = "right"; g.fillStyle = ink.faint;
  if (box.x > 40) g.fillText("step", box.x - 10, y + 8);
  g.restore();
}

/** Ticks and grid of a vertical scale. @param {CanvasRenderingContext2D} g @param {any} box @param {any} scale @param {(v: number) => string} [label] */
function valueAxis(g, box, scale, label = (v) => fmt(v, 3)) {
  g.save();
  g.strokeStyle = ink.line; g.fillStyle = ink.quiet; g.textAlign = "right"; g.textBaseline = "middle"; g.lineWidth = 1;
  for (const v of scale.ticks) {
    const y = Math.round(scale.at(v)) + 0.5;
    g.globalAlpha = 0.7;
    g.beginPath(); g.moveTo(box.x, y); g.lineTo(box.x + box.w, y); g.stroke();
    g.globalAlpha = 1;
    g.fillText(label(v), box.x - 8, Math.max(box.y + 5, Math.min(box.y + box.h - 4, y)));
  }
  g.restore();
}

/** Clip to the plot while drawing. @param {CanvasRenderingContext2D} g @param {any} box @param {() => void} body */
function inside(g, box, body) {
  g.save(); g.beginPath(); g.rect(box.x, box.y, box.w, box.h); g.clip(); body(); g.restore();
}

/**
 * Points of a series as x and y: the middles of its columns, and the outer edges where a piece ends.
 * @param {number[]} edges @param {ArrayLike<number>} values @param {(s: number) => number} x @param {any} scale @param {boolean} joined
 * @returns {[number, number][][]}
 */
function pieces(edges, values, x, scale, joined) {
  /** @type {[number, number][][]} */ const all = [];
  /** @type {[number, number][]} */ let piece = [];
  let last = -1;
  const close = () => {
    if (!piece.length) return;
    piece.push([x(edges[last + 1]), piece[piece.length - 1][1]]);
    all.push(piece);
    piece = [];
  };
  for (let i = 0; i < values.length; i++) {
    if (Number.isNaN(values[i])) { if (!joined) close(); continue; }
    const y = scale.clamp(values[i]);
    if (!piece.length) piece.push([x(edges[i]), y]);
    piece.push([x((edges[i] + edges[i + 1]) / 2), y]);
    last = i;
  }
  close();
  return all;
}

/**
 * A series as a line.
 * @param {CanvasRenderingContext2D} g @param {number[]} edges @param {ArrayLike<number>} values
 * @param {(s: number) => number} x @param {any} scale @param {string} colour @param {{width?: number, joined?: boolean}} [o]
 */
function polyline(g, edges, values, x, scale, colour, o = {}) {
  g.strokeStyle = colour; g.lineWidth = o.width ?? 1.6; g.lineJoin = "round";
  g.beginPath();
  for (const piece of pieces(edges, values, x, scale, !!o.joined)) piece.forEach(([px, py], i) => (i ? g.lineTo(px, py) : g.moveTo(px, py)));
  g.stroke();
}

/**
 * The area between two series.
 * @param {CanvasRenderingContext2D} g @param {number[]} edges @param {ArrayLike<number>} low @param {ArrayLike<number>} high
 * @param {(s: number) => number} x @param {any} scale @param {string} colour @param {number} alpha @param {boolean} [joined]
 */
function area(g, edges, low, high, x, scale, colour, alpha, joined = false) {
  g.save(); g.fillStyle = colour; g.globalAlpha = alpha;
  const bottoms = pieces(edges, low, x, scale, joined), tops = pieces(edges, high, x, scale, joined);
  tops.forEach((top, k) => {
    g.beginPath();
    top.forEach(([px, py], i) => (i ? g.lineTo(px, py) : g.moveTo(px, py)));
    for (const [px, py] of (bottoms[k] ?? []).slice().reverse()) g.lineTo(px, py);
    g.closePath(); g.fill();
  });
  g.restore();
}

/** Vertical marks where alerts began. @param {CanvasRenderingContext2D} g @param {any} box @param {any[]} alerts @param {(s: number) => number} x */
function alertMarks(g, box, alerts, x) {
  g.save(); g.lineWidth = 1.5;
  for (const a of alerts) {
    const px = x(a.step);
    if (px < box.x - 1 || px > box.x + box.w + 1) continue;
    g.strokeStyle = g.fillStyle = severityColour(a.severity);
    g.globalAlpha = 0.85; g.setLineDash([4, 3]);
    g.beginPath(); g.moveTo(px, box.y); g.lineTo(px, box.y + box.h); g.stroke();
    g.setLineDash([]); g.globalAlpha = 1;
    g.beginPath(); g.moveTo(px - 4, box.y - 1); g.lineTo(px + 4, box.y - 1); g.lineTo(px, box.y + 5); g.closePath(); g.fill();
  }
  g.restore();
}

/** @param {any[] | null} lines first the title, then [label, value, colour?] @param {number} [cx] @param {number} [cy] */
function tip(lines, cx = 0, cy = 0) {
  const node = $("tip");
  if (!lines || !lines.length) { node.hidden = true; return; }
  const [title, ...rest] = lines;
  node.replaceChildren(
    h("b", {}, title),
    ...rest.filter(Boolean).map((r) => {
      if (typeof r === "string") return h("span", { class: "note" }, r);
      const dot = h("i");
      if (r[2]) dot.style.background = r[2];
      return h("span", { class: "pair" }, r[2] ? dot : null, h("span", {}, r[0]), h("span", { class: "num" }, r[1]));
    }),
  );
  node.hidden = false;
  const { offsetWidth: w, offsetHeight: t } = node;
  const left = cx + 16 + w > innerWidth - 6 ? Math.max(6, cx - 16 - w) : cx + 16;
  const topEdge = cy + 18 + t > innerHeight - 6 ? Math.max(6, cy - 14 - t) : cy + 18;
  node.style.left = `${left}px`; node.style.top = `${topEdge}px`;
}

/** Text cut in its front, where names of layers are alike. @param {CanvasRenderingContext2D} g @param {string} text @param {number} room */
function fitted(g, text, room) {
  if (g.measureText(text).width <= room) return text;
  let lo = 0, hi = text.length;
  while (lo < hi) { const mid = (lo + hi) >> 1; if (g.measureText("…" + text.slice(mid)).width <= room) hi = mid; else lo = mid + 1; }
  return "…" + text.slice(lo);
}

const narrow = () => document.documentElement.clientWidth < 640;

/** Layers against time. */
class HeatMap {
  /**
   * @param {any} host @param {Time} time @param {RunData} run
   * @param {{gutter: () => number, label: string, open: (site: number) => void, say?: (text: string) => void, labels?: boolean}} o
   */
  constructor(host, time, run, o) {
    this.run = run; this.o = o;
    /** @type {number[]} */ this.sites = [];
    /** @type {any} */ this.metric = null;
    /** @type {any} */ this.scale = null;
    this.selected = -1; this.hoverRow = -1;
    /** @type {[number, number] | null} */ this.cursor = null;
    this.held = false;
    this.has = { missing: false, wild: false };
    this.top = 14;
    this.chart = new Chart(host, time, {
      height: () => Math.max(1, this.sites.length) * this.rowHeight, gutter: o.gutter, axis: true, top: this.top, label: o.label,
      draw: (g, box, x) => this.draw(g, box, x),
      tip: (step, y) => this.tip(step, y),
      click: (_, y) => { const r = this.rowAt(y); if (r >= 0) o.open(this.sites[r]); },
      key: (e) => this.key(e),
    });
    this.chart.canvas.addEventListener("click", (/** @type {MouseEvent} */ e) => {
      const [px, py] = this.chart.local(e), r = this.rowAt(py);
      if (px < this.chart.box.x && r >= 0) o.open(this.sites[r]);
    });
    this.chart.canvas.addEventListener("blur", () => { this.cursor = null; tip(null); this.chart.redraw(); });
  }
  get rowHeight() {
    const n = this.sites.length;
    return n <= 12 ? 22 : n <= 30 ? 17 : n <= 60 ? 13 : n <= 120 ? 8 : n <= 260 ? 6 : 4;
  }
  /** @param {number} y */
  rowAt(y) { const r = Math.floor((y - this.top) / this.rowHeight); return r >= 0 && r < this.sites.length ? r : -1; }
  /** @param {any} metric @param {number[]} sites @param {any} scale @param {boolean} held last value holds until the next */
  show(metric, sites, scale, held) {
    Object.assign(this, { metric, sites, scale, held });
    this.chart.redraw();
  }
  /** Codes of a row, with the last known held where the mode says so. @param {number} site */
  codes(site) {
    const row = this.run.row(this.metric.key, site);
    if (!row || !this.held) return row;
    const codes = row.codes.slice();
    for (let i = 1; i < codes.length; i++) if (codes[i] === 255) codes[i] = codes[i - 1];
    return { ...row, codes };
  }
  /** @param {CanvasRenderingContext2D} g @param {any} box @param {(s: number) => number} x */
  draw(g, box, x) {
    const { run, sites, scale } = this, rh = this.rowHeight, time = this.chart.time;
    this.has = { missing: false, wild: false };
    if (!sites.length || !this.metric) {
      g.fillStyle = ink.quiet; g.textAlign = "left"; g.fillText("Nothing to show here.", box.x, box.y + 10);
      return;
    }
    const dpr = Math.min(3, devicePixelRatio || 1), W = Math.max(1, Math.round(box.w * dpr));
    const from = new Int32Array(W), to = new Int32Array(W);
    for (let p = 0; p < W; p++) {
      from[p] = run.column(time.lo + ((p + 0.02) / W) * (time.hi - time.lo));
      to[p] = Math.max(from[p], run.column(time.lo + ((p + 0.98) / W) * (time.hi - time.lo)));
    }
    const ends = run.columns ? run.edges[run.columns] : 0, begins = run.columns ? run.edges[0] : 0;
    const image = new ImageData(W, sites.length), pixels = new Uint32Array(image.data.buffer);
    const missing = packed(ink.missing), wild = packed(ink.wild), middle = scale.middle;
    sites.forEach((site, r) => {
      const row = this.codes(site);
      if (!row) { pixels.fill(missing, r * W, (r + 1) * W); this.has.missing = true; return; }
      const table = Int16Array.from(levels(row), (v) => (Number.isNaN(v) ? -1 : Number.isFinite(v) ? scale.index(v) : -2));
      for (let p = 0; p < W; p++) {
        const step = time.lo + ((p + 0.5) / W) * (time.hi - time.lo);
        if (step < begins || step >= ends) continue;
        let best = -1, far = -1;
        for (let c = from[p]; c <= to[p]; c++) {
          const i = table[row.codes[c]];
          if (i === -2) { best = -2; break; }
          if (i >= 0 && Math.abs(i - middle) > far) { far = Math.abs(i - middle); best = i; }
        }
        if (best === -1) this.has.missing = true;
        if (best === -2) this.has.wild = true;
        pixels[r * W + p] = best === -1 ? missing : best === -2 ? wild : scale.lut[best];
      }
    });
    const off = new OffscreenCanvas(W, sites.length);
    /** @type {any} */ (off.getContext("2d")).putImageData(image, 0, 0);
    g.imageSmoothingEnabled = false;
    g.drawImage(off, box.x, box.y, box.w, sites.length * rh);
    if (rh >= 12) {
      g.fillStyle = ink.panel;
      for (let r = 1; r < sites.length; r++) g.fillRect(box.x, box.y + r * rh - 0.5, box.w, 1);
    }
    g.strokeStyle = ink.line; g.lineWidth = 1;
    g.strokeRect(box.x - 0.5, box.y - 0.5, box.w + 1, sites.length * rh + 1);
    if (this.o.labels !== false) this.labels(g, box);
    const chosen = sites.indexOf(this.selected);
    if (chosen >= 0) {
      g.strokeStyle = ink.accent; g.lineWidth = 1.5;
      g.strokeRect(box.x - 0.75, box.y + chosen * rh - 0.75, box.w + 1.5, rh + 1.5);
    }
    if (this.cursor) {
      const [c, r] = this.cursor, left = x(run.edges[c]), right = x(run.edges[c + 1]);
      g.strokeStyle = ink.text; g.lineWidth = 2;
      g.strokeRect(left - 2, box.y + r * rh - 2, Math.max(4, right - left) + 4, rh + 4);
    }
    this.marks(g, box, x);
  }
  /** @param {CanvasRenderingContext2D} g @param {any} box */
  labels(g, box) {
    const rh = this.rowHeight, every = Math.ceil(12 / rh), chosen = this.sites.indexOf(this.selected);
    g.textAlign = "right"; g.textBaseline = "middle";
    this.sites.forEach((site, r) => {
      const special = r === chosen;
      if (!special && (r % every || (chosen >= 0 && Math.abs(r - chosen) * rh < 12))) return;
      g.font = `${special ? "600 " : ""}11px ${FONT}`;
      g.fillStyle = special ? ink.accent : ink.quiet;
      g.fillText(fitted(g, this.name(site), box.x - 14), box.x - 8, box.y + (r + 0.5) * rh);
    });
    g.font = `11px ${FONT}`;
  }
  /** @param {number} site */
  name(site) { const s = this.run.sites[site]; return s.part && s.part !== s.tensor ? `${s.name} [${s.part}]` : s.name; }
  /** @param {CanvasRenderingContext2D} g @param {any} box @param {(s: number) => number} x */
  marks(g, box, x) {
    const rh = this.rowHeight, radius = rh >= 12 ? 4 : 3;
    for (const a of this.run.alerts) {
      const px = x(a.step);
      if (px < box.x - 1 || px > box.x + box.w + 1) continue;
      const r = this.sites.findIndex((s) => this.run.sites[s].name === a.layer);
      g.fillStyle = severityColour(a.severity);
      g.beginPath(); g.moveTo(px - 4, box.y - 9); g.lineTo(px + 4, box.y - 9); g.lineTo(px, box.y - 3); g.closePath(); g.fill();
      if (r < 0) continue;
      const own = this.run.sites[this.sites[r]].tensor === a.tensor;
      g.beginPath(); g.arc(px, box.y + (r + 0.5) * rh, radius, 0, 7);
      g.lineWidth = 2; g.strokeStyle = ink.panel; g.stroke();
      if (own) g.fill();
      else { g.fillStyle = ink.panel; g.fill(); g.lineWidth = 1.6; g.strokeStyle = severityColour(a.severity); g.stroke(); }
    }
  }
  /** @param {number} step @param {number} y */
  tip(step, y) {
    const r = this.rowAt(y);
    if (r < 0 || !this.run.columns || !this.metric) return null;
    return this.words(this.run.column(step), r);
  }
  /** @param {number} column @param {number} r */
  words(column, r) {
    const site = this.sites[r], row = this.codes(site), s = this.run.sites[site];
    const from = this.run.json.time.first[column], to = this.run.json.time.last[column];
    const value = row ? levels(row)[row.codes[column]] : NaN;
    const near = this.run.alerts.filter((/** @type {any} */ a) => a.layer === s.name && a.step >= this.run.edges[column] && a.step < this.run.edges[column + 1]);
    const layer = this.run.layers[s.layer];
    return [
      this.name(site),
      [layer?.module ? `${layer.module} · ${s.label}` : s.label, ""],
      [from === to ? "step" : "steps", from === to ? whole(from) : `${whole(from)}–${whole(to)}`],
      [this.metric.title, reading(this.metric.key, value)],
      ...near.slice(0, 3).map((/** @type {any} */ a) => a.message),
    ];
  }
  /** @param {KeyboardEvent} e */
  key(e) {
    const time = this.chart.time, n = this.run.columns;
    if (!this.sites.length || !n) return false;
    let [c, r] = this.cursor ?? [this.run.column(time.lo), Math.max(0, this.sites.indexOf(this.selected))];
    const stride = e.shiftKey ? 10 : 1;
    if (e.key === "ArrowRight") c += stride; else if (e.key === "ArrowLeft") c -= stride;
    else if (e.key === "ArrowDown") r += stride; else if (e.key === "ArrowUp") r -= stride;
    else if (e.key === "Home") c = this.run.column(time.lo); else if (e.key === "End") c = this.run.column(time.hi - 1e-6);
    else if (e.key === "Enter" || e.key === " ") { this.o.open(this.sites[r]); return true; }
    else if (e.key === "Escape") { time.reset(); return true; }
    else if (e.key === "+" || e.key === "=" || e.key === "-") {
      const centre = this.run.edges[c], half = ((time.hi - time.lo) / 2) * (e.key === "-" ? 2 : 0.5);
      time.zoom(centre - half, centre + half);
      return true;
    } else return false;
    c = Math.max(0, Math.min(n - 1, c)); r = Math.max(0, Math.min(this.sites.length - 1, r));
    this.cursor = [c, r];
    const mid = (this.run.edges[c] + this.run.edges[c + 1]) / 2;
    if (mid < time.lo || mid > time.hi) { const half = (time.hi - time.lo) / 2; time.zoom(mid - half, mid + half); }
    this.chart.redraw();
    time.hover(mid);
    const rect = this.chart.canvas.getBoundingClientRect();
    const words = this.words(c, r);
    tip(words, rect.left + this.chart.x(mid), rect.top + this.top + (r + 0.5) * this.rowHeight);
    this.o.say?.(words.map((w) => (Array.isArray(w) ? `${w[0]} ${w[1]}` : w)).join(", "));
    return true;
  }
}

/** A CSS colour as the map's pixels hold it. @param {string} colour */
function packed(colour) {
  const c = new OffscreenCanvas(1, 1), g = /** @type {any} */ (c.getContext("2d"));
  g.fillStyle = colour; g.fillRect(0, 0, 1, 1);
  const [r, gr, b] = g.getImageData(0, 0, 1, 1).data;
  return ((255 << 24) | (b << 16) | (gr << 8) | r) >>> 0;
}

/** Where nearly all values of a site lie, by its histograms. @param {RunData} run @param {number} site @returns {[number, number] | null} */
function bulk(run, site) {
  const head = run.json.shades[site];
  if (!head) return null;
  const [offset, first, bins] = head, slices = run.sliceEdges.length - 1;
  let low = Infinity, high = -Infinity;
  for (let s = 0; s < slices; s++) {
    const at = offset + s * bins, codes = run.blobs.shades.subarray(at, at + bins);
    const total = codes.reduce((sum, c) => sum + c * c, 0);
    if (!total) continue;
    let seen = 0;
    for (let b = 0; b < bins; b++) {
      const before = seen;
      seen += codes[b] * codes[b];
      if (before <= 0.002 * total && seen > 0.002 * total) low = Math.min(low, run.binEdges[first + b]);
      if (before < 0.998 * total && seen >= 0.998 * total) high = Math.max(high, run.binEdges[first + b + 1]);
    }
  }
  return low <= high ? [low, high] : null;
}

/**
 * Histograms over time as a density map on the scale's own axis.
 * @param {CanvasRenderingContext2D} g @param {any} box @param {(s: number) => number} x @param {RunData} run @param {number} site @param {any} scale
 * @param {boolean} held whether a slice holds until the next one that has values
 */
function densityMap(g, box, x, run, site, scale, held) {
  const head = run.json.shades[site];
  if (!head) return;
  const [offset, first, bins] = head, slices = run.sliceEdges.length - 1, H = Math.max(1, Math.round(box.h));
  const image = new ImageData(slices, H), pixels = new Uint32Array(image.data.buffer);
  const place = [];
  for (let b = 0; b <= bins; b++) place.push(Math.max(-H, Math.min(2 * H, scale.at(run.binEdges[first + b]) - box.y)));
  /** @type {number[]} */ const seen = [];
  const density = new Float64Array(H), widths = new Float64Array(H).fill(1);
  for (let b = 0; b < bins; b++)
    for (let p = Math.max(0, Math.floor(place[b + 1])); p < Math.min(H, place[b]); p++) widths[p] = Math.max(1, place[b] - place[b + 1]);
  for (let s = 0; s < slices; s++) {
    density.fill(0);
    let total = 0;
    for (let b = 0; b < bins; b++) {
      const code = run.blobs.shades[offset + s * bins + b];
      if (!code) continue;
      const weight = code * code, bottom = place[b], top = place[b + 1];
      total += weight;
      const width = Math.max(bottom - top, 1), start = bottom - top < 1 ? (bottom + top) / 2 - 0.5 : top;
      for (let p = Math.floor(start); p < start + width; p++) {
        if (p < 0 || p >= H) continue;
        density[p] += (weight * Math.max(0, Math.min(p + 1, start + width) - Math.max(p, start))) / width;
      }
    }
    if (!total) continue;
    seen.push(s);
    // Average over the width of the bin at each place: wide bins blend, narrow ones stay sharp.
    const sum = new Float64Array(H + 1);
    for (let p = 0; p < H; p++) sum[p + 1] = sum[p] + density[p];
    /** @param {number} p */
    const mass = (p) => { const q = Math.max(0, Math.min(H, p)), k = Math.min(H - 1, Math.floor(q)); return sum[k] + (q - k) * density[k]; };
    const smooth = density.map((_, p) => (mass(p + 0.5 + widths[p] / 2) - mass(p + 0.5 - widths[p] / 2)) / widths[p]);
    const ordered = Float64Array.from(smooth).filter((v) => v > 0).sort();
    const top = ordered[Math.floor(0.97 * (ordered.length - 1))] || 1;
    for (let p = 0; p < H; p++) {
      const i = Math.round(255 * Math.sqrt(Math.min(1, smooth[p] / top)));
      pixels[p * slices + s] = i > 4 ? ink.density[i] : 0;
    }
  }
  g.imageSmoothingEnabled = false;
  const off = new OffscreenCanvas(slices, H);
  /** @type {any} */ (off.getContext("2d")).putImageData(image, 0, 0);
  for (const [i, s] of seen.entries()) {
    const left = x(run.sliceEdges[s]), right = x(run.sliceEdges[held ? seen[i + 1] ?? slices : s + 1]);
    if (right < box.x || left > box.x + box.w) continue;
    g.drawImage(off, s, 0, 1, H, left, box.y, right - left + 0.4, box.h);
  }
}

/** Choose one of several words. @param {any} host @param {string} label @param {[string, string][]} options @param {string} value @param {(v: string) => void} change */
function segmented(host, label, options, value, change) {
  host.replaceChildren(
    ...options.map(([key, words]) =>
      h("button", { type: "button", "aria-pressed": String(key === value), onclick: () => change(key) }, words)),
  );
  host.setAttribute("role", "group");
  host.setAttribute("aria-label", label);
}

/**
 * A table whose columns sort; columns of one group stand under its title.
 * @param {any} host @param {{head: string, group?: string, num?: boolean}[]} heads
 * @param {{cells: any[], sort: any[], open?: () => void}[]} lines @param {{column: number, down: boolean}} by
 */
function sortable(host, heads, lines, by) {
  const body = h("tbody");
  const starts = heads.map((c, i) => !!c.group && c.group !== heads[i - 1]?.group);
  const grouped = heads.some((c) => c.group);
  const head = h("tr", {}, heads.map((c, i) =>
    h("th", { scope: "col", class: `${c.num ? "num" : ""} ${starts[i] ? "from" : ""}`, "aria-label": c.group ? `${c.group}, ${c.head}` : null },
      h("button", { type: "button", onclick: () => { by = { column: i, down: by.column === i ? !by.down : !!c.num }; fill(); } },
        c.group ? h("small", {}, c.head) : c.head))));
  const groups = h("tr", {}, heads.map((c, i) => (c.group
    ? starts[i] && h("th", { class: "group from", scope: "colgroup", colspan: heads.filter((d) => d.group === c.group).length }, c.group)
    : h("td", {}))));
  function fill() {
    const sorted = [...lines].sort((a, b) => {
      const u = a.sort[by.column], v = b.sort[by.column];
      const none = (/** @type {any} */ w) => w === null || Number.isNaN(w);
      if (none(u) || none(v)) return none(u) ? (none(v) ? 0 : 1) : -1;
      const order = typeof u === "string" ? u.localeCompare(v, undefined, { numeric: true }) : u === v ? 0 : u - v;
      return by.down ? -order : order;
    });
    body.replaceChildren(...sorted.map((line) =>
      h("tr", { onclick: line.open, class: line.open ? "open" : "" }, line.cells.map((c, i) =>
        i === 0 ? h("th", { scope: "row" }, c) : h("td", { class: `${heads[i].num ? "num" : ""} ${starts[i] ? "from" : ""}` }, c)))));
    [...head.children].forEach((th, i) => th.setAttribute("aria-sort", i === by.column ? (by.down ? "descending" : "ascending") : "none"));
  }
  fill();
  host.replaceChildren(h("table", { class: "plain sortable" }, h("thead", {}, grouped ? groups : null, head), body));
}

/** Redraw on a new size or theme, at most once per frame. @param {() => void} draw */
function whenever(draw) {
  let due = 0;
  const ask = () => { if (!due) due = requestAnimationFrame(() => { due = 0; draw(); }); };
  addEventListener("resize", ask);
  dark.addEventListener("change", () => { theme(); ask(); });
}

/** @param {string} prefix */
const blobsOf = async (prefix) => {
  const [maps, tracks, shades] = await Promise.all(["maps", "tracks", "shades"].map((n) => unpack(`${prefix}blob-${n}`)));
  return { maps, tracks, shades };
};

/** Anything that goes wrong while drawing is said on the page. @param {() => Promise<void>} main */
async function start(main) {
  try {
    await main();
    document.body.dataset.ready = "1";
  } catch (error) {
    const note = $("failed");
    note.hidden = false;
    note.append(" ", String(error));
    document.body.dataset.ready = "failed";
    throw error;
  }
}
