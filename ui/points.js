// Ten thousand points: drawn by stamping dots into one array of pixels (quick with and without a graphics card), found by a grid, chosen by a polygon.

const CELLS = 96; // of the grid, along each side

/**
 * Draws all points into `pixels` (an ImageData) at `x * scale + dx`, `y * scale + dy`, as dots of radius `r` in the `inks` ([red, green, blue]) of
 * their kinds; kinds that are `hidden` not at all, and where some are `chosen`, the others faintly. Gives the first `most` + 1 that are in view.
 */
export function stampAll(points, pixels, { scale, dx, dy, r, inks, hidden, chosen, most }) {
  const { n, x, y, kind, item } = points;
  const { width, height } = pixels;
  const { size, steps, covers } = stamp(r, width);
  const whole = new Uint32Array(pixels.data.buffer); // alpha, blue, green, red from the top byte down
  whole.fill(0);
  const inView = [];
  const faint = chosen.size > 0;
  for (let i = 0; i < n; i++) {
    const k = kind[i];
    const sx = Math.round(x[i] * scale + dx);
    const sy = Math.round(y[i] * scale + dy);
    if (sx < size || sy < size || sx >= width - size || sy >= height - size || hidden.has(k)) continue;
    if (inView.length <= most) inView.push(i);
    const [red, green, blue] = inks[k];
    const ink = (blue << 16) | (green << 8) | red;
    const strength = faint && !chosen.has(item[i]) ? 56 : 219;
    const middle = sy * width + sx;
    for (let p = 0; p < steps.length; p++) {
      const o = middle + steps[p];
      const alpha = (covers[p] * strength) >> 8;
      const under = whole[o];
      if (under === 0) {
        whole[o] = ((alpha << 24) | ink) >>> 0;
        continue;
      }
      const rest = 256 - alpha;
      const b = (((under >> 16) & 255) * rest + blue * alpha) >> 8;
      const gr = (((under >> 8) & 255) * rest + green * alpha) >> 8;
      const rd = ((under & 255) * rest + red * alpha) >> 8;
      const above = under >>> 24;
      whole[o] = (((above + ((alpha * (255 - above)) >> 8)) << 24) | (b << 16) | (gr << 8) | rd) >>> 0;
    }
  }
  return inView;
}

/** The pixels of a dot: how far in the array they stand from its middle, and how much they cover, 0 to 255. */
function stamp(r, width) {
  const size = Math.ceil(r + 1);
  const at = [];
  for (let y = -size; y <= size; y++) {
    for (let x = -size; x <= size; x++) {
      const cover = Math.max(0, Math.min(1, r + 0.5 - Math.hypot(x, y)));
      if (cover > 0.04) at.push([y * width + x, Math.round(cover * 255)]);
    }
  }
  return { size, steps: Int32Array.from(at, ([step]) => step), covers: Uint8Array.from(at, ([, cover]) => cover) };
}

/** Points sorted into a grid over -1..1, to ask what is near a place. */
export function gridOf({ n, x, y }) {
  const column = (v) => Math.max(0, Math.min(CELLS - 1, Math.floor(((v + 1) / 2) * CELLS)));
  const starts = new Uint32Array(CELLS * CELLS + 1);
  const cell = new Uint32Array(n);
  for (let i = 0; i < n; i++) {
    cell[i] = column(y[i]) * CELLS + column(x[i]);
    starts[cell[i] + 1]++;
  }
  for (let c = 0; c < CELLS * CELLS; c++) starts[c + 1] += starts[c];
  const order = new Uint32Array(n);
  const next = starts.slice();
  for (let i = 0; i < n; i++) order[next[cell[i]]++] = i;
  return {
    *near(px, py, d) {
      for (let row = column(py - d); row <= column(py + d); row++) {
        for (let col = column(px - d); col <= column(px + d); col++) {
          for (let k = starts[row * CELLS + col]; k < starts[row * CELLS + col + 1]; k++) yield order[k];
        }
      }
    },
  };
}

/** Whether a point lies within a polygon, by the even-odd rule. */
export function inside(polygon, x, y) {
  let within = false;
  for (let i = 0, j = polygon.length - 1; i < polygon.length; j = i++) {
    const [xi, yi] = polygon[i];
    const [xj, yj] = polygon[j];
    if (yi > y !== yj > y && x < ((xj - xi) * (y - yi)) / (yj - yi) + xi) within = !within;
  }
  return within;
}
