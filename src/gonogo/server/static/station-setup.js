// One station: the picture, the meters, the focus aid, a try, and the fields that belong to what was chosen.

import { send } from "./gonogo.js";

const EVERY_MS = 300;
const LOST_MS = 2000;

// --- the form: only the fields of the chosen kinds are shown

const form = document.querySelector("form.setup");

function chosen() {
  for (const part of form.querySelectorAll("[data-when]")) {
    const [field, kinds] = part.dataset.when.split("=");
    part.hidden = !kinds.split(" ").includes(form.elements[field].value);
    for (const input of part.querySelectorAll("input, select")) input.disabled = part.hidden;
  }
}

if (form) {
  form.addEventListener("change", (event) => {
    const { name, value } = event.target;
    if (name === "camera_kind" && value !== "folder" && form.elements.trigger_kind.value === "folder") {
      form.elements.trigger_kind.value = "timer"; // only a folder can trigger by itself
    }
    chosen();
  });
  form.querySelector("[data-examples]").addEventListener("change", (event) => {
    const text = form.elements.more;
    if (event.target.value) text.value = [text.value.trim(), event.target.value].filter(Boolean).join("\n\n");
    event.target.value = "";
  });
  chosen();
}

// --- the focus aid: sharpness of the tiles inside the chosen area, and the best value so far

class Eye {
  constructor(root, names) {
    const find = (name) => root.querySelector(`[data-${name}]`);
    Object.assign(this, { root, names, image: find("image"), empty: find("empty"), health: find("health"), focus: find("focus") });
    this.area = [0, 0, 1, 1];
    this.best = 0;
    this.number = 0;
    this.grid = null;
    this.part = null;
    find("reset").addEventListener("click", () => this.begin(this.area));
    find("whole").addEventListener("click", () => this.begin([0, 0, 1, 1]));
    find("centre").addEventListener("click", () => this.begin([0.35, 0.35, 0.65, 0.65]));
    find("box").addEventListener("click", () => this.begin(this.part));
    this.draws(find("view"));
  }

  /** A box drawn with the mouse or a finger is the area to focus on. */
  draws(view) {
    let from;
    const at = (event) => {
      const box = this.image.getBoundingClientRect();
      const share = (value, start, length) => Math.min(1, Math.max(0, (value - start) / length));
      return [share(event.clientX, box.left, box.width), share(event.clientY, box.top, box.height)];
    };
    view.addEventListener("pointerdown", (event) => {
      if (this.image.hidden) return;
      from = at(event);
      view.setPointerCapture(event.pointerId);
      event.preventDefault();
    });
    view.addEventListener("pointermove", (event) => {
      if (!from) return;
      const to = at(event);
      const [left, right] = [from[0], to[0]].sort((a, b) => a - b);
      const [top, bottom] = [from[1], to[1]].sort((a, b) => a - b);
      if (right - left > 0.03 && bottom - top > 0.03) this.begin([left, top, right, bottom]);
    });
    for (const name of ["pointerup", "pointercancel"]) view.addEventListener(name, () => (from = undefined));
  }

  /** Focus on an area, and forget the best value of before. */
  begin(area) {
    this.area = area;
    this.best = 0;
    const mark = this.root.querySelector(".area");
    for (const [name, value] of [["x", area[0]], ["y", area[1]], ["width", area[2] - area[0]], ["height", area[3] - area[1]]]) {
      mark.setAttribute(name, String(100 * value));
    }
    this.measure();
  }

  /** Sharpness of the area: root of the sum of edges over the sum of contrast, as gonogo.images.health.FocusGrid says. */
  sharpness() {
    const { columns, rows, edges, contrast } = this.grid;
    let detail = 0;
    let grey = 0;
    edges.forEach((each, index) => {
      const x = ((index % columns) + 0.5) / columns;
      const y = (Math.floor(index / columns) + 0.5) / rows;
      const reach = [0.5 / columns, 0.5 / rows]; // a small box takes the tiles that it touches
      const inside = x > this.area[0] - reach[0] && x < this.area[2] + reach[0] && y > this.area[1] - reach[1] && y < this.area[3] + reach[1];
      if (!inside) return;
      detail += each;
      grey += contrast[index];
    });
    return grey > 0 ? Math.sqrt(detail / grey) : 0;
  }

  measure() {
    this.focus.hidden = !this.grid;
    if (!this.grid) return;
    const now = this.sharpness();
    this.best = Math.max(this.best, now);
    const length = (value) => (this.best > 0 ? (value / (1.1 * this.best)) * 200 : 0);
    this.focus.querySelector(".level").setAttribute("width", String(length(now)));
    this.focus.querySelector(".best").setAttribute("d", `M${length(this.best)} 0v22`);
    const format = new Intl.NumberFormat(document.documentElement.lang, { minimumFractionDigits: 3, maximumFractionDigits: 3 });
    this.focus.querySelector("[data-now]").textContent = format.format(now);
    this.focus.querySelector("[data-best]").textContent = format.format(this.best);
  }

  show(seen, source) {
    const pill = this.root.querySelector(".pill");
    pill.dataset.feed = source ? "live" : "waiting";
    this.root.querySelector("[data-source]").textContent = { camera: this.names.live, part: this.names.part }[source] ?? this.names.none;
    if (this.health.innerHTML !== seen.piece) this.health.innerHTML = seen.piece; // escaped by the server's templates
    if (seen.number === this.number) return;
    this.number = seen.number;
    this.grid = seen.grid;
    this.measure();
    if (!seen.picture) {
      this.image.hidden = true;
      this.empty.hidden = false;
      return;
    }
    const next = new Image();
    next.src = seen.picture;
    next.decode().then(() => {
      if (this.number !== seen.number) return; // a newer one has been asked for
      this.image.src = next.src;
      this.image.hidden = false;
      this.empty.hidden = true;
    }, () => {});
  }
}

// --- what the station does

const root = document.getElementById("eyes");
const lost = document.getElementById("lost");
const standing = document.getElementById("standing");
const log = document.getElementById("log");

function follow() {
  const eyes = [...root.querySelectorAll("[data-eye]")].map((each) => new Eye(each, root.dataset));
  const button = root.querySelector("[data-try-button]");
  const tried = root.querySelector("[data-tried]");
  let shown = "";
  let asking = false;

  function show(update) {
    const busy = document.querySelector("dialog[open]") || standing.querySelector("form[data-sent]");
    if (update.piece !== shown && !busy) {
      standing.innerHTML = update.piece; // escaped by the server's templates
      shown = update.piece;
    }
    eyes.forEach((eye, index) => {
      eye.show(update.cameras[index] ?? { number: 0, piece: "", picture: "", grid: null }, update.source);
      eye.part = update.boxes[index] ?? eye.part;
      eye.root.querySelector("[data-box]").hidden = !eye.part;
    });
    const off = update.phase === "off";
    const remove = document.getElementById("remove");
    if (remove) remove.disabled = !off;
    const fields = document.getElementById("settings");
    if (fields && fields.disabled === off) {
      fields.disabled = !off;
      document.getElementById("locked").hidden = off;
    }
    if (button) {
      button.disabled = asking || update.busy || !["off", "failed"].includes(update.phase);
      if (!asking && tried.dataset.shown !== update.tried) {
        tried.innerHTML = update.tried; // escaped by the server's templates
        tried.dataset.shown = update.tried;
      }
    }
    if (log && log.textContent !== update.log) log.textContent = update.log;
  }

  async function ask() {
    let pause = EVERY_MS;
    try {
      const answer = await fetch(root.dataset.state);
      if (answer.status === 401) return location.reload(); // the session ended: the server shows the login
      if (!answer.ok) throw new Error((await answer.json().catch(() => ({}))).message ?? answer.status);
      lost.hidden = true;
      show(await answer.json());
    } catch {
      lost.hidden = false;
      pause = LOST_MS;
    }
    if (document.hidden) await new Promise((resolve) => document.addEventListener("visibilitychange", resolve, { once: true }));
    setTimeout(ask, pause);
  }

  button?.addEventListener("click", async () => {
    asking = button.disabled = true;
    await send(root.dataset.try).catch(() => {}); // shown as a toast
    asking = false;
  });
  ask();
}

if (root) follow();
