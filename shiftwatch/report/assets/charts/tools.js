// @ts-check
// Taking a chart away: as PNG, as SVG, as a table to read or to copy.

/**
 * The menu of a chart.
 * @param {Plot} plot
 * @returns {any}
 */
function toolsOf(plot) {
  /** @param {string} words @param {() => void} act */
  const item = (words, act) => h("button", { type: "button", onclick: () => { menu.open = false; menu.firstChild.focus(); act(); } }, words);
  const menu = h("details", { class: "tools" },
    h("summary", { "aria-label": `Take away: ${plot.o.label}`, title: "Export" }, "⋯"),
    h("div", { class: "menu" },
      item("Save PNG", () => savePng(plot)),
      item("Save SVG", () => save(`${fileName(plot)}.svg`, new Blob([svgOf(plot)], { type: "image/svg+xml" }))),
      plot.o.data && item("Show table", () => showData(plot)),
      plot.o.data && item("Save CSV", () => save(`${fileName(plot)}.csv`, new Blob([csvOf(plot.o.data(true))], { type: "text/csv" })))));
  menu.addEventListener("keydown", (/** @type {KeyboardEvent} */ e) => { if (e.key === "Escape" && menu.open) { menu.open = false; menu.firstChild.focus(); e.stopPropagation(); } });
  return menu;
}
addEventListener("click", (e) => {
  for (const menu of document.querySelectorAll("details.tools[open]"))
    if (!menu.contains(/** @type {any} */ (e.target))) /** @type {any} */ (menu).open = false;
});

const TITLE_ROOM = 30;

/** Title over a picture that leaves the page. @param {any} g @param {Plot} plot */
function headed(g, plot) {
  g.save();
  g.fillStyle = ink.text; g.font = `600 13px ${FONT}`; g.textAlign = "left"; g.textBaseline = "middle";
  g.fillText(plot.o.title, 12, -TITLE_ROOM / 2);
  g.restore();
}

/** @param {Plot} plot @returns {string} */
function svgOf(plot) {
  const pen = new SvgPen(plot.width, plot.height, TITLE_ROOM);
  pen.state.font = `11px ${FONT}`; pen.state.textBaseline = "middle";
  headed(pen, plot);
  plot.paint(pen);
  return pen.text(ink.panel);
}

/** @param {Plot} plot */
function savePng(plot) {
  const sharp = 2, canvas = h("canvas", { width: plot.width * sharp, height: (plot.height + TITLE_ROOM) * sharp });
  const g = canvas.getContext("2d");
  g.fillStyle = ink.panel; g.fillRect(0, 0, canvas.width, canvas.height);
  g.scale(sharp, sharp); g.translate(0, TITLE_ROOM);
  headed(g, plot);
  g.font = `11px ${FONT}`; g.textBaseline = "middle";
  plot.paint(g);
  canvas.toBlob((/** @type {Blob} */ blob) => save(`${fileName(plot)}.png`, blob));
}

/** A name that every file system takes. @param {Plot} plot */
const fileName = (plot) => plot.o.title.toLowerCase().replace(/[^\p{L}\p{N}._-]+/gu, "-").replace(/^[-.]+|-+$/g, "").slice(0, 80) || "chart";

/** @param {string} name @param {Blob} blob */
function save(name, blob) {
  const url = URL.createObjectURL(blob), link = h("a", { href: url, download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

/** @param {{heads: string[], rows: any[][]}} data */
function csvOf(data) {
  /** Quoted where needed; what a spreadsheet would take for a formula is text. @param {any} v */
  const cell = (v) => {
    if (typeof v === "number") return Number.isNaN(v) ? "" : String(v);
    const text = /^[=+\-@\t\r]/.test(v) ? `'${v}` : String(v ?? "");
    return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  return [data.heads, ...data.rows].map((row) => row.map(cell).join(",")).join("\r\n") + "\r\n";
}

/** The numbers behind a chart, those of the steps in view. @param {Plot} plot */
function showData(plot) {
  const { heads, rows } = plot.o.data?.(false) ?? { heads: [], rows: [] };
  const most = 1000, numeric = heads.map((_, i) => rows.some((r) => typeof r[i] === "number"));
  const table = h("table", { class: "plain" },
    h("thead", {}, h("tr", {}, heads.map((words, i) => h("th", { scope: "col", class: numeric[i] ? "num" : null }, words)))),
    h("tbody", {}, rows.slice(0, most).map((row) => h("tr", {}, row.map((v, i) =>
      h(i ? "td" : "th", { class: numeric[i] ? "num" : null, scope: i ? null : "row" }, typeof v === "number" ? fmt(v) : v))))));
  const close = h("button", { type: "button", onclick: () => dialog.close() }, "Close");
  const dialog = h("dialog", { class: "data", "aria-label": plot.o.title },
    h("header", {}, h("h2", {}, plot.o.title),
      h("button", { type: "button", onclick: (/** @type {any} */ e) => copyText(csvOf(plot.o.data?.(true) ?? { heads, rows }), e.currentTarget) }, "Copy as CSV"), close),
    h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Data" }, table),
    rows.length > most ? h("p", { class: "quiet" }, `The first ${whole(most)} of ${whole(rows.length)} rows; all of them as CSV.`) : null);
  dialog.addEventListener("close", () => dialog.remove());
  dialog.addEventListener("click", (/** @type {MouseEvent} */ e) => { if (e.target === dialog) dialog.close(); });
  document.body.append(dialog);
  dialog.showModal();
  close.focus();
}

/** To the clipboard, also from a file; the button says that it is done. @param {string} text @param {any} button */
async function copyText(text, button) {
  const words = button.textContent;
  button.style.minWidth = `${button.offsetWidth}px`;
  try {
    await navigator.clipboard.writeText(text);
  } catch { // not allowed or not there: the way of old
    const area = h("textarea", { class: "hidden", "aria-hidden": "true" });
    area.value = text;
    (button.closest("dialog") ?? document.body).append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  button.textContent = "Copied";
  setTimeout(() => { button.textContent = words; }, 1500);
}
