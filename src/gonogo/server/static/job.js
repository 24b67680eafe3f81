// A training run: asks how far it is, once a second, and puts the answer in place.

const POLL_MS = 1000;

const job = document.getElementById("job");
const log = document.getElementById("job-log");
const lost = document.getElementById("job-lost");
const announce = document.getElementById("job-announce");
let phase = "";

function show(told) {
  job.innerHTML = told.piece; // escaped by the server's templates
  if (log.textContent !== told.log) {
    const atEnd = log.scrollTop + log.clientHeight > log.scrollHeight - 40;
    log.textContent = told.log;
    if (atEnd) log.scrollTop = log.scrollHeight;
  }
  if (told.phase !== phase) {
    phase = told.phase;
    announce.textContent = job.querySelector("[aria-current], .alert, .note, h2")?.textContent ?? "";
  }
  if (told.over) document.getElementById("job-cancel").hidden = true;
}

async function ask() {
  try {
    const answer = await fetch(job.dataset.state);
    if (answer.status === 401) location.reload(); // the session ended: the server shows the login
    if (!answer.ok) throw new Error(answer.status);
    const told = await answer.json();
    lost.hidden = true;
    show(told);
    if (!told.over) setTimeout(ask, POLL_MS);
  } catch {
    lost.hidden = false;
    setTimeout(ask, 3 * POLL_MS);
  }
}

log.scrollTop = log.scrollHeight;
if (!job.dataset.over) ask();
