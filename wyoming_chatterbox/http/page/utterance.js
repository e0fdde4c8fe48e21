/** One utterance as the page knows it: samples, and what happened when. Times are seconds since Speak was pressed. */

import { wav } from "./wav.js";

const PEAK_SECONDS = 0.01; // of sound in one of `peaks`
const COARSE = 16; // of these are one of `coarse`: half an hour is drawn as fast as half a minute

export class Utterance {
  constructor(id, text) {
    this.id = id;
    this.text = text;
    this.pressed = performance.now();
    this.date = new Date();
    this.rate = 24000;
    this.chunks = []; // {index, duration, offset, made, sent, arrived}
    this.pieces = []; // Int16Array
    this.samples = 0;
    this.peaks = []; // the loudest of every PEAK_SECONDS, 0 to 1
    this.coarse = [];
    this.stretches = []; // {from, to: positions in the audio, at}: what was heard without a gap, and since when
    this.metrics = null;
    this.error = null; // {code, message}
    this.stopped = false; // by the listener
    this.lost = false; // the connection broke
    this.over = false; // nothing more will come
    this.silent = true; // nothing is heard now
  }

  get duration() {
    return this.samples / this.rate;
  }

  get bytes() {
    return this.samples * 2;
  }

  since(time) {
    return (time - this.pressed) / 1000;
  }

  started(message) {
    this.rate = message.format.sample_rate;
    this.who(message);
  }

  who({ model, voice, fallback }) {
    this.model = model ?? this.model;
    this.voice = voice ?? this.voice;
    this.fallback = this.fallback || Boolean(fallback);
  }

  add(message, samples) {
    this.who(message);
    const duration = samples.length / this.rate;
    const { index, offset, made, sent } = message;
    this.chunks.push({ index, offset, made, sent, duration, arrived: this.since(performance.now()) });
    this.pieces.push(samples);
    this.look(samples);
    this.samples += samples.length;
  }

  /** Note how loud new samples are, each at its place: a chunk seldom begins where a peak does. */
  look(samples) {
    const stroke = this.rate * PEAK_SECONDS;
    for (let i = 0; i < samples.length; i++) {
      const at = Math.floor((this.samples + i) / stroke);
      const level = Math.abs(samples[i]) / 32768;
      if (!(this.peaks[at] >= level)) this.peaks[at] = level;
    }
    for (let at = Math.floor(this.samples / stroke); at < this.peaks.length; at++) {
      const wide = Math.floor(at / COARSE);
      if (!(this.coarse[wide] >= this.peaks[at])) this.coarse[wide] = this.peaks[at];
    }
  }

  /** [peaks, seconds of each], as fine as a picture with strokes of so many seconds needs them. */
  peaksFor(seconds) {
    return seconds > 2 * COARSE * PEAK_SECONDS ? [this.coarse, COARSE * PEAK_SECONDS] : [this.peaks, PEAK_SECONDS];
  }

  end(metrics) {
    this.metrics = metrics;
    this.over = true;
    if (this.chunks.length) this.who(metrics); // else nobody spoke
  }

  /** What the player reports while it is spoken for the first time. */
  heard({ kind, position, time }) {
    const last = this.stretches.at(-1);
    if (kind === "sound") {
      this.stretches.push({ from: position, to: position, at: this.since(time) });
      this.silent = false;
      return;
    }
    if (last) last.to = position;
    if (kind !== "position") this.silent = true;
  }

  /** From Speak to the first sound, null before it. */
  get firstAudio() {
    return this.stretches.length ? this.stretches[0].at : null;
  }

  /** Gaps in what was heard: {from, to}. Silence that no sound followed is the end, not a gap. */
  get gaps() {
    return this.stretches.slice(1).map((next, i) => {
      const { from, to, at } = this.stretches[i];
      return { from: at + to - from, to: next.at };
    });
  }

  /** Whether the listener waits in the middle of it. */
  get waiting() {
    return this.silent && !this.over && this.stretches.length > 0;
  }

  /** Seconds to make a second of speech, as far as can be told; null before the first chunk. */
  get rtf() {
    const last = this.chunks.at(-1);
    return this.metrics?.rtf ?? (last ? last.made / this.duration : null);
  }

  /** When a position was heard, or will be if no gap comes. */
  heardAt(position, now) {
    const stretch = this.stretches.findLast(({ from }) => from <= position);
    if (!stretch) return position + now;
    const known = stretch === this.stretches.at(-1) && !(this.silent && !this.over && position >= stretch.to);
    return known || position < stretch.to ? stretch.at + position - stretch.from : now + position - stretch.to;
  }

  /** How far it was heard. */
  get playedTo() {
    return this.stretches.at(-1)?.to ?? 0;
  }

  wav() {
    return wav(this.pieces, this.rate);
  }

  get fileName() {
    const words = this.text.toLowerCase().normalize("NFKD").replace(/[^\p{L}\p{N}]+/gu, "-").replace(/^-+|-+$/g, "");
    return `${words.slice(0, 40).replace(/-+$/, "") || "speech"}.wav`;
  }
}
