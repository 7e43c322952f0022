// The filters beside the gallery: kinds, dates with their histogram, folders, tags, formats, sizes, places, and the filter language for
// who knows it; and the same as removable chips above the gallery. What can be chosen comes from /facets.
import { api } from './api.js';
import { debounce, h, icon, iconButton, put } from './dom.js';
import { bytes, count, laneName, leaf, month } from './format.js';
import { t } from './i18n.js';
import { now } from './live.js';
import { placesMap } from './places.js';
import { emptyFilters, KINDS, whereOf } from './url.js';

const SHOWN = 8; // of folders, tags and formats before "more"

/** The chips of the filters that are set; `change(filters)`. */
export function filterChips(filters, change) {
  const chips = [];
  const add = (label, without) =>
    chips.push(
      h(
        'span',
        { class: 'filter-chip' },
        h('span', { text: label }),
        iconButton('close', t('filter.remove', { what: label }), () => change({ ...filters, ...without }), {
          class: 'chip-remove',
        }),
      ),
    );
  for (const folder of filters.folders)
    add(t('filter.folderIs', { name: leaf(folder) }), { folders: filters.folders.filter((f) => f !== folder) });
  for (const tag of filters.tags) add(t('filter.tagIs', { name: tag }), { tags: filters.tags.filter((x) => x !== tag) });
  for (const format of filters.formats) add(format, { formats: filters.formats.filter((x) => x !== format) });
  if (filters.from || filters.to) {
    const label =
      filters.from && filters.to
        ? filters.from === filters.to
          ? month(filters.from)
          : `${month(filters.from)} – ${month(filters.to)}`
        : filters.from
          ? t('filter.since', { date: month(filters.from) })
          : t('filter.until', { date: month(filters.to) });
    add(label, { from: '', to: '' });
  }
  if (filters.min !== null || filters.max !== null)
    add(
      filters.min !== null && filters.max !== null
        ? `${bytes(filters.min)} – ${bytes(filters.max)}`
        : filters.min !== null
          ? `≥ ${bytes(filters.min)}`
          : `≤ ${bytes(filters.max)}`,
      { min: null, max: null },
    );
  if (filters.box) add(t('filter.inBox'), { box: null });
  if (filters.lanes.length) add(t('filter.by', { what: filters.lanes.map(laneName).join(', ') }), { lanes: [] });
  if (filters.where)
    add(
      /^id = \d+( OR id = \d+)*$/.test(filters.where)
        ? t('filter.chosen', { n: filters.where.split(' OR ').length })
        : filters.where,
      { where: '' },
    );
  if (chips.length > 1)
    chips.push(
      h(
        'button',
        { type: 'button', class: 'text-button', on: { click: () => change({ ...emptyFilters(), kinds: filters.kinds }) } },
        h('span', { text: t('filter.clear') }),
      ),
    );
  return chips;
}

/** The row of kinds: none pressed means all. */
export function kindBar(filters, kinds, change) {
  const has = (kind) => filters.kinds.includes(kind);
  const n = Object.fromEntries(kinds.map(({ kind, n_items }) => [kind, n_items]));
  const present = KINDS.filter((kind) => n[kind] || has(kind));
  if (present.length < 2) return [];
  const one = (kind) =>
    h(
      'button',
      {
        type: 'button',
        class: 'kind',
        'data-kind': kind,
        'aria-pressed': String(has(kind)),
        on: {
          click: () =>
            change({ ...filters, kinds: has(kind) ? filters.kinds.filter((k) => k !== kind) : [...filters.kinds, kind] }),
        },
      },
      icon(kind, 18),
      h('span', { text: t(`kinds.${kind}`) }),
      h('span', { class: 'number', text: count(n[kind] || 0) }),
    );
  return [
    h(
      'button',
      {
        type: 'button',
        class: 'kind',
        'data-kind': 'all',
        'aria-pressed': String(!filters.kinds.length),
        on: { click: () => change({ ...filters, kinds: [] }) },
      },
      h('span', { text: t('kinds.all') }),
    ),
    ...present.map(one),
  ];
}

/** The panel. Gives {el, show(filters), error(ApiError or null)}. */
export function filterPanel({ change, close }) {
  const body = h('div', { class: 'filters-body' });
  const el = h(
    'section',
    { class: 'filters', id: 'filters', 'aria-labelledby': 'filters-title', hidden: true, tabindex: -1 },
    h(
      'div',
      { class: 'side-head' },
      h('h2', { id: 'filters-title', text: t('filter.title') }),
      iconButton('close', t('filter.close'), close),
    ),
    body,
  );
  el.addEventListener('keydown', (event) => {
    if (event.key !== 'Escape') return;
    event.stopPropagation();
    close();
  });
  let drawn = '';
  let abort = new AbortController();
  const whereError = h('p', { class: 'field-error', role: 'alert', id: 'where-error' });
  const opened = new Set(['date', 'folder', 'tag', 'place']);
  const expanded = new Set();

  async function show(filters, force = false) {
    if (el.hidden) return;
    const key = JSON.stringify(filters);
    if (key === drawn && !force) return;
    drawn = key;
    abort.abort();
    abort = new AbortController();
    const kind = filters.kinds.join(',');
    const ask = (without) => api.get('/facets', { where: whereOf(filters, without), kind }, abort.signal);
    if (!body.children.length)
      put(
        body,
        [1, 2, 3].map(() => h('div', { class: 'skeleton-block' })),
      );
    try {
      // Each choice is offered among what the other filters leave.
      const [all, dates, sizes, folders, places] = await Promise.all(
        [ask([]), ask(['from', 'to']), ask(['min', 'max']), ask(['folders']), ask(['box'])].map((p) =>
          p.catch((e) => {
            if (e.code === 'bad_filter') return null;
            throw e;
          }),
        ),
      );
      if (key !== drawn) return;
      draw(filters, { all, dates, sizes, folders, places });
    } catch (error) {
      if (error.name !== 'AbortError') put(body, h('p', { class: 'field-error', text: error.message }));
    }
  }

  function section(name, title, ...content) {
    const details = h(
      'details',
      { class: 'facet', open: opened.has(name) },
      h('summary', null, h('h3', { text: title }), icon('down', 16)),
      content,
    );
    details.addEventListener('toggle', () => (details.open ? opened.add(name) : opened.delete(name)));
    return details;
  }

  function checks(name, values, chosen, label, set) {
    const missing = chosen.filter((value) => !values.some((v) => v.value === value)).map((value) => ({ value, n: 0 }));
    const all = [...missing, ...values];
    const list = h('div', { class: 'checks' });
    const fill = (more) =>
      put(
        list,
        all
          .filter((v, i) => more || i < SHOWN || chosen.includes(v.value))
          .map(({ value, n }) =>
            h(
              'label',
              { class: 'check-row', title: value },
              h('input', {
                type: 'checkbox',
                checked: chosen.includes(value),
                on: { change: (event) => set(event.target.checked ? [...chosen, value] : chosen.filter((c) => c !== value)) },
              }),
              h('span', { class: 'check-name', text: label(value) }),
              h('span', { class: 'number', text: count(n) }),
            ),
          ),
        !more && all.length > SHOWN
          ? h(
              'button',
              {
                type: 'button',
                class: 'text-button',
                on: {
                  click: () => {
                    expanded.add(name);
                    fill(true);
                    list.querySelectorAll('input')[SHOWN]?.focus();
                  },
                },
              },
              h('span', { text: t('filter.more', { n: all.length - SHOWN }) }),
            )
          : null,
      );
    fill(expanded.has(name));
    return list;
  }

  function draw(filters, { all, dates, sizes, folders, places }) {
    const sections = [];
    const set = (changes) => change({ ...filters, ...changes });
    const focused = document.activeElement?.dataset?.keep;
    const bins = timeline(dates?.taken?.bins || []);
    if (bins.length > 1) {
      const first = filters.from ? bins.findIndex((b) => b.end >= filters.from) : 0;
      const last = filters.to ? bins.findLastIndex((b) => b.start <= filters.to) : bins.length - 1;
      sections.push(
        section(
          'date',
          t('filter.date'),
          histogram({
            name: 'date',
            bins,
            first: Math.max(0, first),
            last: last < 0 ? bins.length - 1 : last,
            labels: [t('filter.from'), t('filter.to')],
            textOf: (b, side) => month(side ? b.end : b.start),
            set: (a, b) => set({ from: a === 0 ? '' : bins[a].start, to: b === bins.length - 1 ? '' : bins[b].end }),
          }),
          dates.taken.n_undated
            ? h('p', {
                class: 'muted small',
                text: t('filter.undated', { n: dates.taken.n_undated, count: count(dates.taken.n_undated) }),
              })
            : null,
        ),
      );
    }
    if (folders?.folders?.length)
      sections.push(
        section(
          'folder',
          t('filter.folder'),
          checks('folder', folders.folders, filters.folders, leaf, (value) => set({ folders: value })),
        ),
      );
    if (all?.tags?.length || filters.tags.length)
      sections.push(
        section(
          'tag',
          t('filter.tag'),
          checks(
            'tag',
            all?.tags || [],
            filters.tags,
            (x) => x,
            (value) => set({ tags: value }),
          ),
        ),
      );
    if (places?.places?.length || filters.box)
      sections.push(
        section(
          'place',
          t('filter.place'),
          placesMap({ places: places?.places || [], box: filters.box, onChange: (box) => set({ box }) }),
        ),
      );
    const sizeBins = (sizes?.sizes?.bins || []).map((b) => ({ n: b.n, start: b.min, end: b.max }));
    if (sizeBins.length > 1) {
      const first = filters.min !== null ? sizeBins.findIndex((b) => b.end > filters.min) : 0;
      const last = filters.max !== null ? sizeBins.findLastIndex((b) => b.start < filters.max) : sizeBins.length - 1;
      sections.push(
        section(
          'size',
          t('filter.size'),
          histogram({
            name: 'size',
            bins: sizeBins,
            first: Math.max(0, first),
            last: last < 0 ? sizeBins.length - 1 : last,
            labels: [t('filter.least'), t('filter.most')],
            textOf: (b, side) => bytes(side ? b.end : b.start),
            set: (a, b) =>
              set({
                min: a === 0 ? null : Math.floor(sizeBins[a].start),
                max: b === sizeBins.length - 1 ? null : Math.ceil(sizeBins[b].end),
              }),
          }),
        ),
      );
    }
    if (all?.formats?.length > 1 || filters.formats.length)
      sections.push(
        section(
          'format',
          t('filter.format'),
          checks(
            'format',
            all?.formats || [],
            filters.formats,
            (x) => x,
            (value) => set({ formats: value }),
          ),
        ),
      );
    const ways = [
      '',
      'meaning',
      'words',
      'names',
      ...(now.status?.library?.lanes?.length > 1 ? now.status.library.lanes.map((lane) => lane.name) : []),
    ];
    sections.push(
      section(
        'lane',
        t('filter.lane'),
        h(
          'div',
          { class: 'checks', role: 'radiogroup', 'aria-label': t('filter.lane') },
          ways.map((way) =>
            h(
              'label',
              { class: 'check-row' },
              h('input', {
                type: 'radio',
                name: 'lane',
                value: way,
                checked: filters.lanes.join() === way,
                'data-keep': `lane-${way}`,
                on: { change: () => set({ lanes: way ? [way] : [] }) },
              }),
              h('span', { class: 'check-name', text: way ? laneName(way) : t('filter.lanes') }),
            ),
          ),
        ),
      ),
    );
    const where = h('input', {
      type: 'text',
      id: 'where',
      value: filters.where,
      spellcheck: 'false',
      autocapitalize: 'off',
      placeholder: "name = '*.jpg' AND width > 2000",
      'aria-describedby': 'where-hint where-error',
      'data-keep': 'where',
    });
    sections.push(
      section(
        'where',
        t('filter.where'),
        h(
          'form',
          {
            on: {
              submit: (event) => {
                event.preventDefault();
                set({ where: where.value.trim() });
              },
            },
          },
          h('label', { class: 'visually-hidden', for: 'where', text: t('filter.where') }),
          where,
        ),
        whereError,
        h('p', { class: 'muted small', id: 'where-hint', text: t('filter.whereHint') }),
      ),
    );
    put(body, sections);
    if (focused) body.querySelector(`[data-keep="${focused}"]`)?.focus();
  }

  return {
    el,
    show,
    again: (filters) => show(filters, true),
    error: (error) => {
      whereError.textContent = error ? error.message : '';
      if (error) opened.add('where');
      const details = whereError.closest('details');
      if (details && error) details.open = true;
      body.querySelector('#where')?.toggleAttribute('aria-invalid', Boolean(error));
    },
  };
}

/** Months without a gap, joined to quarters or years when there are too many to see. */
export function timeline(bins) {
  if (!bins.length) return [];
  const number = (start) => Number(start.slice(0, 4)) * 12 + Number(start.slice(5, 7) || 1) - 1;
  const name = (n) => `${String(Math.floor(n / 12)).padStart(4, '0')}-${String((n % 12) + 1).padStart(2, '0')}`;
  const [first, last] = [number(bins[0].start), number(bins.at(-1).start)];
  const step = [1, 3, 12, 60].find((months) => (last - first) / months < 72) || 120;
  const out = [];
  for (let m = Math.floor(first / step) * step; m <= last; m += step)
    out.push({ start: name(m), end: name(m + step - 1), n: 0 });
  for (const { start, n } of bins) out[Math.floor(number(start) / step) - Math.floor(first / step)].n += n;
  return out;
}

/** Bars with two sliders over them; `set(first, last)` once they rest. */
function histogram({ name, bins, first, last, labels, textOf, set }) {
  const most = Math.max(1, ...bins.map((b) => b.n));
  const bars = h(
    'div',
    { class: 'bars', 'aria-hidden': 'true' },
    bins.map((b) => {
      const bar = h('span');
      bar.style.height = b.n ? `${Math.max(4, Math.sqrt(b.n / most) * 100)}%` : '0';
      return bar;
    }),
  );
  const text = h('p', { class: 'range-text' });
  const settle = debounce(() => set(first, last), 350);
  const slider = (side) => {
    const input = h('input', {
      type: 'range',
      class: `range-${side ? 'high' : 'low'}`,
      min: 0,
      max: bins.length - 1,
      step: 1,
      value: side ? last : first,
      'aria-label': labels[side],
      'data-keep': `${name}-${side}`,
    });
    input.addEventListener('input', () => {
      const v = Number(input.value);
      if (side) last = Math.max(first, v);
      else first = Math.min(last, v);
      input.value = side ? last : first;
      show();
      settle();
    });
    return input;
  };
  const sliders = [slider(0), slider(1)];
  function show() {
    [...bars.children].forEach((bar, i) => bar.classList.toggle('in', i >= first && i <= last));
    text.textContent = `${textOf(bins[first], 0)} – ${textOf(bins[last], 1)}`;
    sliders[0].setAttribute('aria-valuetext', textOf(bins[first], 0));
    sliders[1].setAttribute('aria-valuetext', textOf(bins[last], 1));
  }
  show();
  return h('div', { class: 'histogram' }, bars, h('div', { class: 'sliders' }, sliders), text);
}
