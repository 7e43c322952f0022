// Dialogs: the browser's own, which keeps the focus inside and closes on Escape; the login; and small menus under a button.
import { api, onUnauthorized } from './api.js';
import { h, iconButton } from './dom.js';
import { t } from './i18n.js';

/** Shows a modal dialog. `closable: false` where there is nothing behind it. Gives {el, close}; `onClose` is called however it ends. */
export function dialog(title, content, { closable = true, className = '', onClose } = {}) {
  const heading = h('h2', { id: `dialog-${Math.random().toString(36).slice(2)}`, text: title });
  const el = h(
    'dialog',
    { class: `dialog ${className}`, 'aria-labelledby': heading.id },
    h('div', { class: 'dialog-head' }, heading, closable ? iconButton('close', t('dialog.close'), () => el.close()) : null),
    content,
  );
  el.addEventListener('cancel', (event) => closable || event.preventDefault());
  el.addEventListener('keydown', (event) => event.stopPropagation());
  el.addEventListener('click', (event) => closable && event.target === el && el.close());
  el.addEventListener('close', () => {
    el.remove();
    onClose?.();
  });
  document.body.append(el);
  el.showModal();
  return { el, close: () => el.close() };
}

/** Asks whether to go on. */
export function confirm(title, text, yes) {
  return new Promise((resolve) => {
    let answer = false;
    const { close } = dialog(
      title,
      h(
        'div',
        { class: 'dialog-body' },
        h('p', { text }),
        h(
          'div',
          { class: 'row end' },
          h(
            'button',
            { type: 'button', class: 'button', on: { click: () => close() } },
            h('span', { text: t('dialog.cancel') }),
          ),
          h(
            'button',
            {
              type: 'button',
              class: 'button danger',
              on: {
                click: () => {
                  answer = true;
                  close();
                },
              },
            },
            h('span', { text: yes }),
          ),
        ),
      ),
      { className: 'narrow', onClose: () => resolve(answer) },
    );
  });
}

/** Opens the login when the server wants a token. */
export function installLogin() {
  onUnauthorized(
    () =>
      new Promise((resolve) => {
        const error = h('p', { class: 'field-error', role: 'alert', id: 'token-error' });
        const input = h('input', {
          type: 'password',
          id: 'token',
          autocomplete: 'current-password',
          required: true,
          'aria-describedby': 'token-error',
          spellcheck: 'false',
        });
        const submit = h('button', { type: 'submit', class: 'button primary' }, h('span', { text: t('login.enter') }));
        const form = h(
          'form',
          {
            class: 'dialog-body',
            on: {
              submit: async (event) => {
                event.preventDefault();
                submit.disabled = true;
                error.textContent = '';
                try {
                  await api.post('/session', { token: input.value.trim() });
                  open.close();
                  resolve(true);
                } catch (e) {
                  error.textContent = e.status === 401 ? t('login.wrong') : e.message;
                  input.setAttribute('aria-invalid', 'true');
                  input.select();
                } finally {
                  submit.disabled = false;
                }
              },
            },
          },
          h('p', { text: t('login.text') }),
          h('label', { class: 'labelled', for: 'token' }, h('span', { text: t('login.token') }), input),
          error,
          h('div', { class: 'row end' }, submit),
        );
        const open = dialog(t('login.title'), form, { closable: false, className: 'narrow login' });
        input.focus();
      }),
  );
}

/** A menu under a button: `items` are {label, icon?, run}. */
export function menu(anchor, items) {
  document.querySelector('.menu')?.remove();
  const close = (focus) => {
    el.remove();
    anchor.setAttribute('aria-expanded', 'false');
    document.removeEventListener('pointerdown', outside, true);
    if (focus) anchor.focus();
  };
  const outside = (event) => !el.contains(event.target) && !anchor.contains(event.target) && close(false);
  const el = h(
    'div',
    {
      class: 'popover menu',
      role: 'menu',
      'aria-label': anchor.getAttribute('aria-label') || anchor.textContent,
      on: {
        keydown: (event) => {
          const buttons = [...el.children];
          const i = buttons.indexOf(document.activeElement);
          const to = { ArrowDown: i + 1, ArrowUp: i - 1, Home: 0, End: buttons.length - 1 }[event.key];
          if (to !== undefined) buttons[(to + buttons.length) % buttons.length].focus();
          else if (event.key === 'Escape') close(true);
          else if (event.key === 'Tab') return close(false);
          else return;
          event.preventDefault();
          event.stopPropagation();
        },
      },
    },
    items.map(({ label, run, checked }) =>
      h(
        'button',
        {
          type: 'button',
          role: checked === undefined ? 'menuitem' : 'menuitemradio',
          'aria-checked': checked === undefined ? null : String(checked),
          tabindex: -1,
          on: {
            click: () => {
              close(true);
              run();
            },
          },
        },
        label,
      ),
    ),
  );
  anchor.setAttribute('aria-expanded', 'true');
  (anchor.closest('header, main') || document.body).append(el);
  const box = anchor.getBoundingClientRect();
  el.style.left = `${Math.max(8, Math.min(box.left, innerWidth - el.offsetWidth - 8))}px`;
  const below = box.bottom + 6 + el.offsetHeight < innerHeight;
  el.style.top = `${below ? box.bottom + 6 : box.top - 6 - el.offsetHeight}px`;
  el.firstChild.focus();
  setTimeout(() => document.addEventListener('pointerdown', outside, true));
}
