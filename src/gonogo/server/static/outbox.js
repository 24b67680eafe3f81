// Decisions that the server has not confirmed: stored in the browser, sent in order, retried until confirmed.

import { send } from "./gonogo.js";

const FIRST_RETRY_MS = 1000;
const LONGEST_RETRY_MS = 10000;

export class Outbox {
  /**
   * @param {string} name storage key; includes the user's name, so that no one sends another person's decisions
   * @param {function("saved"|"saving"|"kept", number): void} onState called with the number of stored decisions
   * @param {function(object, Error): void} onRefused called if the server rejects a decision, which is dropped
   */
  constructor(name, onState, onRefused) {
    this.name = name;
    this.onState = onState;
    this.onRefused = onRefused;
    this.waiting = JSON.parse(localStorage.getItem(name) ?? "[]");
    this.sending = false;
    this.retryMs = FIRST_RETRY_MS;
    addEventListener("online", () => this.flush());
    addEventListener("beforeunload", (event) => {
      if (this.waiting.length && !this.leaving) event.preventDefault();
    });
    if (this.waiting.length) this.flush();
  }

  /** Store a decision and send it as soon as possible. */
  add(path, body) {
    this.waiting.push({ path, body });
    this.keep();
    this.flush();
  }

  /** Drop the last decision unless it is being sent; returns whether it was dropped. */
  dropLast(ticket) {
    const last = this.waiting.at(-1);
    if (!last || last.body.ticket !== ticket || (this.sending && this.waiting.length === 1)) return false;
    this.waiting.pop();
    this.keep();
    return true;
  }

  /** Tickets of the stored decisions. */
  tickets() {
    return this.waiting.map((each) => each.body.ticket);
  }

  keep() {
    localStorage.setItem(this.name, JSON.stringify(this.waiting));
  }

  async flush() {
    if (this.sending) return;
    this.sending = true;
    clearTimeout(this.timer);
    while (this.waiting.length) {
      if (this.retryMs === FIRST_RETRY_MS) this.onState("saving", this.waiting.length);
      const next = this.waiting[0];
      try {
        await send(next.path, next.body, { quiet: true });
        this.retryMs = FIRST_RETRY_MS;
      } catch (error) {
        if (this.mayRetry(error)) {
          this.leaving = error.status === 401; // stored decisions are sent after the login
          this.onState("kept", this.waiting.length);
          this.timer = setTimeout(() => this.flush(), this.retryMs);
          this.retryMs = Math.min(this.retryMs * 2, LONGEST_RETRY_MS);
          break;
        }
        this.onRefused(next, error);
      }
      this.waiting.shift();
      this.keep();
    }
    this.sending = false;
    if (!this.waiting.length) this.onState("saved", 0);
  }

  /** No response, a server error or an expired login: the decision itself is not rejected. */
  mayRetry({ status }) {
    return status === 0 || status === 401 || status === 429 || status >= 500;
  }
}
