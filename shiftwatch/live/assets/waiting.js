// The page of a run without a window: it becomes the report when there is one.

const place = decodeURIComponent(location.pathname.split("/").slice(-2)[0].replace(/%(?![0-9A-Fa-f]{2})/g, "%25"));
document.getElementById("name").textContent = place;

async function look() {
  if (document.hidden) return;
  const words = document.getElementById("words");
  try {
    const answer = await fetch("update", { method: "HEAD", cache: "no-store", credentials: "same-origin" });
    if (answer.status === 200) location.reload();
    else if (answer.status === 404) words.textContent = "This run is gone.";
    else words.textContent = "The report opens by itself when the first window of steps is complete.";
  } catch {
    words.textContent = "No answer from the server; asking again.";
  }
}
setInterval(look, 2000);
