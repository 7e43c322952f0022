// Talking to the server: one function for JSON, one for uploads, and what to do when the answer is no.
// 401 opens the login dialog and asks again; 429 waits as long as the server says, a few times; a dead connection is told to the page.
import { Emitter } from './dom.js';

const BASE = '/api/v1';
const TRIES_WHEN_BUSY = 4;

/** `offline` and `online`, `busy` with seconds, `unauthorized` is answered by `api.login`. */
export const signals = new Emitter();

/** An answer that is an error, as the server says it: `code`, `message`, `cure`, `at`. */
export class ApiError extends Error {
  constructor(status, error) {
    super(error.message);
    this.status = status;
    this.code = error.code;
    this.cure = error.cure || null;
    this.at = error.at ?? null;
  }
}

let online = true;
let loginAsked = null;
let askForToken = async () => false;

/** Sets what is called when a token is needed; it resolves to true when the session is open. */
export function onUnauthorized(callback) {
  askForToken = callback;
}

function setOnline(now) {
  if (now !== online) {
    online = now;
    signals.emit(now ? 'online' : 'offline');
  }
}

async function send(method, path, { body, headers, signal, raw } = {}) {
  const init = { method, headers: { Accept: 'application/json', ...headers }, signal, cache: 'no-store' };
  if (method !== 'GET') init.headers['X-Chiasm'] = 'page';
  if (raw !== undefined) init.body = raw;
  else if (body !== undefined) {
    init.headers['Content-Type'] = 'application/json';
    init.body = JSON.stringify(body);
  }
  for (let tries = 0; ; tries++) {
    let reply;
    try {
      reply = await fetch(BASE + path, init);
    } catch (error) {
      if (error.name === 'AbortError') throw error;
      setOnline(false);
      throw new ApiError(0, { code: 'offline', message: 'The server does not answer' });
    }
    setOnline(true);
    if (reply.status === 401 && path !== '/session') {
      loginAsked ||= askForToken().finally(() => (loginAsked = null));
      if (await loginAsked) continue;
    }
    if (reply.status === 429 && tries < TRIES_WHEN_BUSY) {
      const seconds = Math.min(30, Math.max(1, Number(reply.headers.get('Retry-After')) || 1));
      signals.emit('busy', seconds);
      await pause(seconds * 1000, signal);
      continue;
    }
    if (reply.ok) return reply;
    let error = null;
    try {
      error = (await reply.json()).error;
    } catch {
      // Not JSON: something between us and the server has answered.
    }
    throw new ApiError(reply.status, error || { code: 'internal', message: `HTTP ${reply.status}` });
  }
}

function pause(ms, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, ms);
    signal?.addEventListener('abort', () => {
      clearTimeout(timer);
      reject(new DOMException('aborted', 'AbortError'));
    });
  });
}

const query = (params) => {
  const pairs = Object.entries(params || {}).filter(([, v]) => v !== null && v !== undefined && v !== '');
  return pairs.length ? `?${new URLSearchParams(pairs)}` : '';
};

const json = async (method, path, options) => {
  const reply = await send(method, path, options);
  return reply.status === 204 ? null : reply.json();
};

export const api = {
  get: (path, params, signal) => json('GET', path + query(params), { signal }),
  post: (path, body, signal) => json('POST', path, { body, signal }),
  put: (path, body) => json('PUT', path, { body }),
  remove: (path) => json('DELETE', path),

  /** Sends a file to ask with (`/uploads`) or to keep (`/items`). */
  send: (path, file, name, signal) =>
    json('POST', path, {
      raw: file,
      signal,
      headers: { 'Content-Type': 'application/octet-stream', 'X-Filename': encodeURIComponent(name || file.name || 'file') },
    }),

  /** All items of a filter, one by one, as they come. */
  async *lines(path, params, signal) {
    const reply = await send('GET', path + query(params), { signal, headers: { Accept: 'application/x-ndjson' } });
    const reader = reply.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = '';
    for (;;) {
      const { value, done } = await reader.read();
      rest += value || '';
      const lines = rest.split('\n');
      rest = lines.pop();
      for (const line of lines) if (line.trim()) yield JSON.parse(line);
      if (done) break;
    }
    if (rest.trim()) yield JSON.parse(rest);
  },

  thumbnail: (item, side, at, view) => `${BASE}/items/${item}/thumbnail${query({ side, at, view })}`,
  file: (item, download) => `${BASE}/items/${item}/file${download ? '?download=1' : ''}`,
  uploadThumbnail: (upload) => `${BASE}/uploads/${encodeURIComponent(upload)}/thumbnail`,
  events: `${BASE}/events`,
};

const remembered = new Map();
const MAX_REMEMBERED = 400;

/** An answer that does not change while the page is open (waveforms, series, what an item is called). */
export function once(path) {
  if (!remembered.has(path)) {
    if (remembered.size >= MAX_REMEMBERED) remembered.delete(remembered.keys().next().value);
    const answer = api.get(path);
    answer.catch(() => remembered.delete(path));
    remembered.set(path, answer);
  }
  return remembered.get(path);
}

/** Forgets the answers about an item, after a change. */
export function forget(item) {
  remembered.delete(`/items/${item}`);
}
