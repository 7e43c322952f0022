// axe-core finds nothing, on every page and dialog, light and dark, large and small.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { answer, ask, cells, failure, onPage, useBrowser, violations } from './page.mjs';

useBrowser();
const status = await ask('/status');
const clean = async (page, where) => assert.deepEqual(await violations(page), [], where);

for (const scheme of ['light', 'dark']) {
  for (const phone of [false, true]) {
    const how = { scheme, phone };
    const name = `${scheme}, ${phone ? 'phone' : 'desktop'}`;

    test(`browsing, filters, menus: ${name}`, () =>
      onPage(
        '/',
        async (page) => {
          await cells(page);
          await clean(page, 'start');
          await page.click('#theme');
          await clean(page, 'menu');
          await page.keyboard.press('Escape');
          await page.click('[aria-controls="filters"]');
          await page.waitForSelector('.filters .facet');
          await page.locator('.facet:not([open]) summary').evaluateAll((all) => all.forEach((el) => el.click()));
          await clean(page, 'filters');
        },
        how,
      ));

    test(`results, chips, selection, panel, why: ${name}`, () =>
      onPage(
        '/?q=a+red+circle&q=blue&w=1,-1',
        async (page) => {
          await cells(page);
          await clean(page, 'results');
          await page.locator('.chip-open').first().click();
          await clean(page, 'chip');
          await page.keyboard.press('Escape');
          if (!phone) {
            await page
              .locator('.cell .name')
              .first()
              .click({ modifiers: ['Control'] });
            await page.waitForSelector('.selection-bar:visible');
            await clean(page, 'selection');
            await page.keyboard.press('Escape');
          }
          await page.locator('.cell .name').first().click();
          await page.waitForSelector('.panel .details');
          await page.waitForFunction(() => !document.querySelector('.neighbours .skeleton-block'));
          await clean(page, 'panel');
          await page.click('.why-button');
          await page.waitForSelector('.why-body .lanes, .why .state', { timeout: 60000 });
          await clean(page, 'why');
        },
        how,
      ));

    test(`map: ${name}`, () =>
      onPage(
        '/map',
        async (page) => {
          await page.waitForSelector('.legend-kind');
          await clean(page, 'map');
          if (await page.isVisible('.map-groups summary')) {
            await page.click('.map-groups summary');
            await clean(page, 'groups');
          }
        },
        how,
      ));

    test(`library, folders: ${name}`, () =>
      onPage(
        '/library',
        async (page) => {
          await page.waitForSelector('.refused tbody tr');
          await clean(page, 'library');
          if (await page.getByRole('button', { name: 'Browse' }).count()) {
            await page.getByRole('button', { name: 'Browse' }).click();
            await page.waitForSelector('dialog[open] .folder-list li');
            await clean(page, 'folders');
          }
        },
        {
          ...how,
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
            await answer(page, '/status', { ...status, index, library: { ...status.library, n_refused: 1 } });
            await answer(page, '/refused', {
              refused: [{ path: '/a/broken.jpg', reason: 'JPEG: unexpected end of data' }],
              total: 1,
            });
            await page.route('**/api/v1/events', (route) =>
              route.fulfill({
                headers: { 'content-type': 'text/event-stream' },
                body: `event: index\ndata: ${JSON.stringify(index)}\n\n`,
              }),
            );
          },
        },
      ));

    test(`a space, a token, an error, nothing: ${name}`, async () => {
      await onPage(
        '/library',
        async (page) => {
          await page.waitForSelector('.space-card');
          await clean(page, 'spaces');
        },
        {
          ...how,
          routes: async (page) => {
            await answer(page, '/status', { ...status, library: null });
            await answer(page, '/spaces', {
              spaces: [{ name: 'clip', what: 'model', kinds: ['image', 'text'], dim: 512, path: '/m/clip', licence: 'MIT' }],
            });
          },
        },
      );
      await onPage(
        '/',
        async (page) => {
          await page.waitForSelector('dialog.login[open]');
          await clean(page, 'login');
        },
        { ...how, expected: /401/, routes: (page) => answer(page, '/*', failure('unauthorized', 'A token is needed'), 401) },
      );
      await onPage(
        '/?q=x',
        async (page) => {
          await page.waitForSelector('.state.bad');
          await clean(page, 'error');
        },
        { ...how, expected: /500/, routes: (page) => answer(page, '/search', failure('internal', 'Broken', 'Mend it'), 500) },
      );
      await onPage(
        '/nowhere',
        async (page) => {
          await page.waitForSelector('h1');
          await clean(page, 'wrong address');
        },
        { ...how, expected: /404/ },
      );
    });
  }
}

test('stillness is respected', () =>
  onPage(
    '/',
    async (page) => {
      await cells(page);
      const moving = await page.evaluate(
        () => document.getAnimations().filter((a) => a.effect.getComputedTiming().duration > 20).length,
      );
      assert.equal(moving, 0);
    },
    { reducedMotion: 'reduce' },
  ));

test('nothing is wider than the narrowest phone', async () => {
  for (const path of ['/', '/?q=a+red+circle&q=blue&w=1,-1', '/map', '/library', '/nowhere']) {
    await onPage(
      path,
      async (page) => {
        await page.waitForSelector('.results[aria-busy="false"] .cell, .legend-kind, .big-number, .notfound');
        const { wide, by } = await page.evaluate(() => ({
          wide: document.documentElement.scrollWidth - innerWidth,
          by: [...document.querySelectorAll('body *')]
            .filter((el) => el.getBoundingClientRect().right > innerWidth + 1)
            .slice(0, 3)
            .map((el) => el.className),
        }));
        assert.ok(wide <= 0, `${path} is ${wide} pixels too wide: ${by}`);
      },
      { phone: true, viewport: { width: 320, height: 640 }, expected: /404/ },
    );
  }
});
