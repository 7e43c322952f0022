// The parts of a query as chips: what it is, whether it draws near or keeps away, how much it counts, and a way to take it out.
import { api, once } from './api.js';
import { isPictured, miniature } from './cards.js';
import { h, icon, iconButton, put } from './dom.js';
import { decimal } from './format.js';
import { t } from './i18n.js';
import { recall, keep } from './store.js';

const WEIGHTS = { min: 0.1, max: 3, step: 0.1 };

/** What uploads are called is not in the address; this browser remembers its own. */
export function rememberUpload({ upload, name, kind }) {
  const all = recall('uploads', {});
  all[upload] = { name, kind };
  const ids = Object.keys(all);
  for (const id of ids.slice(0, Math.max(0, ids.length - 60))) delete all[id];
  keep('uploads', all);
}

async function describe(part) {
  if (part.item !== undefined) return once(`/items/${part.item}`);
  // Somebody else's file, by a shared address: what it was called is not told, but pictures have a thumbnail.
  return recall('uploads', {})[part.upload] || { name: t('chip.upload'), kind: 'image' };
}

/**
 * A chip. `change(part or null, focus)` is called with the part as it shall be. `edit` (for words) puts it back into the field.
 */
export function chip(part, { change, edit }) {
  const away = part.weight < 0;
  const size = Math.abs(part.weight);
  const label = h('span', { class: 'chip-label', text: part.text ?? '…' });
  const face = h('span', { class: 'chip-face', 'aria-hidden': 'true' });
  const name = () => label.textContent;

  const sign = h(
    'button',
    {
      type: 'button',
      class: 'chip-sign',
      role: 'switch',
      'aria-checked': String(!away),
      on: { click: () => change({ ...part, weight: -part.weight }, '.chip-sign') },
    },
    icon(away ? 'minus' : 'plus', 14),
  );
  const open = h(
    'button',
    {
      type: 'button',
      class: 'chip-open',
      'aria-haspopup': 'true',
      'aria-expanded': 'false',
      on: { click: () => show(!popover.isConnected) },
    },
    part.text === undefined ? face : null,
    label,
    size !== 1 ? h('span', { class: 'chip-weight', text: `×${decimal(size)}` }) : null,
  );
  const remove = iconButton('close', '', () => change(null), { class: 'chip-remove' });
  const el = h(
    'div',
    {
      class: away ? 'chip away' : 'chip',
      role: 'group',
      on: {
        keydown: (event) =>
          event.key === 'Escape' && popover.isConnected && (event.stopPropagation(), show(false), open.focus()),
      },
    },
    sign,
    open,
    remove,
  );

  const number = h('output', { class: 'weight-number', text: `×${decimal(size)}` });
  const slider = h('input', {
    type: 'range',
    ...WEIGHTS,
    value: size,
    on: {
      input: () => (number.textContent = `×${decimal(slider.value)}`),
      change: () => change({ ...part, weight: (away ? -1 : 1) * Number(slider.value) }, '.chip-open'),
    },
  });
  const popover = h(
    'div',
    { class: 'popover chip-popover' },
    h('label', { class: 'weight-label' }, h('span', { text: t('chip.weight') }), number, slider),
    h(
      'div',
      { class: 'row' },
      h(
        'button',
        { type: 'button', class: 'button small', on: { click: () => change({ ...part, weight: -part.weight }, '.chip-open') } },
        h('span', { text: t(away ? 'chip.include' : 'chip.exclude') }),
      ),
      edit
        ? h('button', { type: 'button', class: 'button small', on: { click: edit } }, h('span', { text: t('chip.edit') }))
        : null,
    ),
  );
  const outside = (event) => !el.contains(event.target) && show(false);
  function show(on) {
    open.setAttribute('aria-expanded', String(on));
    if (on) {
      el.append(popover);
      slider.focus();
      document.addEventListener('pointerdown', outside);
    } else {
      popover.remove();
      document.removeEventListener('pointerdown', outside);
    }
  }

  const named = () => {
    el.setAttribute('aria-label', t(away ? 'chip.away' : 'chip.near', { what: name() }));
    sign.setAttribute('aria-label', t('chip.sign', { what: name() }));
    sign.title = t(away ? 'chip.include' : 'chip.exclude');
    open.setAttribute('aria-label', t('chip.open', { what: name(), n: decimal(size) }));
    remove.setAttribute('aria-label', t('chip.remove', { what: name() }));
    remove.title = t('chip.remove', { what: name() });
  };
  if (part.text === undefined) {
    put(face, icon('image', 16));
    label.textContent = part.item !== undefined ? t('chip.item', { n: part.item }) : t('chip.upload');
    describe(part).then(
      (about) => {
        label.textContent = about.name || t(`kind.${about.kind}`);
        if (part.item !== undefined) put(face, miniature(about));
        else if (isPictured(about.kind)) {
          const img = h('img', { alt: '' });
          img.addEventListener('error', () => put(face, icon(about.kind, 16)));
          img.src = api.uploadThumbnail(part.upload);
          put(face, img);
        } else put(face, icon(about.kind, 16));
        named();
      },
      () => {},
    );
  }
  named();
  return el;
}

/** A chip of something that is still on its way to the server. */
export const uploadingChip = (name, cancel) =>
  h(
    'div',
    { class: 'chip uploading', role: 'group', 'aria-label': t('chip.uploading', { what: name }) },
    h('span', { class: 'spinner', 'aria-hidden': 'true' }),
    h('span', { class: 'chip-label', text: name }),
    iconButton('close', t('chip.remove', { what: name }), cancel, { class: 'chip-remove' }),
  );
