// Two people said something of one picture: both versions are shown, one at a time, and the person chooses.

import { words } from "./label-words.js";

const at = (id) => document.getElementById(id);
const KEYS = { t: "theirs", m: "mine" };
const TOO_SOON_MS = 400; // a key pressed before meant the picture, not the question

export class Conflicts {
  /**
   * @param {DOMStringMap} text the page's texts
   * @param {function(string): string} thumbnail address of a file's small picture
   * @param {function(object, ?object): void} settled told the record as the server has it, and the person's own values
   *   where those are to be saved over it
   */
  constructor(text, thumbnail, settled) {
    Object.assign(this, { text, thumbnail, settled });
    this.waiting = [];
    this.asking = false;
  }

  /** @param {object} mine what was not taken @param {{message: string, row: object}} told the server's answer */
  async add(mine, told) {
    this.waiting.push([mine, told]);
    if (this.asking) return;
    this.asking = true;
    while (this.waiting.length) {
      const [decision, { message, row }] = this.waiting.shift();
      const choice = await this.ask(decision, message, row);
      this.settled(row, choice === "mine" ? decision : null);
    }
    this.asking = false;
    at("stage").focus({ preventScroll: true }); // keys go on where they were
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
