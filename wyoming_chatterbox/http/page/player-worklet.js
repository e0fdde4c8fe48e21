/** The player's end in the audio thread. `sampleRate`, `currentFrame` and the rest are globals there. */

import { Ring } from "./ring.js";

class Player extends AudioWorkletProcessor {
  constructor(options) {
    super();
    this.ring = new Ring(sampleRate, options.processorOptions.seconds, (report) => this.port.postMessage(report));
    this.port.onmessage = (event) => this.ring.receive(event.data);
  }

  process(inputs, outputs) {
    this.ring.fill(outputs[0][0], currentFrame);
    return true;
  }
}

registerProcessor("chatterbox-player", Player);
