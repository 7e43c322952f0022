// A plain map for places: a graticule without tiles (the page works offline and asks nobody), dots where things were taken,
// and a rectangle to filter by. Drag draws it; four numbers do the same by keyboard.
import { coloursOf, h } from './dom.js';
import { t } from './i18n.js';

const STEPS = [45, 30, 15, 10, 5, 2, 1, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01];

/** `places` are {latitude, longitude}; `box` the rectangle or null; `onChange(box or null)`. */
export function placesMap({ places, box, onChange }) {
  const canvas = h('canvas', { class: 'places-canvas', role: 'img', 'aria-label': t('places.map', { n: places.length }) });
  const inputs = {};
  const number = (side, low, high) => {
    inputs[side] = h('input', {
      type: 'number',
      min: low,
      max: high,
      step: 'any',
      value: box ? box[side] : '',
      on: { change: fromInputs },
    });
    return h('label', { class: 'mini-label' }, h('span', { text: t(`places.${side}`) }), inputs[side]);
  };
  const el = h(
    'div',
    { class: 'places' },
    canvas,
    h('p', { class: 'muted small', text: t('places.hint') }),
    h(
      'div',
      { class: 'places-inputs' },
      number('south', -90, 90),
      number('north', -90, 90),
      number('west', -180, 180),
      number('east', -180, 180),
    ),
  );

  function fromInputs() {
    const values = Object.fromEntries(
      Object.entries(inputs).map(([side, input]) => [side, input.value === '' ? null : Number(input.value)]),
    );
    if (Object.values(values).every((v) => v === null)) onChange(null);
    else if (Object.values(values).every((v) => v !== null && Number.isFinite(v)) && values.south <= values.north)
      onChange(values);
  }

  // What is shown: the places with a margin, at least a few degrees.
  const lats = places.map((p) => p.latitude).concat(box ? [box.south, box.north] : []);
  const lons = places.map((p) => p.longitude).concat(box ? [box.west, box.east] : []);
  const reduce = (list, f, otherwise) => (list.length ? list.reduce((a, b) => f(a, b)) : otherwise);
  let [south, north, west, east] = [
    reduce(lats, Math.min, -60),
    reduce(lats, Math.max, 75),
    reduce(lons, Math.min, -180),
    reduce(lons, Math.max, 180),
  ];
  const pad = (low, high, least, min, max) => {
    const more = Math.max((high - low) * 0.12, (least - (high - low)) / 2, 0);
    return [Math.max(min, low - more), Math.min(max, high + more)];
  };
  [south, north] = pad(south, north, 4, -90, 90);
  [west, east] = pad(west, east, 6, -180, 180);
  let drag = null;

  const size = () => [canvas.clientWidth || 240, canvas.clientHeight || 150];
  const toX = (longitude, w) => ((longitude - west) / (east - west)) * w;
  const toY = (latitude, hgt) => ((north - latitude) / (north - south)) * hgt;
  const toPlace = (event) => {
    const frame = canvas.getBoundingClientRect();
    const fx = Math.max(0, Math.min(1, (event.clientX - frame.left) / frame.width));
    const fy = Math.max(0, Math.min(1, (event.clientY - frame.top) / frame.height));
    return { longitude: west + fx * (east - west), latitude: north - fy * (north - south) };
  };

  function draw() {
    const [w, hgt] = size();
    const scale = Math.min(2, devicePixelRatio || 1);
    canvas.width = w * scale;
    canvas.height = hgt * scale;
    const g = canvas.getContext('2d');
    g.scale(scale, scale);
    const colours = coloursOf(['line', 'muted', 'accent']);
    g.strokeStyle = colours.line;
    g.fillStyle = colours.muted;
    g.lineWidth = 1;
    g.font = '10px system-ui, sans-serif';
    const step = (range, n) => STEPS.findLast((s) => range / s <= n) ?? 45;
    const [dx, dy] = [step(east - west, 6), step(north - south, 5)];
    const label = (v, plus, minus) => `${Math.abs(Number(v.toFixed(2)))}°${v > 0 ? plus : v < 0 ? minus : ''}`;
    for (let lon = Math.ceil(west / dx) * dx; lon <= east; lon += dx) {
      const x = Math.round(toX(lon, w)) + 0.5;
      g.beginPath();
      g.moveTo(x, 0);
      g.lineTo(x, hgt);
      g.stroke();
      g.fillText(label(lon, 'E', 'W'), x + 3, hgt - 4);
    }
    for (let lat = Math.ceil(south / dy) * dy; lat <= north; lat += dy) {
      const y = Math.round(toY(lat, hgt)) + 0.5;
      g.beginPath();
      g.moveTo(0, y);
      g.lineTo(w, y);
      g.stroke();
      g.fillText(label(lat, 'N', 'S'), 3, y - 3);
    }
    g.fillStyle = colours.accent;
    g.globalAlpha = 0.55;
    for (const p of places) {
      g.beginPath();
      g.arc(toX(p.longitude, w), toY(p.latitude, hgt), 2.6, 0, 7);
      g.fill();
    }
    g.globalAlpha = 1;
    if (box) {
      const [x, y] = [toX(box.west, w), toY(box.north, hgt)];
      const [bw, bh] = [toX(box.east, w) - x, toY(box.south, hgt) - y];
      g.fillStyle = colours.accent;
      g.globalAlpha = 0.14;
      g.fillRect(x, y, bw, bh);
      g.globalAlpha = 1;
      g.strokeStyle = colours.accent;
      g.lineWidth = 1.5;
      g.strokeRect(x, y, bw, bh);
    }
  }

  canvas.addEventListener('pointerdown', (event) => {
    drag = toPlace(event);
    canvas.setPointerCapture(event.pointerId);
    event.preventDefault();
  });
  canvas.addEventListener('pointermove', (event) => {
    if (!drag) return;
    const to = toPlace(event);
    const round = (v) => Number(v.toFixed(3));
    box = {
      south: round(Math.min(drag.latitude, to.latitude)),
      north: round(Math.max(drag.latitude, to.latitude)),
      west: round(Math.min(drag.longitude, to.longitude)),
      east: round(Math.max(drag.longitude, to.longitude)),
    };
    draw();
  });
  canvas.addEventListener('pointerup', () => {
    drag = null;
    if (box && (box.east - box.west) / (east - west) > 0.01 && (box.north - box.south) / (north - south) > 0.01) {
      for (const [side, input] of Object.entries(inputs)) input.value = box[side];
      onChange(box);
    }
  });
  new ResizeObserver(draw).observe(canvas);
  return el;
}
