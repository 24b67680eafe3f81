// The review page: prefetches parts and their pictures, so that the next one appears without delay.

import { send, toast, typing } from "./gonogo.js";
import { Outbox } from "./outbox.js";
import { Zoom } from "./zoom.js";

const AHEAD = 5; // parts in hand
const REFILL_MS = 15000; // renews the assigned parts, and polls for new parts when there are none
const KINDS_MS = 2000; // poll interval for the kinds of defect while the server computes them
const TOO_SOON_MS = 250; // faster input is the second click of a double click on the previous part
const SHARP_FROM = 1.5; // above this zoom, a larger picture is fetched

const desk = document.getElementById("desk");
const find = (name) => document.querySelector(`[data-${name}]`);
const stage = find("stage");
const views = find("views");
const heat = document.querySelector("button[data-heat]");
const pill = find("outbox");
const announce = document.getElementById("announce");

let hand = []; // fetched, undecided parts
let place = 0; // index of the current part
let shown = null;
let shownAt = Infinity;
const SAID = `gonogo.review.said.${desk.dataset.person}`;
let said = JSON.parse(sessionStorage.getItem(SAID) ?? "[]"); // decided in this tab, for undo; survives a reload
let refilling = false;
let again = false; // requested again during a fetch
let decided = 0;
const lastSaid = { state: "saved" };

const zoom = new Zoom(stage, views, (scale) => {
  find("scale").textContent = `${Math.round(scale * 100)}\u00a0%`;
  if (scale > SHARP_FROM) sharpen();
});
const outbox = new Outbox(`gonogo.review.${desk.dataset.person}`, showState, refused);

/* Prefetching */

function source(part, view, heated, width) {
  return `/review/${part.ticket}/picture.jpg?view=${view}&heat=${heated}&width=${width}`;
}

function pictures(part, heated) {
  return part.views.map((view) => {
    const image = new Image();
    image.alt = heated ? desk.dataset.altHeat : desk.dataset.alt;
    image.draggable = false;
    image.src = source(part, view, heated, 960);
    return image;
  });
}

function prepare(part) {
  part.images = { false: pictures(part, false), true: [] };
  part.ready = Promise.allSettled(part.images.false.map((image) => image.decode()));
  // The server computes the heat map again: fetch it after the picture, so that it does not delay it.
  part.ready.then(() => {
    part.images.true = pictures(part, true);
    if (part === shown && heated()) showPictures(part);
  });
  nearest(part);
  return part;
}

async function nearest(part) {
  try {
    const answer = await fetch(`/review/${part.ticket}/nearest`);
    if (!answer.ok) return;
    const found = await answer.json();
    part.nearest = found.html;
    if (part === shown) find("nearest").innerHTML = part.nearest; // escaped by the server's templates
    if (found.later && hand.includes(part)) setTimeout(() => nearest(part), 2000);
  } catch {
    // no connection: show no examples; a decision does not need them
  }
}

async function refill() {
  if (refilling) {
    again = true;
    return;
  }
  refilling = true;
  again = false;
  try {
    const holding = [...hand.map((part) => part.ticket), ...outbox.tickets()];
    const dealt = await send("/review/deal", { want: Math.max(0, AHEAD - hand.length), holding: holding.slice(-100) }, { quiet: true });
    const known = new Set(hand.map((part) => part.ticket));
    hand = hand.filter((part) => part === shown || !dealt.lost.includes(part.ticket));
    for (const item of dealt.items) if (!known.has(item.ticket)) hand.push(prepare(item));
    find("waiting").textContent = dealt.waiting.toLocaleString(document.documentElement.lang);
    if (!shown || !hand.includes(shown)) show(hand[Math.min(place, hand.length - 1)]);
    else showPlace();
  } catch (error) {
    if (error.status === undefined) throw error;
    if (error.status) toast(error.message, { failed: true });
  } finally {
    refilling = false;
  }
  if (again) await refill();
}

/* Showing */

function heated() {
  return heat.getAttribute("aria-pressed") === "true";
}

function showPictures(part) {
  const wanted = part.images[heated()];
  views.replaceChildren(...(wanted.length ? wanted : part.images.false));
  views.classList.toggle("several", part.views.length > 1);
}

function sharpen() {
  for (const image of views.children) image.src = image.src.replace("width=960", "width=1920");
}

function show(part) {
  shown = part ?? null;
  zoom.reset();
  place = Math.max(0, hand.indexOf(shown));
  find("idle").hidden = Boolean(shown);
  find("no-picture").hidden = !shown || shown.views.length > 0;
  find("facts").innerHTML = shown?.facts ?? ""; // escaped by the server's templates
  find("nearest").innerHTML = shown?.nearest ?? "";
  for (const button of document.querySelectorAll("[data-label], [data-step]")) {
    if (!shown && button === document.activeElement) button.blur(); // otherwise key presses would be lost
    button.disabled = !shown;
  }
  shownAt = Infinity;
  desk.setAttribute("aria-busy", String(Boolean(shown)));
  showPlace();
  if (!shown) {
    views.replaceChildren();
    return;
  }
  showPictures(shown);
  shown.ready.then(() => {
    requestAnimationFrame(() => {
      setTimeout(() => { // after the frame that shows it
        if (part !== shown) return;
        shownAt = performance.now();
        setTimeout(() => part === shown && desk.setAttribute("aria-busy", "false"), TOO_SOON_MS);
        if (performance.getEntriesByName("decided").length) {
          performance.measure("next-part", "decided");
          performance.clearMarks("decided");
        }
      });
    });
  });
  announce.textContent = `${desk.dataset.next}: ${shown.part || place + 1}`;
}

function showPlace() {
  find("place").textContent = hand.length ? `${hand.indexOf(shown) + 1} / ${hand.length}` : "";
}

function step(by) {
  if (hand.length > 1) show(hand[(hand.indexOf(shown) + by + hand.length) % hand.length]);
}

function toggleHeat() {
  heat.setAttribute("aria-pressed", String(!heated()));
  if (shown) showPictures(shown);
}

/* Deciding */

function decide(label, defect = null) {
  const now = performance.now();
  if (!shown || now - shownAt < TOO_SOON_MS) return;
  performance.clearMarks("decided");
  performance.mark("decided");
  const part = shown;
  const ms = Math.round(now - shownAt);
  const at = hand.indexOf(part);
  hand.splice(at, 1);
  said.push({ part, text: [part.part, defect ?? desk.dataset[label]].filter(Boolean).join(" · ") });
  said = said.slice(-20);
  decided += 1;
  show(hand[Math.min(at, hand.length - 1)]);
  showSaid();
  outbox.add("/review/decide", { ticket: part.ticket, label, defect, ms });
  refill();
}

function takeBack() {
  const last = said.pop();
  if (!last) return toast(desk.dataset.nothing);
  const part = last.part.ready ? last.part : prepare(last.part); // after a reload its pictures must be fetched again
  if (!outbox.dropLast(part.ticket)) outbox.add("/review/undo", { ticket: part.ticket });
  decided = Math.max(0, decided - 1);
  hand = hand.filter((each) => each.ticket !== part.ticket); // after a reload it may have been dealt again
  hand.splice(Math.max(0, hand.indexOf(shown)), 0, part);
  show(part);
  showSaid();
  toast(`${desk.dataset.undone}: ${last.text}`);
}

function showSaid() {
  const kept = said.map(({ part: { ticket, part, views, facts }, text }) => ({ part: { ticket, part, views, facts }, text }));
  sessionStorage.setItem(SAID, JSON.stringify(kept));
  const last = said.at(-1);
  find("last").textContent = last?.text ?? "";
  find("undo").disabled = !last;
  find("decided").textContent = decided;
  find("decided-line").hidden = decided === 0;
}

function refused({ body }, error) {
  toast(error.message, { failed: true });
  const before = said.length;
  said = said.filter((each) => each.part.ticket !== body.ticket);
  decided = Math.max(0, decided - (before - said.length));
  hand = hand.filter((part) => part.ticket !== body.ticket);
  if (shown && !hand.includes(shown)) show(hand[Math.min(place, hand.length - 1)]);
  showSaid();
  refill();
}

function showState(state, count) {
  pill.dataset.feed = { saved: "live", saving: "waiting", kept: "lost" }[state];
  pill.querySelector("span").textContent = state === "kept" ? `${desk.dataset.kept} ${count}` : desk.dataset[state];
  if (state === "saved" && lastSaid.state === "kept") {
    toast(desk.dataset.resent);
    refill();
  }
  if (state !== "saving") lastSaid.state = state;
}

/* Keys and buttons */

document.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  const { label, kind, zoom: zooming, step: by } = button.dataset;
  if (label) decide(label, kind ?? null);
  else if (zooming === "reset") zoom.reset();
  else if (zooming) zoom.step(zooming === "in" ? 1 : -1);
  else if (by) step(Number(by));
  else if (button === heat) toggleHeat();
  else if ("undo" in button.dataset) takeBack();
});

find("other").addEventListener("submit", (event) => {
  event.preventDefault();
  event.stopPropagation();
  const field = document.getElementById("other");
  const kind = field.value.trim();
  if (!kind) return field.focus();
  field.value = "";
  field.blur();
  offer(kind);
  decide("bad", kind);
});

/** Add a button for a new kind. */
function offer(kind) {
  const buttons = [...document.querySelectorAll("[data-kind]")];
  if (buttons.some((button) => button.dataset.kind === kind)) return;
  const button = document.createElement("button");
  Object.assign(button, { type: "button", className: "quiet small" });
  Object.assign(button.dataset, { label: "bad", kind });
  if (buttons.length < 9) {
    button.dataset.key = buttons.length + 1;
    const key = document.createElement("kbd");
    key.textContent = buttons.length + 1;
    button.append(key, " ");
  }
  const name = document.createElement("span");
  name.textContent = kind;
  button.append(name);
  find("other").before(button);
}

/** Right after its start, the server has no kinds yet, because it judges the labelled pictures first. */
async function fetchKinds() {
  try {
    const answer = await fetch("/review/kinds");
    const found = answer.ok ? await answer.json() : { later: true };
    if (!found.later) return offerAll(found.kinds);
  } catch {
    // no connection: try again
  }
  setTimeout(fetchKinds, KINDS_MS);
}

/** Assign the first keys to these kinds, in this order; other kinds named here keep a button after them. */
function offerAll(kinds) {
  const buttons = [...document.querySelectorAll("[data-kind]")];
  const named = buttons.map((button) => button.dataset.kind).filter((kind) => !kinds.includes(kind));
  for (const button of buttons) button.remove();
  for (const kind of [...kinds, ...named]) offer(kind);
}

const KEYS = {
  g: () => decide("good"),
  b: () => decide("bad"),
  u: takeBack,
  h: toggleHeat,
  n: () => document.getElementById("other").focus(),
  "+": () => zoom.step(1),
  "=": () => zoom.step(1),
  "-": () => zoom.step(-1),
  0: () => zoom.reset(),
  arrowleft: () => step(-1),
  arrowright: () => step(1),
};
const PANS = { arrowleft: [1, 0], arrowright: [-1, 0], arrowup: [0, 1], arrowdown: [0, -1] };

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && event.target.id === "other") return event.target.blur();
  if (typing(event) || event.repeat) return;
  const key = event.key.toLowerCase();
  const kind = /^[1-9]$/.test(key) && document.querySelector(`[data-key="${key}"]`);
  if (event.shiftKey && PANS[key]) zoom.pan(...PANS[key]);
  else if (kind) decide("bad", kind.dataset.kind);
  else if (KEYS[key] && !(event.shiftKey && key.startsWith("arrow"))) KEYS[key]();
  else return;
  event.preventDefault();
});

setInterval(() => {
  if (!document.hidden) refill();
}, REFILL_MS);
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) refill();
});
show(null);
showSaid();
if ("kindsLater" in desk.dataset) setTimeout(fetchKinds, KINDS_MS);
find("idle").hidden = true; // unknown so far
refill().then(() => (find("idle").hidden = Boolean(shown)));
