// The station page: puts in place what the server sends, loads the picture, and says when the feed stops.

import { clock, typing } from "./gonogo.js";
import { follow } from "./live.js";

const ANNOUNCE_MS = 3000; // a screen reader cannot keep up with the line

const station = document.getElementById("station");
const pictures = station.querySelector(".pictures");
const pill = station.querySelector(".pill");
const lost = station.querySelector(".lost");
const heat = station.querySelector("[data-heat]");
const announce = document.getElementById("announce");
let shown = { seq: pictures.dataset.seq, pictures: Number(pictures.dataset.count ?? 0) };
let announcedAt = 0;

function showPictures() {
  const heated = heat.getAttribute("aria-pressed") === "true";
  const images = Array.from({ length: shown.pictures }, (_, view) => {
    const image = new Image();
    image.alt = pictures.dataset.alt;
    image.src = `/parts/${shown.seq}/picture.jpg?view=${view}&heat=${heated}&width=960`;
    image.addEventListener("error", () => image.remove());
    return image;
  });
  // The old picture stays until the new one is there; a part that has overtaken it wins.
  const seq = shown.seq;
  Promise.allSettled(images.map((image) => image.decode())).then(() => {
    if (shown.seq === seq) pictures.replaceChildren(...images.filter((image) => image.naturalWidth > 0));
  });
}

function show(said) {
  for (const [name, html] of Object.entries(said.pieces)) {
    station.querySelector(`[data-piece="${name}"]`).innerHTML = html; // escaped by the server's templates
  }
  if (said.seq !== Number(shown.seq)) {
    shown = { seq: said.seq, pictures: said.pictures };
    showPictures();
  }
  const now = Date.now();
  if (now - announcedAt > ANNOUNCE_MS) {
    announcedAt = now;
    announce.textContent = station.querySelector(".verdict .word").textContent;
  }
}

function feed(state, heardAt) {
  document.documentElement.dataset.feed = state;
  pill.dataset.feed = state;
  pill.querySelector("span").textContent = station.dataset[state];
  lost.hidden = state !== "lost";
  station.querySelector('[data-piece="verdict"]').toggleAttribute("inert", state === "lost");
  if (state === "lost") {
    lost.querySelector("[data-lost-since]").textContent = clock(heardAt);
    announce.textContent = lost.querySelector(".word").textContent;
  }
}

function toggleHeat() {
  heat.setAttribute("aria-pressed", String(heat.getAttribute("aria-pressed") !== "true"));
  showPictures();
}

heat.addEventListener("click", toggleHeat);
document.addEventListener("keydown", (event) => {
  if (event.key.toLowerCase() === "h" && !typing(event)) toggleHeat();
});
if (shown.seq) showPictures();
follow(station.dataset.events, { station: show }, feed);
