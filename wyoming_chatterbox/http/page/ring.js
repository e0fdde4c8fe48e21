/**
 * A ring of samples and what happens when it runs dry: the part of the player that must never wait.
 *
 * It knows neither the network nor the page, and runs in the audio thread (player-worklet.js) or, where a browser has
 * no worklets, in the page (player.js). One take (an utterance, or its replay) is played at a time.
 */

const FADE_SECONDS = 0.01; // of what is stopped: a cut in the middle of a wave clicks
const REPORT_SECONDS = 0.04; // how often the position is told: a moving line needs 25 pictures a second

export class Ring {
  /**
   * @param {number} rate samples per second
   * @param {number} seconds what it holds
   * @param {(report: object) => void} report gets {kind, take, played, frame}; `played` counts samples of the take,
   *   `frame` is the place on the output's clock. Kinds: "sound" (begins, also after a gap), "silence" (ran dry; more
   *   will come), "position" (while it plays), "end" (nothing more will come).
   */
  constructor(rate, seconds, report) {
    this.samples = new Float32Array(Math.ceil(rate * seconds));
    this.fade = Math.round(rate * FADE_SECONDS);
    this.every = Math.round(rate * REPORT_SECONDS);
    this.report = report;
    this.begin(0);
  }

  /** Take orders: {type: "begin", take}, {type: "data", take, samples}, {type: "finish", take}, {type: "stop"}. */
  receive(message) {
    if (message.type === "begin") this.begin(message.take);
    else if (message.type === "stop") this.fading = this.sounding ? this.fade : 0;
    else if (message.take !== this.take) return; // of a take that is over
    else if (message.type === "data") this.write(message.samples);
    else if (message.type === "finish") this.finished = true;
    if (message.type === "stop" && !this.fading) this.begin(0);
  }

  begin(take) {
    this.take = take;
    this.readAt = 0;
    this.buffered = 0;
    this.played = 0;
    this.told = 0;
    this.finished = false;
    this.sounding = false;
    this.ended = take === 0;
    this.fading = 0;
  }

  write(samples) {
    if (this.buffered + samples.length > this.samples.length) throw new RangeError("more samples than the ring holds");
    const at = (this.readAt + this.buffered) % this.samples.length;
    const first = Math.min(samples.length, this.samples.length - at);
    this.samples.set(samples.subarray(0, first), at);
    this.samples.set(samples.subarray(first), 0);
    this.buffered += samples.length;
  }

  /** Fill the output, whose first sample has the number `frame` on the output's clock. */
  fill(output, frame) {
    const count = Math.min(this.buffered, output.length);
    if (count > 0 && !this.sounding) {
      this.sounding = true;
      this.tell("sound", frame);
    }
    const first = Math.min(count, this.samples.length - this.readAt);
    output.set(this.samples.subarray(this.readAt, this.readAt + first), 0);
    output.set(this.samples.subarray(0, count - first), first);
    output.fill(0, count);
    this.readAt = (this.readAt + count) % this.samples.length;
    this.buffered -= count;
    this.played += count;
    if (this.fading) this.fadeOut(output);
    else if (!this.ended) this.look(frame + count, count < output.length);
  }

  look(frame, dry) {
    if (dry && this.finished) {
      this.ended = true;
      this.sounding = false;
      this.tell("end", frame);
    } else if (dry && this.sounding) {
      this.sounding = false;
      this.tell("silence", frame);
    } else if (this.sounding && this.played - this.told >= this.every) {
      this.tell("position", frame);
    }
  }

  fadeOut(output) {
    for (let i = 0; i < output.length; i++) output[i] *= Math.max(0, this.fading - i) / this.fade;
    this.fading = Math.max(0, this.fading - output.length);
    if (this.fading === 0) this.begin(0);
  }

  tell(kind, frame) {
    this.told = this.played;
    this.report({ kind, take: this.take, played: this.played, frame });
  }
}
