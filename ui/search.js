// The page of search and browsing: the field, the filters, the gallery, the side panel. What it shows is what the address bar says; whatever
// is done changes the address, and the page follows.
import { api, signals } from './api.js';
import { menu } from './dialog.js';
import { button, h, icon, put, say } from './dom.js';
import { exportAs } from './export.js';
import { filterChips, filterPanel, kindBar } from './filters.js';
import { count, decimal, laneName } from './format.js';
import { Gallery } from './gallery.js';
import { t } from './i18n.js';
import { live, now, status as firstStatus } from './live.js';
import { errorState, state as designed, toastError } from './notices.js';
import { sidePanel } from './panel.js';
import { canRecord } from './record.js';
import { go } from './router.js';
import { searchBar, takeFromPage } from './searchbar.js';
import { selectionBar } from './selectionbar.js';
import { selection } from './selection.js';
import { keep, recall } from './store.js';
import { emptyFilters, isFiltered, readUrl, whereOf, wirePart, writeUrl } from './url.js';

const SEARCH_CHUNK = 60;
const BROWSE_CHUNK = 120;
const MAX_EXPORTED = 10000; // hits of a search; everything beyond is unrelated anyhow
const SIZES = [130, 190, 270];
const narrow = matchMedia('(max-width: 860px)');

export function searchPage(main) {
  let query = readUrl(location.search);
  let shown = ''; // the list that is on the page
  let abort = new AbortController();
  let listOpen = null; // {total, all()} of the list that is shown
  let hits = new Map(); // hits by item, for the panel
  let panelKnows = false; // whether the panel was opened with the hits known

  const set = (changes, options) => go(`/${writeUrl({ ...query, item: null, ...changes })}`, options);
  const setFilters = (filters) => set({ filters });
  const like = (item, sign) => {
    bar.add({ item, weight: sign });
    scrollTo({ top: 0 });
  };

  // Parts of the page ----------------------------------------------------------------------------------------------------

  const bar = searchBar({
    onSubmit: (parts) => {
      set({ parts, sort: parts.length && ['largest', 'smallest', 'name'].includes(query.sort) ? '' : query.sort });
      scrollTo({ top: 0 });
    },
  });
  const hero = h('div', { class: 'hero' }, h('h1', { text: t('hero.title') }), h('p', { text: t('hero.text') }));
  const ways = h(
    'div',
    { class: 'ways' },
    h(
      'button',
      { type: 'button', class: 'way', on: { click: () => bar.pick() } },
      icon('image', 18),
      h('span', { text: t('hero.picture') }),
    ),
    h(
      'button',
      { type: 'button', class: 'way', on: { click: () => (canRecord() ? bar.record() : bar.pick()) } },
      icon('mic', 18),
      h('span', { text: t('hero.sound') }),
    ),
    h('a', { class: 'way', href: '/map' }, icon('map', 18), h('span', { text: t('hero.map') })),
  );
  const heading = h('h1', { class: 'visually-hidden' });
  const kinds = h('div', { class: 'kinds', role: 'group', 'aria-label': t('kinds.label') });
  const chips = h('div', { class: 'filter-chips' });
  const filterButton = button(t('filter.title'), () => openFilters(panelFilters.el.hidden), {
    name: 'filter',
    kind: 'tool',
    'aria-expanded': 'false',
    'aria-controls': 'filters',
  });
  const sortButton = h('button', {
    type: 'button',
    class: 'button tool',
    'aria-haspopup': 'menu',
    'aria-expanded': 'false',
    on: { click: chooseSort },
  });
  const exportButton = button(t('export.title'), chooseExport, {
    name: 'download',
    kind: 'tool',
    'aria-haspopup': 'menu',
    'aria-expanded': 'false',
  });
  const selectButton = h(
    'button',
    {
      type: 'button',
      class: 'button tool select-tool',
      'aria-label': t('select.mode'),
      'aria-pressed': 'false',
      on: {
        click: () => {
          const on = selectButton.getAttribute('aria-pressed') !== 'true';
          selectButton.setAttribute('aria-pressed', String(on));
          results.classList.toggle('selecting', on);
        },
      },
    },
    icon('select', 18),
    h('span', { text: t('select.mode') }),
  );
  const sizeInput = h('input', {
    type: 'range',
    class: 'size',
    min: 0,
    max: 2,
    step: 1,
    value: recall('size', 1),
    'aria-label': t('gallery.size'),
    title: t('gallery.size'),
    on: {
      input: () => {
        keep('size', Number(sizeInput.value));
        gallery.relayout();
      },
    },
  });
  const summary = h('p', { class: 'summary' });
  const remarks = h('div', { class: 'remarks' });
  const grid = h('div', { 'aria-label': t('gallery.label') });
  const message = h('div', { class: 'message' });
  const results = h('div', { class: 'results', id: 'results' }, summary, remarks, message, grid);
  const panelFilters = filterPanel({ change: setFilters, close: () => openFilters(false) });
  const panel = sidePanel({
    onClose: closePanel,
    onStep: step,
    onLike: like,
    onOpen: (hit) => open(hit),
    onFolder: (folder) => set({ filters: { ...emptyFilters(), folders: [folder] }, parts: [], sort: '' }),
    onTag: (tag) => set({ filters: { ...emptyFilters(), tags: [tag] }, parts: [], sort: '' }),
    onRemoved: () => {
      closePanel();
      shown = '';
      update();
    },
  });
  const picked = selectionBar({
    onLike: (items) => {
      for (const item of items.slice(0, 8)) bar.add({ item, weight: 1 });
      selection.clear();
    },
    onShow: null,
  });
  const page = h(
    'div',
    { class: 'search-page' },
    heading,
    hero,
    bar.el,
    ways,
    h(
      'div',
      { class: 'toolbar' },
      kinds,
      h('div', { class: 'tools' }, filterButton, sortButton, selectButton, exportButton, sizeInput),
    ),
    chips,
    h('div', { class: 'columns' }, panelFilters.el, results, panel.el),
    picked.el,
  );
  put(main, page);

  const gallery = new Gallery(grid, {
    selection,
    wanted: () => (narrow.matches ? [96, 128, 190] : SIZES)[Number(sizeInput.value)],
    selecting: () => selectButton.getAttribute('aria-pressed') === 'true',
    onOpen: (entry) => open(entry),
    onLike: (entry, sign) => like(entry.item, sign),
    onFail: (error, retry) => toastError(error) || setTimeout(retry, 4000),
  });
  const undo = [
    takeFromPage((files) => bar.takeFiles(files)),
    live.on('status', () => {
      drawTools();
      if (shown === '' || designedEmpty()) {
        shown = '';
        update();
      }
    }),
    live.on('library', () => {
      if (scrollY < 40 && !query.parts.length && panel.item === null) {
        shown = '';
        update();
      }
    }),
    signals.on('online', () => {
      if (message.querySelector('.state.bad')) list();
    }),
    selection.on('change', () => results.classList.toggle('has-selection', selection.size > 0)),
  ];
  document.addEventListener('keydown', onKey);
  openFilters(recall('filters', false) && !narrow.matches, false);

  // What follows the address ---------------------------------------------------------------------------------------------

  function update({ pop = false } = {}) {
    query = readUrl(location.search);
    bar.set(query.parts);
    drawTools();
    panelFilters.show(query.filters);
    const key = JSON.stringify([query.parts, query.filters, query.sort]);
    if (key !== shown) {
      shown = key;
      list(pop ? history.state?.y : 0);
    }
    showPanel();
  }

  const designedEmpty = () => message.firstChild?.classList.contains('empty');

  function drawTools() {
    const browsing = !query.parts.length && !isFiltered(query.filters);
    page.classList.toggle('home', browsing);
    const words = query.parts
      .map((part) => part.text)
      .filter(Boolean)
      .join(', ');
    heading.hidden = browsing;
    hero.hidden = !browsing;
    ways.hidden = !browsing;
    heading.textContent = query.parts.length
      ? t('results.heading', { what: words || t('results.example') })
      : t('results.browse');
    document.title = words ? `${words} – chiasm` : now.status?.name ? `${now.status.name} – chiasm` : 'chiasm';
    put(kinds, kindBar(query.filters, now.status?.library?.kinds || [], setFilters));
    const filters = filterChips(query.filters, setFilters);
    put(chips, filters);
    chips.hidden = !filters.length;
    put(sortButton, icon('down', 16), h('span', { text: t(`sort.${sortNow()}`) }));
    sortButton.setAttribute('aria-label', t('sort.label', { how: t(`sort.${sortNow()}`) }));
  }

  const sortNow = () => query.sort || (query.parts.length ? 'relevance' : 'newest');

  async function list(y = 0) {
    abort.abort();
    abort = new AbortController();
    const { signal } = abort;
    const mine = query;
    results.setAttribute('aria-busy', 'true');
    results.classList.add('loading');
    panelFilters.error(null);
    put(message);
    if (!gallery.loaded().length) gallery.setSource({ total: 60, chunk: 60, fetch: () => new Promise(() => {}) });
    try {
      await firstStatus();
      if (signal.aborted) return;
      const { library } = now.status;
      if (!library || !library.n_items) return nothing(library);
      page.classList.remove('bare');
      if (mine.parts.length) await showSearch(mine, signal);
      else await showBrowse(mine, signal);
      if (y) {
        await gallery.growTo(y);
        if (!signal.aborted) scrollTo(0, y);
      }
    } catch (error) {
      if (error.name === 'AbortError') return;
      if (error.code === 'bad_filter') {
        openFilters(true, false);
        await panelFilters.show(query.filters);
        panelFilters.error(error);
      }
      empty();
      put(
        message,
        errorState(error, () => list()),
      );
      say(error.message);
    } finally {
      if (!signal.aborted) {
        results.setAttribute('aria-busy', 'false');
        results.classList.remove('loading');
      }
    }
  }

  function empty() {
    gallery.setSource({ total: 0, chunk: 1, fetch: async () => ({ entries: [], next: null }) });
    put(summary);
    put(remarks);
    listOpen = null;
  }

  function nothing(library) {
    empty();
    page.classList.add('bare');
    const el = library
      ? designed({
          name: 'folder',
          title: t('empty.title'),
          text: t('empty.text'),
          actions: [
            h('a', { class: 'button primary', href: '/library' }, icon('plus', 18), h('span', { text: t('empty.add') })),
          ],
          kind: 'empty',
        })
      : designed({
          name: 'library',
          title: t('nolibrary.title'),
          text: t('nolibrary.text'),
          actions: [h('a', { class: 'button primary', href: '/library' }, h('span', { text: t('nolibrary.choose') }))],
          kind: 'empty',
        });
    put(message, el);
    results.setAttribute('aria-busy', 'false');
    results.classList.remove('loading');
  }

  async function showSearch({ parts, filters, sort }, signal) {
    const body = {
      query: parts.map(wirePart),
      kinds: filters.kinds,
      where: whereOf(filters),
      lanes: filters.lanes,
      sort: !sort || sort === 'reranked' ? 'relevance' : sort,
      rerank: sort === 'reranked' && Boolean(now.status?.rerank),
    };
    const ask = (offset, k, s) => api.post('/search', { ...body, offset, k }, s);
    const first = await ask(0, SEARCH_CHUNK, signal);
    if (signal.aborted) return;
    hits = new Map(first.hits.map((hit) => [hit.item, hit]));
    // After a reload the panel is there before the hit is.
    if (panel.item !== null && hits.has(panel.item) && !panelKnows)
      panel.show(panel.item, hits.get(panel.item), parts, filters.lanes, true);
    panelKnows = true;
    // A cut counts places by closeness, and those are others once answers were looked at again.
    const cutOf = (reply) => (body.sort === 'relevance' && !body.rerank ? reply.cut : null);
    const take = (reply) => {
      for (const hit of reply.hits) hits.set(hit.item, hit);
      return { entries: reply.hits, next: reply.next_offset, cut: cutOf(reply) };
    };
    listOpen = {
      all: async () => {
        const all = [...first.hits];
        for (let next = first.next_offset; next !== null && all.length < MAX_EXPORTED;) {
          const reply = await ask(next, now.status.limits?.max_k || 240, abort.signal);
          all.push(...reply.hits);
          next = reply.hits.length ? reply.next_offset : null;
        }
        return all;
      },
    };
    if (!first.hits.length) {
      empty();
      put(
        message,
        designed({
          name: 'search',
          title: t('none.title'),
          text: t(isFiltered(filters) ? 'none.filtered' : 'none.text'),
          actions: isFiltered(filters)
            ? [button(t('filter.clear'), () => setFilters(emptyFilters()), { kind: 'primary' })]
            : [],
        }),
      );
      say(t('none.title'));
      return;
    }
    gallery.setSource(
      { total: null, chunk: SEARCH_CHUNK, fetch: async (offset, k, s) => take(await ask(offset, k, s)) },
      { first: take(first), cut: cutOf(first) },
    );
    const words =
      first.stands_out === false || first.cut === 0
        ? t('results.nothingStandsOut')
        : first.cut
          ? t('results.related', { n: first.cut, count: count(first.cut) })
          : '';
    put(
      summary,
      h('strong', { text: words || t('results.best') }),
      h('span', {
        class: 'muted',
        text: t('results.of', { n: first.n_candidates, count: count(first.n_candidates), ms: decimal(first.elapsed_ms, 2) }),
      }),
    );
    const left = (first.lanes || []).filter((lane) => lane.left_out).map((lane) => `${laneName(lane.lane)}: ${lane.left_out}`);
    put(
      remarks,
      [...(first.remarks || []), ...left].map((text) => h('p', { class: 'remark', text })),
    );
    say(t('results.said', { n: first.n_candidates, count: count(first.n_candidates), related: words }));
  }

  async function showBrowse({ filters, sort }, signal) {
    const params = {
      where: whereOf(filters),
      kind: filters.kinds.join(','),
      sort: sort && sort !== 'relevance' && sort !== 'reranked' ? sort : 'newest',
    };
    const ask = (offset, limit, s) => api.get('/items', { ...params, offset, limit }, s);
    const first = await ask(0, BROWSE_CHUNK, signal);
    if (signal.aborted) return;
    hits = new Map();
    const take = (reply) => ({ entries: reply.items, next: reply.next_offset });
    listOpen = {
      all: async () => {
        const all = [];
        for await (const item of api.lines('/items', params, abort.signal)) all.push(item);
        return all;
      },
    };
    if (!first.items.length) {
      empty();
      put(
        message,
        designed({
          name: 'filter',
          title: t('none.title'),
          text: t('none.filtered'),
          actions: [button(t('filter.clear'), () => setFilters(emptyFilters()), { kind: 'primary' })],
        }),
      );
      say(t('none.title'));
      return;
    }
    gallery.setSource(
      { total: first.total, chunk: BROWSE_CHUNK, fetch: async (offset, n, s) => take(await ask(offset, n, s)) },
      { first: take(first) },
    );
    const text = t('browse.count', { n: first.total, count: count(first.total) });
    put(summary, h('strong', { text }));
    put(remarks);
    say(text);
  }

  // Things to do ---------------------------------------------------------------------------------------------------------

  function openFilters(on, focus = true) {
    panelFilters.el.hidden = !on;
    filterButton.setAttribute('aria-expanded', String(on));
    page.classList.toggle('with-filters', on);
    if (!narrow.matches) keep('filters', on);
    isolate(panelFilters.el, on && narrow.matches);
    if (on) panelFilters.show(query.filters);
    if (focus) (on ? panelFilters.el : filterButton).focus();
  }

  function chooseSort() {
    const again = now.status?.rerank ? ['reranked'] : [];
    const sorts = query.parts.length ? ['relevance', ...again, 'newest', 'oldest'] : ['newest', 'oldest', 'largest', 'smallest', 'name'];
    menu(
      sortButton,
      sorts.map((sort, i) => ({
        label: t(`sort.${sort}`),
        checked: sort === sortNow(),
        run: () => set({ sort: i === 0 ? '' : sort }),
      })),
    );
  }

  function chooseExport() {
    const all = () => (listOpen ? listOpen.all() : []);
    menu(
      exportButton,
      ['csv', 'json', 'paths'].map((format) => ({ label: t(`export.${format}`), run: () => exportAs(format, all) })),
    );
  }

  function open(entry) {
    go(`/${writeUrl({ ...query, item: entry.item })}`, panel.item === null ? { state: { opened: true } } : { replace: true });
  }
  function closePanel() {
    if (history.state?.opened) history.back();
    else go(`/${writeUrl({ ...query, item: null })}`, { replace: true });
  }

  async function step(by) {
    const at = gallery.indexOf(panel.item);
    if (at < 0) return;
    const entry = await gallery.reach(at + by);
    if (!entry) return;
    gallery.show(at + by);
    go(`/${writeUrl({ ...query, item: entry.item })}`, { replace: true });
  }

  function showPanel() {
    const was = panel.item;
    if (query.item === was) return;
    const y = scrollY;
    if (query.item === null) {
      panel.hide();
      page.classList.remove('with-panel');
      isolate(panel.el, false);
      gallery.mark(null);
      const index = gallery.indexOf(was);
      if (narrow.matches) scrollTo(0, y);
      if (index >= 0) gallery.show(index, { focus: true });
      return;
    }
    page.classList.add('with-panel');
    panel.show(query.item, hits.get(query.item), query.parts, query.filters.lanes);
    isolate(panel.el, narrow.matches);
    gallery.mark(query.item);
    if (was === null) {
      requestAnimationFrame(() => {
        const index = gallery.indexOf(query.item);
        if (index >= 0 && !narrow.matches) gallery.show(index);
        panel.el.querySelector('h2').focus({ preventScroll: true });
      });
    }
  }

  function onKey(event) {
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
    const typing = event.target.closest?.('input, textarea, select, [contenteditable], dialog');
    if (event.key === '/' && !typing) {
      event.preventDefault();
      scrollTo({ top: 0 });
      bar.focus();
    } else if (event.key === 'Escape') {
      if (selection.size) selection.clear();
      else if (panel.item !== null) closePanel();
    } else if (event.key === 'ArrowDown' && event.target.id === 'query') {
      event.preventDefault();
      gallery.focus();
    }
  }

  return {
    update,
    unmount() {
      abort.abort();
      gallery.destroy();
      document.removeEventListener('keydown', onKey);
      isolate(panel.el, false);
      panel.hide();
      for (const f of undo) f();
      picked.destroy();
    },
  };
}

/** On a phone a panel covers the page: what lies under it is out of reach meanwhile. */
function isolate(el, on) {
  for (let here = el; here && here !== document.body; here = here.parentElement) {
    for (const other of here.parentElement?.children || [])
      if (other !== here && !['live', 'toasts'].includes(other.id) && !/^(SCRIPT|DIALOG)$/.test(other.tagName))
        other.inert = on;
  }
}
