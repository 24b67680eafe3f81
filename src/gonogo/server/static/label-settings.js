// The dialogs for the kinds of a data set and for a person's keys.

import { send } from "./gonogo.js";

const at = (id) => document.getElementById(id);

/** `send`, or nothing where it was refused: the person was told. */
const sent = (path, body) => send(path, body).catch(() => null);

function ask(dialog, ready) {
  dialog.returnValue = "no";
  dialog.showModal();
  dialog.addEventListener("close", () => ready(dialog.returnValue), { once: true });
}

/** @param {string} path @param {function(): string[]} now @param {function(string[]): void} changed */
export function editKinds(path, now, changed) {
  at("edit-kinds").addEventListener("click", () => {
    at("kinds-text").value = now().join("\n");
    ask(at("kinds-dialog"), async (chosen) => {
      if (chosen !== "yes") return;
      const told = await sent(path, { kinds: at("kinds-text").value.split("\n") });
      if (told) changed(told.kinds);
    });
  });
}

/** @param {function(): Object<string, string>} now @param {function(Object<string, string>): void} changed */
export function editKeys(now, changed) {
  const dialog = at("keys-dialog");
  const inputs = [...dialog.querySelectorAll("input")];
  dialog.addEventListener("input", (event) => event.target.select());
  at("edit-keys").addEventListener("click", () => {
    for (const input of inputs) input.value = now()[input.name];
    ask(dialog, async (chosen) => {
      if (chosen === "no" || !chosen) return;
      const keys = chosen === "reset" ? {} : Object.fromEntries(inputs.map((input) => [input.name, input.value]));
      const told = await sent("/label/keys", { keys });
      if (!told) return;
      changed(told.keys);
      for (const sign of document.querySelectorAll("[data-key]")) sign.textContent = told.keys[sign.dataset.key].toUpperCase();
    });
  });
}
