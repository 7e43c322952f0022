// What can be said of the page's files without running them: the content security policy holds, nothing comes from elsewhere, no markup is made
// from data, every word is there in both languages.
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

const UI = join(dirname(fileURLToPath(import.meta.url)), '..');
const files = (ending) => readdirSync(UI).filter((name) => name.endsWith(ending));
const read = (name) => readFileSync(join(UI, name), 'utf8');

test('no markup is made from strings, no code neither', () => {
  for (const name of files('.js')) {
    for (const word of [
      'innerHTML',
      'outerHTML',
      'insertAdjacentHTML',
      'document.write',
      'eval(',
      'new Function',
      "setAttribute('style'",
    ]) {
      assert.ok(!read(name).includes(word), `${name} has ${word}`);
    }
  }
});

test('pages have no inline script or style, and take assets from /ui/ alone', () => {
  for (const name of files('.html')) {
    const text = read(name);
    assert.ok(!/\sstyle=|<style|\son\w+=/i.test(text), `${name} has inline styles or handlers`);
    assert.ok(!/<script(?![^>]*\ssrc=)/i.test(text), `${name} has an inline script`);
    for (const [, , address] of text.matchAll(/\s(src|href)="([^"]+)"/g))
      assert.match(address, /^(\/ui\/[\w.-]+|\/|#\w+)$/, `${name} refers to ${address}`);
    for (const [, asset] of text.matchAll(/"\/ui\/([\w.-]+)"/g))
      assert.ok(readdirSync(UI).includes(asset), `${name} refers to ${asset}, which is not there`);
  }
});

test('nothing comes from another place', () => {
  for (const name of [...files('.js'), ...files('.css'), ...files('.html'), ...files('.svg')]) {
    for (const [address] of read(name).matchAll(/https?:\/\/[^\s'"`)]+/g))
      assert.match(address, /^http:\/\/www\.w3\.org\//, `${name} names ${address}`);
    assert.ok(!/@import|@font-face/.test(read(name)), `${name} imports`);
  }
});

test('modules import what is there', () => {
  for (const name of files('.js')) {
    for (const [, from] of read(name).matchAll(/from '\.\/([\w.-]+)'/g))
      assert.ok(readdirSync(UI).includes(from), `${name} imports ${from}`);
  }
});

test('every word that is used is there, in both languages, with the same gaps', async () => {
  globalThis.localStorage ||= { getItem: () => null, setItem() {}, removeItem() {} };
  globalThis.navigator ||= { languages: ['en'] };
  const { strings } = await import('../i18n.js');
  const gaps = (text) => [...new Set([...text.matchAll(/\{(\w+)\}/g)].map((m) => m[1]))].sort().join();
  for (const [key, both] of Object.entries(strings)) {
    assert.equal(both.length, 2, key);
    assert.ok(both[0] && both[1], `${key} lacks a language`);
    for (const form of both[0].split('|')) {
      const [en, zh] = [gaps(form), gaps(both[1])];
      assert.equal(en, zh, `${key}: English fills ${en}, Chinese ${zh}`);
    }
  }
  const used = new Set();
  const families = new Set();
  for (const name of [...files('.js'), ...files('.html')]) {
    for (const [, key] of read(name).matchAll(/\bt\(\s*'([\w.-]+)'/g)) used.add(key);
    for (const [, a, b] of read(name).matchAll(/\bt\((?:[^`()]|\([^()]*\))*?\s\? '([\w.-]+)'\s+: '([\w.-]+)'/g))
      used.add(a).add(b);
    for (const [, family] of read(name).matchAll(/\bt\(\s*`([\w.]+)\$\{/g)) families.add(family);
    for (const [, key] of read(name).matchAll(/data-words="([\w.]+)"/g)) used.add(key);
  }
  assert.ok(used.size > 120, `only ${used.size} words were found in the code`);
  for (const key of used) assert.ok(strings[key], `${key} is used and not there`);
  for (const family of families)
    assert.ok(
      Object.keys(strings).some((key) => key.startsWith(family)),
      `no word begins with ${family}`,
    );
  for (const key of Object.keys(strings))
    assert.ok(used.has(key) || [...families].some((family) => key.startsWith(family)), `${key} is there and not used`);
});
