// The side panel: one item, why it was found, what is near, its tags.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { answer, ask, cells, onPage, URL_, useBrowser, violations } from './page.mjs';

useBrowser();
const { library, scopes } = await ask('/status');
const kinds = library.kinds.filter((k) => k.n_items > 0).map((k) => k.kind);
const firstOf = async (kind) => (await ask(`/items?kind=${kind}&limit=1`)).items[0];

test('an item opens from the gallery, steps, and closes with Back', () =>
  onPage('/?q=a+red+circle', async (page) => {
    await cells(page);
    const item = await page.locator('.cell[data-index="0"]').getAttribute('data-item');
    await page.locator('.cell[data-index="0"] .name').click();
    await page.waitForSelector('.panel .details');
    assert.equal(new URL(page.url()).searchParams.get('item'), item);
    assert.ok(await page.locator('.panel .path code').first().textContent());
    const second = await page.locator('.cell[data-index="1"]').getAttribute('data-item');
    await page.getByRole('button', { name: 'Next' }).click();
    await page.waitForURL((url) => url.searchParams.get('item') === second);
    await page.goBack();
    await page.waitForSelector('.panel', { state: 'hidden' });
    assert.equal(new URL(page.url()).searchParams.get('item'), null);
    assert.equal(new URL(page.url()).searchParams.get('q'), 'a red circle');
  }));

for (const kind of kinds) {
  test(`a ${kind} shows itself and what is near`, async () => {
    const item = await firstOf(kind);
    await onPage(`/?item=${item.item}`, async (page) => {
      await page.waitForSelector('.panel .details');
      assert.equal(await page.textContent('.panel h2'), item.name);
      const inside = {
        image: '.picture img.loaded',
        video: '.picture video',
        audio: '.sound.big .wave-all',
        series: '.series-row .spark',
        text: '.text-whole',
        shape: '.picture img.loaded',
      }[kind];
      await page.waitForSelector(`.panel ${inside}`);
      if (kind === 'text') assert.ok((await page.textContent('.text-whole')).trim().length > 0);
      if (kind === 'series')
        assert.match(await page.locator('.panel .spark path').first().getAttribute('d'), /^M[\d.]+ [\d.]+L/);
      await page.waitForFunction(() => !document.querySelector('.neighbours .skeleton-block'));
      const { neighbours } = await ask(`/items/${item.item}/neighbours?k=8`);
      const some = neighbours.filter(({ hits }) => hits.some((hit) => hit.item !== item.item)).length;
      assert.equal(await page.locator('.neighbour-kind').count(), some);
      if (some) {
        await page.locator('.neighbour').first().click();
        await page.waitForURL((url) => url.searchParams.get('item') !== String(item.item));
        await page.waitForSelector('.panel .details');
      }
    });
  });
}

test('a shape is drawn, turns, and shows which side the words found', { skip: !scopes.includes('write') && 'reading only' }, async () => {
  const body = readFileSync(new URL('../../testdata/goldens/media/shape.stl', import.meta.url));
  const headers = { 'content-type': 'application/octet-stream', 'x-filename': 'part.stl' };
  const { item } = await ask('/items', { method: 'POST', headers, body });
  try {
    await onPage(`/?kind=shape&item=${item}`, async (page) => {
      await page.waitForSelector('.cell.shape img.loaded');
      const img = page.locator('.panel .picture img');
      await page.waitForSelector('.panel .picture img.loaded');
      assert.ok((await img.evaluate((el) => el.naturalWidth)) > 300);
      const turn = page.getByRole('slider', { name: 'Turn it' });
      await turn.focus();
      await page.keyboard.press('ArrowRight');
      await page.waitForFunction(() => /view=1$/.test(document.querySelector('.panel .picture img').src));
      assert.deepEqual(await violations(page, '.panel'), []);
    });
    await onPage(`/?q=a+red+square&kind=shape&item=${item}`, async (page) => {
      await page.waitForSelector('.panel .details');
      await page.click('.why-button');
      await page.waitForSelector('.panel canvas.heat:not([hidden])');
      assert.match(await page.locator('.panel .picture img').getAttribute('src'), /view=\d+$/);
    });
  } finally {
    await fetch(`${URL_}/api/v1/items/${item}`, { method: 'DELETE' });
  }
});

test('a sound plays', { skip: !kinds.includes('audio') && 'no sounds here' }, async () => {
  const item = await firstOf('audio');
  await onPage(`/?item=${item.item}`, async (page) => {
    await page.waitForSelector('.panel .wave-all');
    await page.locator('.panel .play').click();
    await page.waitForSelector('.panel .play[aria-label^="Pause"]');
    await page.waitForFunction(
      () =>
        /\//.test(document.querySelector('.panel .wave-time').textContent) ||
        document.querySelector('.panel .play').getAttribute('aria-label').startsWith('Play'),
    );
  });
});

test('why: lanes, words and places, on demand', () =>
  onPage('/?q=a+red+circle', async (page) => {
    await cells(page);
    const image = page.locator('.cell.image').first();
    const there = (await image.count()) ? image : page.locator('.cell').first();
    await there.locator('.name').click();
    await page.waitForSelector('.why-button');
    let explained = false;
    page.on('request', (r) => (explained ||= r.url().endsWith('/explain')));
    await page.waitForSelector('.panel .details');
    assert.equal(explained, false, 'nothing is computed before it is asked for');
    const reply = page.waitForResponse((r) => r.url().endsWith('/explain'));
    await page.click('.why-button');
    await page.waitForSelector('.why-wait, .why .lanes');
    const found = await (await reply).json();
    await page.waitForSelector('.why-body .lanes');
    assert.ok((await page.locator('.why-body .lanes tbody tr').count()) >= found.lanes.length);
    if (found.words) assert.equal(await page.locator('.why .word').count(), found.words.length);
    if (found.heat?.kind === 'grid') {
      assert.ok(await page.isVisible('.panel canvas.heat'));
      const inked = await page.locator('canvas.heat').evaluate((el) =>
        el
          .getContext('2d')
          .getImageData(0, 0, el.width, el.height)
          .data.some((v) => v > 0),
      );
      assert.ok(inked, 'the heat map has something on it');
      await page.locator('.why .switch-row input').uncheck();
      assert.ok(!(await page.isVisible('.panel canvas.heat')));
    }
  }));

test('why: what a lane left open, words that hurt, heat over time and passages', () =>
  onPage(
    '/?q=a+red+circle',
    async (page) => {
      await cells(page);
      await page.locator('.cell .name').first().click();
      await page.click('.why-button');
      await page.waitForSelector('.heat-window');
      assert.equal(await page.locator('.word.hurt').textContent(), 'red−0.1');
      assert.equal(await page.locator('.heat-window').count(), 2);
      assert.match(await page.textContent('.why-body'), /between 1 and 2 seconds/);
    },
    {
      routes: (page) =>
        answer(page, '/explain', (request) => ({
          item: request.postDataJSON().item,
          lanes: [{ lane: 'clip', score: 0.3, z: null, chance: null, rank: null }],
          words: [
            { part: 0, word: 'a', start: 0, end: 1, drop: 0.01 },
            { part: 0, word: 'red', start: 2, end: 5, drop: -0.1 },
            { part: 0, word: 'circle', start: 6, end: 12, drop: 0.2 },
          ],
          heat: {
            kind: 'time',
            windows: [
              { start_s: 0, end_s: 1, drop: -0.1 },
              { start_s: 1, end_s: 2, drop: 0.3 },
            ],
          },
          elapsed_ms: 1,
        })),
    },
  ));

test('a tag is set, found by, and removed', { skip: !scopes.includes('write') && 'the token may not write' }, async () => {
  const item = await firstOf(kinds[0]);
  const tag = `test ${Date.now() % 100000}`;
  await onPage(`/?item=${item.item}`, async (page) => {
    await page.waitForSelector('.tag-form input');
    await page.fill('.tag-form input', tag);
    await page.press('.tag-form input', 'Enter');
    await page.waitForSelector(`.tag:has-text("${tag}")`);
    await page.waitForFunction(
      async ([id, t]) => (await (await fetch(`/api/v1/items/${id}`)).json()).tags.includes(t),
      [item.item, tag],
    );
    await page.locator('.tag-name', { hasText: tag }).click();
    await page.waitForURL(/tag=/);
    await page.waitForFunction(() => document.querySelector('.summary').textContent.startsWith('1 item'));
    await page.locator('.cell .name').first().click();
    await page.locator('.tag', { hasText: tag }).getByRole('button', { name: 'Remove' }).click();
    await page.waitForFunction(
      async ([id, t]) => !(await (await fetch(`/api/v1/items/${id}`)).json()).tags.includes(t),
      [item.item, tag],
    );
  });
});

test('the path is copied, the folder opened', async () => {
  const item = await firstOf(kinds[0]);
  await onPage(`/?item=${item.item}`, async (page) => {
    await page.locator('.path [aria-label="Copy the path"]').first().click();
    assert.ok(item.paths.includes(await page.evaluate(() => navigator.clipboard.readText())));
    await page.getByRole('button', { name: /^Open the folder/ }).click();
    await page.waitForURL((url) => url.searchParams.get('folder') === item.folder);
    await cells(page);
  });
});

test('the passage of a text that matched is marked', () =>
  onPage(
    '/?q=passage',
    async (page) => {
      await cells(page);
      assert.deepEqual(await page.locator('.cell mark').allTextContents(), ['红色', 'heart']);
      await page.locator('.cell .name').first().click();
      await page.waitForSelector('.passage-mark');
      assert.equal(await page.textContent('.passage-mark'), '红色 and a heart');
    },
    {
      routes: async (page) => {
        const text = 'Before, 红色 and a heart. After.';
        const metadata = {
          format: 'TXT',
          size: 40,
          width: null,
          height: null,
          duration_s: null,
          taken: null,
          latitude: null,
          longitude: null,
        };
        const item = { item: 1, kind: 'text', path: '/a.txt', name: 'a.txt', folder: '/', metadata };
        await answer(page, '/search', {
          hits: [
            {
              ...item,
              rank: 1,
              via: 'text',
              score: 1,
              z: null,
              chance: null,
              confidence: null,
              strength: '-',
              span: { unit: 'byte', start: 8, end: 26 },
              snippet: '𝕏 红色 and a heart',
              marks: [
                [2, 4],
                [11, 16],
              ],
              lanes: [],
            },
          ],
          offset: 0,
          next_offset: null,
          n_candidates: 1,
          stands_out: null,
          cut: null,
          elapsed_ms: 1,
          lanes: [],
          remarks: [],
        });
        await answer(page, '/items/1', {
          ...item,
          hash: '',
          paths: ['/a.txt'],
          n_segments: 1,
          snippet: text,
          tags: [],
          captions: [],
          segments: [],
          text,
        });
        await answer(page, '/items/1/neighbours', { neighbours: [] });
      },
    },
  ));
