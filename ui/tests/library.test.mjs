// The page of the library: folders, indexing, refused files, numbers, the first step.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { answer, ask, failure, onPage, useBrowser } from './page.mjs';

useBrowser();
const status = await ask('/status');
const mayWrite = status.scopes.includes('admin');

test('the library in numbers', () =>
  onPage('/library', async (page) => {
    await page.waitForSelector('.big-number');
    assert.equal(await page.textContent('.big-number strong'), status.library.n_items.toLocaleString('en'));
    assert.equal(await page.locator('.lane-list li').count(), status.library.lanes.length);
    assert.equal(await page.locator('.roots-list li').count(), status.library.roots.length);
    assert.equal(await page.textContent('.library-dir'), status.library.dir);
  }));

test(
  'a folder is added by its path, and the progress shown',
  { skip: !(mayWrite && status.library.roots.length) && 'nothing to add here' },
  () =>
    onPage('/library', async (page) => {
      await page.waitForSelector('#folder');
      await page.fill('#folder', status.library.roots[0]);
      const reply = page.waitForResponse((r) => r.url().endsWith('/index') && r.request().method() === 'POST');
      await page.press('#folder', 'Enter');
      assert.equal((await reply).status(), 202);
      await page.waitForSelector('.progress-card:visible');
      await page.waitForFunction(() => document.querySelector('.progress-card .report'), null, { timeout: 60000 });
      assert.equal(await page.inputValue('#folder'), '');
    }),
);

test('a path that is none is refused beside the field', { skip: !mayWrite && 'the token may not add folders' }, () =>
  onPage(
    '/library',
    async (page) => {
      await page.waitForSelector('#folder');
      await page.fill('#folder', 'no/such/folder');
      await page.press('#folder', 'Enter');
      await page.waitForFunction(() => document.getElementById('folder-error').textContent.length > 5);
      assert.equal(await page.getAttribute('#folder', 'aria-invalid'), 'true');
    },
    { expected: /4(00|04|22)/ },
  ),
);

test('the folders of the server are browsed', { skip: !mayWrite && 'the token may not look around' }, () =>
  onPage('/library', async (page) => {
    await page.getByRole('button', { name: 'Browse' }).click();
    await page.waitForSelector('dialog[open] .folder-list li');
    await page.fill('#browse-path', '/');
    await page.getByRole('button', { name: 'Go', exact: true }).click();
    const { folders } = await ask('/folders?path=/');
    const seen = folders.filter((folder) => !folder.hidden);
    await page.waitForFunction(
      (name) => [...document.querySelectorAll('.folder-row')].some((el) => el.textContent === name),
      seen[0].name,
    );
    assert.equal(await page.locator('.folder-row:not(.up)').count(), seen.length);
    await page.getByRole('button', { name: seen[0].name, exact: true }).click();
    await page.waitForFunction((path) => document.getElementById('browse-path').value === path, seen[0].path);
    await page.keyboard.press('Escape');
    await page.waitForSelector('dialog', { state: 'detached' });
  }),
);

test('indexing is followed as it goes, and stopped', () =>
  onPage(
    '/library',
    async (page) => {
      await page.waitForSelector('.index-pill:visible');
      assert.match(await page.textContent('.index-pill'), /120 of 800, 15%/);
      assert.equal(await page.getAttribute('.progress-card [role=progressbar]', 'aria-valuenow'), '15');
      assert.match(await page.textContent('.progress-words'), /120 of 800.*35 a second.*19 s left/);
      const asked = page.waitForRequest((r) => r.url().endsWith('/index') && r.method() === 'DELETE');
      await page.getByRole('button', { name: 'Stop' }).click();
      await asked;
    },
    {
      routes: async (page) => {
        const index = {
          state: 'running',
          stage: 'index',
          done: 120,
          total: 800,
          rate: 35.1,
          left_s: 19,
          roots: ['/photos'],
          report: null,
          error: null,
        };
        await answer(page, '/status', { ...status, index, scopes: ['read', 'write', 'admin'] });
        await answer(page, '/index', { ...index, state: 'stopping' }, 202);
        await page.route('**/api/v1/events', (route) =>
          route.fulfill({
            headers: { 'content-type': 'text/event-stream' },
            body: `event: index\ndata: ${JSON.stringify(index)}\n\n`,
          }),
        );
      },
    },
  ));

test('refused files are listed with their reasons', () =>
  onPage(
    '/library',
    async (page) => {
      await page.waitForSelector('.refused tbody tr');
      assert.equal(await page.locator('.refused tbody tr').count(), 2);
      assert.match(await page.textContent('.refused'), /broken\.jpg.*unexpected end/);
      await page.getByRole('button', { name: 'Show more' }).click();
      await page.waitForFunction(() => document.querySelectorAll('.refused tbody tr').length === 3);
      await page.waitForSelector('[aria-label="Show more"]', { state: 'hidden' });
    },
    {
      routes: async (page) => {
        await answer(page, '/status', { ...status, library: { ...status.library, n_refused: 3 } });
        await answer(page, '/refused', (request) =>
          new URL(request.url()).searchParams.get('offset') === '0'
            ? {
                refused: [
                  { path: '/a/broken.jpg', reason: 'JPEG: unexpected end of data' },
                  { path: '/a/<b>.png', reason: 'too large' },
                ],
                total: 3,
              }
            : { refused: [{ path: '/a/c.wav', reason: 'no samples' }], total: 3 },
        );
      },
    },
  ));

test('refused files of this library', { skip: !status.library.n_refused && 'none here' }, () =>
  onPage('/library', async (page) => {
    await page.waitForSelector('.refused tbody tr');
    const { refused } = await ask('/refused?limit=100');
    assert.equal(await page.locator('.refused tbody tr').count(), refused.length);
  }),
);

test('where there is no library yet, a space is chosen', () => {
  let made = false;
  return onPage(
    '/',
    async (page) => {
      await page.waitForSelector('.state.empty');
      await page.getByRole('link', { name: 'Choose a space' }).click();
      await page.waitForSelector('.space-card');
      assert.equal(await page.locator('.space-card').count(), 2);
      await page.locator('.space-card').nth(1).click();
      const asked = page.waitForRequest((r) => r.url().endsWith('/library') && r.method() === 'POST');
      await page.getByRole('button', { name: 'Make the library' }).click();
      const request = await asked;
      assert.deepEqual(request.postDataJSON(), { name: 'my.space' });
      assert.equal(request.headers()['x-chiasm'], 'page');
      await page.waitForSelector('#folder');
    },
    {
      routes: async (page) => {
        const bare = { ...status, scopes: ['read', 'write', 'admin'], library: null };
        const fresh = { ...bare, library: { ...status.library, n_items: 0, n_refused: 0, kinds: [], roots: [] } };
        await answer(page, '/status', () => (made ? fresh : bare));
        await answer(page, '/spaces', {
          spaces: [
            { name: 'clip', what: 'model', kinds: ['image', 'text'], dim: 512, path: '/m/clip', licence: null },
            { name: 'my.space', what: 'space', kinds: ['image', 'text', 'audio'], dim: 64, path: '/s', licence: null },
          ],
        });
        await page.route('**/api/v1/library', (route) => {
          made = true;
          return route.fulfill({ status: 201, headers: { 'content-type': 'application/json' }, body: JSON.stringify(fresh) });
        });
      },
    },
  );
});

test('where there is no model, the cure is told', () =>
  onPage(
    '/library',
    async (page) => {
      await page.waitForSelector('.no-spaces');
      assert.match(await page.textContent('.no-spaces'), /chiasm model pull/);
    },
    {
      routes: async (page) => {
        await answer(page, '/status', { ...status, library: null });
        await answer(page, '/spaces', { spaces: [] });
      },
    },
  ));

test('who may only read is not offered to write', () =>
  onPage(
    '/library',
    async (page) => {
      await page.waitForSelector('.big-number');
      assert.equal(await page.locator('#folder').count(), 0);
      assert.match(await page.textContent('.library-main'), /does not allow/);
    },
    { routes: (page) => answer(page, '/status', { ...status, scopes: ['read'] }) },
  ));

test('a second indexing is refused in words', { skip: !mayWrite && 'the token may not add folders' }, () =>
  onPage(
    '/library',
    async (page) => {
      await page.waitForSelector('#folder');
      await page.fill('#folder', '/anything');
      await page.press('#folder', 'Enter');
      await page.waitForSelector('.toast.bad');
      assert.match(await page.textContent('.toast.bad'), /running already/);
    },
    {
      expected: /409/,
      routes: (page) =>
        page.route('**/api/v1/index', (route) =>
          route.request().method() === 'POST'
            ? route.fulfill({
                status: 409,
                headers: { 'content-type': 'application/json' },
                body: JSON.stringify(failure('conflict', 'One runs')),
              })
            : route.fallback(),
        ),
    },
  ),
);
