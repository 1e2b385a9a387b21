// @ts-check
// A canvas over the time axis that all charts of a page share, and the words under the pointer.

/** The steps that all charts of a page show, the step under the pointer and the one that was chosen. */
class Time {
  /** @param {number} first @param {number} last */
  constructor(first, last) {
    this.first = first; this.last = Math.max(last, first + 1);
    this.lo = this.first; this.hi = this.last;
    /** @type {number | null} */ this.pinned = null;
    /** Steps at which epochs begin, and their numbers. @type {[number, number][]} */ this.epochs = [];
    /** @type {Set<Chart>} */ this.charts = new Set();
    /** @type {(() => void)[]} */ this.listeners = [];
    /** @type {((step: number | null) => void)[]} */ this.pinners = [];
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
  /** The run has grown: who saw all of it goes on to, who looked closer is left there. @param {number} first @param {number} last */
  grow(first, last) {
    const all = !this.zoomed;
    this.first = first; this.last = Math.max(last, first + 1);
    if (all) { this.lo = this.first; this.hi = this.last; }
    else { this.lo = Math.max(this.lo, this.first); this.hi = Math.min(this.hi, this.last); }
  }
  /** @param {number | null} step */
  pin(step) {
    this.pinned = step;
    this.redraw();
    for (const f of this.pinners) f(step);
  }
  redraw() { for (const chart of this.charts) chart.redraw(); }
  /** @param {number | null} step */
  hover(step) { for (const chart of this.charts) chart.cross(step); }
}

/** A picture on a canvas, with a menu to take it away. */
class Plot {
  /**
   * @param {any} host @param {{height: () => number, gutter: () => number, title: string, label: string, top?: number, right?: number, axis?: boolean,
   *   draw: (g: any, box: any, x: (s: number) => number) => void, data?: (all: boolean) => {heads: string[], rows: any[][]}, tools?: any}} o
   *   `data` gives the numbers in view, or with `all` all of them at full length; `tools` is where the menu goes.
   */
  constructor(host, o) {
    /** @type {any} */ this.o = o;
    this.canvas = spare.shift() ?? h("canvas", { role: "img" });
    this.canvas.ariaLabel = o.label;
    this.node = h("div", { class: "chart" }, this.canvas);
    this.width = 0; this.seen = false;
    host.append(this.node);
    o.tools?.append(toolsOf(this));
  }
  /** Where it stands. */
  measure() {
    const { top, bottom } = this.node.getBoundingClientRect();
    this.width = this.node.clientWidth;
    this.seen = bottom > 0 && top < innerHeight;
  }
  get height() { return (this.o.top ?? 6) + this.o.height() + (this.o.axis ? this.axisRoom : 6); }
  get axisRoom() { return 24; }
  get box() {
    const gutter = this.o.gutter(), top = this.o.top ?? 6;
    return { x: gutter, y: top, w: Math.max(20, this.width - gutter - (this.o.right ?? 8)), h: this.o.height() };
  }
  /** @param {number} v */
  x(v) { return v; }
  /** Everything, on any pen. @param {any} g */
  paint(g) { this.o.draw(g, this.box, (/** @type {number} */ v) => this.x(v)); }
  /** Draw with the next frame, once however often it is asked for. */
  redraw() {
    if (printing()) { this.measure(); this.draw(); return; }
    this.canvas.style.height = `${this.height}px`; // what is below stays where it will be
    if (!dirty.size) requestAnimationFrame(flush);
    dirty.add(this);
  }
  draw() {
    waiting.delete(this);
    if (!this.width) return;
    const { width, height, canvas } = this, dpr = Math.min(3, devicePixelRatio || 1);
    const w = Math.round(width * dpr), t = Math.round(height * dpr), g = canvas.getContext("2d");
    if (canvas.width !== w || canvas.height !== t) {
      canvas.width = w; canvas.height = t;
      canvas.style.height = `${height}px`; // its width is that of the page: one layout less
    } else { g.setTransform(1, 0, 0, 1, 0, 0); g.clearRect(0, 0, w, t); }
    g.setTransform(dpr, 0, 0, dpr, 0, 0);
    g.font = `11px ${FONT}`; g.textBaseline = "middle";
    this.paint(g);
  }
  remove() {
    dirty.delete(this); waiting.delete(this);
    this.node.remove();
    if (!this.o.key) spare.push(this.canvas);
  }
}

const SHOWN = 30; // milliseconds in which what is in sight comes onto the screen
const printing = () => document.documentElement.dataset.theme === "light";
/** Of charts that are gone, for the next that come in their places: new ones take milliseconds. @type {HTMLCanvasElement[]} */ const spare = [];
/** @type {Set<Plot>} */ const dirty = new Set(), waiting = new Set();

/** Draw what is in sight; all is read before anything is written, so that there is one layout. */
function flush() {
  const plots = [...dirty];
  dirty.clear();
  for (const plot of plots) plot.measure();
  for (const plot of plots) if (plot.seen) plot.draw(); else waiting.add(plot);
  setTimeout(catchUp, SHOWN);
}
/** The rest, one at a time, when the page has shown what matters. */
function catchUp() {
  const [plot] = waiting;
  if (plot) { plot.draw(); setTimeout(catchUp); } else document.body.dataset.ready ??= "1";
}

/** A plot over the common time axis. */
class Chart extends Plot {
  /**
   * @param {any} host @param {Time} time
   * @param {any} o as of Plot, and
   *   `tip?: (step: number, y: number) => any[] | null`, `click?: (step: number, y: number) => void` (else the step is chosen),
   *   `key?: (e: KeyboardEvent) => boolean` for a chart that the keyboard reaches, `unit?: () => string` of the time axis, else "step"
   */
  constructor(host, time, o) {
    super(host, "title" in o ? o : { title: o.label, ...o });
    this.time = time;
    this.line = h("div", { class: "cross", hidden: true });
    this.brush = h("div", { class: "brush", hidden: true });
    this.node.append(this.line, this.brush);
    if (o.key) { this.canvas.tabIndex = 0; this.canvas.addEventListener("keydown", (/** @type {KeyboardEvent} */ e) => { if (o.key?.(e)) e.preventDefault(); }); }
    time.charts.add(this);
    this.listen();
  }
  listen() {
    const { canvas, node, time, o } = this; // the canvas goes on to another chart, what listens does not
    /** @type {number | null} */ let from = null, before = time.pinned;
    node.addEventListener("pointermove", (/** @type {PointerEvent} */ e) => {
      const [px, py] = this.local(e);
      if (from !== null) this.showBrush(from, px);
      this.point(px, py, e);
    });
    node.addEventListener("pointerdown", (/** @type {PointerEvent} */ e) => {
      if (e.button !== 0) return;
      from = this.local(e)[0];
      if (e.pointerType !== "touch") canvas.setPointerCapture(e.pointerId);
    });
    node.addEventListener("pointerup", (/** @type {PointerEvent} */ e) => {
      const [px, py] = this.local(e), begun = from;
      from = null; this.brush.hidden = true;
      if (begun === null) return;
      if (Math.abs(px - begun) > 6) time.zoom(this.step(begun), this.step(px));
      else if (px >= this.box.x && (o.click || time.pinners.length)) { before = time.pinned; (o.click ?? time.pin.bind(time))(Math.floor(this.step(px)), py); }
    });
    const leave = () => { from = null; this.brush.hidden = true; tip(null); time.hover(null); };
    node.addEventListener("pointerleave", leave);
    node.addEventListener("pointercancel", leave);
    node.addEventListener("dblclick", () => { time.pin(before); time.reset(); });
  }
  get axisRoom() { return this.time.epochs.length > 1 ? 39 : 24; }
  remove() { this.time.charts.delete(this); super.remove(); }
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
  /** @param {any} g */
  paint(g) {
    const { box, time, o } = this, { lo, hi } = time;
    /** @param {number} s */
    const x = (s) => box.x + ((s - lo) / (hi - lo)) * box.w; // the box is asked for once
    o.draw(g, box, x);
    if (o.axis) stepAxis(g, box, time, x, o.unit?.() ?? "step");
    if (time.pinned !== null && time.pinned >= lo && time.pinned < hi) pinMark(g, box, x(time.pinned + 0.5));
  }
}

/** The chosen step. @param {any} g @param {any} box @param {number} px */
function pinMark(g, box, px) {
  g.save();
  g.strokeStyle = ink.text; g.lineWidth = 1; g.globalAlpha = 0.8;
  g.beginPath(); g.moveTo(Math.round(px) + 0.5, box.y - 2); g.lineTo(Math.round(px) + 0.5, box.y + box.h + 2); g.stroke();
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
      return h("span", { class: "pair" }, r[2] ? dot(r[2], "") : null, h("span", {}, r[0]), h("span", { class: "num" }, r[1]));
    }),
  );
  node.hidden = false;
  const { offsetWidth: w, offsetHeight: t } = node;
  const left = cx + 16 + w > innerWidth - 6 ? Math.max(6, cx - 16 - w) : cx + 16;
  const topEdge = cy + 18 + t > innerHeight - 6 ? Math.max(6, cy - 14 - t) : cy + 18;
  node.style.left = `${left}px`; node.style.top = `${topEdge}px`;
}
