// Region growing: asks the server for the area around a point, again whenever the tolerance changes.

import { send, toast } from "./gonogo.js";

const STORE = "gonogo label tolerance";
const LARGE = 0.5; // share of the picture from which the area is probably not the defect

const at = (id) => document.getElementById(id);

export class Growing {
  /**
   * @param {string} path
   * @param {DOMStringMap} text the page's texts
   * @param {function(string, number[][][]|null): void} grown called with a file and its new outlines; null restores an
   *   imported mask
   */
  constructor(path, text, grown) {
    Object.assign(this, { path, text, grown, last: null, busy: false, again: false });
    this.slider = at("tolerance");
    this.slider.value = localStorage.getItem(STORE) ?? this.slider.value;
    this.slider.addEventListener("input", () => this.changed());
    this.changed();
  }

  show(visible) {
    at("grow-options").hidden = !visible;
  }

  toggle() {
    at("erase").checked = !at("erase").checked;
  }

  /**
   * @param {string} file
   * @param {number[][][]|null} before the outlines so far; null if the picture has an imported mask
   * @param {number[]} point in frame pixels
   * @param {boolean} other do the opposite of what is chosen: add or take away
   */
  from(file, before, point, other) {
    this.last = { file, before, point, erase: at("erase").checked !== other };
    this.ask();
  }

  tolerate(by) {
    this.slider.value = Number(this.slider.value) + by;
    this.changed();
  }

  changed() {
    localStorage.setItem(STORE, this.slider.value);
    at("tolerance-value").textContent = this.slider.value;
    if (this.last) this.ask();
  }

  /** One request at a time; while it is on its way, only the latest wish is kept. */
  async ask() {
    this.again = true;
    if (this.busy) return;
    this.busy = true;
    while (this.again && this.last) {
      this.again = false;
      const asked = this.last;
      const body = { file: asked.file, at: asked.point, tolerance: Number(this.slider.value), erase: asked.erase, polygons: asked.before };
      try {
        const result = await send(this.path, body, { quiet: true });
        if (this.last === asked) this.told(asked, result);
      } catch (error) {
        if (error.status === undefined) throw error;
        toast(error.message, { failed: true });
      }
    }
    this.busy = false;
  }

  told(asked, { polygons, share, left_out: left }) {
    const percent = (100 * share).toLocaleString(document.documentElement.lang, { maximumSignificantDigits: 2 });
    const lines = [this.text.grown.replace("{percent}", percent)];
    if (share > LARGE) lines.push(this.text.grownLarge);
    if (left) lines.push(this.text.grownMany.replace("{count}", left));
    at("grown").textContent = lines.join(" ");
    this.grown(asked.file, polygons);
  }

  /** Keep the area: the next point begins with the outlines as they are. */
  end() {
    this.last = null;
    at("grown").textContent = "";
  }

  /** Restore the outlines from before the last point. */
  takeBack() {
    if (!this.last) return;
    const { file, before } = this.last;
    this.end();
    this.grown(file, before);
  }
}
