// Where the page begins: the header, the routes, the settings, and what is told of the server as a whole (indexing, offline, busy).
import { signals } from './api.js';
import { installLogin, menu } from './dialog.js';
import { h, icon, iconButton, put, s } from './dom.js';
import { count, duration, percent } from './format.js';
import { lang, LANGUAGES, setLang, t } from './i18n.js';
import { libraryPage } from './library.js';
import { isIndexing, listen, live, now, status } from './live.js';
import { mapPage } from './map.js';
import { toast } from './notices.js';
import { router, startRouter } from './router.js';
import { searchPage } from './search.js';
import { keep, recall } from './store.js';

const PAGES = { '/': searchPage, '/map': mapPage, '/library': libraryPage };
const app = document.getElementById('app');
let page = null;
let path = null;

const logo = () =>
  s(
    'svg',
    { class: 'logo', viewBox: '0 0 32 32', width: 28, height: 28, 'aria-hidden': 'true' },
    s('path', { class: 'logo-a', d: 'M6 6c7 0 13 20 20 20' }),
    s('path', { class: 'logo-b', d: 'M26 6C19 6 13 26 6 26' }),
  );

function shell() {
  document.documentElement.lang = lang() === 'zh' ? 'zh-CN' : 'en';
  const skip = document.getElementById('skip');
  skip.textContent = t('skip');
  const link = (to, name, label) => h('a', { href: to, 'data-page': to }, icon(name, 20), h('span', { text: label }));
  const theme = iconButton(
    'auto',
    t('theme.label'),
    () =>
      menu(
        theme,
        ['auto', 'light', 'dark'].map((name) => ({
          label: t(`theme.${name}`),
          checked: recall('theme', 'auto') === name,
          run: () => setTheme(name),
        })),
      ),
    { 'aria-haspopup': 'menu', 'aria-expanded': 'false', id: 'theme' },
  );
  const language = iconButton(
    'language',
    t('language.label'),
    () =>
      menu(
        language,
        LANGUAGES.map(([code, name]) => ({
          label: name,
          checked: lang() === code,
          run: () => {
            setLang(code);
            start();
            document.getElementById('language').focus();
          },
        })),
      ),
    { 'aria-haspopup': 'menu', 'aria-expanded': 'false', id: 'language' },
  );
  put(
    app,
    h(
      'header',
      { class: 'header' },
      h('a', { class: 'brand', href: '/', 'aria-label': t('brand.label') }, logo(), h('span', { text: 'chiasm' })),
      h(
        'nav',
        { class: 'nav', 'aria-label': t('nav.label') },
        link('/', 'search', t('nav.search')),
        link('/map', 'map', t('nav.map')),
        link('/library', 'library', t('nav.library')),
      ),
      h(
        'div',
        { class: 'header-tools' },
        h('a', { class: 'index-pill', id: 'index-pill', href: '/library', hidden: true }),
        theme,
        language,
      ),
    ),
    h('div', { class: 'banner', id: 'banner', role: 'status', hidden: true }),
    h('main', { id: 'main', tabindex: -1 }),
  );
  showTheme();
  showIndexing();
}

function showTheme() {
  const name = recall('theme', 'auto');
  document.getElementById('theme').replaceChildren(icon({ auto: 'auto', light: 'sun', dark: 'moon' }[name] || 'auto'));
}

function setTheme(name) {
  keep('theme', name === 'auto' ? null : name);
  if (name === 'auto') delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = name;
  showTheme();
  live.emit('theme');
}

function showIndexing() {
  const pill = document.getElementById('index-pill');
  if (!pill) return;
  pill.hidden = !isIndexing();
  if (pill.hidden) return;
  const { done, total, left_s: leftS } = now.index;
  const share = total ? done / total : 0;
  const ring = s(
    'svg',
    { viewBox: '0 0 20 20', width: 18, height: 18, 'aria-hidden': 'true', class: total ? 'ring' : 'ring turning' },
    s('circle', { cx: 10, cy: 10, r: 8 }),
    s('circle', {
      class: 'ring-done',
      cx: 10,
      cy: 10,
      r: 8,
      pathLength: 100,
      'stroke-dasharray': `${total ? share * 100 : 25} 100`,
    }),
  );
  const words = total ? t('index.of', { done: count(done), total: count(total), p: percent(share) }) : t('index.looking');
  pill.title = leftS ? `${words}, ${t('index.left', { time: duration(leftS) })}` : words;
  put(
    pill,
    ring,
    h('span', { class: 'visually-hidden', text: `${t(`index.${now.index.state}`)}: ${words}` }),
    total ? h('span', { 'aria-hidden': 'true', text: percent(share) }) : null,
  );
}

function route({ pop = false } = {}) {
  const to = PAGES[location.pathname] ? location.pathname : '/';
  if (to !== path) {
    page?.unmount();
    path = to;
    for (const link of document.querySelectorAll('.nav a')) {
      if (link.dataset.page === to) link.setAttribute('aria-current', 'page');
      else link.removeAttribute('aria-current');
    }
    const main = document.getElementById('main');
    main.replaceChildren();
    page = PAGES[to](main);
    if (started && !pop) main.focus({ preventScroll: true });
  }
  page.update({ pop });
}

let started = false;

function start() {
  page?.unmount();
  page = null;
  path = null;
  shell();
  route({ pop: true });
  started = true;
}

let bannerTimer = 0;
function banner(kind, text, ms) {
  const el = document.getElementById('banner');
  clearTimeout(bannerTimer);
  el.className = `banner ${kind}`;
  put(el, icon(kind === 'offline' ? 'warn' : 'clock', 18), h('span', { text }));
  el.hidden = false;
  if (ms) bannerTimer = setTimeout(() => (el.hidden = true), ms);
}

installLogin();
startRouter();
router.on('go', route);
live.on('index', showIndexing);
signals.on('offline', () => banner('offline', t('offline.banner')));
signals.on('online', () => {
  document.getElementById('banner').hidden = true;
  toast(t('online.again'));
});
signals.on('busy', (seconds) => banner('busy', t('busy.banner', { n: seconds }), seconds * 1000 + 500));
start();
status().catch(() => {});
listen();
