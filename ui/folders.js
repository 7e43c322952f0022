// A look around the folders of the server's machine, to choose one of them: by going into them, or by typing a path.
import { api } from './api.js';
import { dialog } from './dialog.js';
import { button, h, icon, put } from './dom.js';
import { count } from './format.js';
import { t } from './i18n.js';

/** Begins at `start` (or where the server thinks best) and calls `choose(path)`. */
export function browseFolders(start, choose) {
  const here = h('input', { type: 'text', id: 'browse-path', spellcheck: 'false', autocapitalize: 'off' });
  const list = h('ul', { class: 'folder-list' });
  const error = h('p', { class: 'field-error', role: 'alert' });
  const words = h('p', { class: 'muted small' });
  const hidden = h('input', { type: 'checkbox', on: { change: () => show() } });
  let found = null;
  const visit = async (path, focus = true) => {
    list.setAttribute('aria-busy', 'true');
    error.textContent = '';
    try {
      found = await api.get('/folders', { path });
      here.value = found.path;
      show();
      if (focus) list.querySelector('button')?.focus();
    } catch (e) {
      error.textContent = [e.message, e.cure].filter(Boolean).join('. ');
    } finally {
      list.removeAttribute('aria-busy');
    }
  };
  const show = () => {
    const some = found.folders.filter((folder) => hidden.checked || !folder.hidden);
    put(
      list,
      found.parent !== null
        ? h(
            'li',
            null,
            h(
              'button',
              { type: 'button', class: 'folder-row up', on: { click: () => visit(found.parent) } },
              icon('up', 18),
              h('span', { text: t('folders.up') }),
            ),
          )
        : null,
      some.map((folder) =>
        h(
          'li',
          null,
          h(
            'button',
            { type: 'button', class: 'folder-row', on: { click: () => visit(folder.path) } },
            icon('folder', 18),
            h('span', { text: folder.name }),
            icon('right', 16),
          ),
        ),
      ),
    );
    if (!some.length) list.append(h('li', { class: 'muted small none', text: t('folders.noneHere') }));
    words.textContent = t('folders.files', { n: found.n_files, count: count(found.n_files) });
  };
  const form = h(
    'form',
    {
      class: 'dialog-body',
      on: {
        submit: (event) => {
          event.preventDefault();
          if (found && here.value.trim() === found.path) {
            open.close();
            choose(found.path);
          } else visit(here.value.trim());
        },
      },
    },
    h(
      'div',
      { class: 'browse-top' },
      h('label', { class: 'visually-hidden', for: 'browse-path', text: t('folders.path') }),
      here,
      button(t('folders.goto'), () => visit(here.value.trim())),
    ),
    error,
    list,
    h(
      'div',
      { class: 'browse-foot' },
      h('label', { class: 'switch-row' }, hidden, h('span', { text: t('folders.hidden') })),
      words,
      h('button', { type: 'submit', class: 'button primary' }, icon('plus', 18), h('span', { text: t('folders.addThis') })),
    ),
  );
  const open = dialog(t('folders.choose'), form, { className: 'browse' });
  visit(start, false).then(() => {
    if (!found && start) return visit('', false);
    return null;
  });
}
