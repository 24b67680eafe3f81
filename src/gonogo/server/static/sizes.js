// The page Sizes: a known length on a picture, limits on defects, and what they do on the pictures of the data set.

import { send, toast, typing } from "./gonogo.js";
import { Stage, make } from "./label-stage.js";
import { histogram } from "./sizes-histogram.js";

const HANDLE_PX = 6;
const GRIP_PX = 18;
const TEXT_PX = 14;
const PAUSE_MS = 350; // after the last change
const POLL_MS = 500;
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

/** The stage of the label page, with one line whose ends can be moved, and measured defects. */
class SizeStage extends Stage {
  edge = null; // two ends
  end = 1; // the end that arrow keys move
  defects = [];
  tool = "line";

  endAt(at) {
    const away = (this.edge ?? []).map(([x, y]) => Math.hypot(at[0] - x, at[1] - y));
    const nearest = away.indexOf(Math.min(...away));
    return nearest >= 0 && away[nearest] < this.px(GRIP_PX) ? nearest : -1;
  }

  down(event) {
    super.down(event);
    if (!["new", "move", "resize", "turn"].includes(this.drag?.kind)) return;
    const end = this.endAt(this.drag.at);
    Object.assign(this.drag, { kind: "line", end, edge: this.edge });
    if (end >= 0) this.end = end;
  }

  dragged(drag, at, now) {
    if (drag.kind !== "line") return super.dragged(drag, at, now);
    const end = this.clamped(at);
    if (drag.end < 0) {
      this.edge = [this.clamped(drag.at), end];
      this.end = 1;
    } else this.edge = this.edge.map((point, each) => (each === drag.end ? end : point));
    this.draw();
  }

  up(event) {
    const drag = this.drag;
    if (drag?.kind !== "line") return super.up(event);
    this.pointers.delete(event.pointerId);
    this.drag = null;
    if (drag.moved) this.changed("edge");
    this.draw();
  }

  cancel(event) {
    if (this.drag?.kind === "line") this.edge = this.drag.edge;
    super.cancel(event);
  }

  nudge(dx, dy) {
    const [width, height] = this.size;
    this.edge ??= [[width / 4, height / 2], [(3 * width) / 4, height / 2]];
    this.edge = this.edge.map(([x, y], each) => (each === this.end ? this.clamped([x + dx, y + dy]) : [x, y]));
    this.changed("edge");
  }

  draw() {
    super.draw();
    for (const { path, said } of this.defects) {
      const points = path.map((point) => point.join()).join(" ");
      for (const name of ["defect under", "defect"]) make("polyline", { points, class: name }, this.marks);
      const [x, y] = path.at(-1);
      this.write(said, x + this.px(6), y + this.px(TEXT_PX));
    }
    if (!this.edge) return;
    const [[x1, y1], [x2, y2]] = this.edge;
    make("line", { x1, y1, x2, y2, class: "edge" }, this.marks);
    this.edge.forEach(([cx, cy], end) => make("circle", { cx, cy, r: this.px(HANDLE_PX), class: end === this.end ? "handle active" : "handle" }, this.marks));
    this.write(`${Math.hypot(x2 - x1, y2 - y1).toFixed(0)} px`, (x1 + x2) / 2, (y1 + y2) / 2 - this.px(8));
  }

  write(said, x, y) {
    const size = this.px(TEXT_PX);
    const text = make("text", { x: Math.min(x, this.size[0] - size * (said.length * 0.62 + 0.4)), y: Math.min(Math.max(y, size), this.size[1] - size / 3), class: "zone-name", "font-size": size, "stroke-width": size / 4 }, this.marks);
    text.textContent = said;
  }
}

const root = document.getElementById("sizes");
const text = root.dataset;
const at = (id) => document.getElementById(id);
const fill = (line, values) => line.replace(/\{(\w+)\}/g, (_, name) => values[name]);
const stage = at("stage") && new SizeStage(at("stage"), { changed: hint });

let scale = JSON.parse(text.scale);
let rules = JSON.parse(text.rules);
let { digest } = text;
const now = () => JSON.stringify([scale, rules]);
let kept = now(); // when last saved
let picture = null;
let rows = []; // of the pictures that were measured
let tried = ""; // what they were measured with
let asked = "";
let timer;

const request = () => ({ scale, rules, inspector: at("inspector")?.value ?? "" });

// What the page shows

function refresh() {
  state(now() === kept ? "saved" : "unsaved");
  at("scale").textContent = scale
    ? fill(text.hasScale, { mm: scale.mm_per_px.toPrecision(4), error: (100 * scale.relative_error).toFixed(1), target: scale.target })
    : text.noScale;
  if (tried && tried !== JSON.stringify(request())) {
    tried = "";
    rows = [];
    at("trial").replaceChildren();
  }
  chart();
  hint();
  soon();
}

function state(name) {
  at("saved").dataset.state = name;
  at("saved").querySelector("span").textContent = text[name];
}

function hint() {
  at("hint").textContent = stage.edge ? text.choose : text.begin;
}

function chart() {
  if (!at("histogram")) return;
  at("histogram").hidden = !rows.length;
  const size = at("size").value;
  const limits = rules.filter((rule) => rule.size === size && rule.limit !== null).map((rule) => rule.limit);
  if (rows.length) histogram(at("histogram").querySelector("svg"), rows.map((row) => [row[size], row.bad]), limits, { unit: size === "larger_than_mm2" ? "mm²" : "mm", ...text });
}

function list() {
  at("list").replaceChildren(...rules.map(rowOf));
}

function rowOf(rule, row) {
  const item = at("row").content.cloneNode(true).firstElementChild;
  const find = (field) => item.querySelector(`[name=${field}]`);
  for (const field of ["name", "size", "limit", "then", "zone", "kind"]) {
    const input = find(field);
    const value = rule[field] ?? "";
    if (input.tagName === "SELECT" && ![...input.options].some((option) => option.value === value)) input.append(new Option(value, value));
    input.value = value;
    input.addEventListener("input", () => {
      rule[field] = field === "limit" ? (input.value === "" ? null : Number(input.value)) : input.value || (["zone", "kind"].includes(field) ? null : "");
      refresh();
    });
  }
  find("delete").onclick = () => {
    rules.splice(row, 1);
    list();
    refresh();
    at("add").focus();
  };
  return item;
}

function add() {
  const names = new Set(rules.map((rule) => rule.name));
  let number = rules.length + 1;
  while (names.has(fill(text.new, { number }))) number += 1;
  rules.push({ name: fill(text.new, { number }), size: "longer_than_mm", limit: null, zone: null, kind: null, then: "review" });
  list();
  refresh();
  at("list").lastElementChild.querySelector("[name=limit]").focus();
}

/** Show why a request was refused, at the limits that are wrong; null clears it. */
function refused(error) {
  for (const item of at("list").children) item.querySelector(".problem").hidden = true;
  at("problem").hidden = !error;
  if (!error) return;
  at("problem").querySelector("span").textContent = error.message;
  at("problem").querySelector("a").hidden = error.status !== 409;
  for (const problem of (error.result?.problems ?? []).reverse()) {
    const item = at("list").children[problem.row];
    const line = item.querySelector(".problem");
    [line.textContent, line.hidden] = [problem.message, false];
    item.querySelector(`[name=${problem.field}]`).focus();
  }
}

/** Do one thing with a button disabled, and show why it failed. */
async function doing(button, work) {
  button.disabled = true;
  try {
    await work();
    refused(null);
  } catch (error) {
    refused(error);
  }
  button.disabled = false;
  refresh();
}

// The scale

const useEdge = () =>
  doing(at("use-edge"), async () => {
    const ends_xy = (stage.edge ?? [[0, 0], [0, 0]]).flat();
    ({ scale } = await send(`${text.path}/sizes/edge`, { file: picture.file, ends_xy, mm: Number(at("mm").value) }, { quiet: true }));
  });

const useBoard = () =>
  doing(at("use-board"), async () => {
    const body = new FormData();
    if (at("board").files[0]) body.append("photo", at("board").files[0]);
    for (const [field, id] of [["across", "across"], ["down", "down"], ["square_mm", "square"]]) body.append(field, at(id).value);
    ({ scale } = await send(`${text.path}/sizes/board`, body, { quiet: true }));
  });

// Trying

/** Measure the picture that is shown, soon after the last change. */
function soon() {
  if (!picture || !at("found")) return;
  const wanted = JSON.stringify([picture.file, request()]);
  if (wanted === asked) return;
  asked = wanted;
  clearTimeout(timer);
  stage.defects = [];
  stage.draw();
  if (!scale) return say([]);
  if (!picture.measurable) return say([text.leftOut]);
  if (rules.some((rule) => rule.limit === null)) return;
  timer = setTimeout(() => measure(wanted, { ...request(), file: picture.file }), PAUSE_MS);
}

async function measure(wanted, body) {
  let found;
  try {
    found = await send(`${text.path}/sizes/try`, body, { quiet: true });
  } catch (error) {
    if (wanted === asked) say([error.message]);
    return;
  }
  if (wanted !== asked) return;
  const calibrated = scale.size_wh.join(" x ");
  const [width, height] = picture.size_wh;
  const size = ({ longer_than_mm: length, wider_than_mm: wide, refined }) => `${length.map((value) => value.toFixed(2)).join(" ± ")} x ${wide.map((value) => value.toFixed(2)).join(" ± ")} mm${refined ? "" : ` (${text.rough})`}`;
  stage.defects = found.sizes.map((each) => ({ path: each.path, said: `${each.longer_than_mm[0].toFixed(2)} mm` }));
  stage.draw();
  const lines = !found.measured ? [fill(text.otherSize, { width, height, calibrated })] : found.sizes.length ? found.sizes.map(size) : [text.nothing];
  const states = found.before === found.after ? found.names[found.after] : `${found.names[found.before]} → ${found.names[found.after]}`;
  say([...lines, ...found.notes, states]);
}

function say(lines) {
  at("found").replaceChildren(
    ...lines.map((line) => {
      const item = document.createElement("li");
      item.textContent = line;
      return item;
    }),
  );
}

const tryAll = () =>
  doing(at("try"), async () => {
    const body = request();
    tried = JSON.stringify(body);
    const mine = tried;
    for (;;) {
      const found = await send(`${text.path}/sizes/try`, body, { quiet: true });
      if (tried !== mine) return;
      at("trial").innerHTML = found.piece; // escaped by the server's templates
      rows = found.rows;
      if (!found.busy) return;
      await new Promise((done) => setTimeout(done, POLL_MS));
    }
  });

// Pictures, saving, copies

async function load(number) {
  at("stage-wrap").setAttribute("aria-busy", "true");
  try {
    const answer = await fetch(`${text.path}/sizes/picture?${new URLSearchParams({ number })}`);
    const found = await answer.json();
    if (!answer.ok) throw new Error(found.message);
    const width = at("stage").clientWidth * devicePixelRatio > 960 ? 1920 : 960;
    picture = found;
    stage.edge = null;
    stage.defects = [];
    stage.show(`${text.path}/picture.jpg?${new URLSearchParams({ file: found.file, width })}`, found.size_wh);
    at("file").textContent = found.file;
    at("position").textContent = fill(text.position, { number: found.number + 1, count: found.count });
  } catch (error) {
    if (picture) toast(error.message, { failed: true });
    else Object.assign(at("trouble"), { textContent: error.message, hidden: false });
  }
  at("stage-wrap").removeAttribute("aria-busy");
  refresh();
}

const save = () =>
  doing(at("save"), async () => {
    const sent = now();
    state("saving");
    const found = await send(`${text.path}/sizes`, { digest, scale, rules }, { quiet: true });
    [digest, kept] = [found.digest, sent];
    at("copies").innerHTML = found.piece; // escaped by the server's templates
  });

/** Ask for the name of a copy, and say what it means for the promise. */
async function copy(button) {
  const { copyOf: name, fits } = button.dataset;
  const dialog = at("copy-dialog");
  const input = dialog.querySelector("input");
  at("copy-text").textContent = fill(fits === "certify" ? text.certify : text.keeps, { name });
  at("copy-label").textContent = fill(text.copyName, { name });
  input.value = `${name.replace(/\.inspector$/, "")}-sizes`;
  dialog.returnValue = "no";
  dialog.showModal();
  input.select();
  await new Promise((closed) => dialog.addEventListener("close", closed, { once: true }));
  if (dialog.returnValue !== "yes") return;
  await doing(button, async () => {
    const found = await send(`${text.path}/sizes/copy`, { inspector: name, copy_name: input.value, digest }, { quiet: true });
    at("copies").innerHTML = found.piece; // escaped by the server's templates
    toast(found.message);
  });
}

const keys = {
  ".": () => turn(),
  ",": () => turn(),
  "+": () => stage.zoom(1.5),
  "-": () => stage.zoom(1 / 1.5),
  0: () => stage.fit(),
};

function turn() {
  stage.end = 1 - stage.end;
  stage.draw();
}

function begin() {
  document.addEventListener("keydown", (event) => {
    if (typing(event) || !picture || document.querySelector("dialog[open]")) return;
    if (ARROWS[event.key]) stage.nudge(...ARROWS[event.key].map((value) => value * (event.shiftKey ? 10 : 1)));
    else if (keys[event.key]) keys[event.key]();
    else return;
    event.preventDefault();
  });
  at("copies").addEventListener("click", (event) => {
    const button = event.target.closest("[data-copy-of]");
    if (button) copy(button);
  });
  for (const [id, work] of [["use-edge", useEdge], ["use-board", useBoard], ["add", add], ["save", save], ["try", tryAll]]) if (at(id)) at(id).onclick = work;
  at("previous").onclick = () => load(picture.number - 1);
  at("next").onclick = () => load(picture.number + 1);
  if (at("inspector")) at("inspector").onchange = refresh;
  if (at("size")) at("size").onchange = chart;
  at("zoom-in").onclick = () => stage.zoom(1.5);
  at("zoom-out").onclick = () => stage.zoom(1 / 1.5);
  at("zoom-fit").onclick = () => stage.fit();
  addEventListener("beforeunload", (event) => now() !== kept && event.preventDefault());
  list();
  load(0);
}

if (stage) begin();
