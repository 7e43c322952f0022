// Lists leave the page as CSV, JSON or plain paths: what is selected, or else the whole list that is shown.
import { h } from './dom.js';
import { t } from './i18n.js';
import { toast, toastError } from './notices.js';

const COLUMNS = [
  'item',
  'kind',
  'path',
  'rank',
  'confidence',
  'score',
  'format',
  'size',
  'width',
  'height',
  'duration_s',
  'taken',
  'latitude',
  'longitude',
  'tags',
];

const row = (entry) => ({
  ...entry.metadata,
  item: entry.item,
  kind: entry.kind,
  path: entry.path,
  rank: entry.rank ?? null,
  confidence: entry.confidence ?? null,
  score: entry.score ?? null,
  tags: (entry.tags || []).join(' '),
});

/** RFC 4180: a field with a comma, a quote or a line break stands in quotes. */
const field = (value) => {
  const text = value === null || value === undefined ? '' : String(value);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
};

export const FORMATS = {
  csv: {
    type: 'text/csv',
    of: (entries) =>
      [COLUMNS.join(','), ...entries.map(row).map((r) => COLUMNS.map((c) => field(r[c])).join(','))].join('\r\n') + '\r\n',
  },
  json: {
    type: 'application/json',
    of: (entries) =>
      JSON.stringify(
        entries.map((entry) =>
          Object.fromEntries(COLUMNS.map((c) => [c, c === 'tags' ? entry.tags || [] : (row(entry)[c] ?? null)])),
        ),
        null,
        1,
      ),
  },
  paths: { type: 'text/plain', of: (entries) => entries.map((entry) => `${entry.path}\n`).join('') },
};

/** Hands a file to the reader. */
export function save(name, type, text) {
  const url = URL.createObjectURL(new Blob([text], { type: `${type};charset=utf-8` }));
  const link = h('a', { href: url, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}

/** `all()` gives the entries, perhaps after asking for them. */
export async function exportAs(format, all) {
  try {
    const entries = await all();
    save(`chiasm.${format === 'paths' ? 'txt' : format}`, FORMATS[format].type, FORMATS[format].of(entries));
    toast(t('export.done', { n: entries.length }));
  } catch (error) {
    toastError(error, t('export.failed'));
  }
}

export async function copy(text, said) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Not a secure page: the old way.
    const area = h('textarea', { class: 'visually-hidden', value: text });
    document.body.append(area);
    area.select();
    document.execCommand('copy');
    area.remove();
  }
  toast(said);
}
