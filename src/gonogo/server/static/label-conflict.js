// Two people labelled the same picture: both versions are shown, one at a time, and the user chooses.

import { words } from "./label-words.js";

const at = (id) => document.getElementById(id);
const KEYS = { t: "theirs", m: "mine" };
const TOO_SOON_MS = 400; // an earlier key press was meant for the picture

export class Conflicts {
  /**
   * @param {DOMStringMap} text the page's texts
   * @param {function(string): string} thumbnail address of a file's small picture
   * @param {function(object, ?object): void} settled called with the server's record, and with the user's own
   *   values if they are to be saved over it
   */
  constructor(text, thumbnail, settled) {
    Object.assign(this, { text, thumbnail, settled });
    this.waiting = [];
    this.asking = false;
  }

  /** @param {object} mine the rejected values @param {{message: string, row: object}} answer the server's response */
  async add(mine, answer) {
    this.waiting.push([mine, answer]);
    if (this.asking) return;
    this.asking = true;
    while (this.waiting.length) {
      const [decision, { message, row }] = this.waiting.shift();
      const choice = await this.ask(decision, message, row);
      this.settled(row, choice === "mine" ? decision : null);
    }
    this.asking = false;
    at("stage").focus({ preventScroll: true }); // return key presses to the stage
  }

  async ask(decision, message, row) {
    const dialog = at("conflict");
    at("conflict-title").textContent = message;
    at("conflict-who").textContent = row.labelled_by ?? "?";
    at("conflict-theirs").textContent = words(row, this.text);
    at("conflict-mine").textContent = words(decision, this.text);
    at("conflict-picture").src = this.thumbnail(row.file);
    dialog.returnValue = "theirs";
    dialog.showModal();
    const shownAt = performance.now();
    const choose = (event) => {
      const soon = performance.now() - shownAt < TOO_SOON_MS;
      const choice = KEYS[event.key.toLowerCase()];
      if (soon || choice) event.preventDefault();
      if (!soon && choice && !event.ctrlKey && !event.metaKey && !event.altKey) dialog.close(choice);
    };
    dialog.addEventListener("keydown", choose);
    await new Promise((resolve) => dialog.addEventListener("close", resolve, { once: true }));
    dialog.removeEventListener("keydown", choose);
    return dialog.returnValue;
  }
}
