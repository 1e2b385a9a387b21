// The page of one run. Everything shown comes from the JSON and the blobs in this file.

await start(async () => {
  const page = JSON.parse($("data").textContent);
  theme();
  const view = new View(new RunData(page.run, await blobsOf(""), page.edges), page.markdown);
  const map = mapOf(view);
  const parts = [map.show, stripOf(view), layerOf(view), momentOf(view)], overview = overviewOf(view, map.name);
  const all = () => {
    for (const id of ["charts", "all"]) $(id).hidden = view.empty;
    if (view.empty) { $("layer").hidden = true; return; }
    for (const show of parts) show();
    if (printing()) overview(); else setTimeout(overview); // it stands below all that is seen at first
  };
  $("markdown").addEventListener("click", () => copyText(view.markdown, $("markdown")));
  view.on("run", all);
  keepAddress(view);
  all();
  whenever(all);
  follow(view);
});
