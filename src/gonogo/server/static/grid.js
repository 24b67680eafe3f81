// The grid of pictures: choose with mouse or keys, change many at once, undo, and fetch the next page's thumbnails.

import { confirmed, send, toast, typing } from "./gonogo.js";

const grid = document.getElementById("grid");
const boxes = grid ? [...grid.querySelectorAll("#cards input")] : [];
const KEPT = `gonogo-grid-said`;

let last = null; // the box of the last click, where a range begins
let everything = false; // all that match, on all pages
let busy = false;

function chosen() {
  return boxes.filter((box) => box.checked);
}

function count() {
  return everything ? Number(grid.dataset.found) : chosen().length;
}

function show() {
  const many = count();
  const text = many ? grid.dataset.chosen.replace("{count}", many.toLocaleString(document.documentElement.lang)) : grid.dataset.noneChosen;
  document.getElementById("chosen").textContent = text;
  document.getElementById("clear").disabled = !many;
  for (const button of grid.querySelectorAll("[data-act]")) button.disabled = !many;
  document.getElementById("all")?.setAttribute("aria-pressed", String(everything));
}

function choose(value) {
  everything = false;
  for (const box of boxes) box.checked = value;
  show();
}

function chooseEverything() {
  choose(true);
  everything = true;
  show();
}

function choosing(event) {
  const box = event.target;
  if (!boxes.includes(box)) return;
  everything = false;
  if (event.shiftKey && last) {
    const [from, to] = [boxes.indexOf(last), boxes.indexOf(box)].sort((a, b) => a - b);
    for (const each of boxes.slice(from, to + 1)) each.checked = box.checked;
  }
  last = box;
  show();
}

/** Reload, and say afterwards what happened. */
function again(text) {
  if (text) sessionStorage.setItem(KEPT, text);
  location.reload();
}

async function change(body) {
  if (busy) return;
  busy = true;
  try {
    const answer = await send(`${grid.dataset.path}/change`, body, { quiet: true });
    if (!answer.changed) toast(answer.said || grid.dataset.nothing);
    const stale = answer.stale ? grid.dataset.someStale.replace("{count}", answer.stale) : "";
    if (answer.changed || answer.stale) again([answer.said, stale].filter(Boolean).join(" "));
  } catch (error) {
    if (error.result?.confirm) {
      busy = false;
      if (await confirmed(error.message, { yes: grid.dataset.labelYes })) await change({ ...body, sure: true });
    } else toast(error.message, { failed: true });
  } finally {
    busy = false;
  }
}

function selection() {
  if (everything) return { matching: { query: grid.dataset.query, digest: grid.dataset.digest } };
  return { files: Object.fromEntries(chosen().map((box) => [box.value, box.dataset.mark])) };
}

async function act(action, values = {}) {
  if (!count()) {
    const box = document.activeElement;
    if (!boxes.includes(box) || action !== "label") return;
    box.checked = true; // a label key on one picture needs no choice first
    show();
  }
  const ask = action === "remove" ? grid.dataset.remove : everything ? grid.dataset.many : "";
  const options = action === "remove" ? { yes: grid.dataset.removeYes, danger: true } : {};
  if (ask && !(await confirmed(ask.replace("{count}", count()), options))) return;
  await change({ action, ...selection(), ...values });
}

function label(said, kind) {
  const defect = said === "bad" ? kind || undefined : undefined;
  return act("label", { label: said, ...(defect ? { defect } : {}) });
}

async function undo() {
  const button = document.getElementById("undo");
  if (!button || busy) return;
  busy = true;
  try {
    const answer = await send(`${grid.dataset.path}/undo`, { number: Number(button.dataset.number) });
    again(answer.stale ? grid.dataset.someStale.replace("{count}", answer.stale) : "");
  } catch {
    busy = false; // shown already
  }
}

/** Number of pictures in one row. */
function across() {
  const top = boxes[0].getBoundingClientRect().top;
  const next = boxes.findIndex((box) => box.getBoundingClientRect().top > top + 4);
  return next < 1 ? boxes.length : next;
}

function move(step, event) {
  const at = boxes.indexOf(document.activeElement);
  const to = at < 0 ? 0 : Math.max(0, Math.min(boxes.length - 1, at + step));
  boxes[to]?.focus();
  boxes[to]?.scrollIntoView({ block: "nearest" });
  event.preventDefault();
}

function pressed(event) {
  if ((event.ctrlKey || event.metaKey) && event.key === "a" && !event.target.closest("input:not([type=checkbox]), select, dialog")) {
    choose(true);
    event.preventDefault();
    return;
  }
  if (typing(event) || !boxes.length) return;
  const kinds = JSON.parse(grid.dataset.kinds);
  const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -across(), ArrowDown: across() };
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (key in steps) move(steps[key], event);
  else if (key === "Enter" && boxes.includes(document.activeElement)) {
    location.assign(`${grid.dataset.labelPath}?${new URLSearchParams({ file: document.activeElement.value })}`);
  } else if (key === "s" && boxes.includes(document.activeElement)) document.activeElement.closest("li").querySelector("[data-similar]").click();
  else if (key === "g") label("good");
  else if (key === "b") label("bad", document.getElementById("kind")?.value);
  else if (/^[1-9]$/.test(key) && kinds[key - 1]) label("bad", kinds[key - 1]);
  else if (key === "u") undo();
  else if (key === "n") document.querySelector(".pages [rel=next]")?.click();
  else if (key === "p") document.querySelector(".pages [rel=prev]")?.click();
  else if (key === "Escape" && !document.querySelector("dialog[open]")) choose(false);
}

/** Have the next page's thumbnails made and kept by the browser, one after the other. */
async function fetchComing() {
  for (const address of JSON.parse(grid.dataset.coming)) {
    if (document.hidden) return;
    await fetch(address, { priority: "low" }).catch(() => {});
  }
}

if (grid) {
  grid.addEventListener("click", (event) => {
    const button = event.target.closest("[data-act]");
    if (button?.dataset.act === "label") label(button.dataset.label, document.getElementById("kind")?.value);
    else if (button?.dataset.act === "move") act("move", { split: document.getElementById("split").value });
    else if (button) act(button.dataset.act);
    else if (event.target.closest("#undo")) undo();
    else if (event.target.closest("#clear")) choose(false);
    else if (event.target.closest("#all")) everything ? choose(false) : chooseEverything();
    else choosing(event);
  });
  document.addEventListener("keydown", pressed);
  const said = sessionStorage.getItem(KEPT);
  if (said) toast(said);
  sessionStorage.removeItem(KEPT);
  show();
  addEventListener("load", () => (globalThis.requestIdleCallback ?? setTimeout)(fetchComing));
}

// On a telephone the filters would fill the first screen: they are folded there until somebody opens them.
const fold = document.getElementById("fold");
if (fold) {
  const narrow = matchMedia("(max-width: 40rem)");
  const set = () => { fold.open = !narrow.matches; };
  narrow.addEventListener("change", set);
  set();
}
