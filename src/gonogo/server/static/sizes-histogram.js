// A histogram of one size over the pictures of a data set: good pictures above the axis, bad ones below it.

import { make } from "./label-stage.js";

const [LEFT, RIGHT, MIDDLE, HALF] = [8, 312, 66, 56];
const BINS = 24;

/**
 * @param {SVGSVGElement} svg with a title
 * @param {[number, boolean][]} values the size and whether the picture is bad; 0 if nothing was measured
 * @param {number[]} limits
 * @param {{unit: string, good: string, bad: string, pictures: string}} words
 */
export function histogram(svg, values, limits, { unit, good, bad, pictures }) {
  const most = Math.max(...values.map(([value]) => value), ...limits, 1e-6) * 1.04;
  const counts = [false, true].map((wanted) => {
    const bins = new Array(BINS).fill(0);
    for (const [value, isBad] of values) if (isBad === wanted) bins[Math.min(BINS - 1, Math.floor((value / most) * BINS))] += 1;
    return bins;
  });
  const highest = Math.max(...counts.flat(), 1);
  const width = (RIGHT - LEFT) / BINS;
  const title = svg.querySelector("title");
  svg.replaceChildren(title);
  counts.forEach((bins, isBad) =>
    bins.forEach((count, bin) => {
      const height = count && Math.max(2, (HALF * count) / highest);
      if (count) make("rect", { x: LEFT + bin * width + 0.5, y: isBad ? MIDDLE : MIDDLE - height, width: width - 1, height, class: isBad ? "bar-bad" : "bar-good" }, svg);
    }),
  );
  make("line", { x1: LEFT, x2: RIGHT, y1: MIDDLE, y2: MIDDLE, class: "axis" }, svg);
  for (const limit of limits) {
    const x = LEFT + (limit / most) * (RIGHT - LEFT);
    make("line", { x1: x, x2: x, y1: MIDDLE - HALF - 4, y2: MIDDLE + HALF + 4, class: "limit-line" }, svg);
  }
  for (const share of [0, 0.5, 1]) {
    const text = make("text", { x: LEFT + share * (RIGHT - LEFT), y: 142, "text-anchor": ["start", "middle", "end"][share * 2] }, svg);
    text.textContent = `${(share * most).toPrecision(2)} ${unit}`;
  }
  const number = (isBad) => values.filter(([, each]) => each === isBad).length;
  title.textContent = `${good}: ${number(false)} ${pictures}, ${bad}: ${number(true)} ${pictures}; 0 – ${most.toPrecision(2)} ${unit}`;
}
