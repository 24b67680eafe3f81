// Magnetic lasso: the cheapest path along edges between two points of a picture, after Mortensen and Barrett,
// "Intelligent scissors for image composition", 1995. Costs are small integers, so that a queue of buckets suffices.

const REACH = 320; // half side of the searched window, in pixels of the picture shown
const MOST_COST = 64;
const STRONG = 0.97; // share of the window's gradients below the strength that counts as a full edge
const STEPS = [[1, 0, 2], [-1, 0, 2], [0, 1, 2], [0, -1, 2], [1, 1, 3], [1, -1, 3], [-1, 1, 3], [-1, -1, 3]]; // 3 / 2 is about the root of 2
const BUCKETS = MOST_COST * 3 + 1;

export class Livewire {
  /**
   * Read the pixels of a picture.
   *
   * @param {string} url
   * @param {number[]} size width and height in frame pixels; the picture at the address may be smaller
   */
  static async of(url, size) {
    const image = new Image();
    image.src = url;
    await image.decode();
    const [width, height] = [image.naturalWidth, image.naturalHeight];
    const canvas = new OffscreenCanvas(width, height);
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(image, 0, 0);
    return new Livewire(context.getImageData(0, 0, width, height), size);
  }

  /** @param {ImageData} pixels @param {number[]} size width and height in frame pixels */
  constructor({ data, width, height }, size) {
    Object.assign(this, { width, height, scale: [size[0] / width, size[1] / height] });
    this.grey = new Float32Array(width * height);
    for (let at = 0; at < this.grey.length; at += 1) this.grey[at] = data[4 * at] * 0.299 + data[4 * at + 1] * 0.587 + data[4 * at + 2] * 0.114;
    this.search = null;
  }

  /** Strength of the edge at a pixel: Sobel's gradient. */
  edge(x, y) {
    const { grey, width, height } = this;
    const [left, right] = [Math.max(x - 1, 0), Math.min(x + 1, width - 1)];
    const [above, below] = [Math.max(y - 1, 0) * width, Math.min(y + 1, height - 1) * width];
    const row = y * width;
    const across = grey[above + right] + 2 * grey[row + right] + grey[below + right] - grey[above + left] - 2 * grey[row + left] - grey[below + left];
    const down = grey[below + left] + 2 * grey[below + x] + grey[below + right] - grey[above + left] - 2 * grey[above + x] - grey[above + right];
    return Math.hypot(across, down);
  }

  /** The pixel of a point in frame pixels. */
  pixel([x, y]) {
    const inside = (value, most) => Math.min(Math.max(Math.floor(value), 0), most - 1);
    return [inside(x / this.scale[0], this.width), inside(y / this.scale[1], this.height)];
  }

  point(x, y) {
    return [(x + 0.5) * this.scale[0], (y + 0.5) * this.scale[1]];
  }

  /** The strongest edge within a radius in frame pixels, the nearer the better; the point itself if there is none. */
  snapped(at, radius) {
    const [x, y] = this.pixel(at);
    const reach = Math.max(1, Math.round(radius / this.scale[0]));
    let [best, found] = [0, null];
    for (let v = Math.max(y - reach, 0); v <= Math.min(y + reach, this.height - 1); v += 1) {
      for (let u = Math.max(x - reach, 0); u <= Math.min(x + reach, this.width - 1); u += 1) {
        const away = Math.hypot(u - x, v - y) / reach;
        const value = away > 1 ? 0 : this.edge(u, v) * (1 - 0.5 * away);
        if (value > best) [best, found] = [value, [u, v]];
      }
    }
    return found ? this.point(...found) : at;
  }

  /** Begin at a point in frame pixels. */
  start(at) {
    const [x, y] = this.pixel(at);
    const [left, top] = [Math.max(x - REACH, 0), Math.max(y - REACH, 0)];
    const wide = Math.min(x + REACH, this.width - 1) - left + 1;
    const high = Math.min(y + REACH, this.height - 1) - top + 1;
    const strength = new Float32Array(wide * high);
    for (let v = 0; v < high; v += 1) for (let u = 0; u < wide; u += 1) strength[v * wide + u] = this.edge(left + u, top + v);
    const sorted = strength.slice().sort();
    const full = Math.max(sorted[Math.floor((sorted.length - 1) * STRONG)], 1);
    const cost = new Uint8Array(strength.length);
    for (let node = 0; node < cost.length; node += 1) cost[node] = 1 + Math.round((MOST_COST - 1) * (1 - Math.min(1, strength[node] / full)));
    const total = new Int32Array(cost.length).fill(-1);
    const came = new Int32Array(cost.length).fill(-1);
    const done = new Uint8Array(cost.length);
    const buckets = Array.from({ length: BUCKETS }, () => []);
    const first = (y - top) * wide + (x - left);
    total[first] = 0;
    buckets[0].push(first);
    this.search = { at, left, top, wide, high, cost, total, came, done, buckets, level: 0, waiting: 1 };
  }

  /** The path from the start to a point, both in frame pixels; the start is left out. Straight beyond the window. */
  path(to) {
    const search = this.search;
    if (!search) return [to];
    const [x, y] = this.pixel(to);
    const [u, v] = [Math.min(Math.max(x - search.left, 0), search.wide - 1), Math.min(Math.max(y - search.top, 0), search.high - 1)];
    const target = v * search.wide + u;
    this.reach(target);
    const found = [];
    for (let node = target; node >= 0 && search.came[node] >= 0; node = search.came[node]) {
      found.push(this.point(search.left + (node % search.wide), search.top + Math.floor(node / search.wide)));
    }
    found.reverse();
    const beyond = search.left + u !== x || search.top + v !== y;
    return beyond ? [...found, to] : found;
  }

  /** Dijkstra's algorithm, continued until a node is settled. */
  reach(target) {
    const search = this.search;
    const { wide, high, cost, total, came, done, buckets } = search;
    while (!done[target] && search.waiting) {
      const bucket = buckets[search.level % BUCKETS];
      if (!bucket.length) {
        search.level += 1;
        continue;
      }
      const node = bucket.pop();
      search.waiting -= 1;
      if (done[node]) continue;
      done[node] = 1;
      const [x, y] = [node % wide, Math.floor(node / wide)];
      for (const [dx, dy, length] of STEPS) {
        const [u, v] = [x + dx, y + dy];
        if (u < 0 || v < 0 || u >= wide || v >= high) continue;
        const next = v * wide + u;
        if (done[next]) continue;
        const sum = total[node] + cost[next] * length;
        if (total[next] >= 0 && total[next] <= sum) continue;
        total[next] = sum;
        came[next] = node;
        buckets[sum % BUCKETS].push(next);
        search.waiting += 1;
      }
    }
  }
}
