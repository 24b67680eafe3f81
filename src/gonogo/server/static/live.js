// A stream of server-sent events with a watchdog, so that a live page notices a lost connection.

const SILENCE_MS = 6000; // three heartbeats
const RETRY_MS = 3000;

/**
 * Keep a stream open.
 *
 * @param {string} path a `data` route that sends `beat` events at least every two seconds
 * @param {Object<string, function(object): void>} handlers by event name; each gets the parsed JSON
 * @param {function("waiting"|"live"|"lost", Date): void} onState called on a change, with the time of the last event
 */
export function follow(path, handlers, onState) {
  let source;
  let heardAt = Date.now();
  let state = "waiting";

  const become = (next) => {
    if (next === state) return;
    state = next;
    onState(state, new Date(heardAt));
  };
  const heard = () => {
    heardAt = Date.now();
    become("live");
  };
  const open = () => {
    source?.close();
    source = new EventSource(path);
    source.addEventListener("beat", heard);
    source.addEventListener("goodbye", () => location.reload()); // the session ended: the server shows the login
    for (const [name, handle] of Object.entries(handlers)) {
      source.addEventListener(name, (event) => {
        heard();
        handle(JSON.parse(event.data));
      });
    }
    // A refusal closes the stream permanently; only then it must be reopened here.
    source.addEventListener("error", () => {
      if (source.readyState === EventSource.CLOSED) setTimeout(open, RETRY_MS);
    });
  };

  setInterval(() => {
    if (Date.now() - heardAt > SILENCE_MS) become("lost");
  }, 500);
  addEventListener("pagehide", () => source.close());
  addEventListener("pageshow", (event) => {
    if (event.persisted) open();
  });
  open();
}
