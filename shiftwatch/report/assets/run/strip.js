// @ts-check
// Loss, learning rate, alerts and events along the top.

const RATE = 34, RATE_NAME = 18; // heights of the learning rate and of its name

/** @param {View} view */
function stripOf(view) {
  const { time } = view;
  /** @type {Float64Array} */ let losses, /** @type {Float64Array} */ rates;
  let hasLoss = false, hasRate = false;
  const events = () => view.run.json.events;
  const tools = h("span", { class: "tools-place" });
  const gutter = () => gutterOf(view);

  const loss = new Chart($("strip"), time, {
    height: () => (hasLoss ? 96 + (hasRate ? RATE_NAME + RATE : 0) : hasRate ? 60 : 26),
    gutter, label: "Loss over time, with alerts and events", top: 8, tools,
    get title() { return hasLoss ? "Loss" : hasRate ? "Learning rate" : "Alerts and events"; },
    draw: (/** @type {any} */ g, /** @type {any} */ box, /** @type {any} */ x) => {
      const { run } = view, [from, to] = run.between(time);
      const tall = { ...box, h: box.h - ((hasLoss || hasRate) && events().length ? 12 : 0) };
      const plot = { ...tall, h: tall.h - (hasLoss && hasRate ? RATE_NAME + RATE : 0) };
      if (time.epochs.length > 1) {
        g.strokeStyle = ink.line; g.lineWidth = 1;
        for (const [step] of epochsSeen(box, time)) { const px = Math.round(x(step)) + 0.5; g.beginPath(); g.moveTo(px, box.y); g.lineTo(px, box.y + box.h); g.stroke(); }
      }
      if (hasLoss) {
        const seen = losses.slice(from, to + 1), { near } = run.json, single = singles(near.steps, near.losses, time, x);
        const [lo, hi] = extent([seen, single.map(([, v]) => v)]) ?? extent([losses]) ?? [0, 1];
        const log = lo > 0 && hi / lo > 30;
        const pad = log ? (hi / lo) ** 0.06 : 0.06 * (hi - lo);
        const scale = log ? vertical("log", lo / pad, hi * pad, plot.y, plot.h) : vertical("linear", lo - pad, hi + pad, plot.y, plot.h);
        valueAxis(g, plot, scale);
        inside(g, plot, () => {
          g.fillStyle = ink.quiet;
          g.beginPath();
          for (const [step, v] of single) { const px = x(step + 0.5), py = scale.clamp(v); g.moveTo(px + 1.8, py); g.arc(px, py, 1.8, 0, 7); }
          g.fill();
          polyline(g, run.edges, losses, x, scale, ink.text, { width: 1.5, joined: true });
          g.fillStyle = ink.wild;
          losses.forEach((v, i) => { if (v === Infinity || v === -Infinity) g.fillRect(x(run.edges[i]), plot.y, 3, plot.h); });
        });
      }
      if (hasRate) {
        const low = hasLoss ? { ...tall, y: tall.y + tall.h - RATE, h: RATE } : tall, { near } = run.json;
        const single = singles(near.rate_steps, near.rates, time, x), seen = Float64Array.of(...rates.slice(from, to + 1), ...single.map(([, v]) => v));
        const scale = rateScale(low, seen.some(Number.isFinite) ? seen : rates);
        valueAxis(g, low, scale);
        const { edges, values } = finer(run, rates, single);
        inside(g, low, () => polyline(g, edges, values, x, scale, ink.accent, { width: 1.5, joined: true }));
      }
      inside(g, { x: box.x - 6, y: 0, w: box.w + 12, h: box.y + box.h + 8 }, () => {
        alertMarks(g, tall, run.alerts, x);
        g.fillStyle = ink.third;
        g.globalAlpha = events().length > 60 ? 0.5 : 0.9;
        for (const e of events()) {
          const px = x(e.step), y = box.y + box.h - 3;
          if (px < box.x - 6 || px > box.x + box.w + 6) continue;
          g.beginPath(); g.moveTo(px, y - 4); g.lineTo(px + 4, y); g.lineTo(px, y + 4); g.lineTo(px - 4, y); g.closePath(); g.fill();
        }
        g.globalAlpha = 1;
      });
      if (hasLoss && hasRate) {
        const y = plot.y + plot.h + RATE_NAME / 2;
        g.textAlign = "left"; g.fillStyle = ink.panel;
        g.fillRect(box.x, y - 7, g.measureText("Learning rate").width + 6, 14); // alerts run through, behind it
        g.fillStyle = ink.quiet; g.fillText("Learning rate", box.x, y);
      }
    },
    tip: (/** @type {number} */ step) => {
      const { run } = view, c = run.column(step), reach = ((time.hi - time.lo) / loss.box.w) * 6;
      const near = [...run.alerts.map((/** @type {any} */ a) => [a.step, a.message]), ...events().map((/** @type {any} */ e) => [e.step, `${e.kind.replaceAll("_", " ")}: ${e.detail}`])]
        .filter(([s]) => Math.abs(s - step) <= reach);
      return [
        titleOf(run, c),
        hasLoss ? ["Loss", fmt(losses[c])] : null,
        hasRate ? ["Learning rate", fmt(rates[c])] : null,
        ...near.slice(0, 4).map(([s, words]) => `Step ${whole(s)}: ${words}`),
        near.length > 4 ? `and ${near.length - 4} more` : null,
      ];
    },
    data: (/** @type {boolean} */ all) => {
      const { run } = view, [from, to] = run.between(time, all), rows = [];
      for (let c = from; c <= to; c++) rows.push([run.json.time.first[c], run.json.time.last[c], losses[c], ...(hasRate ? [rates[c]] : [])]);
      return { heads: ["First step", "Last step", "Loss", ...(hasRate ? ["Learning rate"] : [])], rows };
    },
  });

  function show() {
    [losses, rates] = [view.run.json.losses, view.run.json.rates].map((values) => Float64Array.from(values, real));
    hasLoss = losses.some(Number.isFinite);
    hasRate = rates.some(Number.isFinite);
    loss.canvas.ariaLabel = `${hasRate ? "Loss and learning rate" : "Loss"} over time, with alerts and events`;
    const raised = new Set(view.run.alerts.map((/** @type {any} */ a) => a.severity));
    $("loss-title").replaceChildren(...[
      loss.o.title,
      ...["critical", "warning"].filter((severity) => raised.has(severity)).map((severity) => h("span", {}, dot(severityColour(severity), "down"), `${severity} alert`)),
      events().length > 0 && h("span", {}, dot(ink.third, "diamond"), "event, such as another learning rate or mode"),
      time.epochs.length > 1 && h("span", {}, "upright lines: epochs"),
      tools,
    ].filter(Boolean));
    $("strip-panel").hidden = !hasLoss && !hasRate && !events().length && !view.run.alerts.length;
    loss.redraw();
  }
  return show;
}

/**
 * Values of single steps around incidents, where there is room for them.
 * @param {number[]} steps @param {any[]} values @param {Time} time @param {(s: number) => number} x @returns {[number, number][]}
 */
function singles(steps, values, time, x) {
  if (x(time.lo + 1) - x(time.lo) < 1.5) return [];
  return /** @type {[number, number][]} */ (steps.map((s, i) => [s, real(values[i])])).filter(([s, v]) => s >= time.lo && s < time.hi && Number.isFinite(v));
}

/** Columns, those cut into steps of which single steps are known. @param {RunData} run @param {Float64Array} values @param {[number, number][]} single */
function finer(run, values, single) {
  const fine = { edges: /** @type {number[]} */ ([]), values: /** @type {number[]} */ ([]) };
  let k = 0;
  const add = (/** @type {number} */ edge, /** @type {number} */ value) => { fine.edges.push(edge); fine.values.push(value); };
  for (let c = 0; c < run.columns; c++) {
    add(run.edges[c], single[k]?.[0] < run.edges[c + 1] ? NaN : values[c]);
    for (; single[k]?.[0] < run.edges[c + 1]; k++) add(...single[k]);
  }
  fine.edges.push(run.edges[run.columns]);
  return fine;
}

/** @param {string} words */
const capital = (words) => words[0].toUpperCase() + words.slice(1);
