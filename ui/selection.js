// What is selected, across the gallery and the map.
import { api } from './api.js';
import { Emitter } from './dom.js';

export const selection = new (class extends Emitter {
  #chosen = new Map(); // item -> what is known of it, or null

  get size() {
    return this.#chosen.size;
  }

  has(item) {
    return this.#chosen.has(item);
  }

  items() {
    return [...this.#chosen.keys()];
  }

  set(entries, on) {
    for (const entry of entries) {
      if (on) this.#chosen.set(entry.item, entry);
      else this.#chosen.delete(entry.item);
    }
    this.emit('change');
  }

  /** Chooses these items and nothing else; they may be known by number alone. */
  replace(items) {
    this.#chosen = new Map(items.map((item) => [item, null]));
    this.emit('change');
  }

  /** Adds or takes out one that is known by number alone. */
  toggle(item) {
    if (!this.#chosen.delete(item)) this.#chosen.set(item, null);
    this.emit('change');
  }

  clear() {
    if (!this.#chosen.size) return;
    this.#chosen.clear();
    this.emit('change');
  }

  /** Everything about what is selected, asked for where only the number is known. */
  async entries() {
    const unknown = [...this.#chosen].filter(([, entry]) => entry === null).map(([item]) => item);
    for await (const entry of itemsByNumber(unknown)) if (this.#chosen.has(entry.item)) this.#chosen.set(entry.item, entry);
    return [...this.#chosen.values()].filter(Boolean);
  }
})();

// A filter may have 10,000 characters; `id = 123456 OR ` takes fifteen.
const PER_REQUEST = 200;

/** Items by their numbers, some hundred a request. */
export async function* itemsByNumber(numbers) {
  for (let at = 0; at < numbers.length; at += PER_REQUEST) {
    const some = numbers.slice(at, at + PER_REQUEST);
    const { items } = await api.get('/items', { where: some.map((item) => `id = ${item}`).join(' OR '), limit: PER_REQUEST });
    yield* items;
  }
}
