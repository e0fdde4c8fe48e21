/** WAV files made in the page: of what was heard, and of what the microphone heard. */

const HEADER = 44;

/** @param {Int16Array[]} pieces mono @param {number} rate @returns {Blob} */
export function wav(pieces, rate) {
  const bytes = pieces.reduce((sum, piece) => sum + piece.byteLength, 0);
  const header = new DataView(new ArrayBuffer(HEADER));
  const word = (at, text) => [...text].forEach((letter, i) => header.setUint8(at + i, letter.charCodeAt(0)));
  word(0, "RIFF");
  header.setUint32(4, HEADER - 8 + bytes, true);
  word(8, "WAVEfmt ");
  header.setUint32(16, 16, true); // length of what follows up to "data"
  header.setUint16(20, 1, true); // PCM
  header.setUint16(22, 1, true); // channels
  header.setUint32(24, rate, true);
  header.setUint32(28, rate * 2, true); // bytes per second
  header.setUint16(32, 2, true); // bytes per frame
  header.setUint16(34, 16, true); // bits per sample
  word(36, "data");
  header.setUint32(40, bytes, true);
  return new Blob([header, ...pieces], { type: "audio/wav" });
}

/** @param {Float32Array} samples of -1 to 1 @returns {Int16Array} */
export function toInt16(samples) {
  return Int16Array.from(samples, (sample) => Math.max(-32768, Math.min(32767, Math.round(sample * 32768))));
}

/** @param {Int16Array} samples @returns {Float32Array} of -1 to 1, exactly */
export function toFloat(samples) {
  return Float32Array.from(samples, (sample) => sample / 32768);
}
