// On the audio thread: hands over what the microphone gives, in pieces of about a twentieth of a second, and plays nothing.
const PIECE = 2048;

class Take extends AudioWorkletProcessor {
  #piece = new Float32Array(PIECE);
  #n = 0;

  process([input]) {
    const samples = input[0];
    if (!samples) return true;
    for (const x of samples) {
      this.#piece[this.#n++] = x;
      if (this.#n === PIECE) {
        this.port.postMessage(this.#piece);
        this.#piece = new Float32Array(PIECE);
        this.#n = 0;
      }
    }
    return true;
  }
}

registerProcessor('take', Take);
