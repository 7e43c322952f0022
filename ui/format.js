// Numbers, sizes, dates and lengths in the reader's language.
import { lang, t } from './i18n.js';

export const count = (n) => new Intl.NumberFormat(lang()).format(n);
export const percent = (share) => new Intl.NumberFormat(lang(), { style: 'percent', maximumFractionDigits: 0 }).format(share);
export const decimal = (n, digits = 2) =>
  n === null || n === undefined ? '-' : new Intl.NumberFormat(lang(), { maximumSignificantDigits: digits }).format(n);

export function bytes(n) {
  const units = ['B', 'kB', 'MB', 'GB', 'TB'];
  let power = 0;
  while (n >= 999.5 && power < units.length - 1) {
    n /= 1000;
    power++;
  }
  return `${new Intl.NumberFormat(lang(), { maximumFractionDigits: n < 10 && power > 0 ? 1 : 0 }).format(n)} ${units[power]}`;
}

/** Seconds as 0:04, 1:02:03. */
export function clock(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  const [hours, minutes, rest] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  return `${hours ? `${hours}:${String(minutes).padStart(2, '0')}` : minutes}:${String(rest).padStart(2, '0')}`;
}

/** How long something takes, roughly, in words. */
export function duration(seconds) {
  if (seconds < 60) return t('duration.s', { n: Math.max(1, Math.round(seconds)) });
  if (seconds < 3600) return t('duration.min', { n: Math.round(seconds / 60) });
  return t('duration.h', { n: Math.round(seconds / 360) / 10 });
}

// `taken` is the camera's own clock without a zone; reading and printing it as UTC keeps it as it was.
const asUtc = (iso) =>
  new Date(`${iso.length === 7 ? `${iso}-01` : iso.length === 4 ? `${iso}-01-01` : iso}${iso.includes('T') ? 'Z' : 'T00:00Z'}`);

export const date = (iso) => new Intl.DateTimeFormat(lang(), { dateStyle: 'medium', timeZone: 'UTC' }).format(asUtc(iso));
export const dateTime = (iso) =>
  new Intl.DateTimeFormat(lang(), { dateStyle: 'long', timeStyle: 'short', timeZone: 'UTC' }).format(asUtc(iso));
export const month = (iso) =>
  new Intl.DateTimeFormat(lang(), { year: 'numeric', month: 'short', timeZone: 'UTC' }).format(asUtc(iso));

export const place = (latitude, longitude) =>
  `${Math.abs(latitude).toFixed(4)}° ${latitude < 0 ? 'S' : 'N'}, ${Math.abs(longitude).toFixed(4)}° ${longitude < 0 ? 'W' : 'E'}`;

/** The last folder of a path. */
export const leaf = (path) =>
  path
    .replace(/[/\\]+$/, '')
    .split(/[/\\]/)
    .pop() || path;

/** What a lane is called for people. */
export function laneName(name) {
  if (name === 'meaning') return t('lane.meaning');
  if (name === 'words') return t('lane.words');
  if (name === 'names') return t('lane.names');
  return t('lane.model', { name });
}
