// Geometry of regions and outlines, in frame pixels.

export const round = (value) => Math.round(value * 100) / 100;

/** Read a region from a record: centre, sides, angle. */
export function regionOf({ box_xyxy: box, quad }) {
  if (quad) {
    const [a, b, c, d] = quad;
    const middle = [0, 1].map((axis) => (a[axis] + b[axis] + c[axis] + d[axis]) / 4);
    const right = [b[0] - a[0] + c[0] - d[0], b[1] - a[1] + c[1] - d[1]].map((value) => value / 2);
    const down = [d[0] - a[0] + c[0] - b[0], d[1] - a[1] + c[1] - b[1]].map((value) => value / 2);
    const angle = Math.atan2(right[1], right[0]);
    return { x: middle[0], y: middle[1], w: Math.hypot(...right), h: Math.hypot(...down), angle, turned: true };
  }
  if (!box) return null;
  const [x1, y1, x2, y2] = box;
  return { x: (x1 + x2) / 2, y: (y1 + y2) / 2, w: x2 - x1, h: y2 - y1, angle: 0, turned: false };
}

/** Corners of a region, clockwise from its own top left. */
export function cornersOf({ x, y, w, h, angle }) {
  const [cos, sin] = [Math.cos(angle), Math.sin(angle)];
  return [[-1, -1], [1, -1], [1, 1], [-1, 1]].map(([u, v]) => [
    round(x + (u * w * cos - v * h * sin) / 2),
    round(y + (u * w * sin + v * h * cos) / 2),
  ]);
}

/** Convert a region to the fields of a record. */
export function saidOf(region) {
  if (!region) return { box_xyxy: null, quad: null };
  const corners = cornersOf(region);
  if (region.turned) return { box_xyxy: null, quad: corners };
  return { box_xyxy: [...corners[0], ...corners[2]], quad: null };
}

/** Simplify an outline to a tolerance (Douglas-Peucker). */
export function thinned(points, tolerance) {
  if (points.length < 3) return points;
  const [first, last] = [points[0], points.at(-1)];
  const length = Math.hypot(last[0] - first[0], last[1] - first[1]);
  let [worst, at] = [0, 0];
  for (let row = 1; row < points.length - 1; row += 1) {
    const [dx, dy] = [points[row][0] - first[0], points[row][1] - first[1]];
    const away = length ? Math.abs((last[0] - first[0]) * dy - (last[1] - first[1]) * dx) / length : Math.hypot(dx, dy);
    if (away > worst) [worst, at] = [away, row];
  }
  if (worst <= tolerance) return [first, last];
  return [...thinned(points.slice(0, at + 1), tolerance).slice(0, -1), ...thinned(points.slice(at), tolerance)];
}
