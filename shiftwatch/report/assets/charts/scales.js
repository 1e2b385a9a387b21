// @ts-check
// Scales: from values to heights, with round ticks.

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

/**
 * Of learning rates: from zero; logarithmic where rates span more than a factor of 30, be it without the ends: a warm-up from
 * nothing or the foot of a cosine would bend all between.
 * @param {any} plot @param {Float64Array} rates
 */
function rateScale(plot, rates) {
  const known = rates.filter(Number.isFinite).sort(), most = known[known.length - 1];
  const [low, high] = [0.15, 0.85].map((share) => known[Math.round(share * (known.length - 1))]);
  if (low > 0 && high / low > 30) return vertical("log", (known.find((v) => v > 0) ?? low) / 1.5, most * 1.5, plot.y, plot.h);
  return vertical("linear", 0, 1.1 * most || 1, plot.y, plot.h);
}

/** Smallest and largest finite value of several series, in a range of columns. @param {ArrayLike<number>[]} all @param {number} [from] @param {number} [to] @returns {[number, number] | null} */
function extent(all, from = 0, to = Infinity) {
  let lo = Infinity, hi = -Infinity;
  for (const series of all)
    for (let i = Math.max(0, from); i < Math.min(series.length, to); i++) {
      const v = series[i];
      if (Number.isFinite(v)) { if (v < lo) lo = v; if (v > hi) hi = v; }
    }
  return lo <= hi ? [lo, hi] : null;
}
