// Two people said something of one picture: both versions are shown, one at a time, and the person chooses.

import { words } from "./label-words.js";

const at = (id) => document.getElementById(id);

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
  }

  /** @param {object} mine what was not taken @param {{message: string, row: object}} told the server's answer */
  async add(mine, told) {
    this.waiting.push([mine, told]);
    if (this.waiting.length > 1) return;
    while (this.waiting.length) {
      const [decision, { message, row }] = this.waiting[0];
      const choice = await this.ask(decision, message, row);
      this.settled(row, choice === "mine" ? decision : null);
      this.waiting.shift();
    }
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
    await new Promise((resolve) => dialog.addEventListener("close", resolve, { once: true }));
    return dialog.returnValue;
  }
}
