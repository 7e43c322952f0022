// Building the page without a framework: one helper for HTML, one for SVG, a set of icons, an emitter.
// Data only ever enters as text nodes and attributes, so nothing that a file is called can become markup.

/** An element. `props`: attributes; `class`; `style` as an object; `on` as {event: handler}; `text`. Null and false are left out. */
export function h(tag, props, ...children) {
  return fill(document.createElement(tag), props, children);
}

/** The same for SVG. */
export function s(tag, props, ...children) {
  return fill(document.createElementNS('http://www.w3.org/2000/svg', tag), props, children);
}

function fill(el, props, children) {
  for (const [key, value] of Object.entries(props || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (key === 'on') for (const [event, handler] of Object.entries(value)) el.addEventListener(event, handler);
    else if (key === 'style') for (const [name, v] of Object.entries(value)) el.style.setProperty(name, v);
    else if (key === 'text') el.textContent = value;
    else if (key === 'class') el.setAttribute('class', value);
    else if (key === 'value') el.value = value;
    else el.setAttribute(key, value === true ? '' : String(value));
  }
  el.append(...children.flat(Infinity).filter((c) => c !== null && c !== undefined && c !== false));
  return el;
}

/** Replaces what is in an element. */
export function put(el, ...children) {
  el.replaceChildren(...children.flat(Infinity).filter((c) => c !== null && c !== undefined && c !== false));
  return el;
}

// Drawn for this page on a grid of 24, strokes only.
const ICONS = {
  search: 'M10.5 17a6.5 6.5 0 1 0 0-13 6.5 6.5 0 0 0 0 13zM15.4 15.4 20 20',
  image: 'M4 5.5h16v13H4zM4 16l4.5-4.5 3.5 3.5 3-3 5 4.5M15.5 9.2h.01',
  text: 'M5 6h14M5 10h14M5 14h14M5 18h8',
  audio: 'M4 10v4M8 7v10M12 4v16M16 8v8M20 10.5v3',
  series: 'M3 15c2.5 0 2.5-8 5-8s2.5 11 5 11 2.5-9 4.5-9S20 13 21 13',
  video: 'M4 6h11v12H4zM15 10.5l5-3v9l-5-3',
  shape: 'M12 3.5l7.5 4v8.5L12 20.5 4.5 16V7.5zM4.5 7.5l7.5 4.5 7.5-4.5M12 12v8.5',
  mic: 'M12 14.5a3 3 0 0 0 3-3V6.5a3 3 0 0 0-6 0v5a3 3 0 0 0 3 3zM6.5 11.5a5.5 5.5 0 0 0 11 0M12 17v3.5',
  close: 'M6 6l12 12M18 6 6 18',
  plus: 'M12 5v14M5 12h14',
  minus: 'M5 12h14',
  check: 'M5 12.5l4.5 4.5L19 7.5',
  filter: 'M4 7h10M18 7h2M4 17h2M10 17h10M14 7a2 2 0 1 0 4 0 2 2 0 0 0-4 0zM6 17a2 2 0 1 0 4 0 2 2 0 0 0-4 0z',
  sun: 'M12 16a4 4 0 1 0 0-8 4 4 0 0 0 0 8zM12 3v2M12 19v2M3 12h2M19 12h2M5.6 5.6 7 7M17 17l1.4 1.4M5.6 18.4 7 17M17 7l1.4-1.4',
  moon: 'M19.5 14.5A8 8 0 0 1 9.5 4.5a8 8 0 1 0 10 10z',
  auto: 'M12 20a8 8 0 1 0 0-16 8 8 0 0 0 0 16zM12 4v16M12 8h5.5M12 12h8M12 16h5.5',
  map: 'M6 8.5h.01M9 15h.01M14 7h.01M17 12h.01M13 17h.01M10.5 10.5h.01M18 17.5h.01M5.5 18h.01M18.5 6h.01',
  library: 'M5 5v14M9 5v14M13 5.5l4.5 13.3M3.5 19h17',
  grid: 'M4 5h9v6H4zM16 5h4v6h-4zM4 14h5v5H4zM12 14h8v5h-8z',
  play: 'M8 5.5v13l10.5-6.5z',
  pause: 'M8.5 6v12M15.5 6v12',
  copy: 'M9 9h10v10H9zM15 9V5H5v10h4',
  folder: 'M4 18V6h5.5l2 2.5H20V18z',
  download: 'M12 4v11M7.5 11l4.5 4.5 4.5-4.5M5 19.5h14',
  upload: 'M12 16V5M7.5 9 12 4.5 16.5 9M5 19.5h14',
  tag: 'M4 4.5h8l8 8-7.5 7.5-8.5-8.5zM8 8.5h.01',
  trash: 'M5 7h14M10 7V4.5h4V7M7 7l1 12.5h8L17 7',
  why: 'M9 9.5a3 3 0 1 1 4.5 2.6c-1 .6-1.5 1.2-1.5 2.4M12 18h.01',
  lasso: 'M12 5c4.7 0 8 2.2 8 5s-3.3 5-8 5-8-2.2-8-5 3.3-5 8-5zM8 14.5c0 1-.8 1.7-1.7 1.7S4.5 17 5 18.5 7 20 7.5 20',
  fit: 'M4 9V4h5M15 4h5v5M20 15v5h-5M9 20H4v-5',
  left: 'M14.5 5.5 8 12l6.5 6.5',
  right: 'M9.5 5.5 16 12l-6.5 6.5',
  down: 'M5.5 9.5 12 16l6.5-6.5',
  up: 'M5.5 14.5 12 8l6.5 6.5',
  stop: 'M7 7h10v10H7z',
  warn: 'M12 4 2.8 19.5h18.4zM12 10v4.5M12 17h.01',
  select: 'M4.5 4.5h15v15h-15zM8 12l3 3 5-5.5',
  language: 'M4 6h9M8.5 4v2M11 6c-.6 3.5-3 6.5-6.5 8M6 9.5c1 2 3 3.8 5.5 4.5M12.5 20l4-9.5 4 9.5M14 17h5',
  more: 'M6 12h.01M12 12h.01M18 12h.01',
  like: 'M12 5v14M5 12h14',
  unlike: 'M5 12h14',
  link: 'M10 14a4 4 0 0 0 5.7 0l3-3a4 4 0 0 0-5.7-5.7l-1 1M14 10a4 4 0 0 0-5.7 0l-3 3a4 4 0 0 0 5.7 5.7l1-1',
  out: 'M10 5H5v14h14v-5M14 4.5h5.5V10M19.5 4.5 11 13',
  place:
    'M12 20.5s6.5-5.6 6.5-10.5a6.5 6.5 0 0 0-13 0c0 4.9 6.5 10.5 6.5 10.5zM12 12.3a2.3 2.3 0 1 0 0-4.6 2.3 2.3 0 0 0 0 4.6z',
  key: 'M8 15.5a3.5 3.5 0 1 0 0-7 3.5 3.5 0 0 0 0 7zM11.5 12H20v3M16.5 12v2.5',
  clock: 'M12 20a8 8 0 1 0 0-16 8 8 0 0 0 0 16zM12 8v4.5l3 2',
};

/** An icon; it says nothing to a screen reader, what holds it does. */
export function icon(name, size = 20) {
  const filled = name === 'play' || name === 'stop';
  return s(
    'svg',
    {
      class: filled ? 'icon filled' : 'icon',
      width: size,
      height: size,
      viewBox: '0 0 24 24',
      'aria-hidden': 'true',
      focusable: 'false',
    },
    s('path', { d: ICONS[name] }),
  );
}

/** A button that shows an icon alone: its label is what is read and shown as a hint. */
export function iconButton(name, label, onClick, props) {
  return h(
    'button',
    { type: 'button', class: 'icon-button', 'aria-label': label, title: label, ...props, on: { click: onClick } },
    icon(name),
  );
}

/** A button with words. */
export function button(label, onClick, { name, kind = '', ...props } = {}) {
  return h(
    'button',
    { type: 'button', class: `button ${kind}`, 'aria-label': label, ...props, on: { click: onClick } },
    name ? icon(name, 18) : null,
    h('span', { text: label }),
  );
}

/** Named events between parts of the page. */
export class Emitter {
  #listeners = new Map();

  /** Calls back until the returned function is called. */
  on(name, callback) {
    if (!this.#listeners.has(name)) this.#listeners.set(name, new Set());
    this.#listeners.get(name).add(callback);
    return () => this.#listeners.get(name).delete(callback);
  }

  emit(name, value) {
    for (const callback of [...(this.#listeners.get(name) || [])]) callback(value);
  }
}

/** Calls `f` once things have been quiet for `ms`. */
export function debounce(f, ms) {
  let timer = 0;
  const run = (...args) => {
    clearTimeout(timer);
    timer = setTimeout(() => f(...args), ms);
  };
  run.cancel = () => clearTimeout(timer);
  return run;
}

/** Colours of the style sheet as a canvas takes them, in the theme of the moment: {bg: 'rgb(...)', ...}. */
export function coloursOf(names) {
  const probe = h('span', { hidden: true });
  document.body.append(probe);
  const style = getComputedStyle(probe);
  const found = Object.fromEntries(
    names.map((name) => {
      probe.style.color = `var(--${name})`;
      return [name, style.color];
    }),
  );
  probe.remove();
  return found;
}

/** Whether the reader has asked for stillness. */
export const calm = () => matchMedia('(prefers-reduced-motion: reduce)').matches;

/** Says a sentence to screen readers. */
export function say(text) {
  const live = document.getElementById('live');
  if (!live) return;
  live.textContent = '';
  setTimeout(() => (live.textContent = text), 30);
}
