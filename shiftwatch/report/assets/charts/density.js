// @ts-check
// Histograms over time.

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
 * How bins share out over rows of pixels: bin `b` gives `shares[k]` of itself to `rows[k]`, `k` from `from[b]` up to `from[b + 1]`.
 * @param {Float64Array} place of the edges, from below @param {number} height rows
 */
function sharesOf(place, height) {
  /** @type {number[]} */ const rows = [], /** @type {number[]} */ shares = [], from = [0];
  for (let b = 0; b + 1 < place.length; b++) {
    const bottom = place[b], top = place[b + 1], width = Math.max(bottom - top, 1);
    const start = bottom - top < 1 ? (bottom + top) / 2 - 0.5 : top; // a thin bin fills a row
    for (let p = Math.max(0, Math.floor(start)); p < Math.min(height, start + width); p++) {
      rows.push(p);
      shares.push(Math.max(0, Math.min(p + 1, start + width) - Math.max(p, start)) / width);
    }
    from.push(rows.length);
  }
  return { from, rows, shares };
}

/** What lies above a place between two rows. @param {Float64Array} sum of what lies above each row @param {Float64Array} density @param {number} at */
function mass(sum, density, at) {
  const row = Math.min(density.length - 1, Math.floor(at));
  return sum[row] + (at - row) * density[row];
}

/**
 * Histograms over time as pixels, a column for each slice, and which slices have values.
 * @param {any} box @param {RunData} run @param {number} site @param {any} scale
 * @returns {{canvas: HTMLCanvasElement, seen: number[]} | null}
 */
function densityPicture(box, run, site, scale) {
  const head = run.json.shades[site];
  if (!head) return null;
  const [offset, first, bins] = head, slices = run.sliceEdges.length - 1, H = Math.max(1, Math.round(box.h));
  const image = new ImageData(slices, H), pixels = new Uint32Array(image.data.buffer);
  const place = Float64Array.from({ length: bins + 1 }, (_, b) => Math.max(-H, Math.min(2 * H, scale.at(run.binEdges[first + b]) - box.y)));
  const { from, rows, shares } = sharesOf(place, H), widths = new Float64Array(H).fill(1);
  for (let b = 0; b < bins; b++)
    for (let p = Math.max(0, Math.floor(place[b + 1])); p < Math.min(H, place[b]); p++) widths[p] = Math.max(1, place[b] - place[b + 1]);
  /** @type {number[]} */ const seen = [];
  const density = new Float64Array(H), sum = new Float64Array(H + 1), smooth = new Float64Array(H);
  for (let s = 0; s < slices; s++) {
    const at = offset + s * bins;
    density.fill(0);
    let total = 0;
    for (let b = 0; b < bins; b++) {
      const code = run.blobs.shades[at + b];
      if (!code) continue;
      total += code * code;
      for (let k = from[b]; k < from[b + 1]; k++) density[rows[k]] += code * code * shares[k];
    }
    if (!total) continue;
    seen.push(s);
    // Average over the width of the bin at each place: wide bins blend, narrow ones stay sharp.
    for (let p = 0; p < H; p++) sum[p + 1] = sum[p] + density[p];
    for (let p = 0; p < H; p++) {
      const lo = Math.max(0, p + 0.5 - widths[p] / 2), hi = Math.min(H, p + 0.5 + widths[p] / 2);
      smooth[p] = (mass(sum, density, hi) - mass(sum, density, lo)) / widths[p];
    }
    const ordered = smooth.filter((v) => v > 0).sort();
    const top = ordered[Math.floor(0.97 * (ordered.length - 1))] || 1;
    for (let p = 0; p < H; p++) {
      const i = Math.round(255 * Math.sqrt(Math.min(1, smooth[p] / top)));
      pixels[p * slices + s] = i > 4 ? ink.density[i] : 0;
    }
  }
  return { canvas: canvasOf(image), seen };
}

/**
 * Histograms over time as a density map.
 * @param {CanvasRenderingContext2D} g @param {any} box @param {(s: number) => number} x @param {number[]} edges of the slices
 * @param {ReturnType<typeof densityPicture>} picture @param {boolean} held whether a slice holds until the next one that has values
 */
function densityMap(g, box, x, edges, picture, held) {
  if (!picture) return;
  const { canvas, seen } = picture;
  g.imageSmoothingEnabled = false;
  for (const [i, s] of seen.entries()) {
    const left = x(edges[s]), right = x(edges[held ? seen[i + 1] ?? edges.length - 1 : s + 1]);
    if (right < box.x || left > box.x + box.w) continue;
    g.drawImage(canvas, s, 0, 1, canvas.height, left, box.y, right - left + 0.4, box.h);
  }
}
