// What the library's page tells of it: files that were refused, numbers, models.
import { api } from './api.js';
import { button, h, icon } from './dom.js';
import { count, laneName } from './format.js';
import { t } from './i18n.js';
import { toastError } from './notices.js';

const REFUSED_PER_PAGE = 100;

/** Files that could not be taken in, each with its reason, some at a time. */
export function refused(total) {
  const rows = h('tbody');
  const more = button(t('refused.more'), () => next(), { kind: 'small' });
  let offset = 0;
  const next = async () => {
    more.disabled = true;
    try {
      const found = await api.get('/refused', { offset, limit: REFUSED_PER_PAGE });
      rows.append(
        ...found.refused.map(({ path, reason }) =>
          h('tr', null, h('td', null, h('code', { text: path })), h('td', { text: reason })),
        ),
      );
      offset += found.refused.length;
      more.hidden = !found.refused.length || offset >= found.total;
    } catch (error) {
      toastError(error);
    }
    more.disabled = false;
  };
  next();
  return h(
    'section',
    { class: 'panel-card', 'aria-labelledby': 'refused-title' },
    h(
      'div',
      { class: 'card-head' },
      h('h2', { id: 'refused-title', text: t('refused.title') }),
      h('span', { class: 'number', text: count(total) }),
    ),
    h('p', { class: 'muted small', text: t('refused.text') }),
    h(
      'div',
      { class: 'table-scroll', tabindex: 0, role: 'region', 'aria-label': t('refused.list') },
      h(
        'table',
        { class: 'refused' },
        h(
          'thead',
          null,
          h(
            'tr',
            null,
            h('th', { scope: 'col', text: t('refused.file') }),
            h('th', { scope: 'col', text: t('refused.reason') }),
          ),
        ),
        rows,
      ),
    ),
    more,
  );
}

/** How much there is, kind by kind. */
export function numbers({ n_items, n_paths, n_segments, n_captions, generation, kinds }) {
  const most = Math.max(1, ...kinds.map((k) => k.n_items));
  return h(
    'section',
    { class: 'panel-card', 'aria-labelledby': 'numbers-title' },
    h('h2', { id: 'numbers-title', text: t('numbers.title') }),
    h(
      'p',
      { class: 'big-number' },
      h('strong', { text: count(n_items) }),
      h('span', { text: t('numbers.items', { n: n_items }) }),
    ),
    h(
      'ul',
      { class: 'kind-bars' },
      kinds
        .filter((k) => k.n_items)
        .map(({ kind, n_items: n }) => {
          const bar = h('span', { class: `kind-bar ${kind}`, 'aria-hidden': 'true' });
          bar.style.width = `${Math.max(1.5, (n / most) * 100)}%`;
          return h(
            'li',
            null,
            h(
              'a',
              { href: `/?kind=${kind}` },
              icon(kind, 18),
              h('span', { class: 'kind-name', text: t(`kinds.${kind}`) }),
              h('span', { class: 'number', text: count(n) }),
            ),
            bar,
          );
        }),
    ),
    h(
      'dl',
      { class: 'details' },
      [
        [t('numbers.files'), n_paths],
        [t('numbers.segments'), n_segments],
        [t('numbers.captions'), n_captions],
        [t('numbers.generation'), generation],
      ].map(([name, n]) => [h('dt', { text: name }), h('dd', { text: count(n ?? 0) })]),
    ),
  );
}

/** The models that the library is searched by. */
export function lanes(all) {
  if (!all.length) return null;
  return h(
    'section',
    { class: 'panel-card', 'aria-labelledby': 'lanes-title' },
    h('h2', { id: 'lanes-title', text: t('lanes.title') }),
    h(
      'ul',
      { class: 'lane-list' },
      all.map(({ name, dim, kinds, n_vectors, n_lacking }) =>
        h(
          'li',
          null,
          h(
            'div',
            { class: 'lane-head' },
            h('strong', { text: laneName(name) }),
            h(
              'span',
              { class: 'lane-kinds' },
              (kinds || []).map((kind) =>
                h(
                  'span',
                  { class: `sign ${kind}`, role: 'img', 'aria-label': t(`kinds.${kind}`), title: t(`kinds.${kind}`) },
                  icon(kind, 16),
                ),
              ),
            ),
          ),
          h('p', {
            class: 'muted small',
            text: [
              dim ? t('lanes.dim', { n: count(dim) }) : null,
              t('lanes.vectors', { n: n_vectors, count: count(n_vectors ?? 0) }),
            ]
              .filter(Boolean)
              .join(', '),
          }),
          n_lacking
            ? h('p', { class: 'small warm', text: t('lanes.lacking', { n: n_lacking, count: count(n_lacking) }) })
            : null,
        ),
      ),
    ),
  );
}
