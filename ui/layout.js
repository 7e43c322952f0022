// A justified gallery: rows that fill the width exactly, each picture in its own proportions, heights as near as can be to the wanted one.
// Breaks are chosen over all rows together (least squares by dynamic programming) rather than greedily, so that a chunk of a long list
// fills its last row too and chunks join without a seam.

/** Proportions beyond these are cut at the edges: no slivers, no ribbons. */
const NARROWEST = 0.62;
const WIDEST = 2.6;

/** Width by height of what stands in the gallery for an item; a text takes the more room the longer its passage is. */
export function ratioOf({ kind, metadata, snippet }) {
  if ((kind === 'image' || kind === 'video') && metadata?.width > 0 && metadata?.height > 0) {
    return Math.max(NARROWEST, Math.min(WIDEST, metadata.width / metadata.height));
  }
  if (kind === 'text') return Math.min(1.6, 0.95 + (snippet?.length || 0) / 200);
  return { image: 1.33, video: 1.6, audio: 1.7, series: 1.7, shape: 1 }[kind] || 1.3;
}

/**
 * Rows of `ratios`: [{start, end, height, full}]. The last row fills the width too unless `ragged`, as at the end of a list.
 */
export function justify(ratios, width, wanted, gap, ragged) {
  const n = ratios.length;
  if (n === 0) return [];
  const cost = new Float64Array(n + 1).fill(Infinity);
  const from = new Int32Array(n + 1);
  cost[0] = 0;
  for (let start = 0; start < n; start++) {
    if (cost[start] === Infinity) continue;
    let sum = 0;
    for (let end = start + 1; end <= n; end++) {
      sum += ratios[end - 1];
      const height = (width - gap * (end - start - 1)) / sum;
      const last = end === n;
      let c;
      if (last && ragged && height >= wanted) c = 0;
      else c = ((height - wanted) / wanted) ** 2 * (height > wanted ? 1 : 2);
      if (cost[start] + c < cost[end]) {
        cost[end] = cost[start] + c;
        from[end] = start;
      }
      if (height < wanted * 0.45 && end > start + 1) break;
    }
  }
  const rows = [];
  for (let end = n; end > 0; end = from[end]) {
    const start = from[end];
    let sum = 0;
    for (let i = start; i < end; i++) sum += ratios[i];
    const natural = (width - gap * (end - start - 1)) / sum;
    const loose = end === n && ragged && natural > wanted;
    rows.push({ start, end, height: loose ? Math.min(wanted, natural) : Math.min(natural, wanted * 2.2), full: !loose });
  }
  return rows.reverse();
}

/** How high `n` items will be, before anything is known of them. */
export const guessHeight = (n, width, wanted, gap, extra) =>
  Math.ceil(n / Math.max(1, width / (wanted * 1.3 + gap))) * (wanted + extra + gap);
