// @ts-check
// A table whose columns sort.

const LONG = 30; // lines that fill a table's full height, whatever they hold

/**
 * A table whose columns sort; columns of one group stand under its title.
 * @param {any} host @param {{head: string, group?: string, num?: boolean}[]} heads
 * @param {{cells: any[], sort: any[], open?: () => void}[]} lines @param {{column: number, down: boolean}} by
 */
function sortable(host, heads, lines, by) {
  const body = h("tbody");
  const starts = heads.map((c, i) => !!c.group && c.group !== heads[i - 1]?.group);
  const grouped = heads.some((c) => c.group);
  const head = h("tr", {}, heads.map((c, i) =>
    h("th", { scope: "col", class: `${c.num ? "num" : ""} ${starts[i] ? "from" : ""}`, "aria-label": c.group ? `${c.group}, ${c.head}` : null },
      h("button", { type: "button", onclick: () => { Object.assign(by, { column: i, down: by.column === i ? !by.down : !!c.num }); fill(); } },
        c.group ? h("small", {}, c.head) : c.head))));
  const groups = h("tr", {}, heads.map((c, i) => (c.group
    ? starts[i] && h("th", { class: "group from", scope: "colgroup", colspan: heads.filter((d) => d.group === c.group).length }, c.group)
    : h("td", {}))));
  function fill() {
    const sorted = [...lines].sort((a, b) => {
      const u = a.sort[by.column], v = b.sort[by.column];
      const none = (/** @type {any} */ w) => w === null || Number.isNaN(w);
      if (none(u) || none(v)) return none(u) ? (none(v) ? 0 : 1) : -1;
      const order = typeof u === "string" ? u.localeCompare(v, undefined, { numeric: true }) : u === v ? 0 : u - v;
      return by.down ? -order : order;
    });
    body.replaceChildren(...sorted.map((line) =>
      h("tr", { onclick: line.open, class: line.open ? "open" : "" }, line.cells.map((c, i) =>
        i === 0 ? h("th", { scope: "row" }, c) : h("td", { class: `${heads[i].num ? "num" : ""} ${starts[i] ? "from" : ""}` }, c)))));
    [...head.children].forEach((th, i) => th.setAttribute("aria-sort", i === by.column ? (by.down ? "descending" : "ascending") : "none"));
  }
  fill();
  host.classList.toggle("long", lines.length > LONG);
  host.replaceChildren(h("table", { class: "plain sortable" }, h("thead", {}, grouped ? groups : null, head), body));
}
