// @ts-check
// Colour: ramps with even steps of lightness in OKLab (Ottosson, 2020), and what a value gets.

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
const night = () => dark.matches && document.documentElement.dataset.theme !== "light";

/** @type {any} */
let ink = {};

/** Colours of the current theme. */
function theme() {
  const css = getComputedStyle(document.documentElement);
  /** @param {string} n */
  const v = (n) => css.getPropertyValue(n).trim();
  const base = night() ? 0.235 : 0.972;
  const end = night() ? 0.93 : 0.3;
  ink = {
    text: v("--text"), quiet: v("--quiet"), faint: v("--faint"), line: v("--line"), page: v("--page"), panel: v("--panel"),
    accent: v("--accent"), critical: v("--critical"), warning: v("--warning"), info: v("--info"), good: v("--good"),
    second: v("--second"), third: v("--third"), fourth: v("--fourth"), missing: v("--missing"), wild: v("--wild"),
    // Nothing happening has the colour of the page; lightness moves in even steps.
    sequential: ramp((t) => [base + (end - base) * t, night() ? 0.19 * Math.min(1, 2.6 * t) : 0.185 * Math.min(1, 2.2 * t), night() ? -55 + 160 * t : 98 - 100 * t]),
    diverging: ramp((t) => {
      const d = Math.abs(2 * t - 1);
      const far = night() ? 0.84 : 0.4;
      return [base + (far - base) * d, 0.17 * Math.min(1, 1.7 * d), t < 0.5 ? 252 : 38];
    }),
    density: ramp((t) => [base + ((night() ? 0.93 : 0.34) - base) * t, 0.13 * Math.min(1, 2 * t), night() ? 250 - 50 * t : 225 + 35 * t]),
  };
  return ink;
}

/** @param {number} abgr */
const rgb = (abgr) => `rgb(${abgr & 255},${(abgr >> 8) & 255},${(abgr >> 16) & 255})`;

/** @param {string} severity */
const severityColour = (severity) => ink[severity === "critical" ? "critical" : severity === "info" ? "info" : "warning"];
const SEVERITIES = ["info", "warning", "critical"];
/** So that what is drawn on top is the worst. @param {any[]} alerts */
const worstLast = (alerts) => [...alerts].sort((a, b) => SEVERITIES.indexOf(a.severity) - SEVERITIES.indexOf(b.severity));

/** A CSS colour as the map's pixels hold it. @param {string} colour */
function packed(colour) {
  const c = new OffscreenCanvas(1, 1), g = /** @type {any} */ (c.getContext("2d"));
  g.fillStyle = colour; g.fillRect(0, 0, 1, 1);
  const [r, gr, b] = g.getImageData(0, 0, 1, 1).data;
  return ((255 << 24) | (b << 16) | (gr << 8) | r) >>> 0;
}

/**
 * How far the values of some rows reach: sizes that all but one in 200 stay under, and over.
 * @param {RunData} run @param {string} key @param {number[]} sites
 */
function reachOf(run, key, sites) {
  const known = `${key} ${sites.length} ${sites[0]}`;
  const found = run.reach.get(known);
  if (found) return found;
  // Counted by the sixteenth of an octave: sorting a million values would be seen.
  const counts = new Uint32Array(4096), most = new Float64Array(4096);
  let total = 0, positive = 0;
  for (const site of sites) {
    const row = run.row(key, site);
    if (!row) continue;
    const table = levels(row), count = new Uint32Array(256);
    for (const c of row.codes) count[c]++;
    for (let c = 0; c <= 252; c++) {
      if (!count[c]) continue;
      const size = Math.abs(table[c]);
      total += count[c];
      if (size === 0) continue;
      positive += count[c];
      const at = Math.max(0, Math.min(4095, Math.round(16 * Math.log2(size)) + 2048));
      counts[at] += count[c];
      if (size > most[at]) most[at] = size;
    }
  }
  let seen = total - positive, top = 0, bottom = 0;
  for (let i = 0; i < 4096; i++) {
    if (!counts[i]) continue;
    if (!bottom && seen + counts[i] - (total - positive) > 0.005 * positive) bottom = most[i];
    if (seen < 0.995 * total) top = most[i];
    seen += counts[i];
  }
  const reach = { top, bottom };
  run.reach.set(known, reach);
  return reach;
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
