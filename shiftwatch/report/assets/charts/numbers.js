// @ts-check
// Numbers as people read them.

const GROUPED = new Intl.NumberFormat("en"); // once: a number's own toLocaleString makes one at each call

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
  } else if (size >= 1000) text = GROUPED.format(Math.round(v));
  else text = String(Number(v.toPrecision(digits)));
  return text.replaceAll("-", "−");
}

/** @param {number} v */
const whole = (v) => GROUPED.format(Math.round(v));

/** @param {number} v */
const percent = (v) => (Number.isFinite(v) ? `${fmt(100 * v, 3)} %` : fmt(v));

/** @param {any} v */
const real = (v) => (v === "inf" ? Infinity : v === "-inf" ? -Infinity : v === null ? NaN : v);

/** @param {string} key @param {any} v */
const reading = (key, v) => (SHARES.has(key) ? percent(real(v)) : fmt(v, 3));

const SHARES = new Set(["saturation", "dead_fraction", "zero_fraction", "nonfinite", "subnormal", "dormant"]);
