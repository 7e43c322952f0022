// Why a hit is a hit: what each lane gave, how much each word of the question carried, and where in the picture, sound or text the
// likeness lies. It is computed on demand, since the server asks its models again once for each word and each place left out.
import { api } from './api.js';
import { h, icon, put, say } from './dom.js';
import { decimal, laneName } from './format.js';
import { t } from './i18n.js';
import { errorState } from './notices.js';
import { wirePart } from './url.js';

/**
 * A section with a button. `parts` is the query, `askedLanes` the ways it was asked by (none: all), `lanes` what the hit itself tells of them,
 * `overlay(heat)` shows a grid over the picture in the panel (null takes it away).
 */
export function whySection({ parts, item, askedLanes = [], lanes = [], overlay }) {
  const body = h('div', { class: 'why-body', 'aria-live': 'polite' });
  const ask = h(
    'button',
    { type: 'button', class: 'button why-button', on: { click: run } },
    icon('why', 18),
    h('span', { text: t('why.ask') }),
  );
  const el = h(
    'section',
    { class: 'why', 'aria-labelledby': 'why-title' },
    h('h3', { id: 'why-title', text: t('why.title') }),
    lanesTable(lanes),
    ask,
    body,
  );
  const abort = new AbortController();

  async function run() {
    ask.disabled = true;
    put(
      body,
      h(
        'div',
        { class: 'why-wait', role: 'status' },
        h('div', { class: 'progress indeterminate' }, h('span')),
        h('p', { class: 'muted small', text: t('why.wait') }),
      ),
    );
    try {
      const found = await api.post(
        '/explain',
        { query: parts.map(wirePart), item, words: true, heat: true, lanes: askedLanes },
        abort.signal,
      );
      ask.hidden = true;
      el.querySelector('.lanes')?.remove();
      put(
        body,
        lanesTable(merged(lanes, found.lanes)),
        wordsView(parts, found.words),
        heatView(found.heat, overlay),
        found.words?.length || found.heat ? legend() : null,
      );
      say(t('why.done'));
    } catch (error) {
      if (error.name === 'AbortError') return;
      ask.disabled = false;
      put(body, errorState(error, run));
    }
  }
  return { el, run, cancel: () => abort.abort() };
}

/** What the hit told of its lanes, and what the explanation adds or knows better. */
function merged(before, after) {
  const all = new Map((before || []).map((lane) => [lane.lane, lane]));
  for (const lane of after) all.set(lane.lane, { ...lane, rank: lane.rank ?? all.get(lane.lane)?.rank ?? null });
  return [...all.values()];
}

function lanesTable(lanes) {
  if (!lanes?.length) return null;
  return h(
    'table',
    { class: 'lanes' },
    h('caption', { class: 'visually-hidden', text: t('why.lanes') }),
    h(
      'thead',
      null,
      h(
        'tr',
        null,
        [t('why.lane'), t('why.rank'), t('why.score'), t('why.chance')].map((text) => h('th', { scope: 'col', text })),
      ),
    ),
    h(
      'tbody',
      null,
      lanes.map(({ lane, rank, score, chance }) =>
        h(
          'tr',
          null,
          h('th', { scope: 'row', text: laneName(lane) }),
          h('td', { text: rank ? `${rank}` : '–' }),
          h('td', { text: score === null || score === undefined || (!rank && !score) ? '–' : decimal(score, 3) }),
          h('td', { text: chance === null || chance === undefined ? '–' : decimal(chance, 2) }),
        ),
      ),
    ),
  );
}

/** The shade behind something that helped or hurt, by its share of the greatest. */
function tint(el, drop, most) {
  el.classList.add(drop < 0 ? 'hurt' : 'helped');
  el.style.setProperty('--share', most > 0 ? Math.min(1, Math.abs(drop) / most).toFixed(3) : 0);
}

function wordsView(parts, words) {
  if (!words?.length) return null;
  const most = Math.max(...words.map((w) => Math.abs(w.drop)));
  const lines = parts.map((part, i) => {
    const mine = words.filter((w) => w.part === i).sort((a, b) => a.start - b.start);
    if (part.text === undefined || !mine.length) return null;
    const chars = Array.from(part.text);
    const out = [];
    let at = 0;
    for (const word of mine) {
      if (word.start < at) continue;
      out.push(chars.slice(at, word.start).join(''));
      const el = h(
        'span',
        {
          class: 'word',
          title: t(word.drop < 0 ? 'why.wordHurt' : 'why.wordHelped', { word: word.word, n: decimal(Math.abs(word.drop), 2) }),
        },
        chars.slice(word.start, word.end).join('') || word.word,
        h('span', { class: 'word-drop', text: `${word.drop < 0 ? '−' : '+'}${decimal(Math.abs(word.drop), 2)}` }),
      );
      tint(el, word.drop, most);
      out.push(el);
      at = word.end;
    }
    out.push(chars.slice(at).join(''));
    return h('p', { class: part.weight < 0 ? 'words away' : 'words', dir: 'auto' }, out);
  });
  return h('div', { class: 'why-part' }, h('h4', { text: t('why.words') }), lines);
}

const legend = () =>
  h(
    'p',
    { class: 'why-legend muted small' },
    h('span', { class: 'swatch helped' }),
    t('why.helped'),
    h('span', { class: 'swatch hurt' }),
    t('why.hurt'),
  );

function heatView(heat, overlay) {
  if (!heat) return null;
  const most = Math.max(1e-12, ...(heat.drop || (heat.windows || heat.passages || []).map((w) => w.drop)).map(Math.abs));
  if (heat.kind === 'grid') {
    const shown = h('input', {
      type: 'checkbox',
      checked: true,
      role: 'switch',
      on: { change: () => overlay?.(shown.checked ? heat : null) },
    });
    overlay?.(heat);
    return h(
      'div',
      { class: 'why-part' },
      h('h4', { text: t('why.places') }),
      h('p', { class: 'small', text: t('why.strongest', { where: whereStrongest(heat) }) }),
      h('label', { class: 'switch-row' }, shown, h('span', { text: t('why.overlay') })),
    );
  }
  if (heat.kind === 'time') {
    const length = Math.max(...heat.windows.map((w) => w.end_s));
    const best = heat.windows.reduce((a, b) => (b.drop > a.drop ? b : a));
    return h(
      'div',
      { class: 'why-part' },
      h('h4', { text: t('why.times') }),
      h(
        'div',
        { class: 'heat-time', 'aria-hidden': 'true' },
        heat.windows.map((w) => {
          const el = h('span', {
            class: 'heat-window',
            title: `${decimal(w.start_s)}–${decimal(w.end_s)} s: ${decimal(w.drop)}`,
          });
          tint(el, w.drop, most);
          el.style.width = `${((w.end_s - w.start_s) / length) * 100}%`;
          return el;
        }),
      ),
      h('p', { class: 'small', text: t('why.strongestTime', { start: decimal(best.start_s), end: decimal(best.end_s) }) }),
    );
  }
  if (heat.kind === 'text') {
    return h(
      'div',
      { class: 'why-part' },
      h('h4', { text: t('why.passages') }),
      h(
        'div',
        { class: 'heat-text', dir: 'auto' },
        heat.passages.map((p, i) => {
          const el = h('span', { class: 'heat-passage', text: p.text, title: decimal(p.drop) });
          tint(el, p.drop, most);
          // What stands between two passages is not told; a space will do.
          return i && heat.passages[i - 1].end < p.start ? [' ', el] : el;
        }),
      ),
    );
  }
  return null;
}

/** In words, where in the picture most of it lies. */
export function whereStrongest({ columns, rows, drop }) {
  const at = drop.indexOf(Math.max(...drop));
  const third = (i, n) => Math.min(2, Math.floor(((i + 0.5) / n) * 3));
  return t(`place.${third(Math.floor(at / columns), rows)}${third(at % columns, columns)}`);
}

/** Draws a grid of drops over a picture: warm where it helped, cool where it hurt, nothing where it made no difference. */
export function drawHeat(canvas, { columns, rows, drop }) {
  const small = h('canvas', { width: columns, height: rows });
  const g = small.getContext('2d');
  const pixels = g.createImageData(columns, rows);
  const most = Math.max(1e-12, ...drop.map(Math.abs));
  drop.forEach((d, i) => {
    const share = Math.abs(d) / most;
    pixels.data.set(d >= 0 ? [255, 120, 40, share * 200] : [40, 130, 255, share * 150], i * 4);
  });
  g.putImageData(pixels, 0, 0);
  canvas.width = 480;
  canvas.height = Math.round((480 * rows) / columns);
  const to = canvas.getContext('2d');
  to.imageSmoothingEnabled = true;
  to.imageSmoothingQuality = 'high';
  to.drawImage(small, 0, 0, columns, rows, 0, 0, canvas.width, canvas.height);
  canvas.setAttribute('role', 'img');
  canvas.setAttribute('aria-label', t('why.strongest', { where: whereStrongest({ columns, rows, drop }) }));
}
