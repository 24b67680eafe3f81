// The understand page: the slider asks the server what other limits would lead to; work in the background is followed,
// and what comes of it is put in place. Everything listens on the document, because parts of the page are replaced.

import { confirmed, send, toast, typing } from "./gonogo.js";

const POLL_MS = 1200;
const WAIT_MS = 60; // a slider that is being drawn asks for the last position only

const find = (selector) => document.querySelector(selector);

/* The trade-off */

const known = new Map();
let asked = 0;
let timer;

async function turn(tradeoff) {
  const { escape, overkill, bad_share: share } = tradeoff.elements;
  const name = escape.dataset.values.split("|")[escape.valueAsNumber];
  tradeoff.querySelector("[data-escape-now]").textContent = name;
  escape.setAttribute("aria-valuetext", name);
  if (!tradeoff.reportValidity()) return;
  const query = new URLSearchParams({ escape: escape.value, overkill: overkill.value, bad_share: share.valueAsNumber / 100 }).toString();
  const mine = ++asked;
  if (!known.has(query)) {
    const answer = await fetch(`/understand/setting?${query}`).catch(() => null);
    const told = await answer?.json().catch(() => ({}));
    if (!answer?.ok) return toast(told?.message ?? document.body.dataset.lost, { failed: true });
    known.set(query, told.html);
  }
  // Answers may overtake each other; the last position asked for is the one that is shown.
  if (mine === asked) find("[data-setting]").innerHTML = known.get(query); // escaped by the server
}

document.addEventListener("input", (event) => {
  const tradeoff = event.target.closest("[data-tradeoff]");
  if (!tradeoff) return;
  clearTimeout(timer);
  timer = setTimeout(() => turn(tradeoff), WAIT_MS);
});

async function apply(button) {
  const { maxEscape, maxOverkill, badShare } = find(".chosen").dataset;
  if (!(await confirmed(button.dataset.question, { yes: button.dataset.yes }))) return;
  button.disabled = true;
  try {
    await send("/understand/apply", { max_escape: Number(maxEscape), max_overkill: Number(maxOverkill), bad_share: Number(badShare) });
    follow({ anew: true });
  } catch {
    button.disabled = false;
  }
}

/* Comparing */

document.addEventListener("submit", async (event) => {
  const form = event.target;
  if (!form.matches("[data-tradeoff], [data-compare]")) return;
  event.preventDefault();
  const button = form.querySelector("button");
  if (!form.matches("[data-compare]") || button.disabled) return;
  button.disabled = true;
  try {
    await send("/understand/compare", Object.fromEntries(new FormData(form)));
    await follow();
  } catch {
    // told already
  } finally {
    button.disabled = false;
  }
});

/* Work in the background */

let following = false;

/** Show how far it is until it is done; then show what came of it: in its place, or the whole page anew. */
async function follow({ anew = false } = {}) {
  if (following) return;
  following = true;
  for (let busy = true; busy; ) {
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    const answer = await fetch("/understand/progress").catch(() => null);
    if (answer?.status === 401) return location.reload();
    if (!answer?.ok) continue;
    const told = await answer.json();
    showTasks(told.tasks);
    const failure = find("#failure");
    failure.textContent = told.failure;
    failure.hidden = !told.failure;
    busy = told.tasks.length > 0;
    if (busy) continue;
    for (const [name, html] of Object.entries(told.pieces)) {
      find(`[data-piece="${name}"]`).innerHTML = html; // escaped by the server's templates
    }
  }
  following = false;
  if (anew) await showAnew();
}

/** Fetch the page again and put its content in place; where one has scrolled to stays. */
async function showAnew() {
  const answer = await fetch(location.pathname).catch(() => null);
  if (!answer?.ok) return;
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  known.clear();
  find("main").replaceChildren(...page.querySelector("main").childNodes);
}

function showTasks(list) {
  find("#tasks").replaceChildren(...list.map(({ title, done, total }) => {
    const line = document.createElement("p");
    const name = document.createElement("span");
    const bar = document.createElement("progress");
    name.textContent = title;
    bar.setAttribute("aria-label", title);
    if (total) Object.assign(bar, { max: total, value: done });
    line.append(name, " ", bar);
    return line;
  }));
}

/* Heat maps */

function toggleHeat() {
  const heat = find("[data-heat]");
  const on = heat.getAttribute("aria-pressed") !== "true";
  heat.setAttribute("aria-pressed", String(on));
  for (const image of document.querySelectorAll("img[data-seq]")) {
    image.src = `/parts/${image.dataset.seq}/picture.jpg?width=320&heat=${on}`;
  }
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button?.matches("[data-heat]")) toggleHeat();
  else if (button?.matches("[data-apply]")) apply(button);
});
document.addEventListener("keydown", (event) => {
  if (event.key.toLowerCase() === "h" && !typing(event)) toggleHeat();
});

if (Number(find("#tasks").dataset.busy)) follow({ anew: !find("[data-tradeoff]") });
