// The one field that everything is asked in: words, files that are dropped, pasted or chosen, a recording, and chips for the parts of a mixture.
// A lone line of words needs no chip: it stays in the field, where it can be corrected.
import { api } from './api.js';
import { chip, rememberUpload, uploadingChip } from './chips.js';
import { h, icon, iconButton, put, say } from './dom.js';
import { clock } from './format.js';
import { t } from './i18n.js';
import { toastError } from './notices.js';
import { canRecord, record } from './record.js';
import { partsOf } from './url.js';

const MAX_FILES = 6;

/** `onSubmit(parts)` is called with the whole query. Gives {el, set, add, focus, upload, record}. */
export function searchBar({ onSubmit }) {
  let parts = []; // those shown as chips; words in the field are none of them yet
  const chips = h('div', { class: 'chips', role: 'list', 'aria-label': t('search.parts') });
  const input = h('input', {
    type: 'search',
    id: 'query',
    class: 'query',
    autocomplete: 'off',
    autocapitalize: 'off',
    spellcheck: 'false',
    enterkeyhint: 'search',
    dir: 'auto',
    'aria-label': t('search.label'),
    'aria-describedby': 'query-hint',
    on: {
      keydown: (event) => {
        if (event.key === 'Backspace' && input.value === '' && parts.length) {
          event.preventDefault();
          const last = parts.pop();
          if (last.text !== undefined) input.value = `${last.weight < 0 ? '-' : ''}${last.text}`;
          draw();
          if (last.text === undefined) submit();
        } else if (event.key === 'Escape' && input.value !== '') {
          event.preventDefault();
          event.stopPropagation();
          input.value = '';
        }
      },
    },
  });
  const picker = h('input', {
    type: 'file',
    class: 'visually-hidden',
    multiple: true,
    tabindex: -1,
    'aria-hidden': 'true',
    on: {
      change: () => {
        takeFiles([...picker.files]);
        picker.value = '';
      },
    },
  });
  const clear = iconButton(
    'close',
    t('search.clear'),
    () => {
      parts = [];
      input.value = '';
      submit();
      input.focus();
    },
    { class: 'icon-button clear' },
  );
  const microphone = iconButton('mic', t('search.record'), () => startRecording());
  const form = h(
    'form',
    {
      class: 'searchbar',
      role: 'search',
      action: '/',
      on: {
        submit: (event) => {
          event.preventDefault();
          submit();
        },
      },
    },
    h('span', { class: 'search-sign' }, icon('search')),
    h('div', { class: 'field' }, chips, input),
    h('span', { class: 'visually-hidden', id: 'query-hint', text: t('search.hint') }),
    clear,
    iconButton('image', t('search.file'), () => picker.click()),
    microphone,
    picker,
  );
  if (!canRecord()) {
    microphone.disabled = true;
    microphone.title = t('record.unavailable');
    microphone.setAttribute('aria-label', t('record.unavailable'));
  }
  const recorder = h('div', { class: 'recorder', hidden: true, role: 'group', 'aria-label': t('record.title') });
  const el = h('div', { class: 'searchdock' }, form, recorder);
  form.addEventListener('click', (event) => event.target.closest('button, input') || input.focus());

  function draw() {
    put(
      chips,
      parts.map((part, i) =>
        h(
          'div',
          { role: 'listitem' },
          chip(part, {
            change: (to, focus) => {
              if (to) parts[i] = to;
              else parts.splice(i, 1);
              draw();
              submit();
              if (to && focus) chips.children[i]?.querySelector(focus)?.focus();
              else input.focus();
            },
            edit:
              part.text === undefined
                ? null
                : () => {
                    parts.splice(i, 1);
                    input.value = `${part.weight < 0 ? '-' : ''}${part.text}`;
                    draw();
                    input.focus();
                  },
          }),
        ),
      ),
    );
    chips.hidden = !chips.children.length;
    input.placeholder = t(parts.length ? 'search.add' : 'search.placeholder');
    form.classList.toggle('mixed', parts.length > 0);
    form.classList.toggle('filled', parts.length > 0 || input.value !== '');
  }
  input.addEventListener('input', () => form.classList.toggle('filled', parts.length > 0 || input.value !== ''));

  function submit() {
    const all = [...parts, ...partsOf(input.value)];
    set(all);
    onSubmit(all);
  }

  /** Shows a query. */
  function set(all) {
    const lone = all.length === 1 && all[0].text !== undefined && all[0].weight === 1;
    input.value = lone ? all[0].text : '';
    parts = lone ? [] : all.map((part) => ({ ...part }));
    draw();
  }

  /** Adds a part to what is there and asks. */
  function add(part) {
    const all = [...parts, ...partsOf(input.value)];
    const same = all.find((other) => part.item !== undefined && other.item === part.item);
    if (same) same.weight = part.weight;
    else all.push(part);
    set(all);
    onSubmit(all);
  }

  async function takeFiles(files) {
    for (const file of files.slice(0, MAX_FILES)) {
      const abort = new AbortController();
      const waiting = h(
        'div',
        { role: 'listitem' },
        uploadingChip(file.name, () => {
          abort.abort();
          waiting.remove();
          chips.hidden = !chips.children.length;
        }),
      );
      chips.append(waiting);
      chips.hidden = false;
      try {
        const about = await api.send('/uploads', file, file.name, abort.signal);
        rememberUpload(about);
        say(t('search.taken', { name: about.name }));
        add({ upload: about.upload, weight: 1 });
      } catch (error) {
        if (error.name !== 'AbortError') toastError(error, t('search.refused', { name: file.name }));
      } finally {
        waiting.remove();
        chips.hidden = !chips.children.length;
      }
    }
  }

  async function startRecording() {
    if (!recorder.hidden || !canRecord()) return;
    const level = h('span', { class: 'level' }, h('span', { class: 'level-fill' }));
    const time = h('span', { class: 'record-time', text: '0:00' });
    const close = () => {
      recorder.hidden = true;
      microphone.focus();
    };
    let take = null;
    const stop = h(
      'button',
      { type: 'button', class: 'button primary small', disabled: true, on: { click: () => take.stop() } },
      icon('stop', 16),
      h('span', { text: t('record.stop') }),
    );
    const cancel = h(
      'button',
      { type: 'button', class: 'button small', on: { click: () => (take ? take.cancel() : close()) } },
      h('span', { text: t('dialog.cancel') }),
    );
    put(
      recorder,
      h('span', { class: 'record-dot', 'aria-hidden': 'true' }),
      h('span', { text: t('record.listening') }),
      level,
      time,
      stop,
      cancel,
    );
    recorder.onkeydown = (event) => event.key === 'Escape' && cancel.click();
    recorder.hidden = false;
    try {
      take = await record((loud, seconds) => {
        level.firstChild.style.width = `${loud * 100}%`;
        time.textContent = clock(seconds);
      });
      if (recorder.hidden) return take.cancel();
      stop.disabled = false;
      stop.focus();
      const file = await take.done;
      close();
      if (file) await takeFiles([file]);
    } catch (error) {
      close();
      toastError({ message: t(error.name === 'NotAllowedError' ? 'record.denied' : 'record.failed'), cure: null });
    }
  }

  draw();
  return {
    el,
    set,
    add,
    takeFiles,
    record: startRecording,
    pick: () => picker.click(),
    focus: () => {
      input.focus();
      input.select();
    },
  };
}

/** Files dropped anywhere on the page, or pasted into it, are asked with. Gives what undoes it. */
export function takeFromPage(takeFiles, { title = t('drop.title'), text = t('drop.text') } = {}) {
  const veil = h(
    'div',
    { class: 'veil', hidden: true, 'aria-hidden': 'true' },
    h('div', { class: 'veil-card' }, icon('image', 40), h('strong', { text: title }), h('span', { text })),
  );
  document.body.append(veil);
  const hasFiles = (event) => [...(event.dataTransfer?.types || [])].includes('Files');
  let depth = 0;
  const handlers = {
    dragenter: (event) => {
      if (!hasFiles(event)) return;
      event.preventDefault();
      depth++;
      veil.hidden = false;
    },
    dragover: (event) => hasFiles(event) && event.preventDefault(),
    dragleave: (event) => {
      if (!hasFiles(event)) return;
      depth = Math.max(0, depth - 1);
      veil.hidden = depth === 0;
    },
    drop: (event) => {
      depth = 0;
      veil.hidden = true;
      if (!hasFiles(event)) return;
      event.preventDefault();
      takeFiles([...event.dataTransfer.files]);
    },
    paste: (event) => {
      const files = [...(event.clipboardData?.files || [])];
      if (!files.length) return;
      event.preventDefault();
      takeFiles(files);
    },
  };
  for (const [name, handler] of Object.entries(handlers)) document.addEventListener(name, handler);
  return () => {
    veil.remove();
    for (const [name, handler] of Object.entries(handlers)) document.removeEventListener(name, handler);
  };
}
