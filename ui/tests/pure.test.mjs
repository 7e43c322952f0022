// The parts of the page that need no browser: addresses, filters, rows of the gallery, WAV files.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { justify, ratioOf } from '../layout.js';
import { gridOf, inside, stampAll } from '../points.js';
import { wav } from '../record.js';
import { emptyFilters, isFiltered, partsOf, readUrl, whereOf, wirePart, writeUrl } from '../url.js';

test('an address is read as it was written', () => {
  const query = {
    parts: [
      { text: 'a dog & a cat + 100%', weight: 1 },
      { text: '人', weight: -1 },
      { item: 12, weight: 0.5 },
      { upload: 'abc-1', weight: 1 },
    ],
    filters: {
      ...emptyFilters(),
      kinds: ['image', 'text'],
      folders: ["/a b/it's", '/c'],
      tags: ['x,y'],
      formats: ['JPEG'],
      from: '2020-01',
      to: '2021-12',
      min: 10,
      max: 2000,
      box: { south: -1.5, west: 2, north: 3, east: 4 },
      where: "name = '*.jpg'",
      lanes: ['words', 'clip'],
    },
    sort: 'newest',
    item: 7,
  };
  assert.deepEqual(readUrl(writeUrl(query)), query);
  assert.equal(writeUrl({ parts: [], filters: emptyFilters(), sort: '', item: null }), '');
});

test('an address with nonsense is read without it', () => {
  const { parts, filters, sort, item } = readUrl(
    '?q=&like=x&like=3&w=0,abc&kind=image,cheese&from=yesterday&min=-1&box=1,2&sort=best&item=-4',
  );
  assert.deepEqual(parts, [{ item: 3, weight: 1 }]);
  assert.deepEqual(filters, { ...emptyFilters(), kinds: ['image'] });
  assert.equal(sort, '');
  assert.equal(item, null);
});

test('a leading minus excludes, a minus elsewhere does not', () => {
  assert.deepEqual(partsOf('a dog -people'), [
    { text: 'a dog', weight: 1 },
    { text: 'people', weight: -1 },
  ]);
  assert.deepEqual(partsOf('-"red cars" black-white photo'), [
    { text: 'black-white photo', weight: 1 },
    { text: 'red cars', weight: -1 },
  ]);
  assert.deepEqual(partsOf('海边 -人'), [
    { text: '海边', weight: 1 },
    { text: '人', weight: -1 },
  ]);
  assert.deepEqual(partsOf('-people'), [{ text: 'people', weight: -1 }]);
  assert.deepEqual(partsOf('5 - 3'), [{ text: '5 - 3', weight: 1 }]);
  assert.deepEqual(partsOf('   '), []);
});

test('filters become the language of the server', () => {
  assert.equal(whereOf(emptyFilters()), '');
  assert.equal(isFiltered(emptyFilters()), false);
  assert.equal(isFiltered({ ...emptyFilters(), kinds: ['text'] }), true);
  assert.equal(
    whereOf({ ...emptyFilters(), folders: ["/it's", '/b'], from: '2020-01', max: 5 }),
    "(folder = '/it''s' OR folder = '/b') AND taken >= 2020-01 AND size <= 5",
  );
  assert.equal(
    whereOf({ ...emptyFilters(), box: { south: 1, west: 170, north: 2, east: -170 } }),
    'latitude >= 1 AND latitude <= 2 AND (longitude >= 170 OR longitude <= -170)',
  );
  assert.equal(
    whereOf({ ...emptyFilters(), tags: ['a'], where: 'width > 5 OR height > 5' }),
    "tag = 'a' AND (width > 5 OR height > 5)",
  );
  assert.equal(whereOf({ ...emptyFilters(), tags: ['a'], from: '2020-01' }, ['from', 'to']), "tag = 'a'");
});

test('a part says its weight when it is not one', () => {
  assert.deepEqual(wirePart({ text: 'a', weight: 1 }), { text: 'a' });
  assert.deepEqual(wirePart({ item: 3, weight: -0.5 }), { item: 3, weight: -0.5 });
});

test('rows fill the width, hold everything once and in order, and keep near the wanted height', () => {
  let seed = 7;
  const random = () => (seed = (seed * 48271) % 2147483647) / 2147483647;
  for (const [n, width, wanted] of [
    [240, 1370, 190],
    [60, 366, 128],
    [3, 900, 190],
    [1, 1370, 190],
    [120, 320, 96],
  ]) {
    const ratios = Array.from({ length: n }, () => 0.62 + random() * 1.9);
    for (const ragged of [false, true]) {
      const rows = justify(ratios, width, wanted, 14, ragged);
      assert.equal(rows[0].start, 0);
      assert.equal(rows.at(-1).end, n);
      rows.forEach((row, i) => {
        if (i) assert.equal(row.start, rows[i - 1].end);
        const used =
          ratios.slice(row.start, row.end).reduce((sum, r) => sum + r * row.height, 0) + 14 * (row.end - row.start - 1);
        assert.ok(used <= width + 0.01, `a row of ${used} in ${width}`);
        if (n >= 60 && i < rows.length - 1) {
          assert.ok(Math.abs(used - width) < 0.01, `a row of ${used} does not fill ${width}`);
          assert.ok(
            row.height > wanted * 0.6 && row.height < wanted * 1.75,
            `a row ${row.height} high where ${wanted} was wanted`,
          );
        }
      });
    }
  }
  assert.deepEqual(justify([], 500, 190, 14, true), []);
});

test('proportions come from the picture and are never extreme', () => {
  assert.equal(ratioOf({ kind: 'image', metadata: { width: 300, height: 200 } }), 1.5);
  assert.ok(ratioOf({ kind: 'image', metadata: { width: 9000, height: 10 } }) < 3);
  assert.ok(ratioOf({ kind: 'image', metadata: { width: null, height: null } }) > 0.5);
  assert.ok(ratioOf({ kind: 'image' }) > 0.5);
});

test('a recording is a WAV file of 16 bits', () => {
  const view = new DataView(wav([Float32Array.of(0, 1, -1), Float32Array.of(0.5, 2)], 5, 48000));
  const text = (at, n) => String.fromCharCode(...new Uint8Array(view.buffer, at, n));
  assert.equal(text(0, 4) + text(8, 8) + text(36, 4), 'RIFFWAVEfmt data');
  assert.equal(view.getUint32(24, true), 48000);
  assert.equal(view.getUint32(40, true), 10);
  assert.equal(view.byteLength, 54);
  assert.deepEqual(
    [0, 1, 2, 3, 4].map((i) => view.getInt16(44 + i * 2, true)),
    [0, 32767, -32768, 16383, 32767],
  );
});

test('the grid gives every point that is near, whatever lies at the border', () => {
  let seed = 3;
  const random = () => (seed = (seed * 48271) % 2147483647) / 2147483647;
  const n = 3000;
  const points = {
    n,
    x: Float32Array.from({ length: n }, () => random() * 2 - 1),
    y: Float32Array.from({ length: n }, () => random() * 2 - 1),
  };
  points.x.set([-1, 1, 1, 0], 0);
  points.y.set([-1, 1, -1, 0], 0);
  const grid = gridOf(points);
  for (const [px, py, d] of [
    [0, 0, 0.05],
    [-1, -1, 0.1],
    [1, 1, 0.02],
    [0.3, -0.7, 0.4],
    [5, 5, 0.1],
  ]) {
    const near = (i) => (points.x[i] - px) ** 2 + (points.y[i] - py) ** 2 < d * d;
    const found = new Set([...grid.near(px, py, d)].filter(near));
    const truth = Array.from({ length: n }, (_, i) => i).filter(near);
    assert.deepEqual(
      [...found].sort((a, b) => a - b),
      truth,
    );
  }
});

test('a lasso holds what lies within it, hollows left out', () => {
  const horseshoe = [
    [0, 0],
    [6, 0],
    [6, 6],
    [4, 6],
    [4, 2],
    [2, 2],
    [2, 6],
    [0, 6],
  ];
  assert.ok(inside(horseshoe, 1, 5));
  assert.ok(inside(horseshoe, 3, 1));
  assert.ok(!inside(horseshoe, 3, 4));
  assert.ok(!inside(horseshoe, 7, 3));
});

test('dots are drawn in the ink of their kind, hidden kinds not, the unchosen faintly', () => {
  const points = {
    n: 3,
    x: Float32Array.of(-0.5, 0.5, 0),
    y: Float32Array.of(0, 0, 0),
    kind: Uint8Array.of(0, 1, 2),
    item: Uint32Array.of(7, 8, 9),
  };
  const pixels = { width: 40, height: 20, data: new Uint8ClampedArray(40 * 20 * 4) };
  const how = {
    scale: 20,
    dx: 20,
    dy: 10,
    r: 3,
    inks: [
      [200, 10, 10],
      [10, 200, 10],
      [10, 10, 200],
    ],
    hidden: new Set([2]),
    chosen: new Set(),
    most: 5,
  };
  const at = (x, y) => [...pixels.data.slice((y * 40 + x) * 4, (y * 40 + x) * 4 + 4)];
  assert.deepEqual(stampAll(points, pixels, how), [0, 1]);
  assert.deepEqual(at(10, 10).slice(0, 3), [200, 10, 10]);
  assert.deepEqual(at(30, 10).slice(0, 3), [10, 200, 10]);
  assert.deepEqual(at(20, 10), [0, 0, 0, 0]);
  const strong = at(30, 10)[3];
  stampAll(points, pixels, { ...how, chosen: new Set([7]) });
  assert.equal(at(10, 10)[3], strong);
  assert.ok(at(30, 10)[3] < strong / 2);
});
