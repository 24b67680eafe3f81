// Parts, exports and the audit log: heat map, printing, verification of the chain, progress of exports.

import { send, typing } from "./gonogo.js";

const POLL_MS = 800;

/** Replace a fragment by the server's until nothing is running there any more. */
async function follow(place) {
  for (;;) {
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    try {
      const answer = await fetch(place.dataset.state);
      if (answer.status === 401) location.reload(); // the session ended: the server shows the login
      if (!answer.ok) continue;
      const { html, busy } = await answer.json();
      if (place.innerHTML !== html) place.innerHTML = html; // escaped by the server's templates
      if (!busy) return;
    } catch {
      // no connection: the work continues, and so does asking
    }
  }
}

const heat = document.querySelector("[data-heat]");
function toggleHeat() {
  const on = heat.getAttribute("aria-pressed") !== "true";
  heat.setAttribute("aria-pressed", on);
  for (const picture of document.querySelectorAll("[data-picture]")) {
    const address = new URL(picture.src);
    on ? address.searchParams.set("heat", "true") : address.searchParams.delete("heat");
    picture.src = address;
  }
}
heat?.addEventListener("click", toggleHeat);
document.addEventListener("keydown", (event) => {
  if (heat && event.key.toLowerCase() === "h" && !typing(event)) toggleHeat();
});
document.querySelector("[data-print]")?.addEventListener("click", () => print());

const chain = document.getElementById("chain");
const verify = document.querySelector("[data-verify]");
verify?.addEventListener("click", async () => {
  verify.disabled = true;
  try {
    const [file] = document.querySelector("[data-anchors]").files;
    await send("/chain/verify", { anchors: file ? await file.text() : "" });
    await follow(chain);
  } catch {
    // send has shown why
  } finally {
    verify.disabled = false;
  }
});
if (chain?.querySelector("progress")) follow(chain);

const exports = document.getElementById("exports");
if (exports && "busy" in exports.dataset) follow(exports);

const kind = document.querySelector("[data-kind]");
function showFields() {
  for (const field of document.querySelectorAll("[data-only]")) field.hidden = field.dataset.only !== kind.value;
}
kind?.addEventListener("change", showFields);
if (kind) showFields();
