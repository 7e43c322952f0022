// The query as the address bar holds it, so that Back, reload and a shared link give the same search.
//
//   /?q=a+dog&q=people&like=12&file=UPLOAD&w=1,-1,0.5,1      parts in order; `w` only when a weight is not 1, negative to keep away from
//    &kind=image,text&folder=/photos&tag=cat&format=JPEG      filters; folder and format may come again (any of them), tag too (all of them)
//    &from=2020-01&to=2020-12&min=1000&max=2000000&box=S,W,N,E&where=...   `where` is in the filter's own language
//    &lane=words&sort=newest&item=12                          by which ways to search; `item` is open in the side panel

const PART_KEYS = { q: 'text', like: 'item', file: 'upload' };
const SORTS = ['relevance', 'reranked', 'newest', 'oldest', 'largest', 'smallest', 'name'];
export const KINDS = ['image', 'text', 'audio', 'video', 'series', 'shape'];

export const emptyFilters = () => ({
  kinds: [],
  folders: [],
  tags: [],
  formats: [],
  from: '',
  to: '',
  min: null,
  max: null,
  box: null,
  where: '',
  lanes: [],
});

/** Reads the query string. What makes no sense is left out. */
export function readUrl(search) {
  const params = new URLSearchParams(search);
  const parts = [];
  for (const [key, value] of params) {
    const field = PART_KEYS[key];
    if (!field || !value.trim()) continue;
    if (field === 'item') {
      const item = Number(value);
      if (Number.isSafeInteger(item)) parts.push({ item, weight: 1 });
    } else parts.push({ [field]: value, weight: 1 });
  }
  (params.get('w') || '').split(',').forEach((text, i) => {
    const weight = Number(text);
    if (parts[i] && text !== '' && Number.isFinite(weight) && weight !== 0) parts[i].weight = Math.max(-9, Math.min(9, weight));
  });
  const filters = emptyFilters();
  filters.kinds = (params.get('kind') || '').split(',').filter((kind) => KINDS.includes(kind));
  filters.folders = params.getAll('folder').filter(Boolean);
  filters.tags = params.getAll('tag').filter(Boolean);
  filters.formats = params.getAll('format').filter(Boolean);
  for (const key of ['from', 'to']) if (/^\d{4}(-\d\d){0,2}$/.test(params.get(key) || '')) filters[key] = params.get(key);
  for (const key of ['min', 'max']) if (/^\d+$/.test(params.get(key) || '')) filters[key] = Number(params.get(key));
  const box = (params.get('box') || '').split(',').map(Number);
  if (box.length === 4 && box.every(Number.isFinite))
    filters.box = { south: box[0], west: box[1], north: box[2], east: box[3] };
  filters.where = (params.get('where') || '').trim();
  filters.lanes = (params.get('lane') || '').split(',').filter(Boolean);
  const sort = SORTS.includes(params.get('sort')) ? params.get('sort') : '';
  const item = /^\d+$/.test(params.get('item') || '') ? Number(params.get('item')) : null;
  return { parts, filters, sort, item };
}

/** The other way; '' when there is nothing to say. */
export function writeUrl({ parts, filters, sort, item }) {
  const params = new URLSearchParams();
  for (const part of parts) {
    if (part.text !== undefined) params.append('q', part.text);
    else if (part.item !== undefined) params.append('like', part.item);
    else params.append('file', part.upload);
  }
  if (parts.some((part) => part.weight !== 1)) params.set('w', parts.map((part) => part.weight).join(','));
  if (filters.kinds.length) params.set('kind', filters.kinds.join(','));
  for (const folder of filters.folders) params.append('folder', folder);
  for (const tag of filters.tags) params.append('tag', tag);
  for (const format of filters.formats) params.append('format', format);
  for (const key of ['from', 'to', 'where']) if (filters[key]) params.set(key, filters[key]);
  for (const key of ['min', 'max']) if (filters[key] !== null) params.set(key, filters[key]);
  if (filters.box) params.set('box', ['south', 'west', 'north', 'east'].map((side) => filters.box[side]).join(','));
  if (filters.lanes.length) params.set('lane', filters.lanes.join(','));
  if (sort) params.set('sort', sort);
  if (item) params.set('item', item);
  const text = params.toString().replaceAll('%2F', '/').replaceAll('%2C', ',');
  return text ? `?${text}` : '';
}

const quote = (text) => `'${text.replaceAll("'", "''")}'`;
const any = (conditions) => (conditions.length > 1 ? `(${conditions.join(' OR ')})` : conditions[0]);

/** Filters in the language of the server. `without` leaves some out, for a histogram of what they choose from. */
export function whereOf(filters, without = []) {
  const f = { ...filters };
  for (const key of without) f[key] = emptyFilters()[key];
  const all = [];
  if (f.folders.length) all.push(any(f.folders.map((folder) => `folder = ${quote(folder)}`)));
  for (const tag of f.tags) all.push(`tag = ${quote(tag)}`);
  if (f.formats.length) all.push(any(f.formats.map((format) => `format = ${quote(format)}`)));
  if (f.from) all.push(`taken >= ${f.from}`);
  if (f.to) all.push(`taken <= ${f.to}`);
  if (f.min !== null) all.push(`size >= ${f.min}`);
  if (f.max !== null) all.push(`size <= ${f.max}`);
  if (f.box) {
    const { south, west, north, east } = f.box;
    all.push(`latitude >= ${south}`, `latitude <= ${north}`);
    if (west <= east) all.push(`longitude >= ${west}`, `longitude <= ${east}`);
    else all.push(`(longitude >= ${west} OR longitude <= ${east})`);
  }
  if (f.where) all.push(all.length ? `(${f.where})` : f.where);
  return all.join(' AND ');
}

/** Whether anything is filtered. */
export const isFiltered = (filters) => filters.kinds.length > 0 || whereOf(filters) !== '';

/**
 * Words as typed: `a dog -people -"red cars"` is "a dog" and two exclusions. A minus inside a word or alone is no exclusion.
 */
export function partsOf(typed) {
  const parts = [];
  const rest = typed.replace(
    /(^|\s)[-\u2212\uff0d](?:"([^"]+)"|\u201c([^\u201d]+)\u201d|([^\s"]+))/gu,
    (whole, before, a, b, c) => {
      const text = (a || b || c).trim();
      if (!/[\p{L}\p{N}]/u.test(text)) return whole;
      parts.push({ text, weight: -1 });
      return before;
    },
  );
  const text = rest.replace(/\s+/g, ' ').trim();
  if (text) parts.unshift({ text, weight: 1 });
  return parts;
}

/** A part as the server wants it. */
export function wirePart({ text, item, upload, weight }) {
  const part = text !== undefined ? { text } : item !== undefined ? { item } : { upload };
  if (weight !== 1) part.weight = weight;
  return part;
}
