// The bar of long work on every page, a message when something of this person's ends, and the page of long work.

import { toast } from "./gonogo.js";

const BUSY_MS = 2000;
const IDLE_MS = 15000;
const OVERLAP_S = 10; // what ended while an earlier answer was made is asked for again; `shown` skips the rest

const bar = document.getElementById("work");
const lists = document.getElementById("work-lists");
const store = `gonogo-work-${bar.dataset.who}`;

/** What this browser has shown to this person: the time of the last answer, and the latest messages. */
function memory() {
  const kept = JSON.parse(localStorage.getItem(store) ?? "null");
  return kept ?? { at: 0, shown: [] };
}

/** Show what has ended, once for each person and browser: on the page in sight, or by the browser if it is hidden. */
function tell(ended, now) {
  const kept = memory();
  const fresh = ended.filter((item) => !kept.shown.includes(`${item.id} ${item.at}`));
  if (document.hidden) {
    // The page will say so when it is in sight again; the tag makes several hidden pages show one notification.
    for (const item of fresh) notify(item);
    if (fresh.length) return;
  }
  for (const item of fresh) toast(item.text, { failed: item.failed, link: item.link });
  const shown = [...kept.shown, ...fresh.map((item) => `${item.id} ${item.at}`)].slice(-50);
  localStorage.setItem(store, JSON.stringify({ at: now, shown }));
}

function notify(item) {
  if (!("Notification" in window) || Notification.permission !== "granted") return;
  try {
    const said = new Notification("gonogo", { body: item.text, tag: `gonogo ${item.id} ${item.at}` });
    said.addEventListener("click", () => {
      window.focus();
      location.assign(item.link);
    });
  } catch {
    // some telephones allow notifications from service workers only
  }
}

function show({ first, more, interrupted }) {
  bar.hidden = !first && !interrupted;
  if (bar.hidden) return;
  const progress = bar.querySelector("progress");
  const words = bar.querySelector(".words");
  progress.hidden = !first;
  if (first) {
    const share = first.share === null ? "" : `${Math.floor(100 * first.share)} %`;
    words.textContent = [first.name, share, first.left, more ? `+ ${more}` : ""].filter(Boolean).join(" · ");
    bar.querySelector(".short").textContent = share || "…";
    if (first.share === null) progress.removeAttribute("value");
    else progress.value = first.share;
  } else {
    words.textContent = bar.dataset.interrupted.replace("{count}", interrupted);
    bar.querySelector(".short").textContent = "!";
  }
  bar.classList.toggle("interrupted", Boolean(interrupted));
}

let timer;
async function ask() {
  clearTimeout(timer);
  let wait = IDLE_MS;
  try {
    const since = Math.max(0, memory().at - OVERLAP_S);
    const answer = await fetch(`${bar.dataset.state}?since=${since}${lists ? "&whole=true" : ""}`);
    if (answer.status === 401) return; // the session ended; the next click shows the login
    if (!answer.ok) throw new Error(`${answer.status}`);
    const said = await answer.json();
    show(said);
    // A form in use is not replaced under the person's hands.
    if (lists && lists.innerHTML !== said.html && !lists.contains(document.activeElement)) lists.innerHTML = said.html; // escaped by the server's templates
    tell(said.ended, said.now);
    if (said.first) wait = BUSY_MS;
  } catch {
    // no connection: the work continues, and so does asking
  }
  timer = setTimeout(ask, wait);
}
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) ask();
});
addEventListener("gonogo-work", ask); // a script has started something
ask();

const place = document.getElementById("notify");
if (place && "Notification" in window && isSecureContext) {
  const button = place.querySelector("button");
  const say = () => {
    if (Notification.permission === "default") return;
    const text = Notification.permission === "granted" ? button.dataset.on : button.dataset.denied;
    place.replaceChildren(Object.assign(document.createElement("span"), { className: "soft", textContent: text }));
  };
  button.addEventListener("click", async () => {
    await Notification.requestPermission();
    say();
  });
  say();
  place.hidden = false;
}
