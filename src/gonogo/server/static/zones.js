// The zones page: polygons in part coordinates, drawn on one picture of the data set at a time.

import { send, toast, typing } from "./gonogo.js";
import { regionOf } from "./label-shapes.js";
import { Stage, make } from "./label-stage.js";
import { ZoneTrial } from "./zones-trial.js";

const HANDLE_PX = 6;
const GRIP_PX = 14;
const NAME_PX = 13;
const MOST_UNDO = 100;
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

/** Whether a point lies inside a polygon, by the even-odd rule. */
function holds(polygon, [x, y]) {
  let inside = false;
  polygon.forEach(([x1, y1], row) => {
    const [x2, y2] = polygon.at(row - 1);
    if (y1 > y !== y2 > y && x < x1 + ((y - y1) * (x2 - x1)) / (y2 - y1)) inside = !inside;
  });
  return inside;
}

const area = (polygon) => Math.abs(polygon.reduce((sum, [x, y], row) => sum + x * polygon.at(row - 1)[1] - y * polygon.at(row - 1)[0], 0));
const digits = (value) => Math.round(value * 1e5) / 1e5;

/** Apply a homography to points. */
const mapped = (matrix, points) =>
  points.map(([x, y]) => {
    const [u, v, w] = matrix.map(([a, b, c]) => a * x + b * y + c);
    return [u / w, v / w];
  });

/** The stage of the label page, for many outlines whose corners can be moved. */
class ZoneStage extends Stage {
  about = []; // {kind, name, kept} of each outline
  said = new Map(); // what the code zones say, by name
  chosen = -1;
  corner = -1;
  drawing = false;
  tool = "polygon";

  look(row) {
    return `outline ${this.about[row]?.kind ?? "ignore"}${row === this.chosen ? " chosen" : ""}`;
  }

  choose(row, corner = -1) {
    [this.chosen, this.corner] = [row, corner];
    this.draw();
    this.listener.chosen(row);
  }

  begin() {
    this.leave();
    this.drawing = true;
    this.choose(-1);
  }

  draw() {
    super.draw();
    document.getElementById("hatch").setAttribute("patternTransform", `scale(${this.px(1)})`);
    const size = this.px(NAME_PX);
    this.polygons.forEach((outline, row) => {
      const [left, top] = [0, 1].map((axis) => Math.min(...outline.map((point) => point[axis])));
      const text = make("text", { x: left + size * 0.3, y: Math.max(top - size * 0.4, size * 1.1), class: "zone-name", "font-size": size, "stroke-width": size / 4 }, this.marks);
      const { name, kind } = this.about[row] ?? {};
      const read = kind === "code" && this.said.get(name.trim())?.text;
      text.textContent = read ? `${name}: ${read}` : (name ?? "");
    });
    if (this.chosen < 0 || this.about[this.chosen]?.kept) return;
    this.polygons[this.chosen]?.forEach(([cx, cy], corner) => make("circle", { cx, cy, r: this.px(HANDLE_PX), class: corner === this.corner ? "handle active" : "handle" }, this.marks));
  }

  /** The smallest zone at a point. */
  zoneAt(at) {
    const found = this.polygons.map((outline, row) => [row, outline]).filter(([, outline]) => holds(outline, at));
    return found.sort(([, one], [, other]) => area(one) - area(other))[0]?.[0] ?? -1;
  }

  /** The corner of the chosen zone that is nearest to a point, if it can be gripped. */
  cornerAt(at) {
    if (this.chosen < 0 || this.about[this.chosen].kept) return -1;
    const away = this.polygons[this.chosen].map(([x, y]) => Math.hypot(at[0] - x, at[1] - y));
    const nearest = away.indexOf(Math.min(...away));
    return away[nearest] < this.px(GRIP_PX) ? nearest : -1;
  }

  down(event) {
    super.down(event);
    if (this.drag?.kind !== "outline") return;
    this.drag.fresh = this.open === null;
    this.cursor = null;
    if (this.open || this.drawing) return;
    const corner = this.cornerAt(this.drag.at);
    const row = corner < 0 ? this.zoneAt(this.drag.at) : this.chosen;
    if (row < 0) return;
    this.choose(row, corner);
    Object.assign(this.drag, { kind: "zone", outline: this.polygons[row] });
  }

  dragged(drag, at, now) {
    if (drag.kind === "pan") super.dragged(drag, at, now);
    else if (drag.kind === "zone") this.shift(drag.outline, at[0] - drag.at[0], at[1] - drag.at[1]);
    else if (drag.fresh) {
      const [[x1, y1], [x2, y2]] = [this.clamped(drag.at), this.clamped(at)];
      this.open = [[x1, y1], [x2, y1], [x2, y2], [x1, y2]];
      this.draw();
    } else drag.moved = false; // with corners set, a shaky click is a click
  }

  /** Move the selected corner of the chosen zone, or all of it, from where it was. */
  shift(outline, dx, dy) {
    if (this.about[this.chosen].kept) return;
    const moved = outline.map((point, corner) => (corner === this.corner ? this.clamped([point[0] + dx, point[1] + dy]) : point));
    if (this.corner < 0) {
      const within = [dx, dy].map((by, axis) => {
        const values = outline.map((point) => point[axis]);
        return Math.min(Math.max(by, Math.min(0, -Math.min(...values))), Math.max(0, this.size[axis] - Math.max(...values)));
      });
      outline.forEach(([x, y], corner) => (moved[corner] = [x + within[0], y + within[1]]));
    }
    this.polygons = this.polygons.map((each, row) => (row === this.chosen ? moved : each));
    this.draw();
  }

  up(event) {
    const drag = this.drag;
    if (drag?.kind !== "zone") {
      super.up(event);
      return this.listener.drawn();
    }
    this.pointers.delete(event.pointerId);
    this.drag = null;
    if (drag.moved && !this.about[this.chosen].kept) this.changed("polygons");
  }

  cancel(event) {
    this.restore();
    super.cancel(event);
  }

  /** Put back the zone that is being dragged. */
  restore() {
    const { kind, outline } = this.drag ?? {};
    if (kind === "zone") this.polygons = this.polygons.map((each, row) => (row === this.chosen ? outline : each));
    if (kind === "outline" && this.drag.moved) this.open = null;
  }

  nudge(dx, dy) {
    if (this.drawing || this.chosen < 0) return super.nudge(dx, dy);
    if (this.about[this.chosen].kept) return;
    this.shift(this.polygons[this.chosen], dx, dy);
    this.changed("polygons");
  }

  /** Select the next corner of the chosen zone, or the first zone's. */
  step(by) {
    const row = this.chosen < 0 ? this.about.findIndex((zone) => !zone.kept) : this.chosen;
    const count = this.polygons[row]?.length;
    if (count) this.choose(row, this.corner < 0 ? (by > 0 ? 0 : count - 1) : (this.corner + by + count) % count);
  }

  close() {
    if ((this.open?.length ?? 0) < 3) return false;
    this.drawing = false;
    this.cursor = null;
    return super.close();
  }

  leave() {
    this.restore();
    const was = super.leave() || this.drawing;
    this.drawing = false;
    this.cursor = null;
    this.draw();
    return was;
  }
}

const root = document.getElementById("zones");
const text = root.dataset;
const at = (id) => document.getElementById(id);
const fill = (line, values) => line.replace(/\{(\w+)\}/g, (_, name) => values[name]);

let zones = JSON.parse(text.zones); // polygons in part coordinates
let { digest } = text;
let kept = JSON.stringify(zones); // when last saved
let drawnOn = at("drawn-on")?.value;
let picture = null;
let number = 0;
const undone = [];
const beside = matchMedia("(min-width: 60.01rem) and (pointer: fine)"); // otherwise the page would scroll away from the picture

const stage = at("stage") && new ZoneStage(at("stage"), { changed, chosen, drawn: hint });

// Changes

const CODE = JSON.parse(text.usualCode ?? "{}");
const now = () => JSON.stringify(zones) + drawnOn;
const plain = () => JSON.stringify(zones);
kept += drawnOn;

function remember() {
  undone.push(plain());
  if (undone.length > MOST_UNDO) undone.shift();
}

function changed() {
  remember();
  const row = stage.polygons.length > zones.length ? zones.length : stage.chosen;
  const polygon = mapped(picture.to_part, stage.polygons[row]).map((point) => point.map(digits));
  if (row < zones.length) zones[row].polygon = polygon;
  else {
    const names = new Set(zones.map((zone) => zone.name));
    let next = zones.length + 1;
    while (names.has(fill(text.new, { number: next }))) next += 1;
    zones.push({ kind: "ignore", name: fill(text.new, { number: next }), polygon, sensitivity: null, kept: false });
    stage.chosen = row;
    list();
    if (beside.matches) at("list").children[row].querySelector("input").select();
  }
  refresh();
}

function back() {
  if (stage.open) return stage.back();
  if (!undone.length) return;
  zones = JSON.parse(undone.pop());
  stage.chosen = stage.corner = -1;
  list();
  refresh();
}

function remove(row) {
  remember();
  zones.splice(row, 1);
  stage.chosen = stage.corner = -1;
  list();
  refresh();
  at("stage").focus();
}

/** Delete removes the selected corner; without one, or of a triangle, the zone. */
function removeSelected() {
  const zone = zones[stage.chosen];
  if (stage.open) return stage.back();
  if (!zone || zone.kept) return;
  if (stage.corner < 0 || zone.polygon.length < 4) return remove(stage.chosen);
  remember();
  zone.polygon.splice(stage.corner, 1);
  stage.corner = -1;
  refresh();
}

// What the page shows

/** Show the zones as they are on the picture, and whether they are saved. */
function refresh() {
  stage.about = zones;
  if (picture) stage.polygons = zones.map((zone) => mapped(picture.to_frame, zone.polygon));
  stage.draw();
  zones.forEach((zone, row) => {
    const item = at("list").children[row];
    item.querySelector(".corners").textContent = fill(text.corners, { count: zone.polygon.length });
  });
  state(now() === kept ? "saved" : "unsaved");
  at("drawn-on").disabled = zones.some((zone) => zone.kept);
  if (picture) trial.soon(picture.file);
  hint();
}

function state(name) {
  at("saved").dataset.state = name;
  at("saved").querySelector("span").textContent = text[name];
}

function hint() {
  const zone = zones[stage.chosen];
  at("hint").textContent = stage.open?.length > 1 ? text.more : zone?.kept ? text.fixed : zone ? text.choose : text.begin;
  at("new").setAttribute("aria-pressed", stage.drawing);
}

function chosen(row) {
  [...at("list").children].forEach((item, each) => item.classList.toggle("chosen", each === row));
  if (beside.matches) at("list").children[row]?.scrollIntoView({ block: "nearest" });
  hint();
}

/** Show in the list what the code zones say in the picture. */
function readings() {
  zones.forEach((zone, row) => {
    const found = zone.kind === "code" && stage.said.get(zone.name.trim());
    const line = at("list").children[row].querySelector(".read");
    const named = Object.entries(found?.named ?? {}).map(([name, value]) => `${name} ${value}`);
    line.textContent = found ? [found.text || found.why, ...named].join(" · ") : "";
    line.classList.toggle("unread", Boolean(found && !found.text));
  });
}

function list() {
  at("list").replaceChildren(...zones.map(rowOf));
  readings();
  chosen(stage.chosen);
}

function rowOf(zone, row) {
  const item = at("row").content.cloneNode(true).firstElementChild;
  const fields = ["name", "kind", "sensitivity", "delete", "pattern", "unreadable"];
  const [name, kind, sensitivity, erase, pattern, unreadable] = fields.map((field) => item.querySelector(`[name=${field}]`));
  const formats = [...item.querySelectorAll("[name=formats]")];
  const dress = () => {
    item.className = `zone ${zone.kind}${row === stage.chosen ? " chosen" : ""}`;
    item.querySelector(".sensitivity").hidden = zone.kind !== "inspect";
    item.querySelector(".code-fields").hidden = zone.kind !== "code";
  };
  [name.value, kind.value] = [zone.name, zone.kind];
  sensitivity.value = zone.sensitivity ?? text.usual;
  pattern.value = zone.pattern ?? CODE.pattern;
  unreadable.value = zone.unreadable ?? CODE.unreadable;
  for (const box of formats) box.checked = (zone.formats ?? CODE.formats).includes(box.value);
  name.disabled = kind.disabled = zone.kept;
  erase.hidden = zone.kept;
  erase.onclick = () => remove(row);
  item.addEventListener("focusin", (event) => event.target !== erase && stage.chosen !== row && stage.choose(row));
  let editing = false; // one step to undo for all keys typed in a field
  item.addEventListener("change", () => (editing = false));
  item.addEventListener("input", () => {
    if (!editing) remember();
    editing = true;
    zone.name = name.value;
    zone.kind = kind.value;
    zone.sensitivity = zone.kind === "inspect" ? Number(sensitivity.value) : null;
    for (const field of Object.keys(CODE)) delete zone[field];
    if (zone.kind === "code") {
      const chosen = formats.filter((box) => box.checked).map((box) => box.value);
      Object.assign(zone, { formats: chosen, pattern: pattern.value, unreadable: unreadable.value });
    }
    dress();
    refresh();
  });
  dress();
  return item;
}

// Pictures

async function load(wanted, on = drawnOn, file = "") {
  at("stage-wrap").setAttribute("aria-busy", "true");
  try {
    const answer = await fetch(`${text.path}/zones/picture?${new URLSearchParams({ drawn_on: on, number: wanted, file })}`);
    const found = await answer.json();
    number = wanted;
    if (!answer.ok) throw new Error(found.message);
    const width = at("stage").clientWidth * devicePixelRatio > 960 ? 1920 : 960;
    stage.leave();
    if (on !== drawnOn) {
      // The zones stay where they are on the picture.
      for (const zone of picture ? zones : []) zone.polygon = mapped(found.to_part, mapped(picture.to_frame, zone.polygon)).map((point) => point.map(digits));
      undone.length = 0;
    }
    [picture, number, drawnOn] = [found, found.number, on];
    stage.show(`${text.path}/picture.jpg?${new URLSearchParams({ file: found.file, width })}`, found.size_wh);
    stage.set({ region: found.quad && regionOf({ quad: found.quad }), polygons: [] });
    at("file").textContent = found.file;
    at("position").textContent = fill(text.position, { number: found.number + 1, count: found.count });
    at("trouble").hidden = true;
  } catch (error) {
    if (picture) toast(error.message, { failed: true });
    else Object.assign(at("trouble"), { textContent: error.message, hidden: false });
  }
  at("drawn-on").value = drawnOn;
  at("stage-wrap").removeAttribute("aria-busy");
  refresh();
}

// Saving

async function save() {
  const sent = now();
  state("saving");
  at("save").disabled = true;
  try {
    ({ digest } = await send(`${text.path}/zones`, { digest, ...request() }, { quiet: true }));
    refused(null);
    kept = sent;
  } catch (error) {
    refused(error);
  }
  at("save").disabled = false;
  refresh();
}

/** The zones that were drawn here, as the server takes them. */
function request() {
  const drawn = zones.filter((zone) => !zone.kept);
  return { drawn_on: drawnOn, zones: drawn.map(({ kept: _, ...zone }) => zone) };
}

/** Show why a request was refused, at the zones that are wrong; null clears it. */
function refused(error) {
  for (const item of at("list").children) item.querySelector(".problem").hidden = true;
  at("problem").hidden = !error;
  if (!error) return;
  at("problem").querySelector("span").textContent = error.message;
  at("problem").querySelector("a").hidden = error.status !== 409;
  const rows = zones.flatMap((zone, row) => (zone.kept ? [] : [at("list").children[row]]));
  for (const problem of (error.result?.problems ?? []).reverse()) {
    const line = rows[problem.row].querySelector(".problem");
    [line.textContent, line.hidden] = [problem.message, false];
    (rows[problem.row].querySelector(`[name=${problem.field}]`) ?? rows[problem.row].querySelector("input")).focus();
  }
}

const trial =
  stage &&
  new ZoneTrial({
    path: text.path,
    request,
    refused,
    open: (file) => load(number, drawnOn, file),
    read: (said) => {
      stage.said = said;
      stage.draw();
      readings();
    },
  });

const keys = {
  n: () => {
    stage.begin();
    stage.nudge(0, 0); // shows the cursor
  },
  u: back,
  Enter: () => stage.close(),
  " ": () => stage.pointAtCursor(),
  Escape: () => stage.leave(),
  Delete: removeSelected,
  Backspace: removeSelected,
  ".": () => stage.step(1),
  ",": () => stage.step(-1),
  "+": () => stage.zoom(1.5),
  "-": () => stage.zoom(1 / 1.5),
  0: () => stage.fit(),
};

function begin() {
  document.addEventListener("keydown", (event) => {
    if (typing(event) || !picture || document.querySelector("dialog[open]")) return;
    const button = event.target.closest?.("button, a, summary, input");
    const key = event.key.length > 1 ? event.key : event.key.toLowerCase();
    if (ARROWS[key]) stage.nudge(...ARROWS[key].map((value) => value * (event.shiftKey ? 10 : 1)));
    else if (keys[key] && !(button && (key === "Enter" || key === " "))) keys[key]();
    else return;
    event.preventDefault();
    hint();
  });
  at("new").onclick = () => {
    if (picture) stage.begin();
    hint();
  };
  at("undo").onclick = back;
  at("save").onclick = save;
  at("previous").onclick = () => load(number - 1);
  at("next").onclick = () => load(number + 1);
  at("drawn-on").onchange = () => load(number, at("drawn-on").value);
  at("zoom-in").onclick = () => stage.zoom(1.5);
  at("zoom-out").onclick = () => stage.zoom(1 / 1.5);
  at("zoom-fit").onclick = () => stage.fit();
  addEventListener("beforeunload", (event) => now() !== kept && event.preventDefault());
  list();
  load(0);
}

if (stage) begin();
