// The side panel: one item whole, with the stretch that matched, why it did, what is known of it, its tags, and what is like it in every other kind.
import { api, forget, once } from './api.js';
import { confidenceBar, marked, miniature, thumbnail, timeSpan } from './cards.js';
import { confirm } from './dialog.js';
import { button, h, icon, iconButton, put } from './dom.js';
import { copy } from './export.js';
import { bytes, clock, count, dateTime, leaf, place } from './format.js';
import { t } from './i18n.js';
import { may, status } from './live.js';
import { errorState, toast, toastError } from './notices.js';
import { seriesChart } from './series.js';
import { silence, soundView } from './sound.js';
import { drawHeat, whySection } from './why.js';

// Sides from which a shape is drawn.
const SIDES = 12;

/**
 * `options`: onClose(), onStep(+1 or -1), onLike(item, sign), onOpen(item), onFolder(folder), onRemoved(item), onTag(tag).
 * Gives {el, show(item, hit, parts), item}.
 */
export function sidePanel(options) {
  const title = h('h2', { id: 'panel-title', tabindex: -1 });
  const body = h('div', { class: 'panel-body' });
  const el = h(
    'section',
    { class: 'panel', 'aria-labelledby': 'panel-title', hidden: true },
    h(
      'div',
      { class: 'side-head' },
      title,
      iconButton('left', t('panel.previous'), () => options.onStep(-1)),
      iconButton('right', t('panel.next'), () => options.onStep(1)),
      iconButton('close', t('panel.close'), options.onClose),
    ),
    body,
  );
  el.addEventListener('keydown', (event) => {
    if (event.target.closest('input, textarea, audio, video')) return;
    if (event.key === 'Escape') options.onClose();
    else if (event.key === 'ArrowLeft') options.onStep(-1);
    else if (event.key === 'ArrowRight') options.onStep(1);
    else return;
    event.preventDefault();
    event.stopPropagation();
  });
  const panel = { el, item: null, show, hide };
  let why = null;

  function hide() {
    why?.cancel();
    if (panel.item !== null) silence(api.file(panel.item));
    panel.item = null;
    el.hidden = true;
    put(body);
  }

  /** `again` draws an item that is shown already, as when more is known of it. */
  async function show(item, hit, parts, lanes = [], again = false) {
    if (panel.item === item && !el.hidden && !again) return;
    why?.cancel();
    if (panel.item !== null) silence(api.file(panel.item));
    panel.item = item;
    el.hidden = false;
    title.textContent = hit?.name || '…';
    put(
      body,
      h('div', { class: 'skeleton-block tall' }),
      h('div', { class: 'skeleton-block' }),
      h('div', { class: 'skeleton-block' }),
    );
    body.scrollTop = 0;
    try {
      const [about] = await Promise.all([once(`/items/${item}`), status()]);
      if (panel.item !== item) return;
      draw({ ...hit, ...about, snippet: hit?.snippet ?? about.snippet }, hit, parts, lanes);
    } catch (error) {
      if (panel.item === item)
        put(
          body,
          errorState(error, () => {
            panel.item = null;
            show(item, hit, parts, lanes);
          }),
        );
    }
  }

  function draw(entry, hit, parts, askedLanes) {
    title.textContent = entry.name;
    title.title = entry.path;
    const stage = stageOf(entry);
    why = parts.length ? whySection({ parts, item: entry.item, askedLanes, lanes: hit?.lanes, overlay: stage.overlay }) : null;
    put(
      body,
      stage.el,
      hit && confidenceBar(hit)
        ? h(
            'div',
            { class: 'panel-score' },
            confidenceBar(hit),
            h('span', {
              class: 'muted small',
              text: hit.all_words && hit.strength === 'strong' ? t('hit.allWords') : t(`strength.${hit.strength || '-'}`),
            }),
          )
        : null,
      h(
        'div',
        { class: 'actions' },
        button(t('hit.more'), () => options.onLike(entry.item, 1), { name: 'plus', kind: 'primary' }),
        button(t('hit.less'), () => options.onLike(entry.item, -1), { name: 'minus' }),
        h(
          'a',
          { class: 'button', href: api.file(entry.item), target: '_blank', rel: 'noopener' },
          icon('out', 18),
          h('span', { text: t('panel.original') }),
        ),
      ),
      why?.el,
      entry.captions?.length
        ? h(
            'section',
            null,
            h('h3', { text: t('panel.captions') }),
            entry.captions.map((caption) => h('p', { class: 'caption', dir: 'auto', text: caption })),
          )
        : null,
      tagsSection(entry),
      details(entry),
      neighboursSection(entry),
      may('write')
        ? h(
            'section',
            { class: 'panel-end' },
            button(t('panel.remove'), () => remove(entry), { name: 'trash', kind: 'quiet danger-text' }),
          )
        : null,
    );
  }

  function stageOf(entry) {
    const src = api.file(entry.item);
    const span = timeSpan(entry);
    switch (entry.kind) {
      case 'image': {
        const { width, height } = entry.metadata || {};
        const img = thumbnail(api.thumbnail(entry.item, 1280), 'image', entry.captions?.[0] || entry.name);
        const canvas = h('canvas', { class: 'heat', hidden: true });
        const frame = h('div', { class: 'picture' }, img, canvas);
        if (width && height) frame.style.aspectRatio = `${width} / ${height}`;
        return {
          el: h('div', { class: 'stage' }, frame),
          overlay: (heat) => {
            canvas.hidden = !heat;
            if (heat) drawHeat(canvas, heat);
          },
        };
      }
      case 'video': {
        const video = h('video', {
          src: span ? `${src}#t=${span.start}` : src,
          controls: true,
          preload: 'metadata',
          playsinline: true,
          poster: api.thumbnail(entry.item, 640, span?.start),
          'aria-label': entry.name,
        });
        const canvas = h('canvas', { class: 'heat', hidden: true });
        const jump = span
          ? button(
              t('panel.moment', { time: `${clock(span.start)}–${clock(span.end)}` }),
              () => {
                video.currentTime = span.start;
                video.play().catch(() => {});
              },
              { name: 'play' },
            )
          : null;
        return {
          el: h('div', { class: 'stage' }, h('div', { class: 'picture' }, video, canvas), jump),
          overlay: (heat) => {
            canvas.hidden = !heat;
            if (heat) drawHeat(canvas, heat);
          },
        };
      }
      case 'shape': {
        const img = thumbnail(api.thumbnail(entry.item, 640), 'shape', entry.captions?.[0] || entry.name);
        const canvas = h('canvas', { class: 'heat', hidden: true });
        const turn = h('input', {
          type: 'range',
          min: 0,
          max: SIDES - 1,
          value: 0,
          'aria-label': t('panel.turn'),
          on: { input: () => show(Number(turn.value)) },
        });
        const show = (view, heat = null) => {
          turn.value = view;
          img.src = api.thumbnail(entry.item, 640, undefined, view);
          canvas.hidden = !heat;
          if (heat) drawHeat(canvas, heat);
        };
        const frame = h('div', { class: 'picture' }, img, canvas);
        frame.style.aspectRatio = '1';
        return {
          el: h('div', { class: 'stage' }, frame, h('label', { class: 'turn' }, h('span', { text: t('panel.turn') }), turn)),
          overlay: (heat) => show(heat?.view ?? Number(turn.value), heat),
        };
      }
      case 'audio':
        return {
          el: h(
            'div',
            { class: 'stage plain' },
            soundView({
              peaks: `/items/${entry.item}/waveform`,
              src,
              span,
              name: entry.name,
              durationS: entry.metadata?.duration_s,
              seekable: true,
            }),
            span
              ? h('p', { class: 'muted small', text: t('panel.stretch', { time: `${clock(span.start)}–${clock(span.end)}` }) })
              : null,
          ),
        };
      case 'series':
        return { el: h('div', { class: 'stage plain' }, seriesChart(entry.item)) };
      default:
        return { el: h('div', { class: 'stage plain' }, textView(entry)) };
    }
  }

  /** The text with the passage that matched, found by its place in bytes. */
  function textView(entry) {
    const text = entry.text ?? entry.snippet ?? '';
    const el = h('div', { class: 'text-whole', dir: 'auto', tabindex: 0, role: 'region', 'aria-label': t('panel.text') });
    if (entry.span?.unit === 'byte' && entry.text) {
      const utf8 = new TextEncoder().encode(entry.text);
      const part = (a, b) => new TextDecoder().decode(utf8.subarray(a, b));
      const mark = h('mark', { class: 'passage-mark', text: part(entry.span.start, entry.span.end) });
      if (entry.span.end - entry.span.start < utf8.length) {
        put(el, part(0, entry.span.start), mark, part(entry.span.end, utf8.length));
        requestAnimationFrame(() => (el.scrollTop = Math.max(0, mark.offsetTop - el.clientHeight / 3)));
        return el;
      }
    }
    put(el, entry.text ? text : marked(text, entry.marks));
    return el;
  }

  function details(entry) {
    const m = entry.metadata || {};
    const rows = [
      [t('meta.kind'), t(`kind.${entry.kind}`)],
      m.format ? [t('meta.format'), m.format] : null,
      m.width && m.height ? [t('meta.pixels'), `${count(m.width)} × ${count(m.height)}`] : null,
      m.duration_s ? [t('meta.duration'), `${clock(m.duration_s)} (${m.duration_s.toFixed(1)} s)`] : null,
      m.size !== null && m.size !== undefined ? [t('meta.size'), bytes(m.size)] : null,
      m.taken ? [t('meta.taken'), dateTime(m.taken)] : null,
      m.latitude !== null && m.latitude !== undefined ? [t('meta.place'), place(m.latitude, m.longitude)] : null,
      entry.n_segments > 1 ? [t('meta.segments'), count(entry.n_segments)] : null,
    ].filter(Boolean);
    const paths = entry.paths?.length ? entry.paths : [entry.path];
    return h(
      'section',
      null,
      h('h3', { text: t('panel.details') }),
      h(
        'dl',
        { class: 'details' },
        rows.map(([name, value]) => [h('dt', { text: name }), h('dd', { text: value })]),
      ),
      h(
        'div',
        { class: 'paths' },
        paths.map((path) =>
          h(
            'div',
            { class: 'path' },
            h('code', { text: path }),
            iconButton('copy', t('panel.copyPath'), () => copy(path, t('copied.path'))),
          ),
        ),
      ),
      h(
        'div',
        { class: 'actions' },
        button(
          t('panel.folder', { name: leaf(entry.folder) }),
          () => {
            copy(entry.folder, t('copied.folder'));
            options.onFolder(entry.folder);
          },
          { name: 'folder' },
        ),
        h(
          'a',
          { class: 'button', href: api.file(entry.item, true), download: entry.name },
          icon('download', 18),
          h('span', { text: t('panel.download') }),
        ),
      ),
    );
  }

  function tagsSection(entry) {
    let tags = [...(entry.tags || [])];
    const list = h('div', { class: 'tags' });
    const input = h('input', { type: 'text', maxlength: 64, 'aria-label': t('tags.add'), placeholder: t('tags.add') });
    const store = async (next) => {
      const before = tags;
      tags = next;
      show();
      try {
        tags = await api.put(`/items/${entry.item}/tags`, next);
        forget(entry.item);
        show();
      } catch (error) {
        tags = before;
        show();
        toastError(error, t('tags.failed'));
      }
    };
    const show = () =>
      put(
        list,
        tags.map((tag) =>
          h(
            'span',
            { class: 'tag' },
            h(
              'button',
              { type: 'button', class: 'tag-name', title: t('tags.filter', { tag }), on: { click: () => options.onTag(tag) } },
              tag,
            ),
            may('write')
              ? iconButton('close', t('tags.remove', { tag }), () => store(tags.filter((x) => x !== tag)), {
                  class: 'chip-remove',
                })
              : null,
          ),
        ),
      );
    show();
    const form = h(
      'form',
      {
        class: 'tag-form',
        on: {
          submit: (event) => {
            event.preventDefault();
            const more = input.value
              .split(/[,，]/)
              .map((x) => x.trim())
              .filter((x) => x && !tags.includes(x));
            input.value = '';
            if (more.length) store([...tags, ...more]);
          },
        },
      },
      input,
    );
    if (!tags.length && !may('write')) return null;
    return h('section', null, h('h3', { text: t('panel.tags') }), list, may('write') ? form : null);
  }

  function neighboursSection(entry) {
    const list = h('div', { class: 'neighbours' }, h('div', { class: 'skeleton-block' }));
    const section = h('section', null, h('h3', { text: t('panel.neighbours') }), list);
    api.get(`/items/${entry.item}/neighbours`, { k: 8 }).then(
      ({ neighbours }) => {
        const some = neighbours
          .map(({ kind, hits }) => ({ kind, hits: hits.filter((x) => x.item !== entry.item) }))
          .filter(({ hits }) => hits.length);
        if (!some.length) return section.remove();
        put(
          list,
          some.map(({ kind, hits }) =>
            h(
              'div',
              { class: 'neighbour-kind' },
              h('h4', null, icon(kind, 16), t(`kinds.${kind}`)),
              h(
                'div',
                { class: 'neighbour-row' },
                hits.map((x) =>
                  h(
                    'button',
                    {
                      type: 'button',
                      class: `neighbour ${x.kind}`,
                      title: x.name,
                      'aria-label': `${t(`kind.${x.kind}`)}, ${x.name}`,
                      on: { click: () => options.onOpen(x) },
                    },
                    miniature(x, 160),
                    x.kind === 'audio' || x.kind === 'series' ? h('span', { class: 'neighbour-name', text: x.name }) : null,
                  ),
                ),
              ),
            ),
          ),
        );
      },
      (error) => put(list, h('p', { class: 'muted small', text: error.message })),
    );
    return section;
  }

  async function remove(entry) {
    if (!(await confirm(t('remove.title'), t('remove.text', { name: entry.name }), t('remove.yes')))) return;
    try {
      await api.remove(`/items/${entry.item}`);
      toast(t('remove.done', { name: entry.name }));
      options.onRemoved(entry.item);
    } catch (error) {
      toastError(error);
    }
  }

  return panel;
}
