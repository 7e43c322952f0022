// The bar that rises when something is selected: how much, and what can be done with it.
import { api, forget } from './api.js';
import { dialog, menu } from './dialog.js';
import { button, h, iconButton, put } from './dom.js';
import { copy, exportAs } from './export.js';
import { count } from './format.js';
import { t } from './i18n.js';
import { may } from './live.js';
import { toast, toastError } from './notices.js';
import { selection } from './selection.js';

/** `onLike(items)` asks with what is selected; `onShow` (or null) shows it in the gallery. */
export function selectionBar({ onLike, onShow }) {
  const number = h('strong', { 'aria-live': 'polite' });
  const out = button(
    t('export.title'),
    () =>
      menu(
        out,
        ['csv', 'json', 'paths'].map((format) => ({
          label: t(`export.${format}`),
          run: () => exportAs(format, () => selection.entries()),
        })),
      ),
    { name: 'download', 'aria-haspopup': 'menu', 'aria-expanded': 'false' },
  );
  const tag = button(t('select.tag'), tagAll, { name: 'tag' });
  const el = h(
    'div',
    { class: 'selection-bar', role: 'region', 'aria-label': t('select.bar'), hidden: true },
    number,
    onShow ? button(t('select.show'), onShow, { name: 'grid', kind: 'primary' }) : null,
    button(t('select.like'), () => onLike(selection.items()), { name: 'plus' }),
    button(
      t('select.copy'),
      async () => {
        try {
          const entries = await selection.entries();
          await copy(
            entries.map((entry) => entry.path).join('\n'),
            t('copied.paths', { n: entries.length, count: count(entries.length) }),
          );
        } catch (error) {
          toastError(error);
        }
      },
      { name: 'copy' },
    ),
    out,
    tag,
    iconButton('close', t('select.clear'), () => selection.clear()),
  );
  const show = () => {
    el.hidden = selection.size === 0;
    tag.hidden = !may('write');
    number.textContent = t('select.count', { n: selection.size, count: count(selection.size) });
  };
  const stop = selection.on('change', show);
  show();
  return { el, destroy: stop };
}

function tagAll() {
  const input = h('input', { type: 'text', id: 'tag-all', maxlength: 64, required: true });
  const submit = h('button', { type: 'submit', class: 'button primary' }, h('span', { text: t('select.tag') }));
  const progress = h('p', { class: 'muted small', role: 'status' });
  const form = h(
    'form',
    {
      class: 'dialog-body',
      on: {
        submit: async (event) => {
          event.preventDefault();
          const tag = input.value.trim();
          if (!tag) return;
          submit.disabled = true;
          try {
            const items = selection.items();
            for (const [i, item] of items.entries()) {
              const { tags } = await api.get(`/items/${item}`);
              if (!tags.includes(tag)) await api.put(`/items/${item}/tags`, [...tags, tag]);
              forget(item);
              progress.textContent = `${count(i + 1)} / ${count(items.length)}`;
            }
            toast(t('select.tagged', { n: items.length, count: count(items.length), tag }));
            open.close();
          } catch (error) {
            submit.disabled = false;
            put(progress, error.message);
          }
        },
      },
    },
    h('label', { class: 'labelled', for: 'tag-all' }, h('span', { text: t('tags.add') }), input),
    progress,
    h('div', { class: 'row end' }, submit),
  );
  const open = dialog(t('select.tag'), form, { className: 'narrow' });
  input.focus();
}
