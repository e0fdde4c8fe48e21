/** Plays takes: feeds a ring of samples in the audio thread, and says when what was heard. */

import { Resampler } from "./resampler.js";
import { Ring } from "./ring.js";
import { toFloat } from "./wav.js";

const RING_SECONDS = 12;
const AHEAD_SECONDS = 8; // the rest waits here; what is told every 40 ms also keeps a tab in the background fed
const IDLE_SECONDS = 30; // after which the sound card may sleep
const BLOCK = 2048; // of the ScriptProcessor: what a busy page survives

export class Player {
  /**
   * @param {(report: {kind, take, position, time}) => void} report `position` in seconds of the take,
   *   `time` on the clock of performance.now(), when it leaves the speaker; kinds as in ring.js
   */
  constructor(report) {
    this.report = report;
    this.take = 0;
    this.waiting = [];
  }

  /** Make sound possible; call it while a click or a key is handled, or browsers keep silent. */
  async open(rate) {
    this.opening ??= this.start(rate).catch((error) => {
      this.opening = null;
      throw error;
    });
    await this.opening;
    this.rest();
    if (this.context.state !== "running") await this.context.resume();
  }

  /** Let the sound card sleep when nothing was played for a while. */
  rest() {
    clearTimeout(this.resting);
    this.resting = setTimeout(() => this.busy || this.context.suspend(), IDLE_SECONDS * 1000);
  }

  async start(rate) {
    try {
      this.context = new AudioContext({ sampleRate: rate, latencyHint: "balanced" });
    } catch {
      this.context = new AudioContext({ latencyHint: "balanced" }); // a browser with one rate for all
    }
    this.node = this.context.audioWorklet ? await this.worklet() : this.processor();
    this.node.connect(this.context.destination);
  }

  async worklet() {
    await this.context.audioWorklet.addModule(new URL("player-worklet.js", import.meta.url));
    const node = new AudioWorkletNode(this.context, "chatterbox-player", {
      numberOfInputs: 0,
      outputChannelCount: [1],
      processorOptions: { seconds: RING_SECONDS },
    });
    node.port.onmessage = (event) => this.heard(event.data);
    this.tell = (message) => node.port.postMessage(message, message.samples ? [message.samples.buffer] : []);
    return node;
  }

  /** Browsers have worklets only for https and for localhost; a server on the LAN often is neither. */
  processor() {
    const ring = new Ring(this.context.sampleRate, RING_SECONDS, (report) => queueMicrotask(() => this.heard(report)));
    const node = this.context.createScriptProcessor(BLOCK, 0, 1);
    node.onaudioprocess = (event) => {
      ring.fill(event.outputBuffer.getChannelData(0), Math.round(event.playbackTime * this.context.sampleRate));
    };
    this.tell = (message) => ring.receive(message);
    return node;
  }

  /** Begin a take, in the place of what is playing. @returns {number} its number in reports */
  begin(rate) {
    this.take += 1;
    this.busy = true;
    this.waiting = [];
    this.sent = 0;
    this.played = 0;
    this.finished = false;
    this.resampler = rate === this.context.sampleRate ? null : new Resampler(rate, this.context.sampleRate);
    this.tell({ type: "begin", take: this.take });
    return this.take;
  }

  /** @param {Int16Array} samples what follows */
  push(samples) {
    const floats = toFloat(samples);
    this.enqueue(this.resampler ? this.resampler.push(floats) : floats);
  }

  /** Nothing follows. */
  finish() {
    if (this.resampler) this.enqueue(this.resampler.finish());
    this.finished = true;
    this.feed();
  }

  stop() {
    this.waiting = [];
    this.take += 1;
    this.tell?.({ type: "stop" });
    this.idle();
  }

  idle() {
    this.busy = false;
    if (this.context) this.rest();
  }

  enqueue(samples) {
    const second = this.context.sampleRate;
    for (let at = 0; at < samples.length; at += second) this.waiting.push(samples.slice(at, at + second));
    this.feed();
  }

  feed() {
    const most = AHEAD_SECONDS * this.context.sampleRate;
    while (this.waiting.length && this.sent - this.played < most) {
      const samples = this.waiting.shift();
      this.sent += samples.length;
      this.tell({ type: "data", take: this.take, samples });
    }
    if (this.finished && !this.waiting.length) {
      this.finished = false;
      this.tell({ type: "finish", take: this.take });
    }
  }

  heard({ kind, take, played, frame }) {
    if (take !== this.take) return;
    this.played = played;
    this.feed();
    if (kind === "end") this.idle();
    const rate = this.context.sampleRate;
    this.report({ kind, take, position: played / rate, time: this.timeOf(frame / rate) });
  }

  /** When a moment of the context's clock leaves the speaker, on the page's clock. */
  timeOf(seconds) {
    const { contextTime, performanceTime } = this.context.getOutputTimestamp?.() ?? {};
    if (performanceTime) return performanceTime + (seconds - contextTime) * 1000;
    const latency = this.context.outputLatency || this.context.baseLatency || 0;
    return performance.now() + (seconds - this.context.currentTime + latency) * 1000;
  }
}
