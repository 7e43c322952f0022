// What is told in passing: a small card at the foot of the page that leaves by itself, and the designed states of a list that has nothing to show.
import { h, icon, iconButton, say } from './dom.js';
import { t } from './i18n.js';

const STAYS_MS = 6000;

function shelf() {
  let el = document.getElementById('toasts');
  if (!el) {
    el = h('div', { id: 'toasts', role: 'region', 'aria-label': t('notices') });
    document.body.append(el);
  }
  return el;
}

/** Shows a line; `act` is {label, run}. */
export function toast(text, { act, kind = '', stays = STAYS_MS } = {}) {
  const close = () => el.remove();
  const el = h(
    'div',
    { class: `toast ${kind}` },
    h('span', { class: 'toast-text' }, text),
    act
      ? h(
          'button',
          {
            type: 'button',
            class: 'button small',
            on: {
              click: () => {
                close();
                act.run();
              },
            },
          },
          h('span', { text: act.label }),
        )
      : null,
    iconButton('close', t('dialog.close'), close),
  );
  shelf().append(el);
  say(el.querySelector('.toast-text').textContent);
  if (stays) setTimeout(close, stays);
  return close;
}

/** The same for what went wrong, with its cure. */
export function toastError(error, before = '') {
  const words = error.code === 'offline' ? t('offline.title') : error.message;
  toast((before ? `${before}: ` : '') + [words, error.cure].filter(Boolean).join('. '), { kind: 'bad', stays: 10000 });
}

/** A whole-page state: a drawing, a sentence, an explanation, things to do. */
export function state({ name = 'search', title, text, actions = [], kind = '' }) {
  return h(
    'div',
    { class: `state ${kind}` },
    h('div', { class: 'state-sign' }, icon(name, 34)),
    h('h2', { text: title }),
    text ? h('p', { text }) : null,
    actions.length ? h('div', { class: 'row center' }, actions) : null,
  );
}

/** What went wrong with a list, and a way to try again. */
export function errorState(error, retry) {
  const again = retry
    ? [h('button', { type: 'button', class: 'button primary', on: { click: retry } }, h('span', { text: t('error.retry') }))]
    : [];
  if (error.code === 'offline')
    return state({ name: 'warn', title: t('offline.title'), text: t('offline.text'), actions: again, kind: 'bad' });
  if (error.code === 'busy') return state({ name: 'clock', title: t('busy.title'), text: t('busy.text'), actions: again });
  if (error.code === 'no_such_upload') return state({ name: 'upload', title: t('upload.gone'), text: t('upload.goneText') });
  if (error.code === 'forbidden' || error.code === 'unauthorized')
    return state({
      name: 'key',
      title: t('forbidden.title'),
      text: [error.message, error.cure].filter(Boolean).join('. '),
      actions: again,
      kind: 'bad',
    });
  return state({
    name: 'warn',
    title: t('error.title'),
    text: [error.message, error.cure].filter(Boolean).join('. '),
    actions: again,
    kind: 'bad',
  });
}
