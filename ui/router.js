// The address bar: pages and queries are addresses, so links, Back and reload work. Where a page was scrolled to is kept in its history entry.
import { debounce, Emitter } from './dom.js';

export const router = new Emitter();

const keepScroll = () => history.replaceState({ ...history.state, y: Math.round(scrollY) }, '');

/** Goes to an address of this page. `state` is kept with the entry. */
export function go(address, { replace = false, state = {} } = {}) {
  if (!replace) keepScroll();
  history[replace ? 'replaceState' : 'pushState']({ ...(replace ? history.state : {}), ...state }, '', address);
  router.emit('go', { pop: false });
}

export function startRouter() {
  history.scrollRestoration = 'manual';
  addEventListener('popstate', () => router.emit('go', { pop: true }));
  addEventListener('scroll', debounce(keepScroll, 300), { passive: true });
  document.addEventListener('click', (event) => {
    const link = event.target.closest?.('a[href]');
    if (
      !link ||
      event.defaultPrevented ||
      event.button ||
      event.metaKey ||
      event.ctrlKey ||
      event.shiftKey ||
      link.target ||
      link.hasAttribute('download')
    )
      return;
    const url = new URL(link.href);
    if (
      url.origin !== location.origin ||
      !['/', '/map', '/library'].includes(url.pathname) ||
      (url.hash && url.pathname === location.pathname)
    )
      return;
    event.preventDefault();
    go(url.pathname + url.search);
    scrollTo(0, 0);
  });
}
