// A training run: polls its progress once a second and updates the page.

const POLL_MS = 1000;

const job = document.getElementById("job");
const log = document.getElementById("job-log");
const lost = document.getElementById("job-lost");
const announce = document.getElementById("job-announce");
let phase = "";

function show(update) {
  job.innerHTML = update.piece; // escaped by the server's templates
  if (log.textContent !== update.log) {
    const atEnd = log.scrollTop + log.clientHeight > log.scrollHeight - 40;
    log.textContent = update.log;
    if (atEnd) log.scrollTop = log.scrollHeight;
  }
  if (update.phase !== phase) {
    phase = update.phase;
    announce.textContent = job.querySelector("[aria-current], .alert, .note, h2")?.textContent ?? "";
  }
  if (update.over) document.getElementById("job-cancel").hidden = true;
  document.getElementById("job-resume").hidden = !["failed", "cancelled"].includes(update.phase);
}

async function ask() {
  try {
    const answer = await fetch(job.dataset.state);
    if (answer.status === 401) location.reload(); // the session ended: the server shows the login
    if (!answer.ok) throw new Error(answer.status);
    const update = await answer.json();
    lost.hidden = true;
    show(update);
    if (!update.over) setTimeout(ask, POLL_MS);
  } catch {
    lost.hidden = false;
    setTimeout(ask, 3 * POLL_MS);
  }
}

log.scrollTop = log.scrollHeight;
if (!job.dataset.over) ask();
