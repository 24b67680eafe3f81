// What a screen at the line can do: full screen, and a sound for parts that must not pass, where a person has chosen it.

import { typing } from "./gonogo.js";

const KEY = "gonogo-sound";
const TONES = { no_go: [[440, 0], [330, 0.18]], fault: [[330, 0], [330, 0.18], [330, 0.36]] };
let audio;

function play(tones) {
  audio ??= new AudioContext();
  for (const [pitch, after] of tones) {
    const tone = audio.createOscillator();
    const loudness = audio.createGain();
    const at = audio.currentTime + after;
    tone.frequency.value = pitch;
    loudness.gain.setValueAtTime(0.25, at);
    loudness.gain.exponentialRampToValueAtTime(0.001, at + 0.16);
    tone.connect(loudness).connect(audio.destination);
    tone.start(at);
    tone.stop(at + 0.17);
  }
}

/**
 * Connect the buttons of a screen, and return a function that sounds for a state.
 *
 * @param {HTMLElement} root holds the buttons `[data-sound]` and `[data-full]`
 * @returns {function(string): void}
 */
export function screen(root) {
  const sound = root.querySelector("[data-sound]");
  const full = root.querySelector("[data-full]");
  const set = (on) => {
    sound.setAttribute("aria-pressed", String(on));
    localStorage.setItem(KEY, on ? "on" : "off");
  };
  set(localStorage.getItem(KEY) === "on");
  sound.addEventListener("click", () => {
    const on = sound.getAttribute("aria-pressed") !== "true";
    set(on);
    if (on) play(TONES.no_go); // also tells the browser that a person wants to hear it
  });
  const toggle = () => (document.fullscreenElement ? document.exitFullscreen() : document.documentElement.requestFullscreen());
  full.addEventListener("click", toggle);
  document.addEventListener("keydown", (event) => {
    if (event.key.toLowerCase() === "f" && !event.ctrlKey && !event.metaKey && !typing(event)) toggle();
  });
  // A visit renews the login of a wall screen, which would end where a page stays open for more than a year.
  setInterval(() => fetch("/wall").catch(() => {}), 12 * 3600 * 1000);
  return (state) => {
    if (sound.getAttribute("aria-pressed") === "true" && TONES[state]) play(TONES[state]);
  };
}
