// The station page: shows the server's updates, loads the picture, and reports a lost connection.

import { clock, typing } from "./gonogo.js";
import { follow } from "./live.js";
import { screen } from "./screen.js";

const ANNOUNCE_MS = 3000; // a screen reader cannot keep up with the line

const station = document.getElementById("station");
const pictures = station.querySelector(".pictures");
const pill = station.querySelector(".pill");
const lost = station.querySelector(".lost");
const heat = station.querySelector("[data-heat]");
const announce = document.getElementById("announce");
let shown = { seq: pictures.dataset.seq, pictures: Number(pictures.dataset.count ?? 0) };
let announcedAt = 0;
const sound = screen(station);
let announcing; // a timer, so that the last verdict of a burst is announced too
let serverAhead = 0; // offset in ms from this page's monotonic clock to the server's clock

function showPictures() {
  const heated = heat.getAttribute("aria-pressed") === "true";
  const images = Array.from({ length: shown.pictures }, (_, view) => {
    const image = new Image();
    image.alt = pictures.dataset.alt;
    image.src = `/parts/${shown.seq}/picture.jpg?view=${view}&heat=${heated}&width=960`;
    image.addEventListener("error", () => image.remove());
    return image;
  });
  // Keep the old picture until the new one has loaded; a newer part takes precedence.
  const seq = shown.seq;
  Promise.allSettled(images.map((image) => image.decode())).then(() => {
    if (shown.seq === seq) pictures.replaceChildren(...images.filter((image) => image.naturalWidth > 0));
  });
}

function setClock(now) {
  serverAhead = Date.parse(now) - performance.now();
  showAges();
}

/** Age of each verdict by the server's clock, because this computer's clock may be wrong. */
function showAges() {
  const units = [["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1]];
  const format = new Intl.RelativeTimeFormat(document.documentElement.lang, { numeric: "always" });
  for (const element of station.querySelectorAll("[data-at]")) {
    const age = Math.max(0, (serverAhead + performance.now() - Date.parse(element.dataset.at)) / 1000);
    const [unit, seconds] = units.find(([, length]) => age >= length) ?? units.at(-1);
    element.textContent = format.format(-Math.floor(age / seconds), unit);
  }
}

function tell() {
  clearTimeout(announcing);
  announcing = undefined;
  announcedAt = Date.now();
  const part = station.querySelector(".verdict [data-part]")?.textContent;
  announce.textContent = [station.querySelector(".verdict .word").textContent, part].filter(Boolean).join(", ");
}

function show(said) {
  for (const [name, html] of Object.entries(said.pieces)) {
    station.querySelector(`[data-piece="${name}"]`).innerHTML = html; // escaped by the server's templates
  }
  if (said.seq !== Number(shown.seq)) {
    shown = { seq: said.seq, pictures: said.pictures };
    showPictures();
    sound(said.state);
  }
  station.dataset.current = said.state ? "yes" : "no";
  setClock(said.now);
  const wait = announcedAt + ANNOUNCE_MS - Date.now();
  if (wait <= 0) tell();
  else announcing ??= setTimeout(tell, wait);
}

function feed(state, heardAt) {
  document.documentElement.dataset.feed = state;
  pill.dataset.feed = state;
  pill.querySelector("span").textContent = station.dataset[state];
  lost.hidden = state !== "lost";
  station.querySelector('[data-piece="verdict"]').toggleAttribute("inert", state === "lost");
  if (state === "lost") {
    lost.querySelector("[data-lost-since]").textContent = clock(heardAt);
    clearTimeout(announcing);
    announcing = undefined;
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
setClock(station.dataset.now);
setInterval(showAges, 1000);
follow(station.dataset.events, { station: show }, feed);
