// @ts-check
// The packed run: read from the page, and unpacked where asked.

/** Bytes of base64 of gzip. @param {string} packed @returns {Promise<Uint8Array>} */
async function unpack(packed) {
  const text = atob(packed.trim());
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

/** @param {Record<string, string>} packed */
async function unpacked(packed) {
  const [maps, tracks, shades] = await Promise.all(["maps", "tracks", "shades"].map((n) => unpack(packed[n])));
  return { maps, tracks, shades };
}

/** The blobs that lie in the page. @param {string} prefix of their elements' names */
const blobsOf = (prefix) =>
  unpacked(Object.fromEntries(["maps", "tracks", "shades"].map((n) => [n, $(`${prefix}blob-${n}`).textContent])));

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
    /** @type {Map<number, number[]>} */ this.dead = new Map(json.dead.map((/** @type {number[]} */ [site, ...head]) => [site, head]));
    /** @type {Map<string, {top: number, bottom: number}>} */ this.reach = new Map(); // see reachOf
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
  /**
   * Units of a site that are dead at the end of some column, in the order in which they died: their numbers, of how many they
   * are, and whether the one in a row is in a column. @param {number} site
   */
  deaths(site) {
    const head = this.dead.get(site);
    if (!head) return null;
    const [offset, width, n] = head, bytes = this.blobs.maps, bits = offset + 2 * n, stride = Math.ceil(this.columns / 8);
    const units = Array.from({ length: n }, (_, r) => bytes[offset + 2 * r] + (bytes[offset + 2 * r + 1] << 8));
    return { units, width, at: (/** @type {number} */ r, /** @type {number} */ c) => (bytes[bits + r * stride + (c >> 3)] >> (7 - (c & 7))) & 1 };
  }
  /** Share of a site's values in a bin of its histogram; bin −1: of all of them, 0 without any. @param {number} site @param {number} slice @param {number} bin */
  share(site, slice, bin) {
    const [offset, , bins, most] = this.json.shades[site], at = offset + slice * bins;
    if (bin < 0) return this.blobs.shades.subarray(at, at + bins).some((c) => c) ? 1 : 0;
    return most * (this.blobs.shades[at + bin] / 48) ** 2;
  }
  /** First and last column in view. @param {Time} time @param {boolean} [all] */
  between(time, all = false) {
    if (all || !this.columns) return [0, this.columns - 1];
    return [this.column(time.lo), this.column(time.hi - 1e-6)];
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
  if (row.levels) return row.levels;
  const table = new Float64Array(256);
  for (let c = 0; c <= 252; c++) table[c] = row.unit * Math.sinh(row.low + ((row.high - row.low) * c) / 252);
  if (row.low < 0) table[126] = 0;
  table[253] = -Infinity; table[254] = Infinity; table[255] = NaN;
  return (row.levels = table);
}
