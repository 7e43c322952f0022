// Sounds: one player for the page (starting one stops the other), and waveforms that show what plays and which stretch has matched.
import { once } from './api.js';
import { Emitter, h, icon, s } from './dom.js';
import { clock } from './format.js';
import { t } from './i18n.js';

const audio = new Audio();
audio.preload = 'none';
const player = new Emitter();
let playing = null; // the address that is loaded

for (const event of ['timeupdate', 'play', 'pause', 'ended', 'error'])
  audio.addEventListener(event, () => player.emit('change', event));

function toggle(src, start) {
  if (playing !== src) {
    audio.src = src;
    playing = src;
    if (start > 0) audio.currentTime = start;
  }
  if (audio.paused) audio.play().catch(() => player.emit('change', 'error'));
  else audio.pause();
}

function seek(src, seconds) {
  if (playing !== src) {
    audio.src = src;
    playing = src;
  }
  audio.currentTime = seconds;
  player.emit('change', 'seek');
}

/** Stops what plays, as when its panel closes. */
export function silence(src) {
  if (!src || playing === src) audio.pause();
}

const N_BARS = 64;

function bars(peaks, n) {
  let d = '';
  for (let i = 0; i < n; i++) {
    const piece = peaks.slice(
      Math.floor((i * peaks.length) / n),
      Math.max(Math.floor((i * peaks.length) / n) + 1, Math.floor(((i + 1) * peaks.length) / n)),
    );
    const height = Math.max(1.5, Math.max(0, ...piece) * 46);
    d += `M${i + 0.5} ${50 - height}V${50 + height}`;
  }
  return d;
}

function drawing(name, d, n) {
  return s(
    'svg',
    { class: name, viewBox: `0 0 ${n} 100`, preserveAspectRatio: 'none', 'aria-hidden': 'true' },
    s('path', { d, 'vector-effect': 'non-scaling-stroke' }),
  );
}

/**
 * A waveform with a button to play. `peaks` is the path that gives them, `src` the sound's address (none: nothing to play),
 * `span` the stretch that matched, in seconds. With `seekable` there is a slider to jump by, for the side panel.
 */
export function soundView({ peaks, src, span, name, durationS, seekable = false, inert = false }) {
  const wave = h('div', { class: 'wave-box' });
  const time = h('span', { class: 'wave-time' });
  let length = durationS || 0;
  const play = h(
    'button',
    {
      type: 'button',
      class: 'play',
      tabindex: inert ? -1 : null,
      'aria-label': t('sound.play', { name }),
      on: {
        click: (event) => {
          event.stopPropagation();
          toggle(src, span ? span.start : 0);
        },
      },
    },
    icon('play'),
  );
  const slider = seekable
    ? h('input', {
        type: 'range',
        class: 'wave-seek',
        min: 0,
        max: 100,
        step: 0.1,
        value: 0,
        'aria-label': t('sound.position'),
        on: { input: () => seek(src, (slider.value / 100) * length) },
      })
    : null;
  const view = h(
    'div',
    { class: seekable ? 'sound big' : 'sound' },
    src ? play : null,
    h('div', { class: 'wave' }, wave, slider),
    time,
  );

  const show = () => {
    const mine = playing === src;
    const running = mine && !audio.paused;
    const at = mine ? audio.currentTime : 0;
    if (length) wave.style.setProperty('--played', `${Math.min(100, (at / length) * 100)}%`);
    if (slider && length) {
      slider.value = (at / length) * 100;
      slider.setAttribute('aria-valuetext', `${clock(at)} / ${clock(length)}`);
    }
    time.textContent = length ? (mine && at > 0 ? `${clock(at)} / ${clock(length)}` : clock(length)) : '';
    if (play.dataset.running !== String(running)) {
      play.dataset.running = running;
      play.replaceChildren(icon(running ? 'pause' : 'play'));
      play.setAttribute('aria-label', t(running ? 'sound.pause' : 'sound.play', { name }));
    }
  };
  const stop = player.on('change', () => (view.isConnected || playing === src ? show() : stop()));

  once(peaks).then(
    (found) => {
      length = found.duration_s || length;
      const n = seekable ? 128 : N_BARS;
      const d = bars(found.peaks, n);
      wave.replaceChildren(drawing('wave-all', d, n), drawing('wave-played', d, n));
      if (span && length && span.end - span.start < length * 0.98) {
        const mark = h('div', { class: 'wave-span' });
        mark.style.left = `${(span.start / length) * 100}%`;
        mark.style.width = `${((span.end - span.start) / length) * 100}%`;
        wave.append(mark);
      }
      show();
    },
    () => wave.classList.add('failed'),
  );
  show();
  return view;
}
