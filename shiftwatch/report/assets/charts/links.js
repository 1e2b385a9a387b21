// @ts-check
// The address of what a page shows: #layer=fc2&step=250. It can be sent, kept, and gone back to.

/** @param {[string, string | number][]} parts */
const hashOf = (parts) => `#${parts.map(([k, v]) => `${k}=${encodeURIComponent(String(v).toWellFormed())}`).join("&")}`;

/** What an address says: its words, and its numbers, null where it has none. @param {string} hash */
function readHash(hash) {
  const words = new URLSearchParams(hash.replace(/^#/, "").replaceAll("+", "%2B"));
  /** @param {string} key */
  const number = (key) => (words.has(key) && Number.isFinite(Number(words.get(key))) ? Number(words.get(key)) : null);
  return { words, number };
}

/**
 * Keep the address in step with a page, and the page with the address.
 * @param {() => string} now the address of what is shown, "" for none
 * @param {(hash: string) => boolean} show go where an address points; whether it points anywhere
 * @returns {{note: () => void, there: boolean}} what to call on a change, and whether the page was opened at such an address
 */
function keepHash(now, show) {
  let due = 0;
  const write = () => {
    const hash = now();
    if (hash) try { history.replaceState(null, "", hash); } catch { /* a page inside a page has no address of its own */ }
  };
  const note = () => { clearTimeout(due); due = setTimeout(write, 150); }; // Safari allows 100 in 30 s
  /** @param {string} hash @param {boolean} scroll */
  const go = (hash, scroll) => {
    const there = show(hash);
    clearTimeout(due);
    if (there && scroll) $("layer").scrollIntoView();
    return there;
  };
  addEventListener("hashchange", () => go(location.hash, true));
  document.addEventListener("click", (e) => {
    const link = /** @type {any} */ (e.target).closest?.("a.layer");
    if (!link || e.ctrlKey || e.metaKey || e.shiftKey) return;
    e.preventDefault();
    const hash = link.getAttribute("href");
    if (go(hash, true)) try { history.pushState(null, "", hash); } catch { /* as above */ }
  });
  return { note, there: !!location.hash && go(location.hash, false) };
}
