// Sliders that ask the server what other thresholds mean, on the pages Shadow mode and Compare. A form with data-sliders
// names the address; the fragment that it answers with replaces the content of [data-setting].

import { send, toast } from "./gonogo.js";

const WAIT_MS = 60; // debounce: only the last position is requested
const POLL_MS = 1200;

const find = (selector) => document.querySelector(selector);
const known = new Map();
let asked = 0;
let timer;

/** Show the value beside each slider, also to screen readers. */
function name(form) {
  for (const slider of form.querySelectorAll("input[type=range]")) {
    const value = slider.dataset.values.split("|")[slider.valueAsNumber];
    slider.setAttribute("aria-valuetext", value);
    slider.closest("label").querySelector("output").textContent = value;
  }
}

async function turn(form) {
  const query = new URLSearchParams(new FormData(form)).toString();
  const mine = ++asked;
  if (!known.has(query)) {
    const answer = await fetch(`${form.dataset.sliders}?${query}`).catch(() => null);
    if (answer?.status === 401) return location.reload();
    const result = await answer?.json().catch(() => ({}));
    if (!answer?.ok) return toast(result?.message ?? document.body.dataset.lost, { failed: true });
    known.set(query, result.html);
  }
  // Responses may arrive out of order; only the latest request is shown.
  if (mine === asked) find("[data-setting]").innerHTML = known.get(query); // escaped by the server
}

document.addEventListener("input", (event) => {
  const form = event.target.closest("[data-sliders]");
  if (!form) return;
  name(form);
  clearTimeout(timer);
  timer = setTimeout(() => turn(form), WAIT_MS);
});
document.addEventListener("submit", (event) => {
  if (event.target.matches("[data-sliders]")) event.preventDefault();
});

/* What a part is */

document.addEventListener("click", async (event) => {
  const button = event.target.closest("button[data-settle]");
  if (!button) return;
  const group = button.closest("li").querySelectorAll("button[data-settle]");
  for (const each of group) each.disabled = true;
  try {
    await send("/shadow/settle", { seq: Number(button.dataset.settle), label: button.value });
    await reload();
  } catch {
    for (const each of group) each.disabled = false;
  }
});

/** Fetch the page again and replace its content; the sliders keep their positions. */
async function reload() {
  const positions = [...document.querySelectorAll("[data-sliders] input[type=range]")].map((each) => [each.name, each.value]);
  const answer = await fetch(location.href).catch(() => null);
  if (!answer?.ok) return;
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  known.clear();
  find("main").replaceChildren(...page.querySelector("main").childNodes);
  const form = find("[data-sliders]");
  if (!form) return;
  let moved = false;
  for (const [slider, value] of positions) {
    const found = form.elements[slider];
    if (!found || found.value === value) continue;
    found.value = value;
    moved = true;
  }
  name(form);
  if (moved) await turn(form);
}

/* Work in the background */

async function wait(place) {
  for (;;) {
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    const answer = await fetch(`${place.dataset.waiting}${location.search}`).catch(() => null);
    if (answer?.status === 401) return location.reload();
    if (!answer?.ok) continue;
    const { over, done, total } = await answer.json();
    if (over) return location.reload();
    if (total) Object.assign(place.querySelector("progress"), { max: total, value: done });
  }
}

for (const form of document.querySelectorAll("[data-sliders]")) name(form);
const waiting = find("[data-waiting]");
if (waiting) wait(waiting);
