// Describes a picture's label in one line.

/** @param {object} row @param {DOMStringMap} text the page's texts */
export function words(row, text) {
  const label = row.present === false ? text.none : row.label === "good" ? text.good : row.label === "bad" ? text.bad : text.open;
  const lines = [row.defect ? `${label}: ${row.defect}` : label];
  if (row.box_xyxy || row.quad) {
    const [x1, y1, x2, y2] = row.box_xyxy ?? bounds(row.quad);
    const values = { x: x1, y: y1, w: x2 - x1, h: y2 - y1 };
    lines.push(text.region.replace(/\{(\w+)\}/g, (_, name) => Math.round(values[name])));
  }
  return lines.join(" · ");
}

function bounds(quad) {
  const [xs, ys] = [0, 1].map((axis) => quad.map((corner) => corner[axis]));
  return [Math.min(...xs), Math.min(...ys), Math.max(...xs), Math.max(...ys)];
}
