/**
 * Streaming change of the sample rate, for browsers whose audio cannot run at the server's rate.
 *
 * A Kaiser-windowed sinc of 2 × ZEROS crossings: 80 dB of what would be heard wrongly is gone. A signal in pieces
 * gives the same samples as the whole at once.
 */

const ZEROS = 24;
const BETA = 8.0;
const STEPS = 512; // of the kernel between two zero crossings; between these it is interpolated

function bessel(x) {
  let sum = 1;
  let term = 1;
  for (let k = 1; term > 1e-12 * sum; k++) {
    term *= (x / (2 * k)) ** 2;
    sum += term;
  }
  return sum;
}

/** Half of the symmetric kernel, from its middle outwards. */
function makeKernel() {
  const kernel = new Float64Array(ZEROS * STEPS + 2);
  for (let i = 0; i < ZEROS * STEPS; i++) {
    const x = i / STEPS;
    const sinc = x === 0 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x);
    kernel[i] = (sinc * bessel(BETA * Math.sqrt(1 - (x / ZEROS) ** 2))) / bessel(BETA);
  }
  return kernel;
}

export class Resampler {
  constructor(from, to) {
    this.step = from / to; // input samples per output sample
    this.cut = 0.95 * Math.min(1, to / from); // of the input's half rate
    this.half = Math.ceil(ZEROS / this.cut);
    this.kernel = makeKernel();
    this.made = 0; // output samples so far
    this.origin = -this.half; // the input's index of this.input[0]
    this.input = new Float32Array(this.half); // silence before the first sample
    this.total = 0;
  }

  /** @param {Float32Array} samples @returns {Float32Array} what can be said by now */
  push(samples) {
    this.total += samples.length;
    return this.run(samples, (place) => place + this.half < this.total);
  }

  /** What is still owed when the input is over. */
  finish() {
    return this.run(new Float32Array(this.half + 1), (place) => place < this.total);
  }

  run(samples, wanted) {
    const input = new Float32Array(this.input.length + samples.length);
    input.set(this.input);
    input.set(samples, this.input.length);
    const output = [];
    // From the count, not added up: rounding must not add up over an hour.
    while (wanted(this.made * this.step)) output.push(this.at(input, this.made++ * this.step));
    const keep = Math.max(0, Math.floor(this.made * this.step) - this.half - this.origin);
    this.input = input.slice(Math.min(keep, input.length));
    this.origin += Math.min(keep, input.length);
    return Float32Array.from(output);
  }

  at(input, place) {
    let sum = 0;
    const last = Math.min(Math.floor(place) + this.half, this.origin + input.length - 1);
    for (let i = Math.max(Math.ceil(place) - this.half, this.origin); i <= last; i++) {
      const x = Math.abs(place - i) * this.cut * STEPS;
      const k = Math.floor(x);
      if (k >= ZEROS * STEPS) continue;
      sum += input[i - this.origin] * (this.kernel[k] + (x - k) * (this.kernel[k + 1] - this.kernel[k]));
    }
    return sum * this.cut;
  }
}
