// The picture and its drawings: one region (a box or a rotated box) and outlines of defects, in frame pixels.
// Handles mouse, pen, touch and keyboard. Independent of labels and saving; it reports changes to a listener.

import { Livewire } from "./label-livewire.js";
import { cornersOf, regionOf, round, thinned } from "./label-shapes.js";

const SVG = "http://www.w3.org/2000/svg";
const SNAP_PX = 9; // on the screen
const CLICK_PX = 4;
const HANDLE_PX = 6;
const GRIP_PX = 20; // hit radius for fingers
const LEAST = 2; // minimum side of a region, in frame pixels
const MOST_ZOOM = 40;
const MOST_POINTS = 400; // corners of an outline, as the server accepts them
const OUTLINING = ["polygon", "lasso"];
const POINTING = [...OUTLINING, "grow"]; // tools for defects, with a keyboard cursor
const HANDLES = [[-1, -1], [0, -1], [1, -1], [1, 0], [1, 1], [0, 1], [-1, 1], [-1, 0]];

export const make = (name, attributes, parent) => {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  parent?.append(node);
  return node;
};
const path = (points) => points.map(([x, y]) => `${x},${y}`).join(" ");

export class Stage {
  /**
   * @param {SVGSVGElement} svg
   * @param {{changed: function("region"|"polygons"): void, grow: function(number[], boolean): void}} listener
   *   grow: grow an area from a point, or take it away
   */
  constructor(svg, listener) {
    this.svg = svg;
    this.listener = listener;
    this.size = [1, 1];
    this.region = null;
    this.polygons = [];
    this.suggested = false;
    this.tool = "box";
    this.resizing = false;
    this.open = null; // the outline being drawn
    this.anchors = []; // lasso: how many points the outline had before each anchor
    this.wire = null; // lasso: the paths along edges of this picture
    this.ahead = []; // lasso: the path from the last anchor to the pointer
    this.cursor = null; // position of the keyboard cursor
    this.image = make("image", { class: "photo" }, svg);
    this.masked = make("g", {}, svg);
    this.marks = make("g", { class: "marks" }, svg);
    this.pointers = new Map();
    for (const name of ["down", "move", "up", "cancel"]) svg.addEventListener(`pointer${name}`, (event) => this[name](event));
    svg.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    svg.addEventListener("dblclick", () => this.close());
    svg.addEventListener("contextmenu", (event) => event.preventDefault());
    new ResizeObserver(() => this.draw()).observe(svg);
  }

  /** Show a picture; its drawings are set afterwards. */
  show(url, [width, height]) {
    this.size = [width, height];
    this.image.setAttribute("href", url);
    this.image.setAttribute("width", width);
    this.image.setAttribute("height", height);
    this.open = this.cursor = this.wire = null;
    this.url = url;
    this.drag = null;
    this.fit();
    this.prepare();
  }

  /** Read the pixels for the lasso, once per picture. */
  async prepare() {
    const url = this.url;
    if (this.tool !== "lasso" || !url || this.wire) return;
    const wire = await Livewire.of(url, this.size).catch(() => null); // without it, lines are straight
    if (this.url === url) this.wire = wire;
    this.svg.dataset.wired = String(Boolean(this.wire));
  }

  /** Set the drawings. `mask` is the URL of an imported mask, or empty. */
  set({ region, polygons, mask = "", suggested = false }) {
    [this.region, this.polygons, this.suggested, this.open] = [region, polygons, suggested, null];
    this.masked.replaceChildren();
    if (mask) {
      const [width, height] = this.size;
      const layer = make("mask", { id: "imported", maskUnits: "userSpaceOnUse", x: 0, y: 0, width, height }, this.masked);
      make("image", { href: mask, width, height }, layer);
      make("rect", { width, height, mask: "url(#imported)", class: "mask" }, this.masked);
    }
    this.draw();
  }

  pick(tool) {
    this.tool = tool;
    this.open = null;
    if (!POINTING.includes(tool)) this.cursor = null;
    this.prepare();
    if (this.region && !POINTING.includes(tool) && this.region.turned !== (tool === "quad")) {
      if (tool === "quad") this.region = { ...this.region, turned: true };
      // A rotated region becomes its bounding box.
      else {
        const corners = cornersOf(this.region);
        const [xs, ys] = [0, 1].map((axis) => corners.map((corner) => corner[axis]));
        this.region = this.kept(regionOf({ box_xyxy: [Math.min(...xs), Math.min(...ys), Math.max(...xs), Math.max(...ys)] }));
      }
      this.changed("region");
    }
    this.svg.dataset.tool = tool;
    this.draw();
  }

  changed(what) {
    if (what === "region") this.suggested = false;
    this.draw();
    this.listener.changed(what);
  }

  // Zoom and place

  fit() {
    this.view = [0, 0, ...this.size];
    this.place();
  }

  place() {
    this.svg.setAttribute("viewBox", this.view.join(" "));
    this.draw();
  }

  /** Zoom by a factor around a point in frame pixels; default is the centre of the view. */
  zoom(factor, at = [this.view[0] + this.view[2] / 2, this.view[1] + this.view[3] / 2]) {
    const [width, height] = this.size;
    const wanted = Math.min(width, Math.max(width / MOST_ZOOM, this.view[2] / factor));
    const real = this.view[2] / wanted;
    this.view = [at[0] - (at[0] - this.view[0]) / real, at[1] - (at[1] - this.view[1]) / real, wanted, (wanted * height) / width];
    this.within();
  }

  within() {
    for (const axis of [0, 1]) {
      const most = this.size[axis] - this.view[axis + 2];
      this.view[axis] = Math.min(Math.max(this.view[axis], 0), Math.max(most, 0));
    }
    this.place();
  }

  wheel(event) {
    event.preventDefault();
    this.zoom(Math.exp(-event.deltaY * 0.0015), this.at(event));
  }

  /** Position of a pointer in frame pixels. */
  at(event) {
    const point = new DOMPoint(event.clientX, event.clientY).matrixTransform(this.svg.getScreenCTM().inverse());
    return [point.x, point.y];
  }

  /** Convert a length on the screen to frame pixels. */
  px(length) {
    const matrix = this.svg.getScreenCTM();
    return matrix ? length / matrix.a : length;
  }

  // Pointers

  down(event) {
    this.svg.focus({ preventScroll: true });
    this.pointers.set(event.pointerId, [event.clientX, event.clientY]);
    this.svg.setPointerCapture(event.pointerId);
    if (this.pointers.size === 2) {
      this.drag = { kind: "pinch" };
      this.draw();
      return;
    }
    const at = this.at(event);
    const origin = { at, x: event.clientX, y: event.clientY, moved: false, before: this.region };
    if (event.button === 1 || event.button === 2) this.drag = { ...origin, kind: "pan", view: [...this.view] };
    else if (POINTING.includes(this.tool)) {
      this.cursor = null;
      this.drag = { ...origin, kind: this.tool === "polygon" ? "outline" : "point", erase: event.shiftKey };
    }
    else {
      const handle = this.region && this.grip(at);
      if (handle) this.drag = { ...origin, kind: handle === "turn" ? "turn" : "resize", handle };
      else if (this.region && this.inside(at)) this.drag = { ...origin, kind: "move" };
      else this.drag = { ...origin, kind: "new" };
    }
  }

  move(event) {
    const last = this.pointers.get(event.pointerId);
    if (this.tool === "lasso" && this.open && (!this.drag || this.drag.kind === "point")) this.trace(this.clamped(this.at(event)));
    if (!last || !this.drag) return;
    const now = [event.clientX, event.clientY];
    if (this.drag.kind === "pinch") this.pinch(event.pointerId, last, now);
    this.pointers.set(event.pointerId, now);
    if (this.drag.kind === "pinch") return;
    const drag = this.drag;
    drag.moved ||= Math.hypot(now[0] - drag.x, now[1] - drag.y) > CLICK_PX;
    if (drag.moved) this.dragged(drag, this.at(event), now);
  }

  dragged(drag, at, now) {
    if (drag.kind === "point") return;
    const [dx, dy] = [at[0] - drag.at[0], at[1] - drag.at[1]];
    const before = drag.before;
    if (drag.kind === "pan") {
      const scale = this.px(1);
      this.view = [drag.view[0] - (now[0] - drag.x) * scale, drag.view[1] - (now[1] - drag.y) * scale, drag.view[2], drag.view[3]];
      this.within();
      return;
    }
    if (drag.kind === "outline") {
      this.open ??= [drag.at];
      const end = this.open.at(-1);
      if (Math.hypot(at[0] - end[0], at[1] - end[1]) > this.px(CLICK_PX + 2)) this.open.push(this.clamped(at));
    } else if (drag.kind === "move") this.region = this.snapped({ ...before, x: before.x + dx, y: before.y + dy }, "move");
    else if (drag.kind === "turn") {
      const angle = Math.atan2(at[1] - before.y, at[0] - before.x) + Math.PI / 2;
      const whole = Math.round(angle / (Math.PI / 2)) * (Math.PI / 2);
      this.region = { ...before, angle: Math.abs(angle - whole) < 0.03 ? whole : angle };
    } else if (drag.kind === "resize") this.region = this.stretched(before, drag.handle, [dx, dy]);
    else {
      const [from, to] = [this.clamped(drag.at), this.clamped(at)];
      const box = [Math.min(from[0], to[0]), Math.min(from[1], to[1]), Math.max(from[0], to[0]), Math.max(from[1], to[1])];
      this.region = this.snapped({ ...regionOf({ box_xyxy: box }), turned: this.tool === "quad" }, "draw");
    }
    this.draw();
  }

  up(event) {
    this.pointers.delete(event.pointerId);
    const drag = this.drag;
    if (drag?.kind === "pinch") {
      if (!this.pointers.size) this.drag = null;
      return;
    }
    this.drag = null;
    if (!drag) return;
    if (drag.kind === "outline") {
      if (drag.moved) this.close();
      else this.point(this.clamped(drag.at));
    } else if (drag.kind === "point") {
      if (this.tool === "lasso") this.point(this.clamped(this.at(event)));
      else if (!drag.moved) this.listener.grow(this.clamped(drag.at), drag.erase);
    } else if (drag.moved && drag.kind !== "pan") {
      if (this.region.w < LEAST || this.region.h < LEAST) this.region = drag.before;
      else this.changed("region");
    }
    this.draw();
  }

  cancel(event) {
    this.pointers.delete(event.pointerId);
    if (this.drag?.before !== undefined && this.drag.moved) this.region = this.drag.before;
    this.drag = null;
    this.draw();
  }

  pinch(id, last, now) {
    const [other] = [...this.pointers].filter(([each]) => each !== id).map(([, place]) => place);
    const spread = (from) => Math.hypot(from[0] - other[0], from[1] - other[1]);
    const middle = { clientX: (now[0] + other[0]) / 2, clientY: (now[1] + other[1]) / 2 };
    const scale = this.px(1);
    this.view[0] -= ((now[0] - last[0]) / 2) * scale;
    this.view[1] -= ((now[1] - last[1]) / 2) * scale;
    this.zoom(spread(now) / Math.max(spread(last), 1), this.at(middle));
  }

  // Regions

  clamped([x, y]) {
    return [round(Math.min(Math.max(x, 0), this.size[0])), round(Math.min(Math.max(y, 0), this.size[1]))];
  }

  /** Convert a point to the region's own axes, relative to its centre. */
  local([x, y], region = this.region) {
    const [cos, sin] = [Math.cos(region.angle), Math.sin(region.angle)];
    const [dx, dy] = [x - region.x, y - region.y];
    return [dx * cos + dy * sin, dy * cos - dx * sin];
  }

  inside(at) {
    const [u, v] = this.local(at);
    return Math.abs(u) <= this.region.w / 2 && Math.abs(v) <= this.region.h / 2;
  }

  /** The handle under a pointer. On small regions, moving takes precedence over handles. */
  grip(at) {
    const [u, v] = this.local(at);
    const { w, h } = this.region;
    const near = this.px(GRIP_PX);
    if (this.region.turned && Math.hypot(u, v + h / 2 + this.px(28)) < near) return "turn";
    const found = HANDLES.map((handle) => ({ handle, away: Math.hypot(u - (handle[0] * w) / 2, v - (handle[1] * h) / 2) }))
      .filter(({ away }) => away < Math.min(near, Math.max(this.px(HANDLE_PX), Math.min(w, h) / 3)))
      .sort((one, other) => one.away - other.away);
    return found[0]?.handle;
  }

  /** Drag a corner or an edge; the opposite one stays. */
  stretched(before, [u, v], [dx, dy]) {
    const [cos, sin] = [Math.cos(before.angle), Math.sin(before.angle)];
    const along = [dx * cos + dy * sin, dy * cos - dx * sin];
    const w = Math.max(LEAST, before.w + u * along[0]);
    const h = Math.max(LEAST, before.h + v * along[1]);
    const shift = [(u * (w - before.w)) / 2, (v * (h - before.h)) / 2];
    return this.snapped(
      { ...before, w, h, x: before.x + shift[0] * cos - shift[1] * sin, y: before.y + shift[0] * sin + shift[1] * cos },
      "resize",
    );
  }

  /** Clip an upright region to the picture; edges near the picture's edge snap to it. */
  snapped(region, how) {
    if (region.angle !== 0) return { ...region, x: Math.min(Math.max(region.x, 0), this.size[0]), y: Math.min(Math.max(region.y, 0), this.size[1]) };
    const near = this.px(SNAP_PX);
    const result = { ...region };
    for (const [middle, side, most] of [["x", "w", this.size[0]], ["y", "h", this.size[1]]]) {
      let low = region[middle] - region[side] / 2;
      let high = region[middle] + region[side] / 2;
      if (how === "move") {
        const shift = low < near ? -low : high > most - near ? most - high : 0;
        [low, high] = [low + shift, high + shift];
      } else {
        if (low < near) low = 0;
        if (high > most - near) high = most;
      }
      result[middle] = (low + high) / 2;
      result[side] = high - low;
    }
    return this.kept(result);
  }

  /** Move a region fully into the picture. */
  kept(region) {
    if (region.angle !== 0) return region;
    const [width, height] = this.size;
    const w = Math.min(region.w, width);
    const h = Math.min(region.h, height);
    return { ...region, w, h, x: Math.min(Math.max(region.x, w / 2), width - w / 2), y: Math.min(Math.max(region.y, h / 2), height - h / 2) };
  }

  /** Arrow keys: move the region by frame pixels, or move its right and lower edges. */
  nudge(dx, dy) {
    if (POINTING.includes(this.tool)) {
      const [x, y] = this.cursor ?? [this.view[0] + this.view[2] / 2, this.view[1] + this.view[3] / 2];
      this.cursor = this.clamped([x + dx, y + dy]);
      if (this.tool === "lasso" && this.open) this.trace(this.cursor);
      this.draw();
      return;
    }
    if (!this.region) {
      const [width, height] = this.size;
      this.region = { x: width / 2, y: height / 2, w: width / 2, h: height / 2, angle: 0, turned: this.tool === "quad" };
    } else if (this.resizing) this.region = this.stretched(this.region, [dx ? 1 : 0, dy ? 1 : 0], this.ownAxes(dx, dy));
    else this.region = this.kept({ ...this.region, x: this.region.x + dx, y: this.region.y + dy });
    this.changed("region");
  }

  ownAxes(dx, dy) {
    const [cos, sin] = [Math.cos(this.region.angle), Math.sin(this.region.angle)];
    return [dx * cos - dy * sin, dx * sin + dy * cos];
  }

  turn(degrees) {
    if (!this.region?.turned) return;
    this.region = { ...this.region, angle: this.region.angle + (degrees * Math.PI) / 180 };
    this.changed("region");
  }

  /** Remove the region, or with a tool for defects the last outline. */
  clear() {
    if (POINTING.includes(this.tool)) {
      if (this.open) this.open = null;
      else if (this.polygons.length) {
        this.polygons = this.polygons.slice(0, -1);
        this.changed("polygons");
      }
      this.draw();
    } else if (this.region) {
      this.region = null;
      this.changed("region");
    }
  }

  // Outlines

  /** Add a corner to the outline; a click on the first corner closes it. */
  point(at) {
    if (!this.open) [this.open, this.anchors, this.ahead] = [[], [], []];
    const first = this.open[0];
    const back = first && Math.hypot(at[0] - first[0], at[1] - first[1]) < this.px(GRIP_PX / 2);
    if (back && this.open.length > 2) this.close();
    else if (this.tool === "lasso") this.anchor(at, first);
    else this.open.push(at);
    this.draw();
  }

  /** Fasten the lasso at the strongest edge near a point, along the path that was shown. */
  anchor(at, first) {
    const end = this.wire?.snapped(at, this.px(SNAP_PX)) ?? at;
    this.anchors.push(this.open.length);
    this.open.push(...(first && this.wire ? this.wire.path(end) : [end]));
    this.wire?.start(end);
    this.ahead = [];
  }

  /** Show the path of the lasso to a point. */
  trace(at) {
    this.ahead = this.wire?.search ? this.wire.path(at) : [at];
    this.draw();
  }

  /** Use the tool at the keyboard cursor. */
  pointAtCursor(erase = false) {
    if (!this.cursor) return;
    if (this.tool === "grow") this.listener.grow(this.cursor, erase);
    else if (OUTLINING.includes(this.tool)) this.point(this.cursor);
  }

  /** Take back the last corner, or the lasso's last anchor with its path. */
  back() {
    if (!this.open) return;
    if (this.tool === "lasso") {
      this.open.length = this.anchors.pop() ?? 0;
      this.ahead = [];
      if (this.open.length) this.wire?.start(this.open.at(-1));
    } else this.open.pop();
    if (!this.open.length) this.open = null;
    this.draw();
  }

  close() {
    if (!OUTLINING.includes(this.tool) || !this.open) return false;
    if (this.tool === "lasso" && this.wire && this.open.length > 1) this.open.push(...this.wire.path(this.open[0]));
    let tolerance = this.px(1);
    let outline = thinned(this.open, tolerance);
    while (outline.length > MOST_POINTS) outline = thinned(this.open, (tolerance *= 1.5));
    this.open = null;
    if (outline.length > 2) {
      this.polygons = [...this.polygons, outline];
      this.changed("polygons");
    }
    this.draw();
    return true;
  }

  /** Cancel the current drawing; returns whether there was one. */
  leave() {
    const was = this.open !== null || this.drag;
    if (this.drag?.before !== undefined) this.region = this.drag.before;
    this.open = this.drag = null;
    this.draw();
    return Boolean(was);
  }

  // Drawing

  draw() {
    const [width, height] = this.size;
    this.marks.replaceChildren();
    const handle = this.px(HANDLE_PX);
    const outlines = make("g", {}, this.marks);
    if (this.region) {
      const corners = cornersOf(this.region);
      const around = `M0,0H${width}V${height}H0ZM${corners.map((corner) => corner.join()).join("L")}Z`;
      make("path", { d: around, class: "shade", "fill-rule": "evenodd" }, this.marks);
      make("polygon", { points: path(corners), class: "under" }, this.marks);
      make("polygon", { points: path(corners), class: this.suggested ? "region suggested" : "region" }, this.marks);
      this.marks.append(outlines); // above the shade, below the handles
      if (!POINTING.includes(this.tool) && !this.suggested) this.drawHandles(handle);
    }
    this.polygons.forEach((outline, row) => make("polygon", { points: path(outline), class: this.look(row) }, outlines));
    if (this.open?.length) {
      const ahead = this.tool === "lasso" ? [...this.open, ...this.ahead] : this.cursor ? [...this.open, this.cursor] : this.open;
      make("polyline", { points: path(ahead), class: "outline open" }, this.marks);
      const fastened = this.tool === "lasso" ? this.anchors.map((row, number) => this.open[(this.anchors[number + 1] ?? this.open.length) - 1]) : this.open;
      for (const [cx, cy] of fastened.length < 40 ? fastened : [fastened[0]]) make("circle", { cx, cy, r: handle * 0.7, class: "handle" }, this.marks);
    }
    if (POINTING.includes(this.tool) && this.cursor) {
      const [x, y] = this.cursor;
      const arm = this.px(12);
      make("path", { d: `M${x - arm},${y}H${x + arm}M${x},${y - arm}V${y + arm}`, class: "cursor" }, this.marks);
    }
  }

  /** The class of an outline. */
  look() {
    return "outline";
  }

  drawHandles(handle) {
    const { x, y, w, h, angle } = this.region;
    const [cos, sin] = [Math.cos(angle), Math.sin(angle)];
    const place = ([u, v]) => [x + u * cos - v * sin, y + u * sin + v * cos];
    if (this.region.turned) {
      const [cx, cy] = place([0, -h / 2 - this.px(28)]);
      const [x2, y2] = place([0, -h / 2]);
      make("line", { x1: cx, y1: cy, x2, y2, class: "stem" }, this.marks);
      make("circle", { cx, cy, r: handle * 1.2, class: "handle" }, this.marks);
    }
    const small = Math.min(w, h) < this.px(40);
    for (const [u, v] of HANDLES) {
      if (small && (u === 0 || v === 0)) continue;
      const [cx, cy] = place([(u * w) / 2, (v * h) / 2]);
      make("circle", { cx, cy, r: handle, class: this.resizing && u === 1 && v === 1 ? "handle active" : "handle" }, this.marks);
    }
  }
}
