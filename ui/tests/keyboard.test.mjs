// Everything by keyboard alone.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ask, cells, onPage, useBrowser } from './page.mjs';

useBrowser();
const { library } = await ask('/status');
const focused = (page) =>
  page.evaluate(() => ({
    index: Number(document.activeElement.dataset.index ?? -1),
    id: document.activeElement.id,
    tag: document.activeElement.tagName,
  }));

test('from the skip link to an item and back', () =>
  onPage('/', async (page) => {
    await cells(page);
    await page.keyboard.press('Tab');
    assert.equal((await focused(page)).id, 'skip');
    await page.keyboard.press('Enter');
    assert.equal((await focused(page)).id, 'main');
    await page.keyboard.press('/');
    assert.equal((await focused(page)).id, 'query');
    await page.keyboard.type('a red circle');
    await page.keyboard.press('Enter');
    await page.waitForFunction(
      () => location.search.includes('q=') && document.querySelector('.results').getAttribute('aria-busy') === 'false',
    );
    await page.keyboard.press('ArrowDown');
    await page.waitForFunction(() => document.activeElement.dataset.index === '0');
    await page.keyboard.press('ArrowRight');
    await page.waitForFunction(() => document.activeElement.dataset.index === '1');
    await page.keyboard.press('Enter');
    await page.waitForSelector('.panel .details');
    assert.ok(
      await page.evaluate(() => document.querySelector('.panel').contains(document.activeElement)),
      'the panel has the focus',
    );
    await page.keyboard.press('Escape');
    await page.waitForSelector('.panel', { state: 'hidden' });
    await page.waitForFunction(() => document.activeElement.dataset.index === '1', null, { timeout: 5000 });
  }));

test('arrows walk the gallery, Space and Shift select', () =>
  onPage('/', async (page) => {
    await cells(page);
    await page.focus('.cell[tabindex="0"]');
    assert.equal(await page.locator('.cell[tabindex="0"]').count(), 1, 'the gallery is one stop of Tab');
    await page.keyboard.press('ArrowDown');
    await page.waitForFunction(() => Number(document.activeElement.dataset.index) > 0);
    const below = (await focused(page)).index;
    await page.keyboard.press('ArrowUp');
    await page.waitForFunction((i) => Number(document.activeElement.dataset.index) < i, below);
    await page.keyboard.press('Home');
    await page.keyboard.press(' ');
    await page.keyboard.press('Shift+ArrowRight');
    await page.keyboard.press('Shift+ArrowRight');
    await page.waitForFunction(() => document.querySelectorAll('.cell[aria-selected="true"]').length === 3);
    await page.keyboard.press('Escape');
    await page.waitForFunction(() => document.querySelectorAll('.cell[aria-selected="true"]').length === 0);
    await page.keyboard.press('Control+End');
    await page.waitForFunction((n) => Number(document.activeElement.dataset.index) === n - 1, library.n_items);
    await page.keyboard.press('Control+Home');
    await page.waitForFunction(() => Number(document.activeElement.dataset.index) === 0);
  }));

test('the focus is always to be seen', () =>
  onPage('/?q=a+red+circle&q=blue&w=1,-1', async (page) => {
    await cells(page);
    const bare = [];
    for (let i = 0; i < 40; i++) {
      await page.keyboard.press('Tab');
      const seen = await page.evaluate(() => {
        const el = document.activeElement;
        if (el === document.body) return null;
        const shown = (e) => {
          const s = getComputedStyle(e);
          return (s.outlineStyle !== 'none' && parseFloat(s.outlineWidth) > 0) || s.boxShadow !== 'none';
        };
        return {
          what: `${el.tagName}.${el.className} ${el.getAttribute('aria-label') || el.textContent.slice(0, 30)}`,
          seen: shown(el) || Boolean(el.closest('.searchbar') && el.id === 'query' && shown(el.closest('.searchbar'))),
        };
      });
      if (!seen) break;
      if (!seen.seen) bare.push(seen.what);
    }
    assert.deepEqual(bare, []);
  }));

test('menus and dialogs take and give back the focus', () =>
  onPage('/', async (page) => {
    await cells(page);
    await page.focus('#theme');
    await page.keyboard.press('Enter');
    assert.equal(await page.evaluate(() => document.activeElement.getAttribute('role')), 'menuitemradio');
    await page.keyboard.press('ArrowDown');
    await page.keyboard.press('Escape');
    assert.equal((await focused(page)).id, 'theme');
    assert.equal(await page.locator('.menu').count(), 0);
    await page.focus('[aria-controls="filters"]');
    await page.keyboard.press('Enter');
    await page.waitForSelector('.filters:visible');
    await page.keyboard.press('Escape');
    await page.waitForSelector('.filters', { state: 'hidden' });
    assert.equal(await page.evaluate(() => document.activeElement.getAttribute('aria-controls')), 'filters');
  }));
