// The list of the stations: fetched again every second, unless a person is about to press one of its buttons.

const EVERY_MS = 1000;

const list = document.getElementById("stations");
const lost = document.getElementById("lost");
let shown = "";

async function refresh() {
  try {
    const answer = await fetch(list.dataset.list);
    if (answer.status === 401 || answer.status === 403) return location.reload(); // the session ended: the server shows the login
    if (!answer.ok) throw new Error(answer.status);
    const { piece } = await answer.json();
    lost.hidden = true;
    const asking = document.querySelector("dialog[open]") || list.querySelector("form[data-sent]");
    if (piece !== shown && !asking) {
      const focused = document.activeElement?.closest("#stations form")?.getAttribute("action");
      list.innerHTML = piece; // escaped by the server's templates
      shown = piece;
      if (focused) list.querySelector(`form[action="${focused}"] button`)?.focus();
    }
  } catch {
    lost.hidden = false;
  }
  setTimeout(refresh, EVERY_MS);
}

setTimeout(refresh, EVERY_MS);
