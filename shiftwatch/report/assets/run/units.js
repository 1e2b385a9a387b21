// @ts-check
// Which units of a layer are dead when: a row for each that ever was, the first to die on top.

const WIDEST = 512; // units of a layer that are looked at

/** @param {Tracks} tracks */
function unitMap(tracks) {
  const { view } = tracks, { run, site, time } = view, dead = run.deaths(site);
  if (!dead) return;
  const { units, width, at } = dead, n = units.length, height = Math.min(160, 14 * n), top = 6;
  const more = width === WIDEST ? " (of more, a sample)" : "";
  /** @type {{key: string, canvas: HTMLCanvasElement}} */ let picture;

  /** Pixels: as many rows as there are units, or as fit; each the share of its units that are dead. @param {any} box */
  function pictured(box) {
    const sharp = Math.min(2, devicePixelRatio || 1), W = Math.max(1, Math.round(box.w * sharp)), H = Math.min(n, Math.round(box.h * sharp));
    const key = `${time.lo} ${time.hi} ${W} ${H} ${ink.critical}`;
    if (picture?.key === key) return picture.canvas;
    const image = new ImageData(W, H), pixels = new Uint32Array(image.data.buffer), colour = packed(ink.critical) & 0xffffff;
    const columns = columnsOf(run, time, W), row = new Uint32Array(W);
    for (let r = 0; r < H; r++) {
      const from = Math.floor((r * n) / H), to = Math.floor(((r + 1) * n) / H);
      for (let p = 0; p < W; p++) {
        if (p && columns[p] === columns[p - 1]) { row[p] = row[p - 1]; continue; }
        let count = 0;
        if (columns[p] >= 0) for (let u = from; u < to; u++) count += at(u, columns[p]);
        row[p] = (Math.round((255 * count) / (to - from)) << 24) | colour;
      }
      pixels.set(row, r * W);
    }
    picture = { key, canvas: canvasOf(image) };
    return picture.canvas;
  }
  /** @param {any} g @param {any} box */
  function draw(g, box) {
    g.fillStyle = rgb(ink.sequential[0]); g.fillRect(box.x, box.y, box.w, box.h);
    g.imageSmoothingEnabled = false;
    g.drawImage(pictured(box), box.x, box.y, box.w, box.h);
    g.fillStyle = ink.quiet; g.textAlign = "right";
    let free = -Infinity;
    units.forEach((unit, r) => {
      const y = box.y + ((r + 0.5) / n) * box.h;
      if (y < free) return;
      free = y + 12;
      g.fillText(r ? whole(unit) : `unit ${whole(unit)}`, box.x - 8, y);
    });
  }
  /** @param {number} step @param {number} y */
  function words(step, y) {
    const r = Math.max(0, Math.min(n - 1, Math.floor(((y - top) / height) * n))), c = run.column(step), now = at(r, c);
    let since = c, count = 0;
    while (since >= 0 && at(r, since) === now) since--;
    for (let u = 0; u < n; u++) count += at(u, c);
    const begun = whole(run.json.time.first[since + 1]);
    return [titleOf(run, c), [`unit ${whole(units[r])}`, now ? `dead since step ${begun}` : since < 0 ? "not dead yet" : `alive again since step ${begun}`, now ? ink.critical : ""],
      ["dead", `${whole(count)} of ${whole(width)} units${more}`]];
  }
  /** A row per unit, 1 where it is dead; to be read at most 24 columns, each at its end. @param {boolean} all */
  function data(all) {
    const [from, to] = run.between(time, all), each = all ? 1 : Math.max(1, Math.ceil((to - from + 1) / 24)), ends = [];
    for (let c = from; c <= to; c += each) ends.push(Math.min(to, c + each - 1));
    return { heads: ["Unit", ...ends.map((c) => `step ${whole(run.json.time.last[c])}`)], rows: units.map((unit, r) => [String(unit), ...ends.map((c) => at(r, c))]) };
  }
  tracks.chart("Dead units, one by one", [[ink.critical, `${whole(n)} of ${whole(width)} units${more}, the first to die on top`, "box"]], height, draw, words, data);
}

/** The column at the end of each of some pixels; −1 outside of the run. @param {RunData} run @param {Time} time @param {number} pixels */
function columnsOf(run, time, pixels) {
  return Int32Array.from({ length: pixels }, (_, p) => {
    const step = time.lo + ((p + 0.98) / pixels) * (time.hi - time.lo);
    return step < run.edges[0] || step >= run.edges[run.columns] ? -1 : run.column(step);
  });
}
