// Saves labels without losing any: one request at a time per picture, retried until the server has confirmed it.
// Unconfirmed labels are also stored in the browser, so closing the page loses nothing.

const RETRY_MS = 2000;

const token = document.querySelector('meta[name="csrf"]').content;

export class Saver {
  /**
   * @param {{path: string, store: string, rows: Map<string, object>}} where `store` names the browser's own copy
   * @param {{state: function("saved"|"saving"|"unsaved"): void, saved: function(object): void,
   *   conflict: function(object, object): void, refused: function(string, string): void}} listener
   */
  constructor(where, listener) {
    this.where = where;
    this.listener = listener;
    this.waiting = new Map(JSON.parse(localStorage.getItem(where.store) ?? "[]"));
    this.busy = false;
    this.lost = false;
    this.leaving = false;
    addEventListener("online", () => this.work());
    addEventListener("beforeunload", (event) => {
      if (this.waiting.size && !this.leaving) event.preventDefault();
    });
    if (this.waiting.size) this.work();
  }

  /** Whether a picture has an unconfirmed label. */
  holds(file) {
    return this.waiting.has(file);
  }

  /** Save a picture's complete label; replaces a waiting one of the same picture. */
  put(file, values) {
    // The revision that the user saw; if a save is in progress, the revision that it produces.
    const revision = this.waiting.get(file)?.revision ?? this.where.rows.get(file).revision;
    this.waiting.set(file, { file, ...values, revision });
    this.keep();
    this.work();
  }

  keep() {
    if (this.waiting.size) localStorage.setItem(this.where.store, JSON.stringify([...this.waiting]));
    else localStorage.removeItem(this.where.store);
    this.listener.state(!this.waiting.size ? "saved" : this.lost ? "unsaved" : "saving");
  }

  async work() {
    if (this.busy) return;
    this.busy = true;
    while (this.waiting.size) {
      const [file, decision] = this.waiting.entries().next().value;
      let answer;
      let result;
      try {
        answer = await fetch(this.where.path, {
          method: "POST",
          headers: { "Content-Type": "application/json", "X-CSRF-Token": token },
          body: JSON.stringify(decision),
        });
        result = await answer.json();
      } catch {
        answer = null;
      }
      const out = answer?.status === 401 || answer?.status === 403;
      if (out) {
        // Logged out, or logged in again elsewhere: the next page sends the waiting labels.
        this.leaving = true;
        location.reload();
      }
      if (!answer || out || answer.status >= 500) {
        this.lost = true;
        this.keep();
        await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
        continue;
      }
      this.lost = false;
      this.settle(file, decision, answer, result);
      this.keep();
    }
    this.busy = false;
  }

  settle(file, decision, answer, result) {
    const newer = this.waiting.get(file);
    if (answer.ok) {
      if (newer === decision) this.waiting.delete(file);
      else newer.revision = result.row.revision;
      this.listener.saved(result.row);
      return;
    }
    this.waiting.delete(file);
    if (answer.status === 409) this.listener.conflict(newer, result);
    else this.listener.refused(file, result.message);
  }
}
