// A map of the space: every item a dot, near to what it is like. Drag pans, wheel or pinch zooms, a lasso selects, a click opens.
// Close up, dots become thumbnails. Ten thousand dots are stamped into one array of pixels, and found again by a grid.
// Who cannot see or point gets the groups as a list, and the keys: arrows, plus, minus, 0, Enter for what is nearest to the middle.
import { api, once } from './api.js';
import { isPictured, miniature } from './cards.js';
import { calm, coloursOf, debounce, h, icon, iconButton, put, say } from './dom.js';
import { count } from './format.js';
import { t } from './i18n.js';
import { live } from './live.js';
import { errorState, state as designed, toast } from './notices.js';
import { sidePanel } from './panel.js';
import { gridOf, inside, stampAll } from './points.js';
import { go } from './router.js';
import { selection } from './selection.js';
import { selectionBar } from './selectionbar.js';
import { emptyFilters, readUrl, writeUrl } from './url.js';

const MAX_POINTS = 10000;
const REACH = 14; // pixels within which a dot is meant
const MAX_THUMBS = 90; // more in view than this and they stay dots
const MAX_SHOWN = 500; // items that an address can name one by one
const MAX_ZOOM = 60;

export function mapPage(main) {
  const canvas = h('canvas', {
    class: 'map-canvas',
    tabindex: 0,
    role: 'application',
    'aria-label': t('map.canvas'),
    'aria-describedby': 'map-help',
  });
  const card = h('div', { class: 'map-card', hidden: true });
  const legend = h('div', { class: 'map-legend', role: 'group', 'aria-label': t('map.legend') });
  const lasso = iconButton('lasso', t('map.lasso'), () => setLasso(!lassoOn), { 'aria-pressed': 'false' });
  const tools = h(
    'div',
    { class: 'map-tools' },
    iconButton('plus', t('map.in'), () => zoomBy(1.6)),
    iconButton('minus', t('map.out'), () => zoomBy(1 / 1.6)),
    iconButton('fit', t('map.fit'), () => fly(0, 0, 1)),
    lasso,
  );
  const groupsList = h('ol', { class: 'groups' });
  const groups = h(
    'details',
    { class: 'map-groups' },
    h('summary', null, icon('grid', 18), h('span', { text: t('map.groups') })),
    groupsList,
  );
  const note = h('p', { class: 'map-note muted small' });
  const message = h('div', { class: 'map-message' });
  const panel = sidePanel({
    onClose: () => (history.state?.opened ? history.back() : go('/map', { replace: true })),
    onStep: () => {},
    onLike: (item, sign) =>
      go(`/${writeUrl({ parts: [{ item, weight: sign }], filters: emptyFilters(), sort: '', item: null })}`),
    onOpen: (hit) => open(hit.item),
    onFolder: (folder) =>
      go(`/${writeUrl({ parts: [], filters: { ...emptyFilters(), folders: [folder] }, sort: '', item: null })}`),
    onTag: (tag) => go(`/${writeUrl({ parts: [], filters: { ...emptyFilters(), tags: [tag] }, sort: '', item: null })}`),
    onRemoved: () => {
      go('/map', { replace: true });
      load();
    },
  });
  const picked = selectionBar({
    onLike: (items) =>
      go(
        `/${writeUrl({ parts: items.slice(0, 8).map((item) => ({ item, weight: 1 })), filters: emptyFilters(), sort: '', item: null })}`,
      ),
    onShow: () => {
      const items = selection.items();
      if (items.length > MAX_SHOWN) toast(t('map.tooMany', { n: MAX_SHOWN, count: count(MAX_SHOWN) }));
      go(
        `/${writeUrl({
          parts: [],
          filters: {
            ...emptyFilters(),
            where: items
              .slice(0, MAX_SHOWN)
              .map((item) => `id = ${item}`)
              .join(' OR '),
          },
          sort: '',
          item: null,
        })}`,
      );
    },
  });
  const page = h(
    'div',
    { class: 'map-page' },
    h('h1', { class: 'visually-hidden', text: t('map.title') }),
    canvas,
    h('p', { class: 'visually-hidden', id: 'map-help', text: t('map.help') }),
    message,
    legend,
    tools,
    groups,
    note,
    card,
    panel.el,
    picked.el,
  );
  put(main, page);
  document.title = `${t('nav.map')} – chiasm`;

  const g = canvas.getContext('2d', { willReadFrequently: true });
  const abort = new AbortController();
  let points = null; // {n, item, x, y, kind, cluster, kinds, clusters, grid}
  let hiddenKinds = new Set();
  let view = { x: 0, y: 0, zoom: 1 }; // middle of the window in the map's own units, and magnification
  let pixels = null; // of the canvas; dots are stamped into it one by one, which is quick with and without a graphics card
  let inks = [];
  let colours = {};
  let frame = 0;
  let flight = 0;
  let hover = -1;
  let lassoOn = false;
  let path = null;
  let chosen = new Set();
  const thumbs = new Map();
  let loading = 0;

  // The data -------------------------------------------------------------------------------------------------------------

  async function load() {
    put(
      message,
      h('div', { class: 'map-wait', role: 'status' }, h('span', { class: 'spinner' }), h('span', { text: t('map.loading') })),
    );
    try {
      const found = await api.get('/map', { n: MAX_POINTS }, abort.signal);
      put(message);
      take(found);
    } catch (error) {
      if (error.name !== 'AbortError')
        put(message, error.code === 'conflict' || error.code === 'unavailable' ? empty() : errorState(error, load));
    }
  }

  const empty = () =>
    designed({
      name: 'map',
      title: t('empty.title'),
      text: t('map.empty'),
      actions: [h('a', { class: 'button primary', href: '/library' }, h('span', { text: t('nav.library') }))],
    });

  function take(found) {
    const n = found.items.length;
    if (!n) return put(message, empty());
    points = {
      n,
      item: Uint32Array.from(found.items),
      x: Float32Array.from(found.x),
      y: Float32Array.from(found.y),
      kind: Uint8Array.from(found.kind),
      kinds: found.kinds,
      cluster: found.cluster,
      clusters: found.clusters || [],
    };
    points.grid = gridOf(points);
    note.textContent =
      n < found.n_items
        ? t('map.someOf', { n, count: count(n), all: count(found.n_items) })
        : t('map.allOf', { n, count: count(n) });
    drawLegend();
    drawGroups();
    prepare();
    fly(0, 0, 1, true);
  }

  function drawLegend() {
    const numbers = points.kinds.map(() => 0);
    for (const k of points.kind) numbers[k]++;
    put(
      legend,
      points.kinds.map((kind, k) =>
        numbers[k]
          ? h(
              'button',
              {
                type: 'button',
                class: 'legend-kind',
                'data-kind': kind,
                'aria-pressed': String(!hiddenKinds.has(k)),
                on: {
                  click: (event) => {
                    if (!hiddenKinds.delete(k)) hiddenKinds.add(k);
                    event.currentTarget.setAttribute('aria-pressed', String(!hiddenKinds.has(k)));
                    draw();
                  },
                },
              },
              h('span', { class: `dot ${kind}` }),
              h('span', { text: t(`kinds.${kind}`) }),
              h('span', { class: 'number', text: count(numbers[k]) }),
            )
          : null,
      ),
    );
  }

  function drawGroups() {
    const order = points.clusters
      .map((cluster, i) => ({ ...cluster, i }))
      .filter((cluster) => cluster.n > 0)
      .sort((a, b) => b.n - a.n);
    groups.hidden = !order.length;
    put(
      groupsList,
      order.map(({ n, x, y, example, i }) => {
        const name = h('span', { class: 'group-name', text: '…' });
        const face = h('span', { class: 'group-face', 'aria-hidden': 'true' });
        if (example)
          once(`/items/${example}`).then(
            (about) => {
              name.textContent = about.name;
              put(face, miniature(about));
            },
            () => (name.textContent = ''),
          );
        return h(
          'li',
          null,
          h(
            'button',
            {
              type: 'button',
              class: 'group',
              on: {
                click: () => {
                  fly(x, y, 5);
                  say(t('map.at', { n }));
                },
              },
            },
            face,
            h('span', { class: 'group-words' }, h('strong', { text: t('browse.count', { n, count: count(n) }) }), name),
          ),
          iconButton('select', t('map.selectGroup', { n: count(n) }), () =>
            selection.replace([...points.item].filter((_, p) => points.cluster[p] === i)),
          ),
        );
      }),
    );
  }

  // The picture ----------------------------------------------------------------------------------------------------------

  const ratio = () => Math.min(2, devicePixelRatio || 1);
  const unit = () => Math.min(canvas.clientWidth, canvas.clientHeight) * 0.46 * view.zoom; // pixels of one unit of the map
  const toX = (x) => (x - view.x) * unit() + canvas.clientWidth / 2;
  const toY = (y) => (y - view.y) * unit() + canvas.clientHeight / 2;
  const fromX = (px) => (px - canvas.clientWidth / 2) / unit() + view.x;
  const fromY = (py) => (py - canvas.clientHeight / 2) / unit() + view.y;
  const radius = () => Math.max(1.9, Math.min(6, 2.3 * view.zoom ** 0.4));

  /** Colours and dots anew, as after a change of theme or size. */
  function prepare() {
    colours = coloursOf(['ink', 'accent', 'surface', 'muted', 'image', 'text', 'audio', 'series', 'video', 'shape']);
    canvas.width = Math.max(1, Math.round(canvas.clientWidth * ratio()));
    canvas.height = Math.max(1, Math.round(canvas.clientHeight * ratio()));
    pixels = g.createImageData(canvas.width, canvas.height);
    if (points) inks = points.kinds.map((kind) => rgb(colours[kind] || colours.muted));
    draw();
  }

  /** Red, green and blue of a colour as CSS writes it. */
  function rgb(colour) {
    const one = h('canvas', { width: 1, height: 1 }).getContext('2d');
    one.fillStyle = colour;
    one.fillRect(0, 0, 1, 1);
    return [...one.getImageData(0, 0, 1, 1).data].slice(0, 3);
  }

  function draw() {
    if (!frame) frame = requestAnimationFrame(paint);
  }

  function paint() {
    frame = 0;
    if (!points) return;
    const [w, hgt, px] = [canvas.clientWidth, canvas.clientHeight, ratio()];
    const r = radius();
    const { x, y } = points;
    const u = unit() * px;
    const dx = canvas.width / 2 - view.x * u;
    const dy = canvas.height / 2 - view.y * u;
    const inView = stampAll(points, pixels, {
      scale: u,
      dx,
      dy,
      r: r * px,
      inks,
      hidden: hiddenKinds,
      chosen,
      most: MAX_THUMBS,
    });
    g.putImageData(pixels, 0, 0);
    g.setTransform(px, 0, 0, px, 0, 0);
    if (inView.length <= MAX_THUMBS && view.zoom > 2) for (const i of inView) face(i, 58);
    else if (view.zoom < 3) for (const cluster of points.clusters) if (cluster.example) exemplar(cluster);
    if (hover >= 0) {
      g.strokeStyle = colours.ink;
      g.lineWidth = 2;
      g.beginPath();
      g.arc(toX(x[hover]), toY(y[hover]), r + 4, 0, 7);
      g.stroke();
    }
    if (path?.length > 1) {
      g.strokeStyle = colours.accent;
      g.fillStyle = colours.accent;
      g.lineWidth = 2;
      g.setLineDash([6, 5]);
      g.beginPath();
      path.forEach(([a, b], i) => (i ? g.lineTo(a, b) : g.moveTo(a, b)));
      g.closePath();
      g.stroke();
      g.setLineDash([]);
      g.globalAlpha = 0.1;
      g.fill();
      g.globalAlpha = 1;
    }
    if (document.activeElement === canvas && canvas.matches(':focus-visible')) {
      g.strokeStyle = colours.accent;
      g.lineWidth = 1.5;
      g.beginPath();
      g.moveTo(w / 2 - 9, hgt / 2);
      g.lineTo(w / 2 + 9, hgt / 2);
      g.moveTo(w / 2, hgt / 2 - 9);
      g.lineTo(w / 2, hgt / 2 + 9);
      g.stroke();
    }
  }

  /** A thumbnail in place of a dot, once it is there. */
  function face(i, size) {
    const kind = points.kinds[points.kind[i]];
    if (!isPictured(kind)) return;
    framed(thumb(points.item[i]), toX(points.x[i]), toY(points.y[i]), size, colours[kind]);
  }

  function exemplar({ x, y, example }) {
    framed(thumb(example), toX(x), toY(y), 46, colours.surface);
  }

  function framed(img, cx, cy, size, colour) {
    if (!img) return;
    const scale = size / Math.max(img.naturalWidth, img.naturalHeight);
    const [w, hgt] = [img.naturalWidth * scale, img.naturalHeight * scale];
    g.fillStyle = colour;
    g.beginPath();
    g.roundRect(cx - w / 2 - 2.5, cy - hgt / 2 - 2.5, w + 5, hgt + 5, 8);
    g.fill();
    g.save();
    g.beginPath();
    g.roundRect(cx - w / 2, cy - hgt / 2, w, hgt, 6);
    g.clip();
    g.drawImage(img, cx - w / 2, cy - hgt / 2, w, hgt);
    g.restore();
  }

  /** A thumbnail if it is loaded; otherwise it is asked for, six at a time. */
  function thumb(item) {
    const known = thumbs.get(item);
    if (known) return known.ready ? known.img : null;
    if (loading >= 6) return null;
    if (thumbs.size > 400) thumbs.delete(thumbs.keys().next().value);
    const entry = { img: new Image(), ready: false };
    thumbs.set(item, entry);
    loading++;
    entry.img.onload = () => {
      entry.ready = true;
      loading--;
      draw();
    };
    entry.img.onerror = () => {
      loading--;
      draw();
    };
    once(`/items/${item}`).then(
      (about) => {
        if (isPictured(about.kind)) entry.img.src = api.thumbnail(item, 160);
        else loading--;
      },
      () => loading--,
    );
    return null;
  }

  // Moving ---------------------------------------------------------------------------------------------------------------

  function setView(x, y, zoom) {
    view = {
      x: Math.max(-1.3, Math.min(1.3, x)),
      y: Math.max(-1.3, Math.min(1.3, y)),
      zoom: Math.max(0.7, Math.min(MAX_ZOOM, zoom)),
    };
    draw();
  }

  function fly(x, y, zoom, atOnce = false) {
    cancelAnimationFrame(flight);
    if (atOnce || calm()) return setView(x, y, zoom);
    const from = { ...view };
    const start = performance.now();
    const step = (time) => {
      const f = Math.min(1, Math.max(0, (time - start) / 420));
      const e = 1 - (1 - f) ** 3;
      setView(from.x + (x - from.x) * e, from.y + (y - from.y) * e, from.zoom * (zoom / from.zoom) ** e);
      if (f < 1) flight = requestAnimationFrame(step);
    };
    flight = requestAnimationFrame(step);
  }

  const zoomBy = (factor) => fly(view.x, view.y, view.zoom * factor);

  function zoomAt(px, py, factor) {
    const [x, y] = [fromX(px), fromY(py)];
    const zoom = Math.max(0.7, Math.min(MAX_ZOOM, view.zoom * factor));
    view.zoom = zoom;
    setView(view.x + x - fromX(px), view.y + y - fromY(py), zoom);
  }

  /** The dot nearest to a place of the window, or -1. */
  function nearest(px, py, reach = REACH) {
    if (!points) return -1;
    const [x, y, d] = [fromX(px), fromY(py), reach / unit()];
    let best = -1;
    let least = d * d;
    for (const i of points.grid.near(x, y, d)) {
      if (hiddenKinds.has(points.kind[i])) continue;
      const distance = (points.x[i] - x) ** 2 + (points.y[i] - y) ** 2;
      if (distance < least) {
        least = distance;
        best = i;
      }
    }
    return best;
  }

  const showCard = debounce((i, px, py) => {
    if (i < 0 || i !== hover) return;
    once(`/items/${points.item[i]}`).then(
      (about) => {
        if (i !== hover) return;
        put(card, h('div', { class: 'map-card-face' }, miniature(about, 320)), h('span', { text: about.name }));
        card.hidden = false;
        const [w, hgt] = [card.offsetWidth, card.offsetHeight];
        card.style.left = `${Math.min(canvas.clientWidth - w - 8, px + 16)}px`;
        card.style.top = `${Math.max(8, py + hgt + 24 > canvas.clientHeight ? py - hgt - 12 : py + 16)}px`;
      },
      () => {},
    );
  }, 70);

  function setHover(i, px, py) {
    if (i === hover) return;
    hover = i;
    card.hidden = true;
    canvas.style.cursor = lassoOn ? 'crosshair' : i >= 0 ? 'pointer' : 'grab';
    showCard(i, px, py);
    draw();
  }

  function setLasso(on) {
    lassoOn = on;
    lasso.setAttribute('aria-pressed', String(on));
    canvas.style.cursor = on ? 'crosshair' : 'grab';
  }

  function endLasso() {
    const polygon = path.map(([px, py]) => [fromX(px), fromY(py)]);
    path = null;
    draw();
    if (polygon.length < 3) return;
    const items = [];
    for (let i = 0; i < points.n; i++)
      if (!hiddenKinds.has(points.kind[i]) && inside(polygon, points.x[i], points.y[i])) items.push(points.item[i]);
    selection.replace(items);
    say(t('select.count', { n: items.length, count: count(items.length) }));
  }

  function open(item) {
    go(`/map?item=${item}`, panel.item === null ? { state: { opened: true } } : { replace: true });
  }

  const pointers = new Map();
  let moved = 0;
  const place = (event) => {
    const box = canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };
  const hands = {
    pointerdown: (event) => {
      if (event.button) return;
      cancelAnimationFrame(flight);
      canvas.setPointerCapture(event.pointerId);
      pointers.set(event.pointerId, place(event));
      moved = 0;
      if (pointers.size === 1 && (lassoOn || event.shiftKey)) path = [place(event)];
      else path = null;
    },
    pointermove: (event) => {
      const at = place(event);
      const was = pointers.get(event.pointerId);
      if (!was) {
        if (event.pointerType === 'mouse') setHover(nearest(...at), ...at);
        return;
      }
      moved += Math.abs(at[0] - was[0]) + Math.abs(at[1] - was[1]);
      if (path) {
        path.push(at);
        draw();
      } else if (pointers.size === 1)
        setView(view.x - (at[0] - was[0]) / unit(), view.y - (at[1] - was[1]) / unit(), view.zoom);
      else {
        const other = [...pointers].find(([id]) => id !== event.pointerId)[1];
        const [before, after] = [
          Math.hypot(was[0] - other[0], was[1] - other[1]),
          Math.hypot(at[0] - other[0], at[1] - other[1]),
        ];
        if (before > 0) zoomAt((at[0] + other[0]) / 2, (at[1] + other[1]) / 2, after / before);
      }
      pointers.set(event.pointerId, at);
      if (moved > 4 && hover >= 0) setHover(-1);
    },
    pointerup: (event) => {
      pointers.delete(event.pointerId);
      if (path) return endLasso();
      if (moved < 5) {
        const i = nearest(...place(event), event.pointerType === 'mouse' ? REACH : 24);
        if (i >= 0) open(points.item[i]);
        else selection.clear();
      }
    },
    pointercancel: (event) => {
      pointers.delete(event.pointerId);
      path = null;
    },
    pointerleave: () => setHover(-1),
    wheel: (event) => {
      event.preventDefault();
      zoomAt(...place(event), Math.exp(-event.deltaY * (event.ctrlKey ? 0.01 : 0.0016)));
    },
    dblclick: (event) => zoomAt(...place(event), 1.8),
    focus: draw,
    blur: draw,
    keydown: (event) => {
      const step = 60 / unit();
      const middle = () => nearest(canvas.clientWidth / 2, canvas.clientHeight / 2, 60);
      const moves = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] };
      if (moves[event.key]) {
        setView(view.x + moves[event.key][0], view.y + moves[event.key][1], view.zoom);
        tellMiddle();
      } else if (event.key === '+' || event.key === '=') zoomBy(1.5);
      else if (event.key === '-') zoomBy(1 / 1.5);
      else if (event.key === '0') fly(0, 0, 1);
      else if (event.key === 'Enter' && middle() >= 0) open(points.item[middle()]);
      else if (event.key === ' ' && middle() >= 0) selection.toggle(points.item[middle()]);
      else if (event.key === 'Escape') {
        setLasso(false);
        selection.clear();
      } else return;
      event.preventDefault();
    },
  };
  const tellMiddle = debounce(() => {
    const i = nearest(canvas.clientWidth / 2, canvas.clientHeight / 2, 60);
    if (i < 0) return setHover(-1);
    setHover(i, canvas.clientWidth / 2, canvas.clientHeight / 2);
    once(`/items/${points.item[i]}`).then(
      (about) => say(`${t(`kind.${about.kind}`)}, ${about.name}`),
      () => {},
    );
  }, 250);
  for (const [name, handler] of Object.entries(hands)) canvas.addEventListener(name, handler, { passive: false });

  const onKey = (event) => {
    if (event.defaultPrevented || event.target.closest?.('input, textarea, dialog')) return;
    if (event.key === '/' && !event.ctrlKey && !event.metaKey) {
      event.preventDefault();
      go('/');
      document.getElementById('query')?.focus();
    } else if (event.key === 'Escape' && panel.item !== null)
      history.state?.opened ? history.back() : go('/map', { replace: true });
  };
  document.addEventListener('keydown', onKey);
  const observer = new ResizeObserver(() => prepare());
  observer.observe(canvas);
  const dark = matchMedia('(prefers-color-scheme: dark)');
  dark.addEventListener('change', prepare);
  const undo = [
    live.on('theme', prepare),
    selection.on('change', () => {
      chosen = new Set(selection.items());
      draw();
    }),
  ];
  chosen = new Set(selection.items());
  load();

  return {
    update() {
      const { item } = readUrl(location.search);
      if (item === panel.item) return;
      page.classList.toggle('with-panel', item !== null);
      if (item === null) {
        panel.hide();
        canvas.focus({ preventScroll: true });
      } else panel.show(item, null, []).then(() => panel.el.querySelector('h2').focus({ preventScroll: true }));
    },
    unmount() {
      abort.abort();
      observer.disconnect();
      cancelAnimationFrame(frame);
      cancelAnimationFrame(flight);
      dark.removeEventListener('change', prepare);
      document.removeEventListener('keydown', onKey);
      for (const f of undo) f();
      picked.destroy();
      panel.hide();
    },
  };
}
