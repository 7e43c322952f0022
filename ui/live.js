// What the whole page wants to know of the server: its status, and the indexing as it goes. One stream of events, closed while nobody looks
// (a browser opens six connections to a server and no more, and a page in the background needs none).
import { api, signals } from './api.js';
import { Emitter } from './dom.js';

export const live = new Emitter();

/** The last answer of /status, and of /index. */
export const now = { status: null, index: null };

let first = null;

/** The status, asked for once: before it is there, nobody knows what the caller may do. */
export const status = () =>
  (first ||= refreshStatus().catch((error) => {
    first = null;
    throw error;
  }));

export async function refreshStatus() {
  const status = await api.get('/status');
  now.status = status;
  if (status.index) setIndex(status.index);
  live.emit('status', status);
  return status;
}

function setIndex(index) {
  now.index = index;
  live.emit('index', index);
}

/** True while files are being taken in. */
export const isIndexing = () => now.index !== null && (now.index.state === 'running' || now.index.state === 'stopping');

/** Whether the caller may do a thing: `read`, `write`, `admin`. */
export const may = (scope) => now.status?.scopes?.includes(scope) ?? false;

let source = null;
let retry = 0;

export function listen() {
  const open = () => {
    clearTimeout(retry);
    if (source || document.hidden) return;
    source = new EventSource(api.events);
    source.addEventListener('index', (event) => setIndex(JSON.parse(event.data)));
    source.addEventListener('library', () => {
      refreshStatus().catch(() => {});
      live.emit('library');
    });
    source.addEventListener('error', () => {
      if (source?.readyState !== EventSource.CLOSED) return;
      source = null;
      retry = setTimeout(open, 5000);
    });
  };
  const close = () => {
    clearTimeout(retry);
    source?.close();
    source = null;
  };
  document.addEventListener('visibilitychange', () => (document.hidden ? close() : open()));
  addEventListener('pagehide', close);
  addEventListener('pageshow', open);
  open();

  // A server that went away is asked for until it is back.
  signals.on('offline', () => {
    const ask = () => refreshStatus().catch((error) => error.code === 'offline' && setTimeout(ask, 3000));
    setTimeout(ask, 2000);
  });
}
