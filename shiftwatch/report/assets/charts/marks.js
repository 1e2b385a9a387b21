// @ts-check
// What charts draw: axes, lines, areas, alerts.

const FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif";

/** Text cut in its front, where names of layers are alike. @param {CanvasRenderingContext2D} g @param {string} text @param {number} room */
function fitted(g, text, room) {
  if (g.measureText(text).width <= room) return text;
  let lo = 0, hi = text.length;
  while (lo < hi) { const mid = (lo + hi) >> 1; if (g.measureText("…" + text.slice(mid)).width <= room) hi = mid; else lo = mid + 1; }
  return "…" + text.slice(lo);
}

/** Clip to the plot while drawing. @param {CanvasRenderingContext2D} g @param {any} box @param {() => void} body */
function inside(g, box, body) {
  g.save(); g.beginPath(); g.rect(box.x, box.y, box.w, box.h); g.clip(); body(); g.restore();
}

/** Steps, and the epochs where they are known. @param {CanvasRenderingContext2D} g @param {any} box @param {Time} time @param {(s: number) => number} x @param {string} unit */
function stepAxis(g, box, time, x, unit) {
  const ticks = niceTicks(time.lo, time.hi, Math.max(2, Math.floor(box.w / 110))).filter((t) => Number.isInteger(t));
  ticksBelow(g, box, box.y + box.h, ticks.map((t) => [x(t), whole(t)]), unit);
  if (time.epochs.length > 1)
    ticksBelow(g, box, box.y + box.h + 15, epochsSeen(box, time).map(([step, number]) => [x(step), whole(number)]), "epoch");
}

/** @param {CanvasRenderingContext2D} g @param {any} box @param {number} y @param {[number, string][]} ticks @param {string} unit */
function ticksBelow(g, box, y, ticks, unit) {
  g.save();
  g.fillStyle = ink.quiet; g.strokeStyle = ink.line; g.lineWidth = 1; g.textBaseline = "top";
  let free = -Infinity;
  for (const [px, label] of ticks) {
    const half = g.measureText(label).width / 2;
    const centre = Math.max(box.x - 4 + half, Math.min(box.x + box.w + 4 - half, px));
    if (centre - half < free) continue;
    free = centre + half + 10;
    g.beginPath(); g.moveTo(Math.round(px) + 0.5, y); g.lineTo(Math.round(px) + 0.5, y + 4); g.stroke();
    g.textAlign = "center"; g.fillText(label, centre, y + 8);
  }
  g.textAlign = "right"; g.fillStyle = ink.faint;
  if (box.x > 40) g.fillText(unit, box.x - 10, y + 8);
  g.restore();
}

/** Epochs that begin in view; where they are too many to be told apart, those of round numbers. @param {any} box @param {Time} time */
function epochsSeen(box, time) {
  const seen = time.epochs.filter(([step]) => step >= time.lo && step < time.hi);
  let every = 1, some = seen;
  for (let k = 0; some.length * 40 > box.w; k++) {
    every = [2, 5, 10][k % 3] * 10 ** Math.floor(k / 3);
    some = seen.filter(([, number]) => number % every === 0);
  }
  return some;
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
 * Stretches of a line of some points, the first and the last of each. One path of hundreds of points takes a canvas
 * five times as long as its parts do, for every pixel row is held against all of them; an SVG keeps it whole.
 * @param {any} g @param {number} points
 */
function stretches(g, points) {
  const each = g instanceof SvgPen ? points : 16, all = [];
  for (let from = 0; from < points - 1; from += each) all.push([from, Math.min(points - 1, from + each)]);
  return all;
}

/** Pixels of the screen in one of a canvas. @param {any} g */
const sharpness = (g) => (g instanceof SvgPen ? 1 : g.getTransform().a);

/** Whether the points of a line lie so close on the screen that it is better drawn column by column. @param {any} g @param {[number, number][]} line */
function dense(g, line) {
  if (g instanceof SvgPen || line.length < 100) return false;
  return (line[line.length - 1][0] - line[0][0]) * sharpness(g) < 2.5 * line.length;
}

/**
 * Highest and lowest y of a line in each column of the screen's pixels that it crosses.
 * @param {CanvasRenderingContext2D} g @param {[number, number][]} line
 */
function reaches(g, line) {
  const sharp = sharpness(g), first = Math.max(0, Math.floor(line[0][0] * sharp));
  const n = Math.max(0, Math.min(g.canvas.width, Math.ceil(line[line.length - 1][0] * sharp)) - first);
  const top = new Float64Array(n).fill(Infinity), bottom = new Float64Array(n).fill(-Infinity);
  for (let i = 1; i < line.length; i++) {
    const [x0, y0] = line[i - 1], [x1, y1] = line[i], slope = x1 > x0 ? (y1 - y0) / (x1 - x0) : 0;
    const to = Math.min(n - 1, Math.floor(x1 * sharp) - first);
    for (let p = Math.max(0, Math.floor(x0 * sharp) - first); p <= to; p++) {
      const a = y0 + slope * (Math.max(x0, (first + p) / sharp) - x0), b = x1 > x0 ? y0 + slope * (Math.min(x1, (first + p + 1) / sharp) - x0) : y1;
      top[p] = Math.min(top[p], a, b); bottom[p] = Math.max(bottom[p], a, b);
    }
  }
  return { first, sharp, top, bottom };
}

/**
 * Fill columns of pixels by upright hairs. Without a graphics card a canvas draws those in a tenth of the time that it
 * takes for a wide line or a shape with as many corners.
 * @param {CanvasRenderingContext2D} g @param {{first: number, sharp: number, top: Float64Array, bottom: Float64Array}} columns @param {any} colour
 */
function hairs(g, { first, sharp, top, bottom }, colour) {
  g.save();
  g.strokeStyle = colour; g.lineWidth = 1 / sharp;
  for (let from = 0; from < top.length; from += 64) {
    g.beginPath();
    for (let p = from; p < Math.min(top.length, from + 64); p++) {
      const x = (first + p + 0.5) / sharp;
      g.moveTo(x, top[p]); g.lineTo(x, bottom[p]);
    }
    g.stroke();
  }
  g.restore();
}

/** Stroke a line. @param {any} g @param {[number, number][]} line */
function stroked(g, line) {
  if (g.lineWidth * sharpness(g) > 1 && dense(g, line)) { // a line of one pixel is quick as it is
    const columns = reaches(g, line), half = g.lineWidth / 2;
    hairs(g, { ...columns, top: columns.top.map((y) => y - half), bottom: columns.bottom.map((y) => y + half) }, g.strokeStyle);
    return;
  }
  for (const [from, to] of stretches(g, line.length)) {
    const begin = Math.max(0, from - 1); // over the corner where they meet
    g.beginPath();
    for (let i = begin; i <= to; i++) if (i === begin) g.moveTo(...line[i]); else g.lineTo(...line[i]);
    g.stroke();
  }
}

/** Fill between two lines of as many points. @param {any} g @param {[number, number][]} top @param {[number, number][]} bottom */
function filled(g, top, bottom) {
  if (dense(g, top)) {
    hairs(g, { ...reaches(g, top), bottom: reaches(g, bottom).bottom }, g.fillStyle);
    return;
  }
  for (const [from, to] of stretches(g, top.length)) {
    /** Stretches meet between pixels: over one it would be filled twice. @param {[number, number][]} line @param {number} i */
    const x = (line, i) => ((i === from && from) || (i === to && to < line.length - 1) ? Math.round(line[i][0]) : line[i][0]);
    g.beginPath(); g.moveTo(x(top, from), top[from][1]);
    for (let i = from + 1; i <= to; i++) g.lineTo(x(top, i), top[i][1]);
    for (let i = to; i >= from; i--) g.lineTo(x(bottom, i), bottom[i][1]);
    g.closePath(); g.fill();
  }
}

/**
 * A series as a line.
 * @param {CanvasRenderingContext2D} g @param {number[]} edges @param {ArrayLike<number>} values
 * @param {(s: number) => number} x @param {any} scale @param {string} colour @param {{width?: number, joined?: boolean}} [o]
 */
function polyline(g, edges, values, x, scale, colour, o = {}) {
  g.strokeStyle = colour; g.lineWidth = o.width ?? 1.6; g.lineJoin = "round";
  for (const piece of pieces(edges, values, x, scale, !!o.joined)) stroked(g, piece);
}

/**
 * The area between two series.
 * @param {CanvasRenderingContext2D} g @param {number[]} edges @param {ArrayLike<number>} low @param {ArrayLike<number>} high
 * @param {(s: number) => number} x @param {any} scale @param {string} colour @param {number} alpha @param {boolean} [joined]
 */
function area(g, edges, low, high, x, scale, colour, alpha, joined = false) {
  g.save(); g.fillStyle = colour; g.globalAlpha = alpha;
  /** Where both are known. @param {ArrayLike<number>} some @param {ArrayLike<number>} others */
  const known = (some, others) => pieces(edges, Float64Array.from(some, (v, i) => (Number.isNaN(others[i]) ? NaN : v)), x, scale, joined);
  const bottoms = known(low, high);
  known(high, low).forEach((top, k) => filled(g, top, bottoms[k]));
  g.restore();
}

/** Vertical marks where alerts began. @param {CanvasRenderingContext2D} g @param {any} box @param {any[]} alerts @param {(s: number) => number} x */
function alertMarks(g, box, alerts, x) {
  g.save(); g.lineWidth = 1.5;
  for (const a of worstLast(alerts)) {
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
