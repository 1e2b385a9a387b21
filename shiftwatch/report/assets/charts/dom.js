// @ts-check
// Elements, and what a page does on a new size, a new theme and an error. Text goes in as text.

/** @param {string} id @returns {any} */
const $ = (id) => document.getElementById(id);

/**
 * An element with properties and children; strings become text nodes.
 * @param {string} tag @param {Record<string, any>} [props] @param {...any} children
 * @returns {any}
 */
function h(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(props)) {
    if (value === undefined || value === null || value === false) continue;
    if (key === "class") node.className = value;
    else if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else node.setAttribute(key, value === true ? "" : String(value));
  }
  node.append(...children.flat().filter((c) => c !== null && c !== undefined && c !== false));
  return node;
}

const phone = matchMedia("(max-width: 639.98px)");
const narrow = () => phone.matches;

/** A spot of colour beside words. @param {string} colour @param {string} [shape] */
function dot(colour, shape = "dot") {
  const spot = h("i", { class: shape });
  spot.style.background = colour;
  return spot;
}

/**
 * Choose one of several words; the button in focus stays the same one.
 * @param {any} host @param {string} label @param {[string, string][]} options @param {string} value @param {(v: string) => void} change
 */
function segmented(host, label, options, value, change) {
  const known = [...host.children].map((b) => b.dataset.key).join("\n");
  if (known !== options.map(([key]) => key).join("\n"))
    host.replaceChildren(...options.map(([key, words]) => h("button", { type: "button", "data-key": key }, words)));
  for (const button of host.children) {
    button.setAttribute("aria-pressed", String(button.dataset.key === value));
    button.onclick = () => change(button.dataset.key);
  }
  host.setAttribute("role", "group");
  host.setAttribute("aria-label", label);
}

/** Pixels as a canvas that can be drawn. @param {ImageData} image @returns {HTMLCanvasElement} */
function canvasOf(image) {
  const canvas = h("canvas", { width: image.width, height: image.height });
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}

/** Redraw on a new size or theme, at most once per frame; for print in light colours. @param {() => void} draw */
function whenever(draw) {
  let due = 0;
  const ask = () => { if (!due) due = requestAnimationFrame(() => { due = 0; draw(); }); };
  let width = innerWidth;
  addEventListener("resize", () => { if (innerWidth !== width) { width = innerWidth; ask(); } });
  const root = document.documentElement;
  const coloured = () => { theme(); draw(); };
  dark.addEventListener("change", coloured);
  addEventListener("beforeprint", () => { root.dataset.theme = "light"; coloured(); });
  addEventListener("afterprint", () => { delete root.dataset.theme; coloured(); });
}

/** Anything that goes wrong while drawing is said on the page. @param {() => Promise<void>} main */
async function start(main) {
  try {
    await main();
    flush(); // which says that the page is ready once all is drawn
    performance.mark("drawn");
  } catch (error) {
    const note = $("failed");
    note.hidden = false;
    note.append(" ", String(error));
    document.body.dataset.ready = "failed";
    throw error;
  }
}
