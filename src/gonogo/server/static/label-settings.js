// Dialogs for the kinds of a data set and for a person's keys.

import { send } from "./gonogo.js";

const at = (id) => document.getElementById(id);

/**
 * Open a dialog; it shows errors from the server and keeps the input.
 *
 * @param {HTMLDialogElement} dialog
 * @param {function(string): Promise<void>} save called with "yes" or "reset"
 */
function ask(dialog, save) {
  const wrong = dialog.querySelector(".alert");
  const form = dialog.querySelector("form");
  const settle = async (chosen) => {
    try {
      await save(chosen);
      dialog.close(chosen);
    } catch (error) {
      if (error.status === undefined) throw error;
      wrong.textContent = error.message;
      wrong.hidden = false;
    }
  };
  wrong.hidden = true;
  form.onsubmit = (event) => {
    event.preventDefault();
    settle("yes");
  };
  // Only one button submits the form, so Enter in a field always means that one.
  form.querySelector('[value="no"]').onclick = () => dialog.close("no");
  const reset = form.querySelector('[value="reset"]');
  if (reset) reset.onclick = () => settle("reset");
  dialog.showModal();
}

/** @param {string} path @param {function(): string[]} now @param {function(string[]): void} changed */
export function editKinds(path, now, changed) {
  at("edit-kinds").addEventListener("click", () => {
    at("kinds-text").value = now().join("\n");
    ask(at("kinds-dialog"), async () => {
      const result = await send(path, { kinds: at("kinds-text").value.split("\n") }, { quiet: true });
      changed(result.kinds);
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
      const keys = chosen === "reset" ? {} : Object.fromEntries(inputs.map((input) => [input.name, input.value]));
      const result = await send("/label/keys", { keys }, { quiet: true });
      changed(result.keys);
      for (const sign of document.querySelectorAll("[data-key]")) sign.textContent = result.keys[sign.dataset.key].toUpperCase();
    });
  });
}
