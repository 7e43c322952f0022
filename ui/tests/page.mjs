// What the tests of the page share: a browser, a page that complains of what it should not do, files to ask with, answers in the server's place.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { after, before } from 'node:test';
import { deflateSync } from 'node:zlib';
import { chromium } from 'playwright-core';

export const URL_ = (process.env.CHIASM_URL || '').replace(/\/$/, '');
const CHROMIUM = process.env.CHIASM_CHROMIUM || 'chromium';
const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
export const PATIENCE = 20000;

let browser;

/** Starts a browser for a file of tests, and ends it. */
export function useBrowser() {
  if (!URL_)
    throw new Error('CHIASM_URL is not set: expected the address of a running `chiasm serve`, such as http://127.0.0.1:7777');
  before(async () => {
    const path = CHROMIUM.includes('/')
      ? CHROMIUM
      : (await import('node:child_process')).execFileSync('which', [CHROMIUM], { encoding: 'utf8' }).trim();
    browser = await chromium.launch({
      executablePath: path,
      args: ['--no-sandbox', '--use-fake-device-for-media-stream', '--use-fake-ui-for-media-stream'],
    });
  });
  after(() => browser?.close());
}

/**
 * Runs `use(page, faults)` on a fresh page at `path`. Errors in the console, exceptions and violations of the content security policy
 * fail the test, but for those that `expected` (a pattern) allows: a browser logs every answer of 400 and more as an error.
 */
export async function onPage(
  path,
  use,
  { expected = null, routes = null, phone = false, scheme = 'light', locale = 'en-US', permissions = [], ...rest } = {},
) {
  const context = await browser.newContext({
    viewport: phone ? { width: 390, height: 844 } : { width: 1440, height: 900 },
    hasTouch: phone,
    isMobile: phone,
    colorScheme: scheme,
    locale,
    permissions: ['clipboard-read', 'clipboard-write', ...permissions],
    ...rest,
  });
  const faults = [];
  try {
    const page = await context.newPage();
    page.setDefaultTimeout(PATIENCE);
    page.on(
      'console',
      (message) => message.type() === 'error' && !expected?.test(message.text()) && faults.push(`console: ${message.text()}`),
    );
    page.on('pageerror', (error) => faults.push(`exception: ${error.stack || error}`));
    await page.addInitScript(() =>
      addEventListener('securitypolicyviolation', (event) =>
        console.error(`CSP: ${event.violatedDirective} ${event.blockedURI} ${event.sourceFile || ''}`),
      ),
    );
    if (routes) await routes(page);
    if (path !== null) await page.goto(URL_ + path);
    await use(page, faults);
  } finally {
    await context.close();
  }
  if (faults.length) throw new Error(`the page complained:\n${faults.join('\n')}`);
}

/** Answers a request of the page in the server's place. `path` is below /api/v1 and may end in *. */
export const answer = (page, path, body, status = 200, headers = {}) =>
  page.route(
    (url) => matches(url, path),
    async (route) => {
      const made = typeof body === 'function' ? await body(route.request()) : body;
      if (made === undefined) return route.fallback();
      return route.fulfill({ status, headers: { 'content-type': 'application/json', ...headers }, body: JSON.stringify(made) });
    },
  );

const matches = (url, path) => {
  const here = new URL(url).pathname;
  const full = `/api/v1${path}`;
  return full.endsWith('*') ? here.startsWith(full.slice(0, -1)) : here === full;
};

export const failure = (code, message, cure = null) => ({ error: { code, message, cure, request_id: 'test' } });

/** Asks the server itself. */
export async function ask(path, options) {
  const reply = await fetch(`${URL_}/api/v1${path}`, options);
  if (!reply.ok) throw new Error(`${path}: ${reply.status} ${await reply.text()}`);
  return reply.json();
}

/** Waits for hits or items to stand in the gallery. */
export const cells = async (page) => {
  await page.waitForSelector('.results[aria-busy="false"] .cell');
  return page.locator('.cell');
};

/** Types into the field and asks. */
export async function search(page, words) {
  await page.fill('#query', words);
  const reply = page.waitForResponse((r) => r.url().endsWith('/api/v1/search') && r.request().method() === 'POST');
  await page.press('#query', 'Enter');
  const found = await (await reply).json();
  await page.waitForSelector('.results[aria-busy="false"]');
  return found;
}

/**
 * Does something to the page in each of some frames, and tells how long frames are and how much of each is the page's own work, in ms, and
 * how many elements there are at most. `does` is one of: `scroll` (by pixels), `pan` (a canvas, by pixels, to and fro), `zoom` (a canvas, in and out).
 */
export const frames = (page, does, by, n) =>
  page.evaluate(
    ([what, step, most]) =>
      new Promise((resolve) => {
        const canvas = document.querySelector('.map-canvas');
        const [x, y] = canvas ? [canvas.clientWidth / 2, canvas.clientHeight / 2] : [0, 0];
        const hand = (type, at) =>
          canvas.dispatchEvent(
            new PointerEvent(type, { bubbles: true, pointerId: 1, isPrimary: true, buttons: 1, clientX: at, clientY: y }),
          );
        const back = (k) => (Math.floor(k / 40) % 2 ? -1 : 1);
        let at = x;
        const acts = {
          scroll: () => scrollBy(0, step),
          pan: (k) => hand('pointermove', (at += step * back(k))),
          zoom: (k) =>
            canvas.dispatchEvent(
              new WheelEvent('wheel', { bubbles: true, cancelable: true, deltaY: step * back(k), clientX: x, clientY: y }),
            ),
        };
        const [gaps, work] = [[], []];
        let elements = 0;
        let last = performance.now();
        const raf = window.requestAnimationFrame.bind(window);
        window.requestAnimationFrame = (f) =>
          raf((time) => {
            const start = performance.now();
            f(time);
            work.push(performance.now() - start);
          });
        if (what === 'pan') hand('pointerdown', at);
        let k = 0;
        const frame = (time) => {
          gaps.push(time - last);
          last = time;
          acts[what](k);
          elements = Math.max(elements, document.querySelectorAll('*').length);
          if (++k < most) return raf(frame);
          if (what === 'pan') hand('pointerup', at);
          window.requestAnimationFrame = raf;
          const share = (list, s) => list.sort((a, b) => a - b)[Math.floor(list.length * s)] ?? 0;
          return resolve({
            gap50: share(gaps, 0.5),
            gap95: share(gaps, 0.95),
            work50: share(work, 0.5),
            work95: share(work, 0.95),
            painted: work.length,
            elements,
          });
        };
        raf(frame);
      }),
    [does, by, n],
  );

/** What axe finds, in words; nothing is well. */
export async function violations(page, context) {
  await page.evaluate(AXE);
  // Things that fade in are judged once they stand.
  await page.evaluate(() =>
    Promise.all(
      document
        .getAnimations()
        .filter((a) => Number.isFinite(a.effect?.getComputedTiming().endTime))
        .map((a) => a.finished.catch(() => {})),
    ),
  );
  const { violations: found } = await page.evaluate(
    (where) => globalThis.axe.run(where || document, { resultTypes: ['violations'] }),
    context,
  );
  return found.map(
    (v) =>
      `${v.id} (${v.impact}): ${v.help}\n${v.nodes
        .slice(0, 4)
        .map((n) => `    ${n.target.join(' ')}: ${n.failureSummary.replaceAll('\n', ' ')}`)
        .join('\n')}`,
  );
}

/** A picture: a square of one colour on white, as PNG. */
export function png([red, green, blue], side = 96) {
  const table = Array.from({ length: 256 }, (_, n) => {
    let c = n;
    for (let k = 0; k < 8; k++) c = c & 1 ? 0xedb88320 ^ (c >>> 1) : c >>> 1;
    return c >>> 0;
  });
  const crc = (bytes) => {
    let c = 0xffffffff;
    for (const byte of bytes) c = table[(c ^ byte) & 255] ^ (c >>> 8);
    return (c ^ 0xffffffff) >>> 0;
  };
  const chunk = (type, data) => {
    const out = Buffer.alloc(12 + data.length);
    out.writeUInt32BE(data.length, 0);
    out.write(type, 4, 'latin1');
    data.copy(out, 8);
    out.writeUInt32BE(crc(out.subarray(4, 8 + data.length)), 8 + data.length);
    return out;
  };
  const rows = Buffer.alloc(side * (1 + side * 3), 255);
  for (let y = 0; y < side; y++) {
    rows[y * (1 + side * 3)] = 0;
    for (let x = side / 4; x < (side * 3) / 4; x++)
      if (y >= side / 4 && y < (side * 3) / 4) rows.set([red, green, blue], y * (1 + side * 3) + 1 + x * 3);
  }
  const head = Buffer.alloc(13);
  head.writeUInt32BE(side, 0);
  head.writeUInt32BE(side, 4);
  head.set([8, 2, 0, 0, 0], 8);
  return Buffer.concat([
    Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]),
    chunk('IHDR', head),
    chunk('IDAT', deflateSync(rows)),
    chunk('IEND', Buffer.alloc(0)),
  ]);
}

/** A sound: a tone of one second, as WAV. */
export function wav(hz = 440, rate = 16000) {
  const out = Buffer.alloc(44 + rate * 2);
  out.write('RIFF', 0, 'latin1');
  out.writeUInt32LE(36 + rate * 2, 4);
  out.write('WAVEfmt ', 8, 'latin1');
  out.writeUInt32LE(16, 16);
  out.writeUInt16LE(1, 20);
  out.writeUInt16LE(1, 22);
  out.writeUInt32LE(rate, 24);
  out.writeUInt32LE(rate * 2, 28);
  out.writeUInt16LE(2, 32);
  out.writeUInt16LE(16, 34);
  out.write('data', 36, 'latin1');
  out.writeUInt32LE(rate * 2, 40);
  for (let i = 0; i < rate; i++) out.writeInt16LE(Math.round(Math.sin((i / rate) * hz * 6.2832) * 12000), 44 + i * 2);
  return out;
}

/** Drops or pastes a file onto the page, as a hand would. */
export const giveFile = (page, how, name, type, bytes) =>
  page.evaluate(
    ([event, file, mime, data]) => {
      const given = new DataTransfer();
      given.items.add(new File([Uint8Array.from(data)], file, { type: mime }));
      const what =
        event === 'paste'
          ? new ClipboardEvent('paste', { clipboardData: given, bubbles: true, cancelable: true })
          : new DragEvent(event, { dataTransfer: given, bubbles: true, cancelable: true });
      document.body.dispatchEvent(what);
    },
    [how, name, type, [...bytes]],
  );
