// Tries the zones of the zones page, saved or not: on the picture that is shown, and on all pictures of the data set.

import { send } from "./gonogo.js";

const PAUSE_MS = 350; // after the last change
const POLL_MS = 500;

export class ZoneTrial {
  /**
   * @param {{path: string, request: function(): object, read: function(Map<string, object>): void, refused: function(Error): void, open: function(string): void}} page
   *   `request` gives the drawn zones; `read` gets what each code zone says in the picture; `open` shows a picture.
   */
  constructor(page) {
    this.page = page;
    this.asked = "";
    this.button = document.getElementById("try");
    this.piece = document.getElementById("trial");
    this.button.onclick = () => this.tryAll();
    this.piece.addEventListener("click", (event) => {
      const { file } = event.target.closest("[data-file]")?.dataset ?? {};
      if (file) page.open(file);
    });
  }

  /** Read the codes in the picture, soon after the last change. */
  soon(file) {
    const request = this.page.request();
    if (this.tried && this.tried !== JSON.stringify(request)) this.forget();
    const codes = request.zones.filter((zone) => zone.kind === "code");
    const asked = JSON.stringify([file, codes]);
    if (asked === this.asked) return;
    this.asked = asked;
    clearTimeout(this.timer);
    if (!codes.length) return this.page.read(new Map());
    this.timer = setTimeout(() => this.readCodes(asked, { ...request, zones: codes, file }), PAUSE_MS);
  }

  async readCodes(asked, body) {
    let found;
    try {
      ({ codes: found } = await send(`${this.page.path}/zones/try`, body, { quiet: true }));
    } catch (error) {
      found = body.zones.map((zone) => ({ zone: zone.name, text: "", why: error.message, named: {} }));
    }
    if (asked === this.asked) this.page.read(new Map(found.map((each) => [each.zone, each])));
  }

  /** A result of other zones says nothing any more. */
  forget() {
    this.tried = "";
    this.piece.replaceChildren();
  }

  async tryAll() {
    this.button.disabled = true;
    const request = this.page.request();
    const mine = (this.tried = JSON.stringify(request));
    try {
      for (;;) {
        const { busy, piece } = await send(`${this.page.path}/zones/try`, request, { quiet: true });
        if (this.tried !== mine) break;
        this.piece.innerHTML = piece; // escaped by the server's templates
        if (!busy) break;
        await new Promise((done) => setTimeout(done, POLL_MS));
      }
    } catch (error) {
      this.forget();
      this.page.refused(error);
    }
    this.button.disabled = false;
  }
}
