// Searching and browsing, as a person does it with mouse and files.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { ask, cells, giveFile, onPage, png, search, useBrowser, wav } from './page.mjs';

useBrowser();
const { library } = await ask('/status');
const can = (kind) => library.query_kinds.includes(kind);
const RED = png([220, 30, 30]);

test('the library can be browsed', () =>
  onPage('/', async (page) => {
    await cells(page);
    assert.match(await page.textContent('.summary'), new RegExp(library.n_items.toLocaleString('en')));
    assert.equal(await page.locator('h1:visible').count(), 1);
    const names = await page.locator('.cell').evaluateAll((all) => all.map((el) => el.innerText));
    assert.ok(
      names.every((name) => /(Picture|Text|Sound|Video|Series),/.test(name)),
      'a screen reader is told what it is',
    );
  }));

test('words find', () =>
  onPage('/', async (page) => {
    await cells(page);
    const found = await search(page, 'a big red circle');
    assert.ok(found.hits.length > 0);
    await cells(page);
    const first = page.locator('.cell[data-index="0"]');
    assert.equal(await first.getAttribute('data-item'), String(found.hits[0].item));
    assert.equal(new URL(page.url()).searchParams.get('q'), 'a big red circle');
    assert.equal(await page.inputValue('#query'), 'a big red circle', 'a lone line of words stays in the field');
    assert.equal(await page.locator('.chip').count(), 0);
    if (found.hits[0].confidence !== null && !found.hits[0].all_words) {
      const width = await first.locator('.bar-fill').evaluate((el) => el.style.width);
      assert.equal(width, `${Math.round(found.hits[0].confidence * 100)}%`);
    }
    if (found.cut !== null && found.cut < found.hits.length) assert.equal(await page.locator('.cut-line').count(), 1);
  }));

test('Chinese words find', () =>
  onPage('/', async (page) => {
    await cells(page);
    const found = await search(page, '红色的圆形');
    assert.ok(found.hits.length > 0);
    assert.equal(new URL(page.url()).searchParams.get('q'), '红色的圆形');
    assert.equal(await page.title(), '红色的圆形 – chiasm');
  }));

test('the page speaks Chinese to a Chinese browser, and either on demand', () =>
  onPage(
    '/',
    async (page) => {
      await cells(page);
      assert.equal(await page.getAttribute('html', 'lang'), 'zh-CN');
      assert.match(await page.textContent('.nav'), /搜索.*地图.*资料库/);
      await page.click('#language');
      await page.getByRole('menuitemradio', { name: 'English' }).click();
      assert.equal(await page.getAttribute('html', 'lang'), 'en');
      assert.match(await page.textContent('.nav'), /Search.*Map.*Library/);
      await page.reload();
      await cells(page);
      assert.equal(await page.getAttribute('html', 'lang'), 'en', 'the choice is kept');
    },
    { locale: 'zh-CN' },
  ));

test('light and dark follow the system, and a choice', () =>
  onPage(
    '/',
    async (page) => {
      await cells(page);
      const ground = () =>
        page.evaluate(() =>
          getComputedStyle(document.body)
            .backgroundColor.match(/\d+/g)
            .slice(0, 3)
            .reduce((sum, n) => sum + Number(n), 0),
        );
      assert.ok((await ground()) < 200, 'dark by the system');
      await page.click('#theme');
      await page.getByRole('menuitemradio', { name: 'Light' }).click();
      assert.ok((await ground()) > 600, 'light by choice');
      await page.reload();
      assert.ok((await ground()) > 600, 'the choice is kept');
    },
    { scheme: 'dark' },
  ));

test('a leading minus makes a chip that keeps away', () =>
  onPage('/', async (page) => {
    await cells(page);
    const asked = page.waitForRequest((r) => r.url().endsWith('/search'));
    await search(page, 'a red circle -blue');
    assert.deepEqual((await asked).postDataJSON().query, [{ text: 'a red circle' }, { text: 'blue', weight: -1 }]);
    assert.equal(await page.locator('.chip').count(), 2);
    assert.equal(await page.locator('.chip.away .chip-label').textContent(), 'blue');
    assert.equal(new URL(page.url()).searchParams.get('w'), '1,-1');
  }));

test('a chip has a weight, a side and an end', () =>
  onPage('/?q=a+red+circle&q=blue&w=1,-1', async (page) => {
    await cells(page);
    const next = () => page.waitForRequest((r) => r.url().endsWith('/search')).then((r) => r.postDataJSON().query);
    let asked = next();
    await page.locator('.chip.away .chip-sign').click();
    assert.deepEqual(await asked, [{ text: 'a red circle' }, { text: 'blue' }]);
    await page.locator('.chip .chip-open').nth(1).click();
    asked = next();
    await page.locator('.chip-popover input[type=range]').focus();
    await page.keyboard.press('Home');
    await page.keyboard.press('Tab');
    assert.deepEqual((await asked)[1], { text: 'blue', weight: 0.1 });
    asked = next();
    await page.locator('.chip .chip-remove').nth(1).click();
    assert.deepEqual(await asked, [{ text: 'a red circle' }]);
    assert.equal(await page.locator('.chip').count(), 0, 'a lone line of words needs no chip');
    assert.equal(await page.inputValue('#query'), 'a red circle');
  }));

test('a picture is dropped', { skip: !can('image') && 'this library cannot be asked with pictures' }, () =>
  onPage('/', async (page) => {
    await cells(page);
    await giveFile(page, 'dragenter', 'red.png', 'image/png', RED);
    assert.ok(await page.isVisible('.veil'));
    const reply = page.waitForResponse((r) => r.url().endsWith('/search'));
    await giveFile(page, 'drop', 'red.png', 'image/png', RED);
    assert.ok((await (await reply).json()).hits.length > 0);
    assert.ok(!(await page.isVisible('.veil')));
    await page.waitForSelector('.chip .chip-face img');
    assert.equal(await page.locator('.chip-label').textContent(), 'red.png');
    assert.ok(new URL(page.url()).searchParams.get('file'));
    // The address alone brings it back.
    await page.reload();
    await cells(page);
    assert.equal(await page.locator('.chip').count(), 1);
  }),
);

test(
  'a picture is pasted into a search that goes on',
  { skip: !can('image') && 'this library cannot be asked with pictures' },
  () =>
    onPage('/?q=blue', async (page) => {
      await cells(page);
      const asked = page.waitForRequest((r) => r.url().endsWith('/search'));
      await giveFile(page, 'paste', 'shot.png', 'image/png', RED);
      const { query } = (await asked).postDataJSON();
      assert.equal(query.length, 2);
      assert.equal(query[0].text, 'blue');
      assert.ok(query[1].upload);
    }),
);

test('a sound is chosen', { skip: !can('audio') && 'this library cannot be asked with sounds' }, () =>
  onPage('/', async (page) => {
    await cells(page);
    const reply = page.waitForResponse((r) => r.url().endsWith('/search'));
    await page.setInputFiles('.searchbar input[type=file]', { name: 'tone.wav', mimeType: 'audio/wav', buffer: wav() });
    assert.ok((await (await reply).json()).hits.length > 0);
  }),
);

test('a recording is sent as WAV', { skip: !can('audio') && 'this library cannot be asked with sounds' }, () =>
  onPage(
    '/',
    async (page) => {
      await cells(page);
      // The browser does not tell what a file in a request holds, so the page's own fetch is listened to.
      await page.evaluate(() => {
        const { fetch } = window;
        window.fetch = async (url, init) => {
          if (String(url).endsWith('/uploads')) window.sent = [...new Uint8Array(await init.body.arrayBuffer())];
          return fetch(url, init);
        };
      });
      const reply = page.waitForResponse((r) => r.url().endsWith('/uploads'));
      await page.locator('.searchbar [aria-label^="Record"]').click();
      await page.waitForFunction(() => /0:0[1-9]/.test(document.querySelector('.record-time')?.textContent || ''));
      await page.getByRole('button', { name: 'Stop and search' }).click();
      assert.equal((await reply).status(), 201);
      const bytes = Buffer.from(await page.evaluate(() => window.sent));
      assert.equal(bytes.subarray(0, 4).toString('latin1'), 'RIFF');
      assert.equal(bytes.length, 44 + bytes.readUInt32LE(40));
      assert.ok(bytes.length > 16000, `${bytes.length} bytes for a second and more`);
      await page.waitForSelector('.chip:not(.uploading)');
    },
    { permissions: ['microphone'] },
  ),
);

test('a file that is nothing to ask with is refused in words', () =>
  onPage(
    '/',
    async (page) => {
      await cells(page);
      await giveFile(page, 'drop', 'nonsense.bin', 'application/octet-stream', Buffer.from([0, 1, 2, 3, 4]));
      await page.waitForSelector('.toast.bad');
      assert.match(await page.textContent('.toast.bad'), /nonsense\.bin/);
      assert.equal(await page.locator('.chip').count(), 0);
    },
    { expected: /4(00|15|22)/ },
  ));

test('more like this, less like this', () =>
  onPage('/?q=a+red+circle', async (page) => {
    await cells(page);
    const first = page.locator('.cell[data-index="0"]');
    const item = Number(await first.getAttribute('data-item'));
    await first.hover();
    let asked = page.waitForRequest((r) => r.url().endsWith('/search'));
    await first.getByRole('button', { name: 'More like this' }).click();
    assert.deepEqual((await asked).postDataJSON().query, [{ text: 'a red circle' }, { item }]);
    assert.equal(await page.locator('.chip').count(), 2);
    await cells(page);
    const other = page.locator(`.cell:not([data-item="${item}"])`).first();
    await other.hover();
    asked = page.waitForRequest((r) => r.url().endsWith('/search'));
    await other.getByRole('button', { name: 'Less like this' }).click();
    assert.equal((await asked).postDataJSON().query[2].weight, -1);
  }));

test('Back, Forward, reload and a shared address give the same search', () =>
  onPage('/', async (page) => {
    await cells(page);
    await search(page, 'a red circle');
    const one = await page.locator('.cell[data-index="0"]').getAttribute('data-item');
    await search(page, 'a blue star');
    await page.goBack();
    await page.waitForFunction(
      (item) =>
        document.querySelector('.results')?.getAttribute('aria-busy') === 'false' &&
        document.querySelector('.cell[data-index="0"]')?.dataset.item === item,
      one,
    );
    assert.equal(await page.inputValue('#query'), 'a red circle');
    await page.reload();
    await cells(page);
    assert.equal(await page.locator('.cell[data-index="0"]').getAttribute('data-item'), one);
    await page.goBack();
    await page.waitForSelector('.hero:visible');
    assert.equal(await page.inputValue('#query'), '');
    await page.goForward();
    await page.waitForFunction(() => document.getElementById('query').value === 'a red circle');
  }));

test('kinds filter, and leave as they came', () =>
  onPage('/', async (page) => {
    await cells(page);
    const kind = library.kinds.find((k) => k.n_items > 0 && k.n_items < library.n_items);
    if (!kind) return;
    await page.click(`.kind[data-kind="${kind.kind}"]`);
    await page.waitForFunction(
      (n) =>
        document.querySelector('.results').getAttribute('aria-busy') === 'false' &&
        document.querySelector('.summary').textContent.startsWith(n),
      kind.n_items.toLocaleString('en'),
    );
    assert.equal(await page.getAttribute(`.kind[data-kind="${kind.kind}"]`, 'aria-pressed'), 'true');
    assert.deepEqual(
      [...new Set(await page.locator('.cell').evaluateAll((all) => all.map((el) => el.classList[1])))],
      [kind.kind],
    );
    await page.click('.kind[data-kind="all"]');
    await page.waitForURL((url) => !url.search);
  }));

test('a folder and a size filter, as chips that can be removed', () =>
  onPage('/', async (page) => {
    await cells(page);
    await page.click('[aria-controls="filters"]');
    await page.waitForSelector('.filters .check-row');
    const folder = page.locator('.check-row input').first();
    await folder.check();
    await page.waitForURL(/folder=/);
    await cells(page);
    assert.equal(await page.locator('.filter-chip').count(), 1);
    const number = Number((await page.textContent('.summary')).replace(/\D/g, ''));
    assert.ok(number > 0 && number <= library.n_items);
    const { total } = await ask(
      `/items?limit=1&where=${encodeURIComponent(`folder = '${new URL(page.url()).searchParams.get('folder').replaceAll("'", "''")}'`)}`,
    );
    assert.equal(number, total);
    const size = page.locator('.facet', { hasText: 'File size' });
    if (await size.count()) {
      if (!(await size.evaluate((el) => el.open))) await size.locator('summary').click();
      await size.locator('.range-low').focus();
      await page.keyboard.press('ArrowRight');
      await page.waitForURL(/min=\d+/);
      await page.waitForFunction(() => document.querySelectorAll('.filter-chip').length === 2);
      await page.getByRole('button', { name: 'Clear the filters' }).first().click();
    } else await page.locator('.filter-chip .chip-remove').click();
    await page.waitForURL((url) => !url.search);
    assert.equal(await page.locator('.filter-chip').count(), 0);
  }));

test('a slip in the filter language is shown where it was typed', () =>
  onPage(
    '/',
    async (page) => {
      await cells(page);
      await page.click('[aria-controls="filters"]');
      await page.locator('.facet', { hasText: 'filter language' }).locator('summary').click();
      await page.fill('#where', 'width >> !!');
      await page.press('#where', 'Enter');
      await page.waitForFunction(() => document.getElementById('where-error')?.textContent.length > 5);
      await page.waitForSelector('.state.bad');
    },
    { expected: /400/ },
  ));

test('sorting', () =>
  onPage('/?q=a+red+circle', async (page) => {
    await cells(page);
    await page.click('[aria-label^="Order"]');
    const asked = page.waitForRequest((r) => r.url().endsWith('/search'));
    await page.getByRole('menuitemradio', { name: 'Oldest first' }).click();
    assert.equal((await asked).postDataJSON().sort, 'oldest');
    assert.equal(new URL(page.url()).searchParams.get('sort'), 'oldest');
    await cells(page);
    assert.equal(await page.locator('.cut-line').count(), 0, 'a cut makes sense by relevance only');
  }));

test('answers are looked at again where the server can', () =>
  onPage(
    '/?q=a+red+circle',
    async (page) => {
      await cells(page);
      await page.click('[aria-label^="Order"]');
      const asked = page.waitForRequest((r) => r.url().endsWith('/search') && r.postDataJSON().rerank);
      await page.getByRole('menuitemradio', { name: 'Looked at again' }).click();
      assert.equal((await asked).postDataJSON().sort, 'relevance');
      assert.equal(new URL(page.url()).searchParams.get('sort'), 'reranked');
      await cells(page);
      assert.match(await page.getAttribute('[aria-label^="Order"]', 'aria-label'), /Looked at again/);
      assert.equal(await page.locator('.cut-line').count(), 0, 'a cut counts places by closeness');
    },
    {
      // This server has nothing that re-ranks: it is said to have, and asked without.
      routes: async (page) => {
        await page.route('**/api/v1/status', async (route) => {
          const response = await route.fetch();
          await route.fulfill({ response, json: { ...(await response.json()), rerank: { kind: 'image', n_top: 20 } } });
        });
        await page.route('**/api/v1/search', (route) => {
          const { rerank, ...plain } = route.request().postDataJSON();
          assert.equal(typeof rerank, 'boolean');
          return route.continue({ postData: JSON.stringify(plain) });
        });
      },
    },
  ));

test('selection by click, Ctrl and Shift, and its export', () =>
  onPage('/?q=a+red+circle', async (page) => {
    await cells(page);
    await page.locator('.cell[data-index="0"] .name').click({ modifiers: ['Control'] });
    await page.locator('.cell[data-index="3"] .name').click({ modifiers: ['Shift'] });
    assert.equal(await page.locator('.cell[aria-selected="true"]').count(), 4);
    assert.match(await page.textContent('.selection-bar strong'), /4 selected/);
    const save = async (name) => {
      await page.locator('.selection-bar [aria-label="Export"]').click();
      const download = page.waitForEvent('download');
      await page.getByRole('menuitem', { name }).click();
      return readFileSync(await (await download).path(), 'utf8');
    };
    const csv = (await save('Table (CSV)')).trim().split('\r\n');
    assert.equal(csv.length, 5);
    assert.match(csv[0], /^item,kind,path,/);
    const entries = JSON.parse(await save('JSON'));
    assert.equal(entries.length, 4);
    assert.ok(entries.every((entry) => entry.path && entry.kind));
    const paths = (await save('Paths, one a line')).trim().split('\n');
    assert.deepEqual(
      paths,
      entries.map((entry) => entry.path),
    );
    await page.getByRole('button', { name: 'Copy paths' }).click();
    await page.waitForSelector('.toast:has-text("copied")');
    assert.deepEqual((await page.evaluate(() => navigator.clipboard.readText())).split('\n'), paths);
    await page.keyboard.press('Escape');
    assert.equal(await page.locator('.cell[aria-selected="true"]').count(), 0);
  }));

test('the whole list is exported', () =>
  onPage('/', async (page) => {
    await cells(page);
    await page.locator('.toolbar [aria-label="Export"]').click();
    const download = page.waitForEvent('download');
    await page.getByRole('menuitem', { name: 'Paths, one a line' }).click();
    const lines = readFileSync(await (await download).path(), 'utf8')
      .trim()
      .split('\n');
    assert.equal(lines.length, library.n_items);
  }));

test('the list goes on as one scrolls', () =>
  onPage('/', async (page) => {
    await cells(page);
    if (library.n_items < 130) return;
    await page.evaluate(() => scrollTo(0, document.documentElement.scrollHeight));
    await page.waitForSelector(`.cell[data-index="${library.n_items - 1}"]`);
  }));
