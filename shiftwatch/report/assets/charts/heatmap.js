// @ts-check
// Layers against time: a row per layer, or per block of layers that is folded away.

/** @typedef {{sites: number[], block: string, open: boolean, y: number, h: number}} MapRow a layer (one site, no block), or a block's head */

class HeatMap {
  /**
   * @param {any} host @param {Time} time @param {RunData} run
   * @param {{gutter: () => number, label: string, open: (site: number, step?: number) => void, say?: (text: string) => void, labels?: boolean,
   *   fold?: (block: string) => void, title?: () => string, tools?: any}} o
   */
  constructor(host, time, run, o) {
    this.run = run; this.o = o;
    /** @type {MapRow[]} */ this.rows = [];
    /** @type {any} */ this.metric = null;
    /** @type {any} */ this.scale = null;
    this.selected = -1;
    /** @type {[number, number] | null} */ this.cursor = null;
    this.held = false;
    this.has = { missing: false, wild: false };
    this.top = 14;
    this.full = 1;
    this.chart = new Chart(host, time, {
      height: () => this.full, gutter: o.gutter, axis: true, top: this.top, label: o.label, tools: o.tools,
      get title() { return o.title?.() ?? o.label; },
      draw: (/** @type {any} */ g, /** @type {any} */ box, /** @type {any} */ x) => this.draw(g, box, x),
      tip: (/** @type {number} */ step, /** @type {number} */ y) => this.tip(step, y),
      click: (/** @type {number} */ step, /** @type {number} */ y) => { const r = this.rowAt(y); if (r >= 0) this.act(r, step); },
      key: (/** @type {KeyboardEvent} */ e) => this.key(e),
      data: o.tools && ((/** @type {boolean} */ all) => this.data(all)),
    });
    this.chart.canvas.addEventListener("click", (/** @type {MouseEvent} */ e) => {
      const [px, py] = this.chart.local(e), r = this.rowAt(py);
      if (px < this.chart.box.x && r >= 0) this.act(r);
    });
    this.chart.canvas.addEventListener("pointermove", (/** @type {PointerEvent} */ e) => {
      const [px, py] = this.chart.local(e), r = this.rowAt(py);
      this.chart.canvas.style.cursor = r >= 0 && (this.rows[r].block || px < this.chart.box.x) ? "pointer" : "";
    });
    this.chart.canvas.addEventListener("blur", () => { if (this.cursor) { this.cursor = null; tip(null); this.chart.redraw(); } });
  }
  /** Open a layer, fold or unfold a block. @param {number} r @param {number} [step] */
  act(r, step) {
    const row = this.rows[r];
    if (row.block) this.o.fold?.(row.block); else this.o.open(row.sites[0], step);
  }
  get sites() { return this.rows.filter((r) => !r.block).map((r) => r.sites[0]); }
  /** @param {number} y */
  rowAt(y) {
    const at = y - this.top;
    if (at < 0 || at >= this.full) return -1;
    let lo = 0, hi = this.rows.length;
    while (lo < hi) { const mid = (lo + hi) >> 1; if (this.rows[mid].y <= at) lo = mid + 1; else hi = mid; }
    return lo - 1;
  }
  /**
   * @param {any} metric
   * @param {(number | {block: string, sites: number[], open: boolean})[]} rows sites, and heads of blocks: over their sites where they are open
   * @param {any} scale @param {boolean} held last value holds until the next
   */
  show(metric, rows, scale, held) {
    const n = rows.length, height = n <= 12 ? 22 : n <= 30 ? 17 : n <= 60 ? 13 : n <= 120 ? 8 : n <= 260 ? 6 : 4;
    let y = 0;
    this.rows = rows.map((r) => {
      const row = typeof r === "number" ? { sites: [r], block: "", open: true, y, h: height } : { ...r, y, h: Math.max(14, height) };
      y += row.h;
      return row;
    });
    this.full = Math.max(1, y || height);
    Object.assign(this, { metric, scale, held });
    /** @type {Map<number, Int16Array | null>} */ this.cache = new Map();
    /** @type {Map<MapRow, Int16Array | null>} */ this.worst = new Map();
    /** @type {any} */ this.picture = null;
    if (!this.chart.width) this.chart.measure(); // afterwards it is known, and asking would cost a layout
    if (this.rows.length && metric) this.pictured(this.chart.box);
    this.chart.redraw();
  }
  /** Places of a site's values on the colour scale, column by column: −1 without a value, −2 not finite. @param {number} site */
  places(site) {
    let found = this.cache?.get(site);
    if (found === undefined) {
      const row = this.run.row(this.metric.key, site);
      if (row) {
        const values = levels(row), { codes } = row, table = new Int16Array(256);
        for (let c = 0; c < 253; c++) table[c] = this.scale.index(values[c]);
        table[253] = table[254] = -2; table[255] = -1;
        found = new Int16Array(codes.length);
        for (let i = 0; i < codes.length; i++) found[i] = table[codes[i]];
        if (this.held) for (let i = 1; i < found.length; i++) if (found[i] === -1) found[i] = found[i - 1];
      } else found = null;
      this.cache?.set(site, found);
    }
    return found;
  }
  /** The place farthest from quiet in each column of a row: of its site, or of all sites of its block. @param {MapRow} row */
  columns(row) {
    let found = this.worst?.get(row);
    if (found === undefined) {
      const all = row.sites.map((site) => this.places(site)).filter((places) => places !== null);
      found = all.length > 1 ? all[0].map((_, c) => this.farthest(all.map((places) => places[c]))) : all[0] ?? null;
      this.worst?.set(row, found);
    }
    return found;
  }
  /** The place farthest from quiet: −2 comes before all, −1 after. @param {ArrayLike<number>} places @param {number} [from] @param {number} [to] */
  farthest(places, from = 0, to = places.length - 1) {
    const middle = this.scale.middle;
    let best = -1, far = -1;
    for (let c = from; c <= to; c++) {
      const i = places[c];
      if (i === -2) return -2;
      if (i >= 0 && Math.abs(i - middle) > far) { far = Math.abs(i - middle); best = i; }
    }
    return best;
  }
  /** The rows as pixels, made anew where the steps in view or the width have changed. @param {any} box */
  pictured(box) {
    const { run, rows, scale, chart: { time } } = this;
    const W = Math.max(1, Math.round(box.w * Math.min(2, devicePixelRatio || 1))), key = `${time.lo} ${time.hi} ${W}`;
    if (this.picture?.key === key) return this.picture.canvas;
    this.has = { missing: false, wild: false };
    const from = new Int32Array(W), to = new Int32Array(W);
    const ends = run.columns ? run.edges[run.columns] : 0, begins = run.columns ? run.edges[0] : 0;
    for (let p = 0; p < W; p++) {
      const step = time.lo + ((p + 0.5) / W) * (time.hi - time.lo);
      if (step < begins || step >= ends) { from[p] = -1; continue; }
      from[p] = run.column(time.lo + ((p + 0.02) / W) * (time.hi - time.lo));
      to[p] = Math.max(from[p], run.column(time.lo + ((p + 0.98) / W) * (time.hi - time.lo)));
    }
    const image = new ImageData(W, rows.length), pixels = new Uint32Array(image.data.buffer);
    const missing = packed(ink.missing), wild = packed(ink.wild);
    rows.forEach((row, r) => {
      if (row.block && row.open) return;
      const places = this.columns(row) ?? [];
      let last = -1;
      for (let p = 0; p < W; p++) {
        if (from[p] < 0) continue;
        const k = r * W + p;
        if (last >= 0 && from[last] === from[p] && to[last] === to[p]) { pixels[k] = pixels[r * W + last]; continue; }
        const best = this.farthest(places, from[p], to[p]);
        if (best === -1) this.has.missing = true;
        if (best === -2) this.has.wild = true;
        pixels[k] = best === -1 ? missing : best === -2 ? wild : scale.lut[best];
        last = p;
      }
    });
    this.picture = { key, canvas: canvasOf(image) };
    return this.picture.canvas;
  }
  /** @param {any} g @param {any} box @param {(s: number) => number} x */
  draw(g, box, x) {
    const { run, rows } = this;
    if (!rows.length || !this.metric) {
      g.fillStyle = ink.quiet; g.textAlign = "left"; g.fillText("Nothing to show here.", box.x, box.y + 10);
      return;
    }
    const off = this.pictured(box), W = off.width;
    g.imageSmoothingEnabled = false;
    for (let r = 0; r < rows.length;) { // rows of one height in one go
      let end = r + 1;
      while (end < rows.length && rows[end].h === rows[r].h) end++;
      g.drawImage(off, 0, r, W, end - r, box.x, box.y + rows[r].y, box.w, (end - r) * rows[r].h);
      r = end;
    }
    g.fillStyle = ink.panel;
    for (const row of rows) if (row.y && (row.h >= 12 || row.block)) g.fillRect(box.x, box.y + row.y - 0.5, box.w, 1);
    g.strokeStyle = ink.line; g.lineWidth = 1;
    g.strokeRect(box.x - 0.5, box.y - 0.5, box.w + 1, this.full + 1);
    this.labels(g, box);
    const chosen = rows.find((r) => this.marked(r));
    if (chosen) {
      g.strokeStyle = ink.accent; g.lineWidth = 1.5;
      g.strokeRect(box.x - 0.75, box.y + chosen.y - 0.75, box.w + 1.5, chosen.h + 1.5);
    }
    if (this.cursor) {
      const [c, r] = this.cursor, row = rows[r], left = x(run.edges[c]), right = x(run.edges[c + 1]);
      g.strokeStyle = ink.text; g.lineWidth = 2;
      g.strokeRect(left - 2, box.y + row.y - 2, Math.max(4, right - left) + 4, row.h + 4);
    }
    inside(g, { x: box.x - 5, y: 0, w: box.w + 10, h: box.y + box.h + 6 }, () => this.marks(g, box, x));
  }
  /** Whether a row is that of the open layer, or of the folded block around it. @param {MapRow} row */
  marked(row) { return row.block ? !row.open && row.sites.includes(this.selected) : row.sites[0] === this.selected; }
  /** @param {any} g @param {any} box */
  labels(g, box) {
    if (this.o.labels === false) return;
    g.textBaseline = "middle";
    const chosen = this.rows.find((r) => this.marked(r));
    let free = -Infinity;
    for (const row of this.rows) {
      const special = row === chosen, y = box.y + row.y + row.h / 2;
      if (!special && !row.block && (row.y + row.h / 2 < free || (chosen && Math.abs(chosen.y - row.y) < 12))) continue;
      free = row.y + row.h / 2 + 11.9;
      g.font = `${special || row.block ? "600 " : ""}11px ${FONT}`;
      g.fillStyle = special ? ink.accent : row.block ? ink.text : ink.quiet;
      g.textAlign = row.block ? "left" : "right";
      if (row.block) g.fillText(fitted(g, `${row.open ? "▾" : "▸"} ${row.block}${row.open ? "" : ` (${row.sites.length})`}`, row.open ? box.x + 200 : box.x - 10), 2, y);
      else g.fillText(fitted(g, this.name(row.sites[0]), box.x - 14), box.x - 8, y);
    }
    g.font = `11px ${FONT}`;
  }
  /** @param {number} site */
  name(site) { const s = this.run.sites[site]; return s.part && s.part !== s.tensor ? `${s.name} [${s.part}]` : s.name; }
  /** @param {any} g @param {any} box @param {(s: number) => number} x */
  marks(g, box, x) {
    /** @type {Map<string, MapRow>} */ const place = new Map();
    for (const row of this.rows) for (const site of row.block && row.open ? [] : row.sites) place.set(this.run.sites[site].name, row);
    for (const a of worstLast(this.run.alerts)) {
      const px = x(a.step);
      if (px < box.x - 1 || px > box.x + box.w + 1) continue;
      g.fillStyle = severityColour(a.severity);
      g.beginPath(); g.moveTo(px - 4, box.y - 9); g.lineTo(px + 4, box.y - 9); g.lineTo(px, box.y - 3); g.closePath(); g.fill();
      const row = place.get(a.layer);
      if (!row) continue;
      g.beginPath(); g.arc(px, box.y + row.y + row.h / 2, row.h >= 12 ? 4 : 3, 0, 7);
      g.lineWidth = 2; g.strokeStyle = ink.panel; g.stroke();
      if (row.sites.some((s) => this.run.sites[s].name === a.layer && this.run.sites[s].tensor === a.tensor)) g.fill();
      else { g.fillStyle = ink.panel; g.fill(); g.lineWidth = 1.6; g.strokeStyle = severityColour(a.severity); g.stroke(); }
    }
  }
  /** @param {number} step @param {number} y */
  tip(step, y) {
    const r = this.rowAt(y);
    return r < 0 || !this.run.columns || !this.metric ? null : this.words(this.run.column(step), r);
  }
  /** @param {number} column @param {number} r */
  words(column, r) {
    const row = this.rows[r], { run } = this;
    if (row.block) {
      const hint = `${row.open ? "folds" : "unfolds"} its ${whole(row.sites.length)} layers`;
      if (row.open) return [row.block, `A click ${hint}.`];
      const values = row.sites.map((s) => [s, this.value(s, column)]).filter(([, v]) => !Number.isNaN(v));
      const worst = values.sort((a, b) => Math.abs(this.scale.index(b[1]) - this.scale.middle) - Math.abs(this.scale.index(a[1]) - this.scale.middle))[0];
      return [row.block, this.when(column), worst ? [`${this.metric.title}, farthest: ${this.name(worst[0])}`, reading(this.metric.key, worst[1])] : "No value.", `A click ${hint}.`];
    }
    const site = row.sites[0], s = run.sites[site], layer = run.layers[s.layer];
    const near = run.alerts.filter((/** @type {any} */ a) => a.layer === s.name && a.step >= run.edges[column] && a.step < run.edges[column + 1]);
    return [
      this.name(site),
      [layer?.module ? `${layer.module} · ${s.label}` : s.label, ""],
      this.when(column),
      [this.metric.title, reading(this.metric.key, this.value(site, column))],
      ...near.slice(0, 3).map((/** @type {any} */ a) => a.message),
    ];
  }
  /** @param {number} column */
  when(column) {
    const { first, last } = this.run.json.time;
    return first[column] === last[column] ? ["step", whole(first[column])] : ["steps", `${whole(first[column])}–${whole(last[column])}`];
  }
  /** @param {number} site @param {number} column */
  value(site, column) {
    const row = this.run.row(this.metric.key, site);
    if (!row) return NaN;
    while (this.held && column > 0 && row.codes[column] === 255) column--;
    return levels(row)[row.codes[column]];
  }
  /** Rows of layers; columns of time in view, thinned to what one reads, or all of them. @param {boolean} all */
  data(all) {
    const { run } = this, [from, to] = run.between(this.chart.time, all), sites = this.rows.filter((r) => !r.block || !r.open).flatMap((r) => r.sites);
    const each = all ? 1 : Math.max(1, Math.ceil((to - from + 1) / 24)), starts = [];
    for (let c = from; c <= to; c += each) starts.push(c);
    return {
      heads: ["Layer", ...starts.map((c) => `step ${whole(run.json.time.first[c])}`)],
      rows: sites.map((site) => {
        const row = run.row(this.metric.key, site), table = row && levels(row);
        return [this.name(site), ...starts.map((c) => {
          let best = NaN, far = -1;
          for (let i = c; table && i < Math.min(c + each, to + 1); i++) {
            const v = table[row.codes[i]], size = Number.isNaN(v) ? -1 : Number.isFinite(v) ? Math.abs(this.scale.index(v) - this.scale.middle) : 999;
            if (size > far) { far = size; best = v; }
          }
          return best;
        })];
      }),
    };
  }
  /** @param {KeyboardEvent} e */
  key(e) {
    const time = this.chart.time, n = this.run.columns;
    if (!this.rows.length || !n) return false;
    const begun = time.pinned !== null && time.pinned >= time.lo && time.pinned < time.hi ? time.pinned : time.lo;
    let [c, r] = this.cursor ?? [this.run.column(begun), Math.max(0, this.rows.findIndex((row) => this.marked(row)))];
    const stride = e.shiftKey ? 10 : 1;
    if (e.key === "ArrowRight") c += stride; else if (e.key === "ArrowLeft") c -= stride;
    else if (e.key === "ArrowDown") r += stride; else if (e.key === "ArrowUp") r -= stride;
    else if (e.key === "Home") c = this.run.column(time.lo); else if (e.key === "End") c = this.run.column(time.hi - 1e-6);
    else if (e.key === "Enter" || e.key === " ") { this.act(r, this.run.edges[c]); return true; }
    else if (e.key === "Escape") { if (time.pinned !== null) time.pin(null); else time.reset(); return true; }
    else if (e.key === "+" || e.key === "=" || e.key === "-") {
      const centre = this.run.edges[c], half = ((time.hi - time.lo) / 2) * (e.key === "-" ? 2 : 0.5);
      time.zoom(centre - half, centre + half);
      return true;
    } else return false;
    c = Math.max(0, Math.min(n - 1, c)); r = Math.max(0, Math.min(this.rows.length - 1, r));
    this.cursor = [c, r];
    const mid = (this.run.edges[c] + this.run.edges[c + 1]) / 2;
    if (mid < time.lo || mid > time.hi) { const half = (time.hi - time.lo) / 2; time.zoom(mid - half, mid + half); }
    this.chart.redraw();
    time.hover(mid);
    const rect = this.chart.canvas.getBoundingClientRect(), words = this.words(c, r), row = this.rows[r];
    tip(words, rect.left + this.chart.x(mid), rect.top + this.top + row.y + row.h / 2);
    this.o.say?.(words.map((w) => (Array.isArray(w) ? `${w[0]} ${w[1]}` : w)).join(", "));
    return true;
  }
}
