// Pictures of a data set, prefetched; the last few stay in memory.

const KEPT = 5;

export class Photos {
  /**
   * @param {function(string): string} URL of a file's picture
   * @param {string} unreadable message if the server gives none
   */
  constructor(address, unreadable) {
    this.address = address;
    this.unreadable = unreadable;
    this.loaded = new Map(); // by file: promise of {url, size}
  }

  /**
   * @param {string} file
   * @param {string} current the file shown, which is never evicted
   * @returns {Promise<{url: string, size: number[]}>} size: of the picture itself, in pixels
   * @throws {TypeError} without a connection; any other error describes the problem with the picture
   */
  load(file, current) {
    if (!this.loaded.has(file)) {
      const found = this.fetch(file);
      found.catch(() => this.loaded.delete(file));
      this.loaded.set(file, found);
      for (const old of [...this.loaded.keys()].slice(0, -KEPT)) if (old !== current) this.forget(old);
    }
    return this.loaded.get(file);
  }

  async fetch(file) {
    const answer = await fetch(this.address(file));
    if (!answer.ok) throw new Error((await answer.json().catch(() => ({}))).message ?? this.unreadable);
    const size = answer.headers.get("X-Picture-Size").split(" ").map(Number);
    return { url: URL.createObjectURL(await answer.blob()), size };
  }

  forget(file) {
    this.loaded.get(file).then(({ url }) => URL.revokeObjectURL(url), () => {});
    this.loaded.delete(file);
  }
}
