// @ts-check
// What the reader looks at: which run, tensor, metric, layer, step. All parts of the page follow it.

const INPUT = "<input>";
const TENSORS = ["output", "input", "gradient", "weight", "update"];
const MANY = 120; // layers from which blocks begin folded

class View {
  /** @param {RunData} run @param {string} markdown */
  constructor(run, markdown) {
    this.run = run;
    this.markdown = markdown;
    this.time = new Time(run.edges[0] ?? 0, run.edges[run.columns] ?? 1);
    this.time.epochs = run.json.epochs.begun;
    this.mode = "train"; this.tensor = "output"; this.metric = ""; this.filter = /(?:)/; this.axis = "";
    this.site = -1; this.layer = "";
    /** @type {Set<string>} */ this.closed = new Set();
    /** @type {Record<string, (() => void)[]>} */ this.listeners = { run: [], map: [], site: [], metric: [], colours: [] };
    this.begin();
  }
  /** Hear of a change: "run" (all of it is new), "map", "site" (another layer), "metric" (nothing else), "colours". @param {string} what @param {() => void} then */
  on(what, then) { this.listeners[what].push(then); }
  /** @param {string} what */
  tell(what) { for (const then of this.listeners[what]) then(); }

  // ---- the run ----
  get empty() { return !this.run.columns || !this.run.sites.length; }
  get modes() { return ["train", "eval"].filter((m) => this.run.sites.some((/** @type {any} */ s) => s.mode === m)); }
  /** First incident that is an alarm. */
  get incident() {
    return this.run.json.incidents.filter((/** @type {any} */ i) => i.severity !== "info")
      .sort((/** @type {any} */ a, /** @type {any} */ b) => a.step - b.step)[0];
  }
  /** @param {number} site */
  hasData(site) { return !!this.run.json.tracks[site] || this.run.metrics.some((/** @type {any} */ m) => this.run.row(m.key, site)); }
  /** Sites of a tensor, in execution order; the model's input stands above the outputs. @param {string} [tensor] @param {string} [mode] */
  sitesOf(tensor = this.tensor, mode = this.mode) {
    return this.run.order.filter((/** @type {number} */ i) => {
      const s = this.run.sites[i];
      return s.mode === mode && (s.tensor === tensor || (tensor === "output" && s.name === INPUT));
    });
  }
  get tensors() {
    return [...new Set([...TENSORS, ...this.run.sites.map((/** @type {any} */ s) => s.tensor)])]
      .filter((t) => this.sitesOf(t).some((/** @type {number} */ s) => this.hasData(s) && (t === "output" || this.run.sites[s].name !== INPUT)));
  }
  get metrics() {
    const sites = this.sitesOf();
    return this.run.metrics.filter((/** @type {any} */ m) => sites.some((/** @type {number} */ s) => this.run.row(m.key, s)));
  }
  /** Sites that pass the filter. */
  get shown() { return this.sitesOf().filter((/** @type {number} */ s) => this.filter.test(this.run.sites[s].name)); }

  // ---- choices ----
  /** Begin where it matters: at the first incident's cause. */
  begin() {
    const { run, incident } = this;
    if (this.empty) return;
    const told = run.alerts.filter((/** @type {any} */ a) => incident && a.incident === incident.number);
    /** Whether the map can show it. @param {any} a */
    const drawn = (a) => run.sites.some((/** @type {any} */ s) => s.name === a.layer && s.tensor === a.tensor && run.row(a.metric, s.index));
    const cause = told.find(drawn) ?? told[0] ?? run.alerts[0];
    this.mode = this.modes[0];
    const { tensors } = this;
    this.tensor = cause && cause.layer !== INPUT && tensors.includes(cause.tensor) ? cause.tensor : tensors[0] ?? "output";
    this.metric = cause?.metric ?? "";
    this.settle();
    const some = this.sitesOf().filter((/** @type {number} */ s) => this.hasData(s));
    const usual = some.find((/** @type {number} */ s) => run.sites[s].name !== INPUT) ?? some[0] ?? 0;
    const known = (/** @type {string | undefined} */ name) => name !== undefined && run.sites.some((/** @type {any} */ s) => s.name === name && this.hasData(s.index));
    const first = [incident?.origin, cause?.layer, run.sites[usual]?.name].find(known);
    if (first !== undefined) this.find(first);
    const sites = this.sitesOf();
    if (sites.length > MANY) this.closed = new Set(blocksOf(run, sites).filter((b) => b !== blockOf(this.layer)));
  }
  /** A metric that the chosen tensor has. */
  settle() {
    const offered = this.metrics;
    if (!offered.some((/** @type {any} */ m) => m.key === this.metric)) this.metric = offered[0]?.key ?? "";
  }
  /** Choose a layer by name, at a tensor that it has. @param {string} name @param {string} [tensor] @param {string} [part] @param {string} [mode] */
  find(name, tensor = this.tensor, part, mode = this.mode) {
    const here = this.run.order.filter((/** @type {number} */ i) => this.run.sites[i].name === name && this.hasData(i));
    /** @param {(s: any) => boolean} fits */
    const first = (fits) => here.find((/** @type {number} */ i) => fits(this.run.sites[i]));
    const best = first((s) => s.tensor === tensor && s.mode === mode && (part === undefined || s.part === part))
      ?? first((s) => s.tensor === tensor && s.mode === mode) ?? first((s) => s.mode === mode) ?? here[0];
    if (best !== undefined) { this.site = best; this.layer = name; }
    return best !== undefined;
  }
  /** @param {number} site */
  open(site) { this.site = site; this.layer = this.run.sites[site].name; this.tell("site"); }
  /** @param {string} tensor @param {string} [mode] */
  look(tensor, mode = this.mode) {
    this.mode = mode;
    this.tensor = this.tensors.includes(tensor) ? tensor : this.tensors[0] ?? "output";
    this.settle();
    const twin = this.sitesOf().find((/** @type {number} */ s) => this.run.sites[s].name === this.layer) ?? (mode === this.run.sites[this.site]?.mode ? undefined : this.shown[0]);
    this.tell("map");
    if (twin !== undefined) this.open(twin);
  }
  /** @param {string} key */
  measure(key) { this.metric = key; this.tell("map"); this.tell("metric"); }
  /** @param {string} block */
  fold(block) { if (!this.closed.delete(block)) this.closed.add(block); this.tell("map"); }
  /** The same run, grown. @param {RunData} run @param {string} markdown */
  take(run, markdown) {
    const before = this.run.sites[this.site], fresh = this.empty;
    this.run = run; this.markdown = markdown;
    this.time.epochs = run.json.epochs.begun;
    this.time.grow(run.edges[0] ?? 0, run.edges[run.columns] ?? 1);
    if (fresh) this.begin();
    else {
      this.settle();
      this.site = before ? run.sites.findIndex((/** @type {any} */ s) => s.name === before.name && s.tensor === before.tensor && s.part === before.part && s.mode === before.mode) : -1;
    }
    this.tell("run");
  }
}

/** Steps of a column in words. @param {RunData} run @param {number} c */
const stepsOf = (run, c) => {
  const from = run.json.time.first[c], to = run.json.time.last[c];
  return from === to ? `step ${whole(from)}` : `steps ${whole(from)}–${whole(to)}`;
};

/** The same as a title, with the epochs where all are known. @param {RunData} run @param {number} c */
function titleOf(run, c) {
  const { every, begun } = run.json.epochs, begins = begun.map((/** @type {number[]} */ e) => e[0]);
  const [from, to] = [run.json.time.first[c], run.json.time.last[c]].map((step) => begun[below(begins, step)]?.[1]);
  const words = every > 1 || from === undefined ? "" : from === to ? ` · epoch ${whole(from)}` : ` · epochs ${whole(from)}–${whole(to)}`;
  return capital(stepsOf(run, c)) + words;
}

/** Room for names beside the charts: the same for all of them. @param {View} view */
function gutterOf(view) {
  if (narrow()) return 96;
  const longest = Math.max(0, ...view.run.layers.map((/** @type {any} */ l) => l.name.length));
  return Math.max(92, Math.min(220, 24 + 6.6 * longest));
}
