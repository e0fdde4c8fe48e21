/** The recorder's end in the audio thread: hands on what the microphone heard. */

class Recorder extends AudioWorkletProcessor {
  process(inputs) {
    if (inputs[0].length) this.port.postMessage(inputs[0][0].slice());
    return true;
  }
}

registerProcessor("chatterbox-recorder", Recorder);
