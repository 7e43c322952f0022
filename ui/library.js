// The page of the library: choosing a space where there is none yet, folders and files to take in, the indexing as it goes, what could not be
// read, and the library in numbers.
import { api } from './api.js';
import { button, h, icon, iconButton, put, say } from './dom.js';
import { browseFolders } from './folders.js';
import { count, decimal, duration, percent } from './format.js';
import { t } from './i18n.js';
import { lanes, numbers, refused } from './librarycards.js';
import { isIndexing, live, may, now, refreshStatus } from './live.js';
import { errorState, toast, toastError } from './notices.js';
import { go } from './router.js';
import { takeFromPage } from './searchbar.js';
import { spacesForm } from './spaces.js';

export function libraryPage(main) {
  const body = h('div', { class: 'library-body' });
  const progress = h('section', { class: 'panel-card progress-card', 'aria-labelledby': 'progress-title', hidden: true });
  const title = h('h1', { text: t('nav.library') });
  const subtitle = h('p', { class: 'muted library-dir' });
  put(
    main,
    h(
      'div',
      { class: 'library-page' },
      h('header', { class: 'page-head' }, h('div', null, title, subtitle), h('div', { class: 'row', id: 'session' })),
      progress,
      body,
    ),
  );
  document.title = `${t('nav.library')} – chiasm`;
  let drawn = null;
  let wasIndexing = isIndexing();
  const undo = [
    live.on('status', draw),
    live.on('index', () => {
      drawProgress();
      const indexing = isIndexing();
      if (wasIndexing && !indexing) {
        refreshStatus().catch(() => {});
        say(t(`index.${now.index.state}`));
      }
      wasIndexing = indexing;
    }),
    takeFromPage((files) => (now.status?.library && may('write') ? addFiles(files) : null), {
      title: t('files.dropTitle'),
      text: t('files.dropText'),
    }),
  ];
  const onKey = (event) => {
    if (
      event.key !== '/' ||
      event.defaultPrevented ||
      event.ctrlKey ||
      event.metaKey ||
      event.target.closest?.('input, textarea, dialog')
    )
      return;
    event.preventDefault();
    go('/');
    document.getElementById('query')?.focus();
  };
  document.addEventListener('keydown', onKey);
  put(body, h('div', { class: 'skeleton-block tall' }), h('div', { class: 'skeleton-block tall' }));
  load();

  async function load() {
    try {
      await refreshStatus();
    } catch (error) {
      put(body, errorState(error, load));
    }
  }

  function draw() {
    const { status } = now;
    if (!status) return;
    const key = JSON.stringify([status.library, status.scopes]);
    if (key === drawn) return;
    drawn = key;
    subtitle.textContent = status.library?.dir || '';
    title.textContent = status.library ? status.name || t('nav.library') : t('space.title');
    const session = document.getElementById('session');
    put(
      session,
      status.auth_required
        ? button(
            t('login.leave'),
            async () => {
              await api.remove('/session').catch(() => {});
              location.reload();
            },
            { name: 'key', kind: 'small' },
          )
        : null,
    );
    put(progress);
    drawProgress();
    if (!status.library)
      put(
        body,
        spacesForm({
          made: async () => {
            drawn = null;
            await refreshStatus();
            document.getElementById('folder')?.focus();
          },
          again: () => {
            drawn = null;
            draw();
          },
        }),
      );
    else
      put(
        body,
        h(
          'div',
          { class: 'library-columns' },
          h(
            'div',
            { class: 'library-main' },
            folders(status.library),
            status.library.n_refused ? refused(status.library.n_refused) : null,
          ),
          h('div', { class: 'library-side' }, numbers(status.library), lanes(status.library.lanes || [])),
        ),
      );
  }

  // Indexing as it goes --------------------------------------------------------------------------------------------------

  function drawProgress() {
    const index = now.index;
    const shown = index && (isIndexing() || index.report || index.error);
    progress.hidden = !shown;
    if (!shown) return;
    const { state, stage, done, total, rate, left_s: leftS, report, error, roots } = index;
    const heading = h('h2', { id: 'progress-title', text: t(`index.${state}`) });
    if (isIndexing()) {
      if (!progress.querySelector('.progress')) {
        const stop = button(
          t('index.stop'),
          async () => {
            stop.disabled = true;
            await api.remove('/index').catch((e) => toastError(e));
          },
          { name: 'stop', kind: 'small' },
        );
        put(
          progress,
          h('div', { class: 'progress-head' }, heading, may('write') || may('admin') ? stop : null),
          h('p', { class: 'muted small roots' }),
          h(
            'div',
            {
              class: 'progress',
              role: 'progressbar',
              'aria-labelledby': 'progress-title',
              'aria-valuemin': 0,
              'aria-valuemax': 100,
            },
            h('span'),
          ),
          h('p', { class: 'progress-words small' }),
        );
      }
      progress.querySelector('h2').textContent = t(`index.${state}`);
      progress.querySelector('.roots').textContent = (roots || []).join(', ');
      const bar = progress.querySelector('.progress');
      bar.classList.toggle('indeterminate', !total);
      const share = total ? done / total : 0;
      bar.firstChild.style.width = total ? `${share * 100}%` : '';
      if (total) bar.setAttribute('aria-valuenow', Math.round(share * 100));
      else bar.removeAttribute('aria-valuenow');
      put(
        progress.querySelector('.progress-words'),
        h('strong', {
          text: total
            ? t('index.of', { done: count(done), total: count(total), p: percent(share) })
            : stage === 'look' || !stage
              ? t('index.looking')
              : stage,
        }),
        rate ? h('span', { class: 'muted', text: t('index.rate', { n: decimal(rate, 2) }) }) : null,
        leftS ? h('span', { class: 'muted', text: t('index.left', { time: duration(leftS) }) }) : null,
      );
      return;
    }
    const rows = report
      ? [
          ['new', report.n_new],
          ['updated', report.n_updated],
          ['unchanged', report.n_unchanged],
          ['removed', report.n_removed],
          ['refused', report.refused?.length],
        ].filter(([, n]) => n)
      : [];
    put(
      progress,
      h(
        'div',
        { class: 'progress-head' },
        heading,
        iconButton('close', t('dialog.close'), () => {
          now.index = { ...index, report: null, error: null, state: 'idle' };
          progress.hidden = true;
        }),
      ),
      error ? h('p', { class: 'field-error', text: [error.message, error.cure].filter(Boolean).join('. ') }) : null,
      report
        ? h(
            'p',
            { class: 'report' },
            rows.length
              ? rows.map(([name, n]) => h('span', null, h('strong', { text: count(n) }), ` ${t(`report.${name}`)}`))
              : h('span', { text: t('report.nothing') }),
            report.wall_s ? h('span', { class: 'muted', text: t('report.in', { time: duration(report.wall_s) }) }) : null,
          )
        : null,
      (report?.skipped || []).map(({ reason, n }) =>
        h('p', { class: 'muted small', text: t('report.skipped', { n, count: count(n), reason }) }),
      ),
      (report?.notes || []).map((text) => h('p', { class: 'muted small', text })),
    );
  }

  async function index(roots) {
    try {
      now.index = await api.post('/index', { roots });
      live.emit('index', now.index);
      wasIndexing = true;
      say(t('index.running'));
      return true;
    } catch (error) {
      if (error.code === 'conflict') toastError({ message: t('index.already'), cure: null });
      else throw error;
      return false;
    }
  }

  // Folders and files ----------------------------------------------------------------------------------------------------

  function folders({ roots }) {
    const error = h('p', { class: 'field-error', role: 'alert', id: 'folder-error' });
    const input = h('input', {
      type: 'text',
      id: 'folder',
      spellcheck: 'false',
      autocapitalize: 'off',
      autocomplete: 'off',
      placeholder: t('folders.placeholder'),
      'aria-describedby': 'folder-error',
      required: true,
    });
    const add = async (path) => {
      error.textContent = '';
      try {
        if (await index([path])) input.value = '';
      } catch (e) {
        error.textContent = [e.message, e.cure].filter(Boolean).join('. ');
        input.setAttribute('aria-invalid', 'true');
        input.focus();
      }
    };
    const form = h(
      'form',
      {
        class: 'folder-form',
        on: {
          submit: (event) => {
            event.preventDefault();
            if (input.value.trim()) add(input.value.trim());
          },
        },
      },
      h('label', { class: 'visually-hidden', for: 'folder', text: t('folders.path') }),
      input,
      may('admin') ? button(t('folders.browse'), () => browseFolders(input.value.trim(), add), { name: 'folder' }) : null,
      h('button', { type: 'submit', class: 'button primary' }, icon('plus', 18), h('span', { text: t('folders.add') })),
    );
    const picker = h('input', {
      type: 'file',
      multiple: true,
      class: 'visually-hidden',
      tabindex: -1,
      'aria-hidden': 'true',
      on: {
        change: () => {
          addFiles([...picker.files]);
          picker.value = '';
        },
      },
    });
    const allowed = may('admin') || may('write');
    return h(
      'section',
      { class: 'panel-card', 'aria-labelledby': 'folders-title' },
      h(
        'div',
        { class: 'card-head' },
        h('h2', { id: 'folders-title', text: t('folders.title') }),
        roots.length && allowed
          ? button(t('folders.again'), () => index([]).catch((e) => toastError(e)), { name: 'clock', kind: 'small' })
          : null,
      ),
      roots.length
        ? h(
            'ul',
            { class: 'roots-list' },
            roots.map((root) =>
              h(
                'li',
                null,
                icon('folder', 18),
                h('code', { text: root }),
                allowed
                  ? h(
                      'button',
                      {
                        type: 'button',
                        class: 'text-button',
                        'aria-label': t('folders.againOne', { path: root }),
                        on: { click: () => index([root]).catch((e) => toastError(e)) },
                      },
                      h('span', { text: t('folders.look') }),
                    )
                  : null,
              ),
            ),
          )
        : h('p', { class: 'muted', text: t('folders.none') }),
      allowed ? [form, error] : h('p', { class: 'muted small', text: t('folders.forbidden') }),
      may('write')
        ? h(
            'div',
            { class: 'drop-here' },
            icon('upload', 22),
            h('span', { text: t('files.text') }),
            button(t('files.choose'), () => picker.click(), { kind: 'small' }),
            picker,
          )
        : null,
    );
  }

  async function addFiles(files) {
    let n = 0;
    for (const file of files) {
      try {
        await api.send('/items', file, file.name);
        n++;
      } catch (error) {
        toastError(error, t('files.refused', { name: file.name }));
      }
    }
    if (n) {
      toast(t('files.added', { n, count: count(n) }), { act: { label: t('files.see'), run: () => go('/') } });
      refreshStatus().catch(() => {});
    }
  }

  return {
    update: draw,
    unmount() {
      document.removeEventListener('keydown', onKey);
      for (const f of undo) f();
    },
  };
}
