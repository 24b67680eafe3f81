// Shared by all pages: requests with the CSRF token, toasts, confirmation dialogs, the menu.

const token = document.querySelector('meta[name="csrf"]').content;

/** Show a message at the bottom of the page; errors stay longer, and what leads somewhere longest. */
export function toast(text, { failed = false, link = "" } = {}) {
  const line = document.createElement("p");
  line.className = failed ? "toast failed" : "toast";
  if (link) line.append(Object.assign(document.createElement("a"), { href: link, textContent: text }));
  else line.textContent = text;
  document.getElementById("toasts").append(line);
  setTimeout(() => line.remove(), link ? 20000 : failed ? 10000 : 4000);
}

/**
 * Send a change to a `call` route and return its JSON.
 *
 * @param {string} path
 * @param {object|FormData} body an object is sent as JSON, form data unchanged
 * @param {{quiet: boolean}} options quiet: the caller shows errors itself
 * @throws {Error} with a message for the user, already shown as a toast unless quiet, the response's `status`, 0
 *   without a response, and its JSON as `result`
 */
export async function send(path, body = {}, { quiet = false } = {}) {
  const headers = { "X-CSRF-Token": token };
  const form = body instanceof FormData;
  if (!form) headers["Content-Type"] = "application/json";
  let answer;
  try {
    answer = await fetch(path, { method: "POST", headers, body: form ? body : JSON.stringify(body) });
  } catch {
    if (!quiet) toast(document.body.dataset.lost, { failed: true });
    throw Object.assign(new Error(document.body.dataset.lost), { status: 0 });
  }
  if (answer.ok) return answer.json();
  if (answer.status === 401) location.assign(`/login?next=${encodeURIComponent(location.pathname)}`);
  const result = await answer.json().catch(() => ({}));
  const message = result.message ?? `${answer.status}`;
  if (!quiet) toast(message, { failed: true });
  throw Object.assign(new Error(message), { status: answer.status, result });
}

/**
 * Ask in the page's dialog; resolves to true if the user confirms.
 *
 * @param {string} question
 * @param {{yes: string, no: string, danger: boolean}} options button labels, and whether confirming is destructive
 */
export function confirmed(question, { yes, no, danger = false } = {}) {
  const dialog = document.getElementById("confirm");
  document.getElementById("confirm-text").textContent = question;
  for (const [value, said] of [["yes", yes], ["no", no]]) {
    const button = dialog.querySelector(`[value="${value}"]`);
    button.textContent = said ?? button.dataset.default;
    if (value === "yes") button.className = danger ? "danger" : "";
  }
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
  });
}

const FIELDS = "input:not([type=checkbox], [type=radio], [type=range]), select, textarea, dialog, [contenteditable]";

/** Whether a key press belongs to an input field and is therefore not a shortcut. */
export function typing(event) {
  return event.ctrlKey || event.metaKey || event.altKey || Boolean(event.target.closest?.(FIELDS));
}

document.addEventListener("submit", async (event) => {
  const form = event.target;
  if (form.method === "dialog") return;
  if (form.dataset.confirm && !form.dataset.sure) {
    event.preventDefault();
    const { confirm, yes, no } = form.dataset;
    if (!(await confirmed(confirm, { yes, no, danger: "danger" in form.dataset }))) return;
    form.dataset.sure = "yes";
    form.requestSubmit();
    return;
  }
  if (form.method === "post") {
    // A double click must not send twice.
    if (form.dataset.sent) event.preventDefault();
    form.dataset.sent = "yes";
  }
});
window.addEventListener("pageshow", () => {
  for (const form of document.querySelectorAll("form[data-sent]")) {
    delete form.dataset.sent;
    delete form.dataset.sure;
  }
});

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (button) {
    const source = document.getElementById(button.dataset.copy);
    try {
      await navigator.clipboard.writeText(source.textContent);
      toast(button.dataset.copied);
    } catch {
      getSelection().selectAllChildren(source); // no clipboard API without HTTPS: select the text for Ctrl+C
    }
  }
  for (const menu of document.querySelectorAll("details[data-dropdown][open]")) {
    if (!menu.contains(event.target)) menu.open = false;
  }
});
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  for (const menu of document.querySelectorAll("details[data-dropdown][open]")) {
    menu.open = false;
    menu.querySelector("summary").focus();
  }
});

for (const line of document.querySelectorAll("#toasts .toast:not(.failed)")) setTimeout(() => line.remove(), 6000);

/** Format a time in plant time, 24 hours. */
export function clock(date) {
  const plant = new Date(date.getTime() + Number(document.body.dataset.offsetMin) * 60000);
  return plant.toISOString().slice(11, 19);
}

// On a narrow screen the menu scrolls sideways: keep the current page visible, also after rotation.
const menu = document.querySelector(".bar nav ul");
if (menu) {
  new ResizeObserver(() => {
    const current = menu.querySelector("[aria-current]")?.getBoundingClientRect();
    const box = menu.getBoundingClientRect();
    if (current) menu.scrollLeft += current.left + current.width / 2 - (box.left + box.width / 2);
  }).observe(menu);
}
