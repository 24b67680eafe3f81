// Several stations on one screen: fetches the tiles every second, and covers them when the server is silent.

import { screen } from "./screen.js";

const EVERY_MS = 1000;
const SILENCE_MS = 6000;

const wall = document.getElementById("wall");
const tiles = wall.querySelector(".tiles");
const lost = wall.querySelector(".lost");
const sound = screen(wall);
let heardAt = performance.now();
let known = {};

async function refresh() {
  try {
    const answer = await fetch(wall.dataset.tiles, { signal: AbortSignal.timeout(SILENCE_MS) });
    if (answer.status === 401 || answer.status === 403) return location.reload(); // the session ended: the server shows the login
    if (!answer.ok) throw new Error(`${answer.status}`);
    const said = await answer.json();
    tiles.innerHTML = said.tiles; // escaped by the server's templates
    const fresh = Object.entries(said.states).filter(([name, [seq]]) => known[name] !== undefined && known[name] !== seq);
    for (const [, [, state]] of fresh) sound(state);
    known = Object.fromEntries(Object.entries(said.states).map(([name, [seq]]) => [name, seq]));
    heardAt = performance.now();
  } catch {
    // Shown once the silence is long enough.
  }
  const silent = performance.now() - heardAt > SILENCE_MS;
  lost.hidden = !silent;
  tiles.toggleAttribute("inert", silent);
  setTimeout(refresh, EVERY_MS);
}

setTimeout(refresh, EVERY_MS);
