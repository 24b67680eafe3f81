// Order of the pictures: as uploaded, or the most doubtful first.

const POLL_MS = 1500;

/** Whether the picture is labelled. */
export const decided = (row) => row.label !== undefined || row.present === false;

export class Order {
  /**
   * @param {string} path URL of the doubts
   * @param {Map<string, object>} rows the records by file
   * @param {function(object): void} ranked called with the server's progress after each update
   */
  constructor(path, rows, ranked) {
    Object.assign(this, { path, rows, ranked });
    this.by = "file";
    this.doubt = {};
    this.others = {}; // by file: who else has it open
    this.held = new Set(); // open or reserved elsewhere
  }

  /** Every file in the order shown: as uploaded, or the unlabelled ones by doubt and then the others. */
  files() {
    const files = [...this.rows.keys()];
    if (this.by === "file") return files;
    const rank = (file) => (decided(this.rows.get(file)) ? Infinity : (this.doubt[file] ?? 1e9));
    return files.map((file) => [rank(file), file]).sort((one, other) => (one[0] === other[0] ? 0 : one[0] - other[0])).map(([, file]) => file);
  }

  /** The next unlabelled picture that no one else has open or reserved. */
  upcoming(from) {
    const files = this.files();
    const start = this.by === "file" ? files.indexOf(from) : -1;
    const around = [...files.slice(start + 1), ...files.slice(0, start + 1)].filter((file) => file !== from && !decided(this.rows.get(file)));
    return around.find((file) => !this.held.has(file));
  }

  /** The picture at an offset; null beyond the ends. */
  beside(file, places) {
    const files = this.files();
    return files[files.indexOf(file) + places];
  }

  /** @param {"file"|"doubt"} by */
  choose(by) {
    this.by = by;
    this.rank();
  }

  async rank() {
    if (this.by !== "doubt") return;
    const answer = await fetch(this.path).catch(() => null);
    const result = answer?.ok ? await answer.json() : null;
    if (result && this.by === "doubt") {
      this.doubt = result.doubt;
      this.ranked(result);
      if (!result.waiting) return;
    }
    setTimeout(() => this.rank(), POLL_MS);
  }
}
