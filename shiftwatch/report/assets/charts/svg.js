// @ts-check
// A pen with the part of a canvas' interface that the charts use, which writes SVG instead.

/** Its namespace, which the browser knows: no address stands in the page. */
const SVG = /** @type {any} */ (new DOMParser().parseFromString("<svg></svg>", "text/html").body.firstChild).namespaceURI;

class SvgPen {
  /** @param {number} width @param {number} height @param {number} above room over y = 0, for a title */
  constructor(width, height, above) {
    Object.assign(this, { width, height, above });
    /** @type {string[]} */ this.parts = [];
    /** @type {string[]} */ this.clips = [];
    /** @type {any[]} */ this.stack = [];
    this.ruler = /** @type {CanvasRenderingContext2D} */ (h("canvas").getContext("2d"));
    /** @type {any} */ this.state = { fillStyle: "#000", strokeStyle: "#000", lineWidth: 1, lineJoin: "miter", globalAlpha: 1,
      font: "11px sans-serif", textAlign: "left", textBaseline: "alphabetic", dash: "", clip: "" };
    for (const name of ["fillStyle", "strokeStyle", "lineWidth", "lineJoin", "globalAlpha", "font", "textAlign", "textBaseline"])
      Object.defineProperty(this, name, { get: () => this.state[name], set: (v) => { this.state[name] = v; } });
    this.d = "";
    this.imageSmoothingEnabled = false;
  }
  save() { this.stack.push({ ...this.state }); }
  restore() { this.state = this.stack.pop(); }
  /** @param {number[]} dash */
  setLineDash(dash) { this.state.dash = dash.join(" "); }
  beginPath() { this.d = ""; }
  /** @param {number} x @param {number} y */
  moveTo(x, y) { this.d += `M${places(x)} ${places(y)}`; }
  /** @param {number} x @param {number} y */
  lineTo(x, y) { this.d += `L${places(x)} ${places(y)}`; }
  closePath() { this.d += "Z"; }
  /** A full circle, the only arc that charts draw. @param {number} x @param {number} y @param {number} r */
  arc(x, y, r) { this.d += `M${places(x - r)} ${places(y)}a${r} ${r} 0 1 0 ${2 * r} 0a${r} ${r} 0 1 0 ${-2 * r} 0`; }
  /** @param {number} x @param {number} y @param {number} w @param {number} t */
  rect(x, y, w, t) { this.d += `M${places(x)} ${places(y)}h${places(w)}v${places(t)}h${places(-w)}Z`; }
  clip() {
    this.state.clip = ` clip-path="url(#c${this.clips.length})"`;
    this.clips.push(`<clipPath id="c${this.clips.length}"><path d="${this.d}"/></clipPath>`);
  }
  get look() { return (this.state.globalAlpha < 1 ? ` opacity="${places(this.state.globalAlpha)}"` : "") + this.state.clip; }
  fill() { if (this.d) this.parts.push(`<path d="${this.d}" fill="${this.state.fillStyle}"${this.look}/>`); }
  stroke() {
    const s = this.state;
    if (this.d) this.parts.push(`<path d="${this.d}" fill="none" stroke="${s.strokeStyle}" stroke-width="${s.lineWidth}" stroke-linejoin="${s.lineJoin}"${s.dash ? ` stroke-dasharray="${s.dash}"` : ""}${this.look}/>`);
  }
  /** @param {number} x @param {number} y @param {number} w @param {number} t */
  fillRect(x, y, w, t) { this.beginPath(); this.rect(x, y, w, t); this.fill(); }
  /** @param {number} x @param {number} y @param {number} w @param {number} t */
  strokeRect(x, y, w, t) { this.beginPath(); this.rect(x, y, w, t); this.stroke(); }
  /** @param {string} text */
  measureText(text) { this.ruler.font = this.state.font; return this.ruler.measureText(text); }
  /** @param {string} text @param {number} x @param {number} y */
  fillText(text, x, y) {
    const s = this.state, words = /(?:(\d+) )?([\d.]+)px (.*)/.exec(s.font) ?? ["", "", "11", "sans-serif"];
    const anchor = s.textAlign === "right" ? "end" : s.textAlign === "center" ? "middle" : "start";
    const drop = Number(words[2]) * (s.textBaseline === "middle" ? 0.35 : s.textBaseline === "top" ? 0.85 : 0);
    this.parts.push(`<text x="${places(x)}" y="${places(y + drop)}" font-family="${escaped(words[3])}" font-size="${words[2]}"${words[1] ? ` font-weight="${words[1]}"` : ""} text-anchor="${anchor}" fill="${s.fillStyle}"${this.look}>${escaped(text)}</text>`);
  }
  /** A picture, or a part of it: as of a canvas. @param {HTMLCanvasElement} source @param {...number} at */
  drawImage(source, ...at) {
    let [x, y, w, t] = at;
    if (at.length === 8) {
      const [sx, sy, sw, st] = at;
      const cut = h("canvas", { width: sw, height: st });
      cut.getContext("2d").drawImage(source, -sx, -sy);
      source = cut;
      [x, y, w, t] = at.slice(4);
    }
    this.parts.push(`<image x="${places(x)}" y="${places(y)}" width="${places(w)}" height="${places(t)}" preserveAspectRatio="none" style="image-rendering:pixelated" href="${source.toDataURL()}"${this.look}/>`);
  }
  /** @param {string} paper colour behind */
  text(paper) {
    const { width, height, above } = /** @type {any} */ (this);
    return `<svg xmlns="${SVG}" viewBox="0 ${-above} ${width} ${height + above}" width="${width}" height="${height + above}">`
      + `<defs>${this.clips.join("")}</defs><rect x="0" y="${-above}" width="${width}" height="${height + above}" fill="${paper}"/>${this.parts.join("")}</svg>`;
  }
}

/** @param {number} v */
const places = (v) => String(Math.round(v * 100) / 100);
/** @param {string} text */
const escaped = (text) => text.replace(/[\u0000-\u0008\u000b\u000c\u000e-\u001f]/g, "\ufffd").toWellFormed()
  .replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll('"', "&quot;");
