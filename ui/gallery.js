// The gallery: a justified grid of any length of which only the rows near the window exist.
//
// Items come in chunks from a source {total, chunk, fetch(offset, limit, signal) -> {entries, next, total}}. Where the total is known (browsing),
// all chunks stand from the start with guessed heights, so the scroll bar reaches everywhere; otherwise (searching) chunks are
// appended as the end comes near. When a chunk above the window turns out higher or lower than guessed, the window moves along.
//
// Keyboard: arrows move, Enter opens, Space selects, Shift with arrows or click extends, Ctrl+A takes all that is loaded.
import { h } from './dom.js';
import { cell } from './cards.js';
import { guessHeight, justify, ratioOf } from './layout.js';
import { t } from './i18n.js';

const META = 30; // the line below a face
const GAP = 14;
const CUT = 76; // the line between what is related and what is not
const OVERSCAN = 700; // pixels above and below the window that are built already
const FAST = 6; // pixels a millisecond: beyond, rows stay blank until it slows down

export class Gallery {
  #root;
  #options;
  #source = null;
  #chunks = [];
  #built = new Map(); // "chunk:row" -> element
  #total = null;
  #width = 0;
  #abort = new AbortController();
  #active = 0; // index of the item that has the tab stop
  #anchor = 0; // where a range begins
  #frame = 0;
  #firstShown = null; // index of the first item below the header
  #lastY = 0;
  #lastT = 0;
  #settle = 0;
  #cut = null;
  #observer;
  #onScroll = () => this.#request();

  /**
   * `options`: onOpen(entry, index), onLike(entry, sign), onFail(error), onCount(loaded, total), selection, wanted() the wished height of rows.
   */
  constructor(root, options) {
    this.#root = root;
    this.#options = options;
    root.setAttribute('role', 'grid');
    root.setAttribute('aria-multiselectable', 'true');
    root.setAttribute('aria-rowcount', '-1');
    root.classList.add('gallery');
    root.addEventListener('keydown', (event) => this.#onKey(event));
    root.addEventListener('click', (event) => this.#onClick(event));
    root.addEventListener('focusin', (event) => {
      const el = event.target.closest('.cell');
      if (el) this.#setActive(Number(el.dataset.index));
    });
    addEventListener('scroll', this.#onScroll, { passive: true });
    this.#observer = new ResizeObserver(() => {
      if (Math.abs(root.clientWidth - this.#width) > 0.5) this.relayout();
    });
    this.#observer.observe(root);
    this.stopSelection = options.selection.on('change', () => this.#showSelection());
  }

  destroy() {
    this.#abort.abort();
    this.#observer.disconnect();
    this.stopSelection();
    removeEventListener('scroll', this.#onScroll);
    cancelAnimationFrame(this.#frame);
    clearTimeout(this.#settle);
  }

  /** Shows another list from its top. `cut`: hits beyond that rank are probably unrelated. */
  setSource(source, { cut = null, first = null } = {}) {
    this.#abort.abort();
    this.#abort = new AbortController();
    this.#source = source;
    this.#cut = cut;
    this.#total = source.total ?? null;
    this.#active = 0;
    this.#anchor = 0;
    this.#root.replaceChildren();
    this.#built.clear();
    this.#chunks = [];
    this.#width = this.#root.clientWidth;
    if (this.#total !== null) {
      for (let offset = 0; offset < this.#total; offset += source.chunk)
        this.#addChunk(offset, Math.min(source.chunk, this.#total - offset));
    } else this.#addChunk(0, source.chunk);
    if (first && this.#chunks.length) this.#fill(this.#chunks[0], first);
    this.#place();
    this.#render();
  }

  /** What is loaded, in order. */
  loaded() {
    return this.#chunks.flatMap((chunk) => chunk.entries || []);
  }

  /** The entry at an index, if it is loaded. */
  at(index) {
    const chunk = this.#chunkOf(index);
    return chunk?.entries?.[index - chunk.offset] || null;
  }

  indexOf(item) {
    for (const chunk of this.#chunks) {
      const i = chunk.entries ? chunk.entries.findIndex((entry) => entry.item === item) : -1;
      if (i >= 0) return chunk.offset + i;
    }
    return -1;
  }

  /** Loads what is needed and gives the entry, for going to the next one in the side panel. */
  async reach(index) {
    if (index < 0) return null;
    const chunk = this.#chunkOf(index);
    if (!chunk) return null;
    await this.#load(chunk);
    return this.at(index);
  }

  /** After the width or the wished height has changed: the item at the top of the window stays there. */
  relayout() {
    const keepIndex = this.#topIndex();
    const before = keepIndex === null ? 0 : this.#yOf(keepIndex);
    const hadFocus = this.#root.contains(document.activeElement);
    this.#width = this.#root.clientWidth;
    for (const el of this.#built.values()) el.remove();
    this.#built.clear();
    for (const chunk of this.#chunks) this.#layout(chunk);
    this.#place();
    if (keepIndex !== null && this.#galleryTop() < 0) scrollBy(0, this.#yOf(keepIndex) - before);
    this.#render();
    if (hadFocus) this.show(this.#active, { focus: true });
  }

  /** Brings an item into view, and gives it the focus if asked to. */
  async show(index, { focus = false, block = 'nearest' } = {}) {
    const chunk = this.#chunkOf(index);
    if (!chunk) return;
    await this.#load(chunk);
    const row = this.#rowOf(index);
    if (!row) return;
    this.#setActive(index);
    const top = this.#galleryTop() + chunk.top + row.top;
    const header = 84;
    const bottom = innerHeight - 24;
    if (block === 'center') scrollBy(0, top - (innerHeight - row.height) / 2);
    else if (top < header) scrollBy(0, top - header);
    else if (top + row.height > bottom) scrollBy(0, Math.min(top - header, top + row.height - bottom));
    this.#render();
    if (focus) this.#cellAt(index)?.focus({ preventScroll: true });
  }

  /** Loads on until the list is long enough to be scrolled to `y`. */
  async growTo(y) {
    for (let i = 0; i < 40 && document.documentElement.scrollHeight < y + innerHeight; i++) {
      const next = this.#chunks.find((chunk) => !chunk.entries);
      if (!next) return;
      await this.#load(next);
    }
  }

  focus() {
    this.show(this.#active, { focus: true });
  }

  /** Marks the item that is open in the side panel. */
  mark(item) {
    this.marked = item;
    for (const el of this.#root.querySelectorAll('.cell')) el.classList.toggle('open', Number(el.dataset.item) === item);
  }

  // Chunks ---------------------------------------------------------------------------------------------------------------

  #wanted() {
    return this.#options.wanted();
  }

  #addChunk(offset, n) {
    const chunk = {
      offset,
      n,
      entries: null,
      rows: [],
      top: 0,
      height: guessHeight(n, this.#width, this.#wanted(), GAP, META),
      promise: null,
      failed: false,
      skeleton: null,
    };
    this.#chunks.push(chunk);
    return chunk;
  }

  #chunkOf(index) {
    if (this.#source === null || index < 0) return null;
    return this.#chunks.find((chunk) => index >= chunk.offset && index < chunk.offset + chunk.n) || null;
  }

  #load(chunk) {
    if (chunk.entries) return Promise.resolve();
    if (chunk.promise) return chunk.promise;
    const source = this.#source;
    chunk.failed = false;
    chunk.promise = source.fetch(chunk.offset, chunk.n, this.#abort.signal).then(
      (reply) => {
        if (source !== this.#source) return;
        this.#fill(chunk, reply);
        this.#place(chunk);
        this.#render();
      },
      (error) => {
        chunk.promise = null;
        if (error.name === 'AbortError' || source !== this.#source) return;
        chunk.failed = true;
        this.#options.onFail(error, () => this.#load(chunk));
      },
    );
    return chunk.promise;
  }

  #fill(chunk, { entries, next, cut }) {
    this.#cut ??= cut ?? null;
    chunk.entries = entries;
    if (this.#total === null) {
      chunk.n = entries.length;
      chunk.last = next === null || entries.length === 0;
      if (!chunk.last) this.#addChunk(next, this.#source.chunk);
    } else chunk.last = chunk.offset + chunk.n >= this.#total;
    this.#layout(chunk);
    this.#options.onCount?.(
      this.#chunks.reduce((n, c) => n + (c.entries?.length || 0), 0),
      this.#total,
    );
  }

  #layout(chunk) {
    if (!chunk.entries) {
      chunk.height = guessHeight(chunk.n, this.#width, this.#wanted(), GAP, META);
      return;
    }
    const split = this.#cut === null ? -1 : chunk.entries.findIndex((entry) => entry.rank > this.#cut);
    chunk.rows = [];
    let top = 0;
    const add = (start, end, ragged) => {
      for (const row of justify(chunk.entries.slice(start, end).map(ratioOf), this.#width, this.#wanted(), GAP, ragged)) {
        const height = Math.round(row.height) + META;
        chunk.rows.push({ start: row.start + start, end: row.end + start, face: row.height, top, height });
        top += height + GAP;
      }
    };
    const isFirst = split === 0 && chunk.offset > 0 && chunk.entries[0].rank > this.#cut + 1;
    if (split >= 0 && !isFirst) {
      add(0, split, true);
      chunk.rows.push({ cut: true, start: split, end: split, top, height: CUT });
      top += CUT + GAP;
      add(split, chunk.entries.length, chunk.last);
    } else add(0, chunk.entries.length, chunk.last);
    chunk.height = top;
  }

  /** Sums heights up; a chunk that changed above the window takes the window with it. */
  #place(changed) {
    const galleryTop = this.#galleryTop();
    let top = 0;
    let shift = 0;
    for (const chunk of this.#chunks) {
      if (changed && chunk.offset > changed.offset && !shift && galleryTop + chunk.top < 0) shift = top - chunk.top;
      chunk.top = top;
      top += chunk.height;
      if (chunk.skeleton) {
        chunk.skeleton.remove();
        chunk.skeleton = null;
      }
    }
    this.#root.style.height = `${Math.max(0, top)}px`;
    if (shift) scrollBy(0, shift);
    // Rows below the change stand elsewhere now.
    for (const [key, el] of this.#built) {
      const [c, r] = key.split(':').map(Number);
      const chunk = this.#chunks[c];
      if (chunk?.rows[r]) el.style.top = `${chunk.top + chunk.rows[r].top}px`;
    }
  }

  #galleryTop() {
    return this.#root.getBoundingClientRect().top;
  }

  #rowOf(index) {
    const chunk = this.#chunkOf(index);
    return chunk?.rows.find((row) => !row.cut && index - chunk.offset >= row.start && index - chunk.offset < row.end) || null;
  }

  #yOf(index) {
    const chunk = this.#chunkOf(index);
    return chunk ? chunk.top + (this.#rowOf(index)?.top || 0) : 0;
  }

  #topIndex() {
    const y = -this.#galleryTop() + 84;
    for (const chunk of this.#chunks) {
      if (chunk.top + chunk.height < y) continue;
      const row = chunk.rows.find((r) => !r.cut && chunk.top + r.top + r.height > y);
      return chunk.offset + (row ? row.start : 0);
    }
    return null;
  }

  // Drawing --------------------------------------------------------------------------------------------------------------

  #request() {
    if (this.#frame) return;
    this.#frame = requestAnimationFrame((time) => {
      this.#frame = 0;
      const speed = Math.abs(scrollY - this.#lastY) / Math.max(1, time - this.#lastT);
      this.#lastY = scrollY;
      this.#lastT = time;
      const fast = speed > FAST;
      clearTimeout(this.#settle);
      if (fast) this.#settle = setTimeout(() => this.#request(), 100);
      this.#render(fast);
    });
  }

  /**
   * Builds what is missing in the window at once, and beyond it a row a frame; takes away what is far off. In a wild scroll (`fast`) rows are
   * drawn as blanks, and nothing is loaded: both follow when it slows down.
   */
  #render(fast = false) {
    if (!this.#source) return;
    const from = -this.#galleryTop();
    const to = from + innerHeight;
    const near = new Map(); // "chunk:row" -> whether it is in the window
    let shownFrom = null;
    for (let c = 0; c < this.#chunks.length; c++) {
      const chunk = this.#chunks[c];
      if (chunk.top > to + OVERSCAN || chunk.top + chunk.height < from - OVERSCAN) {
        chunk.skeleton?.remove();
        chunk.skeleton = null;
        continue;
      }
      if (!chunk.entries) {
        if (!chunk.skeleton) {
          chunk.skeleton = h('div', { class: 'skeleton-chunk', 'aria-hidden': 'true' });
          chunk.skeleton.style.height = `${chunk.height}px`;
          chunk.skeleton.style.setProperty('--row', `${this.#wanted() + META + GAP}px`);
          chunk.skeleton.style.top = `${chunk.top}px`;
          this.#root.append(chunk.skeleton);
        }
        if (!fast && !chunk.failed) this.#load(chunk);
        continue;
      }
      chunk.rows.forEach((row, r) => {
        const top = chunk.top + row.top;
        if (top > to + OVERSCAN || top + row.height < from - OVERSCAN) return;
        if (!row.cut && shownFrom === null && top > from + 60) shownFrom = chunk.offset + row.start;
        near.set(`${c}:${r}`, top < to && top + row.height > from);
      });
    }
    const focused = document.activeElement?.closest?.('.gallery-row');
    for (const [key, el] of this.#built) {
      if (el === focused || (near.has(key) && (fast || !el.dataset.blank || !near.get(key)))) continue;
      el.remove();
      this.#built.delete(key);
    }
    let beyond = fast ? 0 : 1;
    let more = false;
    for (const [key, inWindow] of near) {
      if (this.#built.has(key)) continue;
      if (!inWindow && beyond-- <= 0) {
        more = !fast;
        continue;
      }
      const [c, r] = key.split(':').map(Number);
      const chunk = this.#chunks[c];
      this.#insert(key, c, r, fast ? this.#blank(chunk, chunk.rows[r]) : this.#build(chunk, chunk.rows[r]));
    }
    this.#firstShown = shownFrom;
    this.#keepTabStop();
    if (more) this.#request();
  }

  #insert(key, c, r, el) {
    let next = null;
    let nextAt = Infinity;
    const at = c * 10000 + r;
    for (const [other, otherEl] of this.#built) {
      const [oc, or] = other.split(':').map(Number);
      const otherAt = oc * 10000 + or;
      if (otherAt > at && otherAt < nextAt) {
        nextAt = otherAt;
        next = otherEl;
      }
    }
    this.#built.set(key, el);
    this.#root.insertBefore(el, next);
  }

  /** A row of empty faces. */
  #blank(chunk, row) {
    const el = h('div', { class: 'gallery-row', 'aria-hidden': 'true', 'data-blank': true });
    el.style.top = `${chunk.top + row.top}px`;
    for (const { width } of row.cut ? [] : this.#spans(chunk, row)) {
      const face = h('div', { class: 'blank' });
      face.style.width = `${width}px`;
      face.style.height = `${Math.round(row.face)}px`;
      el.append(face);
    }
    return el;
  }

  #build(chunk, row) {
    const top = `${chunk.top + row.top}px`;
    if (row.cut) {
      const el = h(
        'div',
        { class: 'gallery-row cut', role: 'row' },
        h(
          'div',
          { role: 'gridcell', class: 'cut-line' },
          h('span', { text: t(this.#cut === 0 ? 'cut.nothing' : 'cut.below') }),
        ),
      );
      el.style.top = top;
      return el;
    }
    const el = h('div', { class: 'gallery-row', role: 'row' });
    el.style.top = top;
    for (let i = row.start; i < row.end; i++) {
      const entry = chunk.entries[i];
      const index = chunk.offset + i;
      const c = cell(entry, ratioOf(entry) * row.face, Math.round(row.face), this.#options.selection.has(entry.item), {
        toggle: (event) => this.#choose(index, event.shiftKey),
        like: this.#options.onLike ? (sign) => this.#options.onLike(entry, sign) : null,
      });
      c.dataset.index = index;
      if (this.#cut !== null && entry.rank > this.#cut) c.classList.add('faint');
      if (entry.item === this.marked) c.classList.add('open');
      el.append(c);
    }
    return el;
  }

  #cellAt(index) {
    return this.#root.querySelector(`.cell[data-index="${index}"]`);
  }

  #keepTabStop() {
    const current = this.#root.querySelector('.cell[tabindex="0"]');
    if (current && Number(current.dataset.index) === this.#active) return;
    current?.setAttribute('tabindex', '-1');
    const el =
      this.#cellAt(this.#active) ||
      this.#root.querySelector(`.cell[data-index="${this.#firstShown}"]`) ||
      this.#root.querySelector('.cell');
    el?.setAttribute('tabindex', '0');
  }

  #setActive(index) {
    this.#active = index;
    this.#root.querySelector('.cell[tabindex="0"]')?.setAttribute('tabindex', '-1');
    this.#cellAt(index)?.setAttribute('tabindex', '0');
  }

  #showSelection() {
    for (const el of this.#root.querySelectorAll('.cell'))
      el.setAttribute('aria-selected', String(this.#options.selection.has(Number(el.dataset.item))));
  }

  // Hands ----------------------------------------------------------------------------------------------------------------

  #choose(index, range) {
    const { selection } = this.#options;
    const entry = this.at(index);
    if (!entry) return;
    if (range) {
      const [a, b] = [Math.min(this.#anchor, index), Math.max(this.#anchor, index)];
      const entries = [];
      for (let i = a; i <= b; i++) if (this.at(i)) entries.push(this.at(i));
      selection.set(entries, true);
    } else {
      selection.set([entry], !selection.has(entry.item));
      this.#anchor = index;
    }
  }

  #onClick(event) {
    const el = event.target.closest('.cell');
    if (!el || event.target.closest('button, input, audio, video')) return;
    const index = Number(el.dataset.index);
    this.#setActive(index);
    if (event.shiftKey || event.ctrlKey || event.metaKey || this.#options.selecting()) this.#choose(index, event.shiftKey);
    else {
      this.#anchor = index;
      this.#options.onOpen(this.at(index), index);
    }
  }

  /** Left edges and widths of a row's cells. */
  #spans(chunk, row) {
    let x = 0;
    return chunk.entries.slice(row.start, row.end).map((entry, i) => {
      const span = { index: chunk.offset + row.start + i, x, width: ratioOf(entry) * row.face };
      x += span.width + GAP;
      return span;
    });
  }

  /** What stands below or above an item. */
  #neighbour(index, down) {
    const chunk = this.#chunkOf(index);
    const row = this.#rowOf(index);
    if (!row) return index;
    const here = this.#spans(chunk, row).find((span) => span.index === index);
    const middle = here.x + here.width / 2;
    const target = chunk.offset + (down ? row.end : row.start - 1);
    const other = this.#rowOf(target);
    if (!other) return this.#chunkOf(target) ? target : index; // not loaded yet, or no more
    const distance = (span) => Math.abs(span.x + span.width / 2 - middle);
    return this.#spans(this.#chunkOf(target), other).reduce((best, span) => (distance(span) < distance(best) ? span : best))
      .index;
  }

  #onKey(event) {
    if (event.target.closest('button, input, textarea')) return;
    const index = this.#active;
    const row = this.#rowOf(index);
    const offset = this.#chunkOf(index)?.offset ?? 0;
    const end =
      this.#chunks.reduce((n, chunk) => Math.max(n, chunk.offset + (chunk.entries || this.#total !== null ? chunk.n : 0)), 0) -
      1;
    let to = null;
    switch (event.key) {
      case 'ArrowRight':
        to = index + 1;
        break;
      case 'ArrowLeft':
        to = index - 1;
        break;
      case 'ArrowDown':
        to = this.#neighbour(index, true);
        break;
      case 'ArrowUp':
        to = this.#neighbour(index, false);
        break;
      case 'Home':
        to = event.ctrlKey || !row ? 0 : offset + row.start;
        break;
      case 'End':
        to = event.ctrlKey || !row ? end : offset + row.end - 1;
        break;
      case 'PageDown':
      case 'PageUp': {
        to = index;
        for (let i = 0; i < 3; i++) to = this.#neighbour(to, event.key === 'PageDown');
        break;
      }
      case 'Enter':
        if (this.at(index)) this.#options.onOpen(this.at(index), index);
        break;
      case ' ':
        this.#choose(index, event.shiftKey);
        break;
      case 'a':
        if (!event.ctrlKey && !event.metaKey) return;
        this.#options.selection.set(this.loaded(), true);
        break;
      case '+':
        this.#options.onLike?.(this.at(index), 1);
        break;
      case '-':
        this.#options.onLike?.(this.at(index), -1);
        break;
      default:
        return;
    }
    event.preventDefault();
    if (to === null) return;
    to = Math.max(0, Math.min(end, to));
    if (event.shiftKey && to !== index) {
      if (!this.#options.selection.has(this.at(index)?.item)) this.#anchor = index;
      this.show(to, { focus: true }).then(() => this.#choose(to, true));
      return;
    }
    this.show(to, { focus: true });
  }
}
