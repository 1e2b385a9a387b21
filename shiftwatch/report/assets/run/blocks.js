// @ts-check
// Which layers belong together, by their names: what a map can fold away.

/**
 * The block of a layer: up to the first number inside its name, else all but the last part.
 * `blocks.3.attn.q` is of `blocks.3`, `features.0` of `features`, `fc1` of none.
 * @param {string} name
 */
function blockOf(name) {
  const parts = name.split(".");
  for (let i = 1; i < parts.length - 1; i++) if (/^\d+$/.test(parts[i])) return parts.slice(0, i + 1).join(".");
  return parts.slice(0, -1).join(".");
}

/**
 * Rows of a map, in execution order: heads of blocks of two layers or more, and the layers of those that are open.
 * @param {RunData} run @param {number[]} sites @param {Set<string>} closed
 * @returns {(number | {block: string, sites: number[], open: boolean})[]}
 */
function inBlocks(run, sites, closed) {
  /** @type {{block: string, sites: number[], open: boolean}[]} */ const groups = [];
  for (const site of sites) {
    const block = blockOf(run.sites[site].name), last = groups[groups.length - 1];
    if (last && last.block === block) last.sites.push(site);
    else groups.push({ block, sites: [site], open: !closed.has(block) });
  }
  const real = (/** @type {{block: string, sites: number[]}} */ g) => g.block !== "" && g.sites.length > 1;
  if (groups.filter(real).length < 2) return sites;
  return groups.flatMap((g) => (real(g) ? [g, ...(g.open ? g.sites : [])] : g.sites));
}

/** Names of all blocks that can be folded. @param {RunData} run @param {number[]} sites @returns {string[]} */
const blocksOf = (run, sites) =>
  [...new Set(inBlocks(run, sites, new Set()).flatMap((r) => (typeof r === "number" ? [] : [r.block])))];
