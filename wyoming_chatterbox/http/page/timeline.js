/**
 * The time line: when chunks were made, sent and heard, on one axis of seconds since Speak was pressed.
 *
 * What stands left of its sound was early (lead); where the sound waits for a chunk, there is a gap (underrun).
 */

const SPANS = [2, 4, 6, 10, 15, 20, 30, 45, 60, 90, 120, 180, 300, 600, 1200, 1800, 3600];
const LANES = { made: [4, 22], sent: [38, 14], played: [64, 88] }; // top, height; style.css puts labels beside them
const AXIS = 160;
export const HEIGHT = 182;
const BAR = 3; // pixels from one stroke of the waveform to the next
const CALM = 4; // pictures a second for people who want less motion

export class Timeline {
  constructor(canvas) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
    this.utterance = null;
    this.playhead = null;
    this.calm = matchMedia("(prefers-reduced-motion: reduce)");
    new ResizeObserver(() => this.draw()).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
    this.draw();
  }

  /** Show an utterance; its picture moves while `moving()` is true. */
  show(utterance, moving) {
    this.utterance = utterance;
    this.playhead = null;
    cancelAnimationFrame(this.frame);
    let drawn = 0;
    const step = (time) => {
      if (!this.calm.matches || time - drawn > 1000 / CALM) {
        drawn = time;
        this.draw();
      }
      if (moving()) this.frame = requestAnimationFrame(step);
      else this.draw();
    };
    this.frame = requestAnimationFrame(step);
  }

  draw() {
    const { canvas, context } = this;
    const width = canvas.clientWidth;
    const scale = devicePixelRatio || 1;
    if (canvas.width !== Math.round(width * scale) || canvas.height !== HEIGHT * scale) {
      canvas.width = Math.round(width * scale);
      canvas.height = HEIGHT * scale;
    }
    context.setTransform(scale, 0, 0, scale, 0, 0);
    context.clearRect(0, 0, width, HEIGHT);
    this.readColours();
    const { utterance } = this;
    const now = utterance ? utterance.since(performance.now()) : 0;
    const span = utterance ? spanOf(utterance, now) : SPANS[1];
    this.x = (seconds) => (seconds / span) * (width - 12) + 1;
    this.drawAxis(span, width);
    if (!utterance) return;
    this.drawFirst(utterance, now);
    this.drawChunks(utterance);
    this.drawGaps(utterance, now);
    this.drawSound(utterance, now);
    if (this.playhead !== null) this.drawPlayhead(utterance.heardAt(this.playhead, now));
    else if (!utterance.over || !utterance.silent) this.drawPlayhead(now);
  }

  readColours() {
    const style = getComputedStyle(this.canvas);
    const read = (name) => style.getPropertyValue(name).trim();
    this.colours = {
      accent: read("--accent"),
      soft: read("--accent-soft"),
      line: read("--line"),
      faint: read("--faint"),
      text: read("--quiet"),
      warn: read("--warn"),
      warnSoft: read("--warn-soft"),
    };
    this.context.font = `12px ${style.fontFamily}`;
  }

  drawAxis(span, width) {
    const { context, colours } = this;
    const every = [0.5, 1, 2, 5, 10, 30, 60, 300, 600].find((step) => span / step <= Math.max(3, width / 70)) ?? 600;
    context.fillStyle = colours.faint;
    for (const [top, height] of Object.values(LANES)) context.fillRect(0, top, width, height);
    context.fillStyle = colours.text;
    context.textBaseline = "top";
    for (let second = 0; second <= span + 1e-9; second += every) {
      const x = Math.round(this.x(second));
      context.fillStyle = colours.line;
      context.fillRect(x, 0, 1, AXIS);
      context.fillStyle = colours.text;
      const label = `${second} s`;
      const room = context.measureText(label).width;
      context.fillText(label, Math.min(Math.max(0, x - (second ? room / 2 : 0)), width - room), AXIS + 5);
    }
  }

  /** From Speak to the first sound: the wait, in the played lane. */
  drawFirst(utterance, now) {
    const [top, height] = LANES.played;
    const end = utterance.firstAudio ?? (utterance.over ? null : now);
    if (end === null) return;
    const { context, colours } = this;
    context.strokeStyle = colours.text;
    context.setLineDash([2, 3]);
    context.beginPath();
    context.moveTo(this.x(0), top + height / 2);
    context.lineTo(this.x(end), top + height / 2);
    context.stroke();
    context.setLineDash([]);
  }

  drawChunks(utterance) {
    const { context, colours } = this;
    const [top, height] = LANES.made;
    const [sentTop, sentHeight] = LANES.sent;
    let before = 0;
    utterance.chunks.forEach(({ made, sent }, i) => {
      context.fillStyle = i % 2 ? colours.soft : colours.accent;
      const from = this.x(before);
      context.fillRect(from, top + 3, Math.max(1, this.x(made) - from - 0.5), height - 6);
      context.fillStyle = colours.accent;
      context.fillRect(this.x(sent) - 1, sentTop + 2, 2, sentHeight - 4);
      before = made;
    });
  }

  drawGaps(utterance, now) {
    const gaps = [...utterance.gaps];
    if (utterance.waiting) {
      const last = utterance.stretches.at(-1);
      gaps.push({ from: last.at + last.to - last.from, to: now });
    }
    const { context, colours } = this;
    const [top, height] = LANES.played;
    for (const { from, to } of gaps) {
      const width = Math.max(1.5, this.x(to) - this.x(from));
      context.fillStyle = colours.warnSoft;
      context.fillRect(this.x(from), top, width, height);
      context.fillStyle = colours.warn;
      context.fillRect(this.x(from), top + height - 3, width, 3);
    }
  }

  drawSound(utterance, now) {
    const { context, colours } = this;
    const [top, height] = LANES.played;
    const middle = top + height / 2;
    const playedTo = this.playhead ?? utterance.playedTo;
    for (const [x, { level, position }] of this.bars(utterance, now)) {
      // Square root: quiet speech is seen too.
      const half = Math.max(0.5, Math.sqrt(level) * (height / 2 - 4));
      context.fillStyle = position < playedTo ? colours.accent : colours.soft;
      context.fillRect(x, middle - half, BAR - 1, half * 2);
    }
  }

  /** The loudest of what falls into each bar, by the bar's left edge. */
  bars(utterance, now) {
    const bars = new Map();
    const [peaks, each] = utterance.peaksFor(BAR / (this.x(1) - this.x(0)));
    peaks.forEach((level, i) => {
      const position = i * each;
      const x = Math.floor(this.x(utterance.heardAt(position, now)) / BAR) * BAR;
      const bar = bars.get(x);
      if (!bar) bars.set(x, { level, position });
      else bar.level = Math.max(bar.level, level);
    });
    return bars;
  }

  drawPlayhead(at) {
    const { context, colours } = this;
    context.fillStyle = colours.text;
    context.fillRect(Math.round(this.x(at)), 0, 1, AXIS);
  }
}

/** How many seconds the axis has: all that happened and is known to come, in few steps, so that it seldom jumps. */
function spanOf(utterance, now) {
  const heard = utterance.duration ? utterance.heardAt(utterance.duration, now) : 0;
  const made = utterance.chunks.at(-1)?.sent ?? 0;
  const most = Math.max(heard, made, utterance.over ? 0 : now);
  return SPANS.find((span) => most <= span) ?? Math.ceil(most / 3600) * 3600;
}
