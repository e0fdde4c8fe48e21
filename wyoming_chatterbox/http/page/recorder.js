/** Records the microphone as it is: no codec, and nothing of what browsers do to calls, which would be cloned too. */

import { toInt16, wav } from "./wav.js";

export const MOST_SECONDS = 30; // Chatterbox listens to 10 of them

export class Recorder {
  /** @param {(state: {seconds: number, level: number}) => void} progress level from 0 to 1 */
  constructor(progress) {
    this.progress = progress;
    this.running = false;
  }

  /** Why this browser cannot record here, or null. */
  static get missing() {
    if (navigator.mediaDevices?.getUserMedia && self.AudioWorkletNode) return null;
    return isSecureContext
      ? "This browser cannot record; choose a file."
      : "Browsers record only on pages from https or from localhost; choose a file, or open this page that way.";
  }

  async start() {
    const audio = { channelCount: 1, echoCancellation: false, noiseSuppression: false, autoGainControl: false };
    this.stream = await navigator.mediaDevices.getUserMedia({ audio });
    this.context = new AudioContext();
    await this.context.audioWorklet.addModule(new URL("recorder-worklet.js", import.meta.url));
    const node = new AudioWorkletNode(this.context, "chatterbox-recorder", { numberOfOutputs: 0 });
    this.pieces = [];
    this.length = 0;
    node.port.onmessage = (event) => this.receive(event.data);
    this.context.createMediaStreamSource(this.stream).connect(node);
    this.running = true;
  }

  receive(samples) {
    if (!this.running) return;
    this.pieces.push(toInt16(samples));
    this.length += samples.length;
    const level = samples.reduce((most, sample) => Math.max(most, Math.abs(sample)), 0);
    this.progress({ seconds: this.length / this.context.sampleRate, level });
  }

  /** @returns {{blob: Blob, pieces: Int16Array[], rate: number, seconds: number}} a WAV file, and what is in it */
  stop() {
    this.running = false;
    this.stream.getTracks().forEach((track) => track.stop());
    const rate = this.context.sampleRate;
    this.context.close();
    return { blob: wav(this.pieces, rate), pieces: this.pieces, rate, seconds: this.length / rate };
  }
}
