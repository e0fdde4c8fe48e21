/** One utterance as the page knows it: its samples, and what happened when. Times are seconds since Speak was pressed. */

import { wav } from "./wav.js";

const PEAK_SECONDS = 0.01; // of sound in one stroke of the waveform

export class Utterance {
  constructor(id, text) {
    this.id = id;
    this.text = text;
    this.pressed = performance.now();
    this.date = new Date();
    this.rate = 24000;
    this.chunks = []; // {index, duration, offset, made, sent, arrived}
    this.pieces = []; // Int16Array
    this.peaks = []; // the loudest of every PEAK_SECONDS, 0 to 1
    this.stretches = []; // {from, to: positions in the audio, at}: what was heard without a gap, and since when
    this.metrics = null;
    this.error = null; // {code, message}
    this.stopped = false; // by the listener
    this.lost = false; // the connection broke
    this.over = false; // nothing more will come
    this.silent = true; // nothing is heard now
  }

  get duration() {
    return this.pieces.reduce((sum, piece) => sum + piece.length, 0) / this.rate;
  }

  get bytes() {
    return this.pieces.reduce((sum, piece) => sum + piece.byteLength, 0);
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
    const stroke = Math.round(this.rate * PEAK_SECONDS);
    for (let at = 0; at < samples.length; at += stroke) this.peaks.push(peak(samples, at, at + stroke));
  }

  end(metrics) {
    this.metrics = metrics;
    this.over = true;
    this.who(metrics);
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

export { PEAK_SECONDS };

/** The largest of some samples, 0 to 1. */
function peak(samples, from, to) {
  let most = 0;
  for (let i = from; i < Math.min(to, samples.length); i++) most = Math.max(most, Math.abs(samples[i]));
  return most / 32768;
}
