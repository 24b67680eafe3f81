// The Understand page: the slider requests the consequences of other limits; background work is polled and its results
// update the page. Event handlers are on the document, because parts of the page are replaced.

import { confirmed, send, toast, typing } from "./gonogo.js";

const POLL_MS = 1200;
const WAIT_MS = 60; // debounce: only the last slider position is requested

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
    const result = await answer?.json().catch(() => ({}));
    if (!answer?.ok) return toast(result?.message ?? document.body.dataset.lost, { failed: true });
    known.set(query, result.html);
  }
  // Responses may arrive out of order; only the latest request is shown.
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
  const fields = [...document.querySelectorAll("[data-signature] [name]")];
  if (fields.some((field) => !field.reportValidity())) return;
  if (!(await confirmed(button.dataset.question, { yes: button.dataset.yes }))) return;
  button.disabled = true;
  const limits = { max_escape: Number(maxEscape), max_overkill: Number(maxOverkill), bad_share: Number(badShare) };
  const signature = Object.fromEntries(fields.map(({ name, value }) => [name, value]));
  try {
    await send("/understand/apply", { ...limits, bundle_sha256: button.dataset.sha256, signature });
    follow({ reload: true });
  } catch {
    button.disabled = false;
  }
}

document.addEventListener("submit", (event) => {
  if (event.target.matches("[data-tradeoff]")) event.preventDefault();
});

/* Work in the background */

let following = false;

/** Show progress until the work is done; then update the fragments or reload the page content. */
async function follow({ reload = false } = {}) {
  if (following) return;
  following = true;
  for (let busy = true; busy; ) {
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    const answer = await fetch("/understand/progress").catch(() => null);
    if (answer?.status === 401) return location.reload();
    if (!answer?.ok) continue;
    const result = await answer.json();
    showTasks(result.tasks);
    const failure = find("#failure");
    failure.textContent = result.failure;
    failure.hidden = !result.failure;
    busy = result.tasks.length > 0;
    if (busy) continue;
    for (const [name, html] of Object.entries(result.pieces)) {
      find(`[data-piece="${name}"]`).innerHTML = html; // escaped by the server's templates
    }
  }
  following = false;
  if (reload) await reloadContent();
}

/** Fetch the page again and replace its content; keeps the scroll position. */
async function reloadContent() {
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

if (Number(find("#tasks").dataset.busy)) follow({ reload: !find("[data-tradeoff]") });
