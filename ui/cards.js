// What stands in the gallery for one item, by kind: a picture, a sound's waveform, a text's passage, a series' sparkline, a video's moment, a shape
// from the front.
import { api } from './api.js';
import { h, icon, iconButton } from './dom.js';
import { clock, percent } from './format.js';
import { t } from './i18n.js';
import { seriesView } from './series.js';
import { soundView } from './sound.js';

/** Whether the server has thumbnails of a kind. */
export const isPictured = (kind) => kind === 'image' || kind === 'video' || kind === 'shape';

/** Which side of a thumbnail to ask for, given the pixels it will cover. */
export const sideFor = (pixels) =>
  [160, 320, 640].find((side) => side >= pixels * Math.min(2, devicePixelRatio || 1) * 0.8) || 640;

/** `text` with its `marks` ([start, end] in characters) marked. */
export function marked(text, marks) {
  const chars = Array.from(text || '');
  const out = [];
  let at = 0;
  for (const [start, end] of [...(marks || [])].sort((a, b) => a[0] - b[0])) {
    if (start < at || end <= start || start >= chars.length) continue;
    out.push(chars.slice(at, start).join(''), h('mark', { text: chars.slice(start, end).join('') }));
    at = end;
  }
  out.push(chars.slice(at).join(''));
  return out;
}

/** The stretch of time that matched, or null. */
export const timeSpan = (entry) => (entry.span?.unit === 's' ? entry.span : null);

/** An `img` that is replaced by the kind's sign when there is no thumbnail. */
export function thumbnail(src, kind, alt = '') {
  const img = h('img', { alt, decoding: 'async', draggable: 'false' });
  img.addEventListener('load', () => img.classList.add('loaded'));
  img.addEventListener('error', () => img.replaceWith(h('span', { class: 'no-thumb' }, icon(kind, 28))));
  img.src = src;
  return img;
}

/** The picture of an item alone, small: for chips, neighbours, the map. */
export function miniature(entry, side = 160) {
  if (isPictured(entry.kind))
    return thumbnail(api.thumbnail(entry.item, side, timeSpan(entry)?.start), entry.kind);
  if (entry.kind === 'text' && entry.snippet) return h('span', { class: 'mini-text', text: entry.snippet });
  if (entry.kind === 'series') return seriesView(entry.item);
  return h('span', { class: 'no-thumb' }, icon(entry.kind, 24));
}

// Characters of a text that is set larger.
const SHORT = 70;

/** As many whole lines of the passage as there is room for. */
function passage(entry, height) {
  const short = (entry.snippet || entry.name).length < SHORT;
  const el = h(
    'p',
    { class: short ? 'passage short' : 'passage', dir: 'auto' },
    marked(entry.snippet || entry.name, entry.snippet ? entry.marks : []),
  );
  el.style.setProperty('-webkit-line-clamp', String(Math.max(1, Math.floor((height - 30) / (short ? 25.5 : 21.75)))));
  return el;
}

function face(entry, width, height) {
  const src = api.file(entry.item);
  switch (entry.kind) {
    case 'image':
      return thumbnail(api.thumbnail(entry.item, sideFor(width)), 'image');
    case 'shape':
      return thumbnail(api.thumbnail(entry.item, sideFor(width)), 'shape');
    case 'video': {
      const span = timeSpan(entry);
      const length = entry.metadata?.duration_s;
      const words =
        span && length && span.end - span.start < length * 0.98
          ? `${clock(span.start)}–${clock(span.end)}`
          : length
            ? clock(length)
            : '';
      return [
        thumbnail(
          api.thumbnail(entry.item, sideFor(width), span ? ((span.start + span.end) / 2).toFixed(2) : undefined),
          'video',
        ),
        h('span', { class: 'badge' }, icon('play', 12), words),
      ];
    }
    case 'audio':
      return soundView({
        peaks: `/items/${entry.item}/waveform`,
        src,
        span: timeSpan(entry),
        name: entry.name,
        durationS: entry.metadata?.duration_s,
        inert: true,
      });
    case 'series':
      return seriesView(entry.item);
    default:
      return passage(entry, height);
  }
}

/** Whether a hit is likely related, as a short bar with its number; words that all stand there need no measure. */
export function confidenceBar(entry) {
  const sure = entry.all_words && entry.strength === 'strong';
  if (!sure && (entry.confidence === null || entry.confidence === undefined)) return null;
  const words = sure ? t('hit.allWords') : t('hit.confidence', { p: percent(entry.confidence) });
  const bar = h('span', { class: `bar ${entry.strength || ''}`, title: words }, h('span', { class: 'bar-fill' }));
  bar.firstChild.style.width = `${sure ? 100 : Math.round(entry.confidence * 100)}%`;
  return h(
    'span',
    { class: 'confidence' },
    bar,
    sure ? null : h('span', { class: 'bar-number', 'aria-hidden': 'true', text: percent(entry.confidence) }),
    h('span', { class: 'visually-hidden', text: words }),
  );
}

/** A cell of the gallery; `act` takes {open, toggle, like}. */
export function cell(entry, width, height, selected, act) {
  const stop = (f) => (event) => {
    event.stopPropagation();
    f(event);
  };
  const el = h(
    'div',
    {
      class: `cell ${entry.kind}${width < 170 ? ' slim' : ''}`,
      role: 'gridcell',
      tabindex: -1,
      'aria-selected': String(selected),
      'data-item': entry.item,
    },
    h(
      'div',
      { class: 'face' },
      face(entry, width, height),
      iconButton(
        'check',
        t('select.one'),
        stop((event) => act.toggle(event)),
        { class: 'check', tabindex: -1 },
      ),
      act.like
        ? h(
            'div',
            { class: 'quick' },
            iconButton(
              'plus',
              t('hit.more'),
              stop(() => act.like(1)),
              { tabindex: -1 },
            ),
            iconButton(
              'minus',
              t('hit.less'),
              stop(() => act.like(-1)),
              { tabindex: -1 },
            ),
          )
        : null,
    ),
    h(
      'div',
      { class: 'meta' },
      h('span', { class: 'sign' }, icon(entry.kind, 14)),
      h('span', {
        class: 'visually-hidden',
        text: `${entry.rank ? `${t('hit.rank', { n: entry.rank })}, ` : ''}${t(`kind.${entry.kind}`)}, `,
      }),
      h('span', { class: 'name', text: entry.name, title: entry.path }),
      confidenceBar(entry),
    ),
  );
  el.style.width = `${width}px`;
  el.firstChild.style.height = `${height}px`;
  return el;
}
