// A browser starts no worker for a page that was opened from a folder. The search then runs in a hidden frame instead.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    #frame = document.createElement("iframe");
    #ready;
    onmessage = null;

    constructor(url) {
      super();
      this.#frame.hidden = true;
      this.#ready = new Promise((resolve) => this.#frame.addEventListener("load", resolve, { once: true }));
      const prepare = `
        importScripts = (...urls) => Promise.all(urls.map((url) => new Promise((loaded, failed) => {
          const script = document.createElement("script");
          script.src = url; script.onload = loaded; script.onerror = failed;
          document.head.append(script);
        })));
        postMessage = (data) => frameElement.answer(data);`;
      const page = document.createElement("base");
      page.href = document.baseURI;
      this.#frame.answer = (data) => {
        const event = new MessageEvent("message", { data });
        this.dispatchEvent(event);
        this.onmessage?.(event);
      };
      this.#frame.srcdoc = `<head>${page.outerHTML}<script>${prepare}</` + `script><script src="${new URL(url, document.baseURI)}"></` + "script></head>";
      document.addEventListener("DOMContentLoaded", () => document.body.append(this.#frame), { once: true });
      if (document.body) document.body.append(this.#frame);
    }

    postMessage(data) {
      this.#ready.then(() => this.#frame.contentWindow.dispatchEvent(new MessageEvent("message", { data })));
    }

    terminate() {
      this.#frame.remove();
    }
  };
}
