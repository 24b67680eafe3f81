// Zoom and pan of a picture: buttons, wheel, drag, pinch, keys.

const LARGEST = 12;
const STEP = 1.4;
const PAN_PX = 80;

export class Zoom {
  /**
   * @param {HTMLElement} stage viewport of the picture
   * @param {HTMLElement} picture element to zoom, of the stage's size
   * @param {function(number): void} onScale called with the new scale
   */
  constructor(stage, picture, onScale) {
    Object.assign(this, { stage, picture, onScale, pointers: new Map() });
    this.reset();
    stage.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.by(event.deltaY < 0 ? STEP : 1 / STEP, event);
    }, { passive: false });
    stage.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      this.pointers.set(event.pointerId, event);
      if (this.scale > 1 || this.pointers.size > 1) stage.setPointerCapture(event.pointerId);
    });
    stage.addEventListener("pointermove", (event) => this.moved(event));
    for (const end of ["pointerup", "pointercancel"]) {
      stage.addEventListener(end, (event) => this.pointers.delete(event.pointerId));
    }
    stage.addEventListener("dblclick", (event) => (this.scale > 1 ? this.reset() : this.by(STEP ** 3, event)));
  }

  reset() {
    Object.assign(this, { scale: 1, x: 0, y: 0 });
    this.apply();
  }

  /** Zoom by a factor around the pointer. */
  by(factor, at) {
    const box = this.stage.getBoundingClientRect();
    const px = at ? at.clientX - box.left - box.width / 2 : 0;
    const py = at ? at.clientY - box.top - box.height / 2 : 0;
    const scale = Math.min(LARGEST, Math.max(1, this.scale * factor));
    const ratio = scale / this.scale;
    this.x = px - (px - this.x) * ratio;
    this.y = py - (py - this.y) * ratio;
    this.scale = scale;
    this.apply();
  }

  step(direction) {
    this.by(direction > 0 ? STEP : 1 / STEP);
  }

  pan(dx, dy) {
    this.x += dx * PAN_PX;
    this.y += dy * PAN_PX;
    this.apply();
  }

  moved(event) {
    const before = this.pointers.get(event.pointerId);
    if (!before) return;
    this.pointers.set(event.pointerId, event);
    if (this.pointers.size === 2) {
      const other = [...this.pointers.values()].find((each) => each.pointerId !== event.pointerId);
      const apart = (one) => Math.hypot(one.clientX - other.clientX, one.clientY - other.clientY);
      const middle = { clientX: (event.clientX + other.clientX) / 2, clientY: (event.clientY + other.clientY) / 2 };
      this.by(apart(event) / Math.max(1, apart(before)), middle);
    } else if (this.scale > 1) {
      this.x += event.clientX - before.clientX;
      this.y += event.clientY - before.clientY;
      this.apply();
    }
  }

  apply() {
    const limit = (size) => (size * (this.scale - 1)) / 2;
    const clamp = (value, most) => Math.min(most, Math.max(-most, value));
    this.x = clamp(this.x, limit(this.stage.clientWidth));
    this.y = clamp(this.y, limit(this.stage.clientHeight));
    this.picture.style.transform = this.scale === 1 ? "" : `translate(${this.x}px, ${this.y}px) scale(${this.scale})`;
    this.stage.classList.toggle("enlarged", this.scale > 1);
    this.onScale(this.scale);
  }
}
