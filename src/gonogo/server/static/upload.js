// Upload of files, folders and archives in batches; each batch is retried until it succeeds.

import { toast } from "./gonogo.js";

const BATCH_FILES = 24;
const BATCH_BYTES = 16 * 2 ** 20;
const RETRY_MS = 3000;

const box = document.getElementById("upload");
const bar = document.getElementById("upload-bar");
const state = document.getElementById("upload-state");
const refused = document.getElementById("refused");
const done = document.getElementById("upload-done");
const byFolder = document.getElementById("by-folder");
const token = document.querySelector('meta[name="csrf"]').content;

const fill = (text, values) => text.replace(/\{(\w+)\}/g, (_, name) => values[name]);
const waiting = [];
const sum = { files: 0, sent: 0, added: 0, copies: 0, labelled: 0, refused: 0 };
const unknown = new Set();
let busy = false;

function* batches(files) {
  let batch = [];
  let bytes = 0;
  for (const file of files) {
    if (batch.length && (batch.length === BATCH_FILES || bytes + file.size > BATCH_BYTES)) {
      yield batch;
      batch = [];
      bytes = 0;
    }
    batch.push(file);
    bytes += file.size;
  }
  if (batch.length) yield batch;
}

/** Send one batch, waiting if the connection is lost. The server skips duplicates, so sending twice is safe. */
async function deliver(batch) {
  const body = new FormData();
  for (const { file, path } of batch) body.append("files", file, path);
  body.append("by_folder", String(byFolder.checked));
  for (;;) {
    try {
      const answer = await fetch(box.dataset.path, { method: "POST", headers: { "X-CSRF-Token": token }, body });
      const result = await answer.json();
      if (!answer.ok) throw new Error(result.message);
      return result;
    } catch (error) {
      if (!(error instanceof TypeError)) throw error; // rejected by the server
      state.textContent = box.dataset.lost;
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    }
  }
}

function refuse(name, reason) {
  const item = document.createElement("li");
  const title = document.createElement("b");
  title.textContent = name;
  item.append(title, " ", reason.startsWith(name) ? reason.slice(name.length) : reason);
  refused.querySelector("ul").append(item);
  sum.refused += 1;
  refused.hidden = false;
  refused.querySelector("h3").textContent = fill(box.dataset.refused, { count: sum.refused });
}

async function work() {
  if (busy) return;
  busy = true;
  document.getElementById("uploading").hidden = false;
  while (waiting.length) {
    const batch = waiting.shift();
    state.textContent = fill(box.dataset.adding, { done: sum.sent, total: sum.files });
    try {
      const result = await deliver(batch);
      sum.added += result.added;
      sum.copies += result.copies;
      sum.labelled += result.labelled;
      for (const folder of result.unknown_folders) unknown.add(folder);
      for (const { name, reason } of result.refused) refuse(name, reason);
    } catch (error) {
      for (const { path } of batch) refuse(path, error.message);
      toast(error.message, { failed: true });
    }
    sum.sent += batch.length;
    bar.max = sum.files;
    bar.value = sum.sent;
  }
  const lines = [fill(box.dataset.added, { count: sum.added })];
  if (sum.copies) lines.push(fill(box.dataset.copies, { count: sum.copies }));
  if (sum.labelled) lines.push(fill(box.dataset.labelled, { count: sum.labelled }));
  if (unknown.size) lines.push(fill(box.dataset.unknown, { folders: [...unknown].join(", ") }));
  state.textContent = lines.join(" · ");
  done.hidden = sum.added + sum.labelled === 0;
  busy = false;
  await freshen();
}

/** Update the page's figures; keeps form input. */
async function freshen() {
  const answer = await fetch(location.href).catch(() => null);
  if (!answer?.ok) return; // the next page load shows them
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  for (const old of document.querySelectorAll("[data-fresh]")) {
    const fresh = page.querySelector(`[data-fresh="${old.dataset.fresh}"]`);
    if (!fresh) continue;
    if (old.selected !== undefined) old.disabled = fresh.disabled; // an option that may have become available
    else old.replaceWith(document.adoptNode(fresh));
  }
}
addEventListener("pageshow", (event) => {
  if (event.persisted) freshen();
});

function add(found) {
  const files = found.filter(({ file, path }) => {
    const hidden = path.split("/").some((piece) => piece.startsWith("."));
    if (!hidden && file.size > Number(box.dataset.most) - 2 ** 20) {
      refuse(path, box.dataset.large);
      return false;
    }
    return !hidden;
  });
  sum.files += files.length;
  waiting.push(...batches(files.map((each) => Object.assign(each, { size: each.file.size }))));
  work();
}

/** Upload the chosen files; on a slow page, they may have been chosen before this script was loaded. */
function take(input) {
  if (!input.files.length) return;
  add(Array.from(input.files, (file) => ({ file, path: file.webkitRelativePath || file.name })));
  input.value = "";
}

for (const id of ["files", "folder"]) {
  const input = document.getElementById(id);
  input.addEventListener("change", () => take(input));
  take(input);
}

/** Collect all files below a dropped entry. */
async function walk(entry, into) {
  if (entry.isFile) {
    const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
    into.push({ file, path: entry.fullPath.replace(/^\//, "") });
    return;
  }
  const reader = entry.createReader();
  for (;;) {
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!some.length) return;
    for (const each of some) await walk(each, into);
  }
}

box.addEventListener("dragover", (event) => {
  event.preventDefault();
  box.classList.add("over");
});
box.addEventListener("dragleave", () => box.classList.remove("over"));
box.addEventListener("drop", async (event) => {
  event.preventDefault();
  box.classList.remove("over");
  const entries = Array.from(event.dataTransfer.items, (item) => item.webkitGetAsEntry()).filter(Boolean);
  const found = [];
  for (const entry of entries) await walk(entry, found);
  add(found);
});
addEventListener("beforeunload", (event) => {
  if (busy) event.preventDefault();
});
