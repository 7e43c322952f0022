// A recording from the microphone as a WAV file. MediaRecorder would give WebM, which the server does not read, so samples are taken
// from Web Audio as they are and written down as 16-bit PCM, one channel.

const MAX_S = 30;

/** Whether this browser, in this place, can record at all (microphones are for secure pages and this machine only). */
export const canRecord = () => Boolean(navigator.mediaDevices?.getUserMedia && window.AudioWorkletNode);

/**
 * Starts at once. `onLevel(level 0..1, seconds)` is called as sound comes in.
 * Gives {stop, cancel}; `stop()` resolves to a File, and so does `done` when the time is up.
 */
export async function record(onLevel) {
  const stream = await navigator.mediaDevices.getUserMedia({
    audio: { channelCount: 1, echoCancellation: false, noiseSuppression: false },
  });
  const context = new AudioContext();
  const pieces = [];
  let nSamples = 0;
  let finish;
  const done = new Promise((resolve) => (finish = resolve));
  const close = () => {
    for (const track of stream.getTracks()) track.stop();
    context.close().catch(() => {});
  };
  const end = (keep) => {
    close();
    finish(keep ? new File([wav(pieces, nSamples, context.sampleRate)], 'recording.wav', { type: 'audio/wav' }) : null);
    return done;
  };
  try {
    await context.audioWorklet.addModule('/ui/record-worklet.js');
    const node = new AudioWorkletNode(context, 'take', { numberOfOutputs: 1, channelCount: 1, channelCountMode: 'explicit' });
    node.port.onmessage = ({ data }) => {
      pieces.push(data);
      nSamples += data.length;
      const seconds = nSamples / context.sampleRate;
      onLevel(Math.min(1, Math.sqrt(data.reduce((sum, x) => sum + x * x, 0) / data.length) * 4), seconds);
      if (seconds >= MAX_S) end(true);
    };
    context.createMediaStreamSource(stream).connect(node).connect(context.destination);
  } catch (error) {
    close();
    throw error;
  }
  return { stop: () => end(true), cancel: () => end(false), done };
}

/** Samples within -1..1 as a WAV file. */
export function wav(pieces, nSamples, sampleRate) {
  const view = new DataView(new ArrayBuffer(44 + nSamples * 2));
  const word = (at, text) => [...text].forEach((c, i) => view.setUint8(at + i, c.charCodeAt(0)));
  word(0, 'RIFF');
  view.setUint32(4, 36 + nSamples * 2, true);
  word(8, 'WAVEfmt ');
  view.setUint32(16, 16, true);
  view.setUint16(20, 1, true); // PCM
  view.setUint16(22, 1, true); // channels
  view.setUint32(24, sampleRate, true);
  view.setUint32(28, sampleRate * 2, true);
  view.setUint16(32, 2, true);
  view.setUint16(34, 16, true);
  word(36, 'data');
  view.setUint32(40, nSamples * 2, true);
  let at = 44;
  for (const piece of pieces) {
    for (const x of piece) {
      const clipped = Math.max(-1, Math.min(1, x));
      view.setInt16(at, clipped < 0 ? clipped * 0x8000 : clipped * 0x7fff, true);
      at += 2;
    }
  }
  return view.buffer;
}
