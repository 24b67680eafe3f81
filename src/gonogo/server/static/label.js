// The label page: the current picture and its label.

import { confirmed, send, toast } from "./gonogo.js";
import { Conflicts } from "./label-conflict.js";
import { Growing } from "./label-grow.js";
import { listen } from "./label-keys.js";
import { Order, decided } from "./label-order.js";
import { Photos } from "./label-photos.js";
import { Saver } from "./label-saver.js";
import { editKeys, editKinds } from "./label-settings.js";
import { regionOf, saidOf } from "./label-shapes.js";
import { Stage } from "./label-stage.js";
import { Strip } from "./label-strip.js";
import { words } from "./label-words.js";

const LOOK_MS = 4000;
const MOST_TRIES = 5; // to reserve the next picture
const SETTLE_MS = 700; // after drawing, before saving
const TOOLS = ["box", "quad", "polygon", "lasso", "grow"];
const VALUES = ["label", "defect", "present", "box_xyxy", "quad", "polygons"];

const root = document.getElementById("label");
const text = root.dataset;
const at = (id) => document.getElementById(id);
const fill = (line, values) => line.replace(/\{(\w+)\}/g, (_, name) => values[name]);
const undoName = `gonogo undo ${text.path} ${text.me}`;
const MOST_UNDO = 50;

/** Identifies this tab to the server, also after a reload, so that users do not see themselves as others. */
const place = sessionStorage.getItem("gonogo place") ?? crypto.getRandomValues(new Uint32Array(2)).join("-");
sessionStorage.setItem("gonogo place", place);

let keys = JSON.parse(text.keys);
let kinds = JSON.parse(text.kinds);
const rows = new Map(); // by file: the server's record with local changes
let version = 0;
let current = "";
let kept = null; // the current picture's values when last saved
let settling = 0;
let proposals = 0; // boxes proposed for this picture so far
const undo = JSON.parse(sessionStorage.getItem(undoName) ?? "[]"); // {file, before}; outlives a reload
const visited = [];

const stage = new Stage(at("stage"), { changed: drawn, grow: (point, erase) => growing.from(current, imported() ? null : stage.polygons, point, erase) });
const growing = new Growing(`${text.path}/grow`, text, (file, polygons) => {
  if (file !== current) return;
  stage.masked.replaceChildren(); // an imported mask has become outlines
  stage.polygons = polygons ?? [];
  stage.changed("polygons");
  if (polygons !== null) return;
  change({ polygons: null });
  commit();
  refresh();
});
const strip = new Strip(at("strip"), text.path, (file) => open(file));
const photos = new Photos((file) => strip.address(file, at("stage").clientWidth * devicePixelRatio > 960 ? 1920 : 960), text.unreadable);
const order = new Order(`${text.path}/doubt`, rows, ranked);
const conflicts = new Conflicts(text, (file) => strip.address(file, 320), settle);

const valuesOf = (row) => Object.fromEntries(VALUES.map((key) => [key, row[key] ?? null]));
const same = (one, other) => JSON.stringify(one) === JSON.stringify(other);

// Saving

const saver = new Saver(
  { path: `${text.path}/save`, store: `gonogo ${text.path} ${text.me}`, rows },
  {
    state(state) {
      at("saved").dataset.state = state;
      at("saved").querySelector("span").textContent = text[state];
    },
    saved(row) {
      const mine = rows.get(row.file);
      // Keep what was drawn before the response arrived.
      const newer = saver.holds(row.file) || (row.file === current && settling);
      rows.set(row.file, newer && mine ? { ...mine, revision: row.revision } : row);
      if (row.file === current) {
        if (!newer) kept = valuesOf(row); // the server may say the same in other words, such as no outlines
        about();
      }
      strip.mark(row);
    },
    conflict: (mine, result) => conflicts.add(mine, result),
    refused(file, message) {
      toast(message, { failed: true });
      version = 0; // fetch again: rejected values must not stay on the page
      look().then(() => file === current && refresh());
    },
  },
);

/** Copy the page's state into the picture's record and save it if it has changed. */
function commit() {
  clearTimeout(settling);
  settling = 0;
  const row = rows.get(current);
  if (!row || same(valuesOf(row), kept)) return;
  undo.push({ file: current, before: kept });
  keepUndo();
  kept = valuesOf(row);
  saver.put(current, kept);
  strip.mark(row);
  count();
}

function keepUndo() {
  undo.splice(0, Math.max(0, undo.length - MOST_UNDO));
  sessionStorage.setItem(undoName, JSON.stringify(undo));
}

function change(values) {
  const row = { ...rows.get(current), ...values };
  for (const key of VALUES) if (row[key] === null) delete row[key];
  rows.set(current, row);
}

function drawn(what) {
  if (!rows.has(current)) return;
  if (what === "polygons") {
    change({ polygons: stage.polygons });
    if (stage.polygons.length && rows.get(current).label !== "bad") change({ label: "bad", present: null });
  } else change(saidOf(stage.region));
  show();
  clearTimeout(settling);
  settling = setTimeout(commit, SETTLE_MS);
}

/** Resolve a conflict: the server's record, with the user's own values if they were chosen. */
function settle(row, mine) {
  rows.set(row.file, row);
  if (mine) {
    const values = valuesOf(mine);
    rows.set(row.file, { ...row, ...Object.fromEntries(VALUES.map((key) => [key, values[key] ?? undefined])) });
    saver.put(row.file, values);
  }
  if (row.file === current) refresh();
  strip.mark(rows.get(row.file));
  count();
}

// Showing

async function open(file, { back = false } = {}) {
  if (!rows.has(file)) return;
  commit();
  if (current && current !== file && !back) visited.push(current);
  growing.end();
  proposals = 0;
  current = file;
  kept = valuesOf(rows.get(file));
  strip.show(file, order.files(), rows);
  history.replaceState(null, "", `?file=${encodeURIComponent(file)}`);
  count();
  show();
  at("stage-wrap").setAttribute("aria-busy", "true");
  try {
    const { url, size } = await photos.load(file, current);
    if (current !== file) return;
    at("trouble").hidden = true;
    stage.show(url, size);
    refresh();
    await begin(file);
  } catch (error) {
    if (current !== file) return;
    at("trouble").hidden = false;
    at("trouble").textContent = error instanceof TypeError ? document.body.dataset.lost : error.message;
    stage.show("", [4, 3]);
    stage.set({ region: null, polygons: [] });
    if (error instanceof TypeError) setTimeout(() => current === file && open(file, { back: true }), 3000);
  } finally {
    if (current === file) at("stage-wrap").removeAttribute("aria-busy");
  }
  look();
  const next = order.upcoming(file);
  if (next) photos.load(next, current).catch(() => {});
}

/** Initialize a new picture as chosen in the options; saved only after a decision or a move. */
async function begin(file) {
  const row = rows.get(file);
  if (decided(row) || row.box_xyxy || stage.region) return;
  if (at("start").value === "last") suggest(lastRegion());
  if (at("start").value === "propose") await propose();
}

function suggest(region) {
  if (!region) return;
  stage.tool = region.turned ? "quad" : stage.tool === "quad" ? "box" : stage.tool;
  stage.set({ region: stage.kept(region), polygons: stage.polygons, suggested: true });
  show();
}

/** Whether the picture has a mask from elsewhere instead of outlines. */
function imported() {
  const row = rows.get(current);
  return Boolean(row?.mask_file_name) && row.polygons === undefined;
}

/** Redraw the record. */
function refresh() {
  growing.end();
  const row = rows.get(current);
  kept = valuesOf(row);
  const mask = imported() ? `${text.path}/mask.png?${new URLSearchParams({ file: row.file })}` : "";
  if (row.quad && stage.tool === "box") stage.tool = "quad";
  else if (row.box_xyxy && !row.quad && stage.tool === "quad") stage.tool = "box";
  stage.set({ region: regionOf(row), polygons: row.polygons ?? [], mask });
  show();
}

function show() {
  const row = rows.get(current) ?? {};
  const state = row.present === false ? "none" : (row.label ?? "open");
  at("stage-wrap").dataset.state = state;
  at("verdict").textContent = state === "open" ? "" : words({ label: row.label, present: row.present, defect: row.defect }, text);
  for (const name of ["good", "bad", "none"]) root.querySelector(`[data-do="${name}"]`).setAttribute("aria-pressed", String(state === name));
  for (const button of at("kinds").children) button.setAttribute("aria-pressed", String(state === "bad" && row.defect === button.dataset.kind));
  for (const name of TOOLS) root.querySelector(`[data-do="${name}"]`).setAttribute("aria-pressed", String(stage.tool === name));
  root.querySelector('[data-do="resize"]').setAttribute("aria-pressed", String(stage.resizing));
  at("stage").dataset.tool = stage.tool;
  const letters = Object.fromEntries(Object.entries(keys).map(([name, key]) => [name, key.toUpperCase()]));
  at("hint").textContent = fill(text[`hint${stage.tool[0].toUpperCase()}${stage.tool.slice(1)}`], letters);
  growing.show(stage.tool === "grow");
  at("file").textContent = row.file ?? "";
  at("drawn").textContent = drawnWords();
  about();
}

function drawnWords() {
  const lines = [];
  if (stage.region) {
    const { x, y, w, h } = stage.region;
    lines.push(fill(text.region, { x: Math.round(x - w / 2), y: Math.round(y - h / 2), w: Math.round(w), h: Math.round(h) }));
  } else lines.push(text.noRegion);
  if (stage.polygons.length) lines.push(fill(text.withOutlines, { count: stage.polygons.length }));
  return lines.join(" · ");
}

function about() {
  const row = rows.get(current) ?? {};
  const lines = [];
  if (row.labelled_by) lines.push(row.labelled_by === text.me ? text.byMe : fill(text.by, { who: row.labelled_by }));
  const other = order.others[current];
  if (other) lines.push(other === text.me ? text.othersMe : fill(text.others, { who: other }));
  at("about").textContent = lines.join(" · ");
}

function count() {
  const left = [...rows.values()].filter((row) => !decided(row)).length;
  at("position").textContent = rows.size ? fill(text.position, { number: order.files().indexOf(current) + 1, total: rows.size }) : "";
  at("left").textContent = fill(text.left, { count: left });
  at("done").max = Math.max(rows.size, 1);
  at("done").value = rows.size - left;
}

// Navigation

function step(by) {
  const next = order.beside(current, by);
  if (next) open(next);
}

function onwards() {
  const next = order.upcoming(current);
  if (next) open(next);
  else if ([...rows.values()].every(decided)) toast(text.allDone);
  else if (decided(rows.get(current))) toast(text.allHeld);
}

function decide(values) {
  if (!rows.has(current) || at("stage-wrap").getAttribute("aria-busy")) return;
  if (stage.suggested && stage.region && values.present !== false) {
    stage.suggested = false;
    change(saidOf(stage.region));
  }
  if (values.label !== "bad" && rows.get(current).polygons) values = { ...values, polygons: null };
  const fresh = !decided(rows.get(current));
  change({ label: null, defect: null, present: null, ...values });
  if (values.present === false) change({ box_xyxy: null, quad: null });
  commit();
  at("announce").textContent = words(rows.get(current), text);
  refresh(); // also without a next picture: the last label must be visible
  if (fresh && at("advance").checked) onwards();
}

function takeBack() {
  growing.end();
  commit();
  let last = undo.pop();
  while (last && !rows.has(last.file)) last = undo.pop();
  keepUndo();
  if (last?.number) {
    undoAlike(last.number);
    return;
  }
  if (!last) {
    toast(text.nothing);
    return;
  }
  const row = { ...rows.get(last.file) };
  if (!saver.holds(last.file) && row.labelled_by && row.labelled_by !== text.me) {
    toast(fill(text.changed, { who: row.labelled_by })); // keep theirs
    return;
  }
  for (const key of VALUES) {
    if (last.before[key] === null) delete row[key];
    else row[key] = last.before[key];
  }
  rows.set(last.file, row);
  saver.put(last.file, last.before);
  strip.mark(row);
  if (last.file === current) refresh();
  else open(last.file, { back: true });
  count();
}

function lastRegion() {
  const before = [...visited].reverse().find((file) => file !== current && rows.get(file)?.box_xyxy);
  const list = [...rows.keys()];
  const above = list.slice(0, list.indexOf(current)).reverse().find((file) => rows.get(file).box_xyxy);
  const found = before ?? above;
  return found ? regionOf(rows.get(found)) : null;
}

function copy() {
  const region = lastRegion();
  if (!region) {
    toast(text.noLast);
    return;
  }
  suggest(region);
  stage.changed("region");
}

async function propose() {
  const file = current;
  const answer = await fetch(`${text.path}/proposal?${new URLSearchParams({ file, turn: proposals })}`).catch(() => null);
  const result = await answer?.json().catch(() => null);
  if (current !== file || !result) return;
  if (!answer.ok || !result.found) {
    toast(result.reason ?? result.message, { failed: !answer.ok });
    return;
  }
  proposals += 1;
  suggest(regionOf(result));
  at("about").textContent = fill(result.count > 1 ? text.proposedOf : text.proposed, { ...result, next: keys.propose.toUpperCase() });
}

// Other pictures

/** Wait until everything is saved; false if there is no connection. */
async function allSaved() {
  commit();
  for (let tries = 0; saver.waiting.size && tries < 100; tries += 1) await new Promise((resolve) => setTimeout(resolve, 50));
  if (saver.waiting.size) toast(text.unsaved, { failed: true });
  return !saver.waiting.size;
}

async function similar() {
  if (rows.has(current) && (await allSaved())) location.assign(`${text.path}/pictures?${new URLSearchParams({ like: current })}`);
}

/** Give this picture's label and region to its near-duplicates. */
async function alike(sure = false) {
  if (at("stage-wrap").getAttribute("aria-busy") || !rows.has(current) || !(await allSaved())) return;
  const file = current;
  at("about").textContent = text.searching;
  try {
    const answer = await send(`${text.path}/alike`, { file, revision: rows.get(file).revision, sure }, { quiet: true });
    if (answer.number) undo.push({ file, number: answer.number });
    keepUndo();
    toast(answer.said);
    await look();
  } catch (error) {
    if (error.status === undefined) throw error;
    if (error.result?.confirm && (await confirmed(error.message))) await alike(true);
    else if (!error.result?.confirm) toast(error.message, { failed: true });
  }
  about();
}

async function undoAlike(number) {
  try {
    const answer = await send(`${text.path}/pictures/undo`, { number });
    toast(fill(text.alikeUndone, { count: answer.changed }));
    await look();
  } catch (error) {
    if (error.status === undefined) throw error; // otherwise shown already
  }
}

// Other people

/** Report the current and the next picture to the server; if someone else has the next one, try the one after. */
async function look() {
  for (let tries = 0; tries < MOST_TRIES; tries += 1) {
    const next = order.upcoming(current) ?? "";
    if (!(await lookOnce(next)) || (order.upcoming(current) ?? "") === next) return;
  }
}

async function lookOnce(next) {
  let result;
  try {
    const answer = await fetch(`${text.path}/look`, {
      method: "POST",
      headers: { "Content-Type": "application/json", "X-CSRF-Token": document.querySelector('meta[name="csrf"]').content },
      body: JSON.stringify({ place, file: current, since: version, next }),
    });
    if (!answer.ok) return false;
    result = await answer.json();
  } catch {
    return false; // the next request will report it
  }
  version = result.version;
  order.others = result.others;
  order.held = new Set(result.held);
  for (const row of result.rows) {
    const mine = rows.get(row.file);
    if (saver.holds(row.file) || (row.file === current && settling) || mine?.revision === row.revision) continue;
    rows.set(row.file, row);
    strip.mark(row);
    if (row.file === current) {
      refresh();
      if (row.labelled_by && row.labelled_by !== text.me) toast(fill(text.changed, { who: row.labelled_by }));
    }
  }
  if (result.rows.length) count();
  about();
  return true;
}

function ranked({ bundle, problem, waiting }) {
  at("ranking").textContent = problem || (waiting ? fill(text.judging, { count: waiting }) : fill(text.ordered, { name: bundle }));
  strip.show(current, order.files(), rows);
  count();
}

// Kinds and keys

function listKinds() {
  at("kinds").replaceChildren(
    ...kinds.map((kind, index) => {
      const button = document.createElement("button");
      button.type = "button";
      button.className = "quiet kind";
      button.dataset.kind = kind;
      button.textContent = kind;
      if (index < 9) {
        const sign = document.createElement("kbd");
        sign.textContent = index + 1;
        sign.ariaHidden = "true";
        button.append(sign);
      }
      button.addEventListener("click", () => decide({ label: "bad", defect: kind }));
      return button;
    }),
  );
  show();
}

editKinds(`${text.path}/kinds`, () => kinds, (chosen) => {
  kinds = chosen;
  listKinds();
});
editKeys(() => keys, (chosen) => {
  keys = chosen;
});

const ACTIONS = {
  good: () => decide({ label: "good" }),
  bad: () => decide({ label: "bad" }),
  none: () => decide({ present: false }),
  undo: takeBack,
  next: () => step(1),
  previous: () => (visited.length ? open(visited.pop(), { back: true }) : step(-1)),
  open: onwards,
  copy,
  propose,
  box: () => pick("box"),
  quad: () => pick("quad"),
  polygon: () => pick("polygon"),
  lasso: () => pick("lasso"),
  grow: () => pick("grow"),
  erase: () => {
    if (stage.tool !== "grow") pick("grow");
    growing.toggle();
  },
  resize: () => {
    stage.resizing = !stage.resizing;
    stage.draw();
    show();
  },
  clear: () => stage.clear(),
  hide: () => at("stage-wrap").classList.toggle("bare"),
  similar,
  alike: () => alike(),
  accept: () => {
    growing.end();
    if (stage.suggested && stage.region) stage.changed("region");
  },
  refuse: () => {
    if (stage.tool === "grow") growing.takeBack();
    else if (stage.suggested) refresh();
  },
  tolerate: (by) => growing.tolerate(by),
  help: () => at("edit-keys").click(),
};

function pick(tool) {
  growing.end();
  stage.pick(tool);
  show();
}

listen(root, stage, ACTIONS, () => keys, (number) => {
  if (kinds[number - 1]) decide({ label: "bad", defect: kinds[number - 1] });
});
at("zoom-in").addEventListener("click", () => stage.zoom(1.5));
at("zoom-out").addEventListener("click", () => stage.zoom(1 / 1.5));
at("zoom-fit").addEventListener("click", () => stage.fit());
at("order").addEventListener("change", () => {
  at("ranking").textContent = "";
  order.choose(at("order").value);
  strip.show(current, order.files(), rows);
});
for (const [id, name] of [["advance", "advance"], ["start", "start"], ["order", `order ${text.path}`]]) remember(at(id), `gonogo label ${name}`);

/** Store an option in the browser. */
function remember(input, name) {
  const stored = localStorage.getItem(name);
  const property = input.type === "checkbox" ? "checked" : "value";
  if (property === "checked" && stored !== null) input.checked = stored === "true";
  else if (stored !== null && ![...input.options].some((option) => option.value === stored && option.disabled)) input.value = stored;
  input.addEventListener("change", () => {
    localStorage.setItem(name, String(input[property]));
    if (property === "value") input.blur(); // a focused list would capture all keys
  });
}
addEventListener("pagehide", commit);

const result = await (await fetch(`${text.path}/samples`)).json();
version = result.version;
for (const row of result.rows) rows.set(row.file, row);
listKinds();
order.choose(at("order").value);
await look(); // find out who has what before choosing the first picture
const first = rows.has(text.file) ? text.file : (order.upcoming("") ?? rows.keys().next().value);
if (first) await open(first);
else location.replace(text.path);
setInterval(look, LOOK_MS);
