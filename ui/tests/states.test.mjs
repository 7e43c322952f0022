// The states that a good day does not show: loading, nothing, errors, offline, busy, a token, a wrong address.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { answer, ask, cells, failure, onPage, URL_, useBrowser } from './page.mjs';

useBrowser();
const status = await ask('/status');

test('a skeleton stands while things load', () => {
  let free;
  const held = new Promise((resolve) => (free = resolve));
  return onPage(
    '/',
    async (page) => {
      await page.waitForSelector('.skeleton-chunk');
      assert.equal(await page.getAttribute('.results', 'aria-busy'), 'true');
      free();
      await cells(page);
      assert.equal(await page.getAttribute('.results', 'aria-busy'), 'false');
    },
    {
      routes: (page) =>
        page.route('**/api/v1/items?*', async (route) => {
          await held;
          await route.continue();
        }),
    },
  );
});

test('an empty library says what to do', () =>
  onPage(
    '/',
    async (page) => {
      await page.waitForSelector('.state.empty');
      assert.equal(await page.locator('.state a[href="/library"]').count(), 1);
    },
    { routes: (page) => answer(page, '/status', { ...status, library: { ...status.library, n_items: 0, kinds: [] } }) },
  ));

const nothing = {
  hits: [],
  offset: 0,
  next_offset: null,
  n_candidates: 0,
  stands_out: false,
  cut: 0,
  elapsed_ms: 1,
  lanes: [],
  remarks: [],
};

test('no results', () =>
  onPage(
    '/?q=x&kind=image',
    async (page) => {
      await page.waitForSelector('.state');
      assert.match(await page.textContent('.state'), /Nothing found/);
      await page.locator('.state button').click();
      await page.waitForURL((url) => !url.searchParams.has('kind'));
    },
    { routes: (page) => answer(page, '/search', nothing) },
  ));

const hit = (rank) => ({
  rank,
  item: rank,
  path: `/p/${rank}.txt`,
  name: `${rank}.txt`,
  folder: '/p',
  kind: 'text',
  via: 'text',
  score: 1 / rank,
  z: 3,
  chance: 0.1,
  confidence: Math.max(0, 1 - rank * 0.2),
  strength: 'fair',
  span: { unit: 'whole' },
  snippet: `text ${rank}`,
  marks: [],
  metadata: {},
  lanes: [],
});

test('the line below which hits are probably unrelated', () =>
  onPage(
    '/?q=x',
    async (page) => {
      await cells(page);
      const order = await page.locator('.cell, .cut-line').evaluateAll((all) => all.map((el) => el.dataset.item || 'line'));
      assert.deepEqual(order, ['1', '2', 'line', '3', '4']);
      assert.match(await page.textContent('.summary'), /2 probably related/);
      assert.match(await page.textContent('.remarks'), /clap.*knows no words/);
    },
    {
      routes: (page) =>
        answer(page, '/search', {
          ...nothing,
          hits: [1, 2, 3, 4].map(hit),
          n_candidates: 4,
          cut: 2,
          stands_out: true,
          lanes: [{ lane: 'clap', left_out: 'it knows no words' }],
        }),
    },
  ));

test('nothing stands out', () =>
  onPage(
    '/?q=x',
    async (page) => {
      await cells(page);
      assert.deepEqual(
        await page.locator('.cell, .cut-line').evaluateAll((all) => all.map((el) => el.dataset.item || 'line')),
        ['line', '1', '2'],
      );
      assert.match(await page.textContent('.summary'), /Nothing stands out/);
    },
    { routes: (page) => answer(page, '/search', { ...nothing, hits: [1, 2].map(hit), n_candidates: 2 }) },
  ));

test('an error says what and the cure, and is tried again', () => {
  let broken = true;
  return onPage(
    '/?q=x',
    async (page) => {
      await page.waitForSelector('.state.bad');
      assert.match(await page.textContent('.state'), /The index is damaged.*chiasm verify/);
      broken = false;
      await page.getByRole('button', { name: 'Try again' }).click();
      await cells(page);
    },
    {
      expected: /500/,
      routes: (page) =>
        page.route('**/api/v1/search', (route) =>
          broken
            ? route.fulfill({
                status: 500,
                headers: { 'content-type': 'application/json' },
                body: JSON.stringify(failure('internal', 'The index is damaged', 'Run chiasm verify')),
              })
            : route.fulfill({
                headers: { 'content-type': 'application/json' },
                body: JSON.stringify({ ...nothing, hits: [hit(1)], cut: null }),
              }),
        ),
    },
  );
});

test('a file that has expired', () =>
  onPage(
    '/?file=gone',
    async (page) => {
      await page.waitForSelector('.state');
      assert.match(await page.textContent('.state'), /no longer on the server/);
    },
    { expected: /404/ },
  ));

test('offline, and back', () => {
  let away = false;
  return onPage(
    '/',
    async (page) => {
      await cells(page);
      away = true;
      await page.fill('#query', 'x');
      await page.press('#query', 'Enter');
      await page.waitForSelector('.banner.offline:visible');
      await page.waitForSelector('.state.bad');
      away = false;
      await page.waitForSelector('.banner', { state: 'hidden' });
      // The search that failed is asked again by itself.
      await cells(page);
    },
    {
      expected: /ERR_|Failed to load/,
      routes: (page) => page.route('**/api/v1/**', (route) => (away ? route.abort('connectionrefused') : route.continue())),
    },
  );
});

test('busy: it is asked again after the time the server says', () => {
  let tries = 0;
  return onPage(
    '/?q=x',
    async (page) => {
      await page.waitForSelector('.banner.busy:visible');
      await cells(page);
      assert.equal(tries, 2);
    },
    {
      expected: /429/,
      routes: (page) =>
        page.route('**/api/v1/search', (route) =>
          tries++ === 0
            ? route.fulfill({
                status: 429,
                headers: { 'content-type': 'application/json', 'retry-after': '1' },
                body: JSON.stringify(failure('busy', 'Too many')),
              })
            : route.fulfill({
                headers: { 'content-type': 'application/json' },
                body: JSON.stringify({ ...nothing, hits: [hit(1)], cut: null }),
              }),
        ),
    },
  );
});

test('a token is asked for, a wrong one refused', () => {
  let open = false;
  return onPage(
    '/',
    async (page) => {
      await page.waitForSelector('dialog.login[open]');
      assert.equal(await page.evaluate(() => document.activeElement.id), 'token');
      await page.keyboard.press('Escape');
      assert.ok(await page.isVisible('dialog.login'), 'there is nothing behind it');
      await page.fill('#token', 'wrong');
      await page.press('#token', 'Enter');
      await page.waitForFunction(() => document.getElementById('token-error').textContent.length > 5);
      await page.fill('#token', 'right');
      await page.press('#token', 'Enter');
      await page.waitForSelector('dialog.login', { state: 'detached' });
      await cells(page);
    },
    {
      expected: /401/,
      routes: async (page) => {
        await page.route('**/api/v1/**', (route) => {
          const request = route.request();
          const no = (message) =>
            route.fulfill({
              status: 401,
              headers: { 'content-type': 'application/json' },
              body: JSON.stringify(failure('unauthorized', message)),
            });
          if (request.url().endsWith('/session')) {
            open = request.postDataJSON().token === 'right';
            return open ? route.fulfill({ status: 204 }) : no('No such token');
          }
          return open ? route.continue() : no('A token is needed');
        });
      },
    },
  );
});

test('a wrong address has a page of its own', () =>
  onPage(
    null,
    async (page) => {
      const reply = await page.goto(`${URL_}/nowhere/at/all`);
      assert.equal(reply.status(), 404);
      assert.match(await page.textContent('h1'), /nothing here/i);
      await page.getByRole('link').click();
      await cells(page);
    },
    { expected: /404/ },
  ));

test('the server guards the page', async () => {
  const reply = await fetch(URL_);
  const policy = reply.headers.get('content-security-policy');
  assert.match(policy || '', /default-src 'self'/);
  assert.ok(!/unsafe/.test(policy));
});
