// Keys and buttons of the label page. Letters are configurable per person; the other keys are fixed.

import { typing } from "./gonogo.js";

const TWICE_MS = 500; // the second click of a double click would decide the next picture
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

const fixed = (stage, actions) => ({
  Enter: () => stage.close() || actions.accept(),
  " ": (event) => stage.pointAtCursor(event.shiftKey),
  Escape: () => stage.leave() || actions.refuse(),
  "?": () => actions.help(),
  Backspace: () => (stage.open ? stage.back() : stage.clear()),
  Delete: () => stage.clear(),
  "[": () => (stage.tool === "grow" ? actions.tolerate(-2) : stage.turn(-1)),
  "]": () => (stage.tool === "grow" ? actions.tolerate(2) : stage.turn(1)),
  "{": () => stage.turn(-0.1),
  "}": () => stage.turn(0.1),
  "+": () => stage.zoom(1.5),
  "-": () => stage.zoom(1 / 1.5),
  0: () => stage.fit(),
});

/**
 * Listen to keys and to the buttons with a `data-do` action.
 *
 * @param {HTMLElement} root contains the buttons
 * @param {object} stage
 * @param {Object<string, function(): void>} actions by name; those without a letter are for the fixed keys
 * @param {function(): Object<string, string>} keys the current letters by action
 * @param {function(number): void} kind label as bad with the kind of this number key
 */
export function listen(root, stage, actions, keys, kind) {
  const always = fixed(stage, actions);
  document.addEventListener("keydown", (event) => {
    if (typing(event) || document.querySelector("dialog[open]")) return;
    const button = Boolean(event.target.closest?.("button, a, summary, input"));
    const arrow = ARROWS[event.key];
    if (arrow && !event.target.closest?.("#strip, #tolerance")) {
      stage.nudge(...arrow.map((value) => value * (event.shiftKey ? 10 : 1)));
    } else if (event.key in always && !(button && (event.key === "Enter" || event.key === " "))) {
      always[event.key](event);
    } else if (/^[1-9]$/.test(event.key)) {
      if (!event.repeat) kind(Number(event.key));
    } else {
      const action = Object.keys(actions).find((name) => keys()[name] === event.key.toLowerCase());
      if (!action || (event.repeat && !["next", "previous"].includes(action))) return;
      actions[action]();
    }
    event.preventDefault();
  });
  let pressedAt = 0;
  root.addEventListener("click", (event) => {
    const name = event.target.closest("[data-do]")?.dataset.do;
    if (!name) return;
    const again = ["good", "bad", "none"].includes(name) && event.detail > 1 && Date.now() - pressedAt < TWICE_MS;
    pressedAt = Date.now();
    if (!again) actions[name]();
  });
}
