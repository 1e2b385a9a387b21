// The list of runs: asks for what is new, and changes those lines alone.

const EVERY = 2000; // milliseconds between two questions, while the page is seen

const $ = (/** @type {string} */ id) => /** @type {any} */ (document.getElementById(id));

/** An element; children are texts, never markup. @param {string} tag @param {any} [attributes] @param {any[]} children */
function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children.filter((c) => c !== null && c !== ""));
  return element;
}
/** @param {string} tag @param {any} attributes @param {any[]} children */
function s(tag, attributes, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, String(value));
  element.append(...children);
  return element;
}

const WORDS = /** @type {any} */ ({
  empty: "not begun", writing: "writing", ended: "ended", failed: "ended by an error",
  died: "died", silent: "silent, on another machine",
});
const whole = (/** @type {number} */ n) => n.toLocaleString("en-US");
const counted = (/** @type {number} */ n, /** @type {string} */ noun) => `${whole(n)} ${noun}${n === 1 ? "" : "s"}`;

/** How long ago, in few words. @param {number} moment seconds since 1970 */
function ago(moment) {
  const seconds = Date.now() / 1000 - moment;
  if (seconds < 60) return "just now";
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ago`;
  return new Date(moment * 1000).toLocaleDateString("en-CA");
}

/** @type {Map<string, {line: any, element: HTMLElement}>} */
const runs = new Map();
let version = 0, which = "all", pattern = /(?:)/;

/** @param {any} line */
function drawn(line) {
  const points = line.curve ?? [];
  const host = h("div", { class: points.length ? "drawn" : "drawn empty" });
  if (!points.length) return host;
  const svg = s("svg", { viewBox: "0 0 190 46", preserveAspectRatio: "none", role: "img", "aria-label": `Loss over time, ${line.loss} at the end` });
  for (const x of line.marks) svg.append(s("path", { class: "mark", d: `M${(190 * x).toFixed(1)} 0V46` }));
  const path = points.map((/** @type {number[]} */ [x, y]) => `${(190 * x).toFixed(1)} ${(43 - 40 * y).toFixed(1)}`).join("L");
  svg.append(s("path", { class: "curve", d: `M${path}` }));
  host.append(svg);
  return host;
}

/** @param {any} line */
function element(line) {
  const level = line.level === "empty" ? "" : line.level ?? "";
  const facts = [
    line.steps ? counted(line.steps, "step") : "",
    line.layers ? counted(line.layers, "layer") : "",
    line.attempts > 1 ? `attempt ${line.attempts}` : "",
    line.latest ? `Latest: ${line.latest}` : "", // the verdict tells of the first
  ].filter(Boolean).join(" · ");
  return h("li", { class: `run ${level}`, "data-name": line.name },
    h("div", {}, h("h2", {}, h("a", { href: line.href }, line.name)),
      h("p", { class: `state ${line.state}` }, h("i"), WORDS[line.state] ?? line.state)),
    h("div", { class: "words" }, h("p", { class: "says" }, line.verdict ?? "Nothing recorded yet."),
      h("p", { class: "more" }, facts)),
    drawn(line),
    h("div", { class: "loss" }, line.loss ? h("p", {}, "loss ", h("b", {}, line.loss)) : "",
      h("span", { class: "ago", "data-moment": line.changed }, ago(line.changed))));
}

const newest = (/** @type {any} */ a, /** @type {any} */ b) =>
  (b.started || b.changed) - (a.started || a.changed) || b.changed - a.changed || (a.name < b.name ? -1 : 1);

const KINDS = /** @type {[string, string, (line: any) => boolean][]} */ ([
  ["all", "All", () => true],
  ["writing", "Writing", (l) => l.state === "writing"],
  ["alarmed", "With incidents", (l) => ["warning", "critical"].includes(l.level)],
]);

function sorted() { return [...runs.values()].sort((a, b) => newest(a.line, b.line)); }

function choose() {
  const kind = /** @type {any} */ (KINDS.find(([key]) => key === which))[2];
  let seen = 0;
  for (const { line, element } of runs.values()) {
    const fits = kind(line) && pattern.test(line.name);
    element.hidden = !fits;
    seen += Number(fits);
  }
  $("shown").textContent = seen === runs.size ? "" : `${whole(seen)} of ${whole(runs.size)}`;
  $("none").hidden = seen > 0;
  $("none").textContent = runs.size ? "No run is like that." : "A training that writes into this folder appears by itself.";
  for (const button of $("which").children) button.setAttribute("aria-pressed", String(button.value === which));
}

function headline() {
  const lines = [...runs.values()].map((r) => r.line);
  const number = (/** @type {(line: any) => boolean} */ test) => lines.filter(test).length;
  const writing = number((l) => l.state === "writing"), critical = number((l) => l.level === "critical"), warned = number((l) => l.level === "warning");
  const parts = [writing && `${whole(writing)} being written`, critical && `${whole(critical)} critical`, warned && `${whole(warned)} with warnings`].filter(Boolean);
  $("headline").textContent = !lines.length ? "No run yet." : counted(lines.length, "run") + (parts.length ? `: ${parts.join(", ")}.` : ", all quiet.");
  $("headline").className = `verdict ${critical ? "critical" : warned ? "warning" : lines.length ? "healthy" : ""}`;
}

/** @param {any} news */
function take(news) {
  version = news.version;
  $("top").textContent = news.top;
  const names = new Set(news.names);
  for (const [name, run] of runs) if (!names.has(name)) { run.element.remove(); runs.delete(name); }
  for (const line of news.runs) {
    const made = element(line), old = runs.get(line.name);
    const focused = old?.element.contains(document.activeElement);
    old?.element.replaceWith(made);
    if (focused) made.querySelector("a")?.focus({ preventScroll: true });
    runs.set(line.name, { line, element: made });
  }
  let place = $("runs").firstElementChild;
  for (const { element } of sorted()) { // only what stands at the wrong place is moved
    if (element === place) place = place.nextElementSibling;
    else $("runs").insertBefore(element, place);
  }
  $("choice").hidden = !runs.size;
  headline();
  choose();
  document.body.dataset.updates = String(Number(document.body.dataset.updates ?? 0) + 1);
  document.body.dataset.ready = "1";
}

async function ask() {
  try {
    const answer = await fetch(`runs?since=${version}`, { cache: "no-store", credentials: "same-origin" });
    if (answer.status === 200) take(await answer.json());
    else if (answer.status !== 204) throw new Error(String(answer.status));
    if ($("contact").className) { $("contact").className = ""; $("contact").textContent = "Connected again. This page follows the folder by itself."; }
  } catch {
    if (!$("contact").className) {
      $("contact").className = "lost";
      $("contact").textContent = `No answer from the server since ${new Date().toLocaleTimeString("en-GB")}; asking again.`;
    }
  }
}

async function follow() {
  for (;;) {
    if (!document.hidden) await ask();
    await new Promise((done) => setTimeout(done, EVERY));
  }
}

for (const [key, word] of KINDS) {
  const button = h("button", { type: "button", value: key }, word);
  button.addEventListener("click", () => { which = key; choose(); });
  $("which").append(button);
}
$("filter").addEventListener("input", () => {
  try { pattern = new RegExp($("filter").value, "i"); $("filter").classList.remove("bad"); } catch { $("filter").classList.add("bad"); }
  choose();
});
document.addEventListener("visibilitychange", () => { if (!document.hidden) ask(); });
setInterval(() => {
  for (const span of document.querySelectorAll(".ago")) span.textContent = ago(Number(/** @type {any} */ (span).dataset.moment));
}, 20_000);
follow();
