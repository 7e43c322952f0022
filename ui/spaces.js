// The first step, where there is no library yet: in which space things shall meet.
import { api } from './api.js';
import { h, icon, put } from './dom.js';
import { count, leaf } from './format.js';
import { t } from './i18n.js';
import { errorState, toast } from './notices.js';

/** `made()` is called when there is a library, `again()` to draw this anew. */
export function spacesForm({ made, again }) {
  const list = h(
    'div',
    { class: 'space-list', role: 'radiogroup', 'aria-labelledby': 'space-text' },
    h('div', { class: 'skeleton-block' }),
    h('div', { class: 'skeleton-block' }),
  );
  const error = h('p', { class: 'field-error', role: 'alert' });
  const make = h('button', { type: 'submit', class: 'button primary', disabled: true }, h('span', { text: t('space.make') }));
  const form = h(
    'form',
    {
      class: 'panel-card spaces',
      on: {
        submit: async (event) => {
          event.preventDefault();
          const chosen = form.querySelector('input:checked')?.value;
          if (!chosen) return;
          make.disabled = true;
          error.textContent = '';
          try {
            await api.post('/library', { name: chosen });
            toast(t('space.made'));
            await made();
          } catch (e) {
            error.textContent = [e.message, e.cure].filter(Boolean).join('. ');
            make.disabled = false;
          }
        },
      },
    },
    h('p', { id: 'space-text', text: t('space.text') }),
    list,
    error,
    h('div', { class: 'row end' }, make),
  );
  api.get('/spaces').then(
    ({ spaces: found }) => {
      if (!found.length) {
        make.hidden = true;
        return put(
          list,
          h(
            'div',
            { class: 'no-spaces' },
            h('p', { text: t('space.none') }),
            h('p', null, h('code', { text: 'chiasm model pull ViT-B-32/openai' })),
          ),
        );
      }
      put(
        list,
        found.map(({ name, what, kinds, dim, path, licence }, i) =>
          h(
            'label',
            { class: 'space-card' },
            h('input', { type: 'radio', name: 'space', value: name, checked: i === 0 }),
            h(
              'span',
              { class: 'space-words' },
              h('strong', { text: leaf(name).replace(/\.space$/, '') }),
              h(
                'span',
                { class: 'space-kinds' },
                kinds.map((kind) => h('span', { class: `space-kind ${kind}` }, icon(kind, 15), t(`kinds.${kind}`))),
              ),
              h('span', {
                class: 'muted small',
                text: [
                  t(`space.${what === 'model' ? 'model' : 'fitted'}`),
                  dim ? t('lanes.dim', { n: count(dim) }) : null,
                  licence,
                ]
                  .filter(Boolean)
                  .join(', '),
              }),
              path ? h('code', { class: 'muted', text: path }) : null,
            ),
          ),
        ),
      );
      make.disabled = false;
      return null;
    },
    (e) => put(list, errorState(e, again)),
  );
  return form;
}
