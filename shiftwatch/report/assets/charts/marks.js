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
