// Series: sparklines of their channels, together in the gallery, one above the other in the side panel.
import { once } from './api.js';
import { h, s } from './dom.js';
import { count } from './format.js';
import { t } from './i18n.js';

const MAX_CHANNELS = 6;

function line(values, top, height) {
  const finite = values.filter(Number.isFinite);
  const [low, high] = [Math.min(...finite), Math.max(...finite)];
  const scale = high > low ? height / (high - low) : 0;
  return values
    .map(
      (v, i) =>
        `${i ? 'L' : 'M'}${((i / Math.max(1, values.length - 1)) * 300).toFixed(1)} ${(top + height - (Number.isFinite(v) ? (v - low) * scale : 0) - (scale ? 0 : height / 2)).toFixed(1)}`,
    )
    .join('');
}

const sparkline = (paths) =>
  s(
    'svg',
    { class: 'spark', viewBox: '0 0 300 100', preserveAspectRatio: 'none', 'aria-hidden': 'true' },
    paths.map(([d, i]) => s('path', { d, class: `channel c${i % MAX_CHANNELS}`, 'vector-effect': 'non-scaling-stroke' })),
  );

/** The sparkline of an item, small. */
export function seriesView(item) {
  const view = h('div', { class: 'sparks' });
  once(`/items/${item}/series`).then(
    ({ channels }) =>
      view.replaceChildren(sparkline(channels.slice(0, MAX_CHANNELS).map((values, i) => [line(values, 8, 84), i]))),
    () => view.classList.add('failed'),
  );
  return view;
}

/** Every channel by itself with its name and range. */
export function seriesChart(item) {
  const view = h('div', { class: 'series-chart' });
  once(`/items/${item}/series`).then(
    ({ channels, names, n_readings }) => {
      view.replaceChildren(
        ...channels.map((values, i) => {
          const finite = values.filter(Number.isFinite);
          const range = finite.length ? `${Math.min(...finite).toPrecision(3)} … ${Math.max(...finite).toPrecision(3)}` : '-';
          return h(
            'div',
            { class: 'series-row' },
            h(
              'div',
              { class: 'series-name' },
              h('span', { text: names?.[i] || t('series.channel', { n: i + 1 }) }),
              h('span', { class: 'muted', text: range }),
            ),
            sparkline([[line(values, 6, 88), i]]),
          );
        }),
        h('p', { class: 'muted small', text: t('series.readings', { n: n_readings, count: count(n_readings) }) }),
      );
    },
    () => view.classList.add('failed'),
  );
  return view;
}
