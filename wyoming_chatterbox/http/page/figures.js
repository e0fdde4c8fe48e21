/** The numbers under the time line, its words for screen readers, and the table of chunks. */

const $ = (id) => document.getElementById(id);

export const seconds = (value) => (value < 0.9995 ? `${Math.round(value * 1000)} ms` : `${value.toFixed(2)} s`);
const plural = (count, word) => `${count} ${word}${count === 1 ? "" : "s"}`;

/** Show what is known of an utterance by now. */
export function show(utterance) {
  const { firstAudio, rtf, gaps, chunks, duration, metrics } = utterance;
  const quiet = gaps.reduce((sum, { from, to }) => sum + to - from, 0);
  put("first", firstAudio === null ? "–" : seconds(firstAudio));
  const inServer = metrics?.first_audio;
  put("first-more", inServer == null ? "from Speak to sound" : `${seconds(inServer)} in the server`);
  put("rtf", rtf === null ? "–" : rtf.toFixed(2));
  put("rtf-more", speed(rtf, metrics));
  put("underruns", chunks.length ? String(gaps.length) : "–");
  put("underruns-more", gaps.length ? `${seconds(quiet)} of silence` : "gaps that were heard");
  $("underruns").classList.toggle("bad", gaps.length > 0);
  put("audio", chunks.length ? seconds(duration) : "–");
  put("audio-more", chunks.length ? `in ${plural(chunks.length, "chunk")}` : "in chunks");
  put("who", who(utterance));
  $("who").classList.toggle("fallback", Boolean(utterance.fallback));
  $("line").setAttribute("aria-label", `Time line: ${inWords(utterance)}`);
  if ($("table-details").open) table(utterance);
}

function speed(rtf, metrics) {
  if (metrics?.cached) return "from the cache";
  if (!rtf) return "time to make a second";
  const times = 1 / rtf;
  return rtf < 1 ? `${times.toFixed(times < 10 ? 1 : 0)} × faster than speech` : "slower than speech";
}

function who({ voice, model, fallback, chunks }) {
  if (!chunks.length) return "";
  return fallback
    ? `Spoken by the fallback voice ${voice} (model ${model}), because the chosen model could not speak.`
    : `Spoken by the voice ${voice}, model ${model}.`;
}

/** One sentence with everything the picture shows. */
export function inWords(utterance) {
  const { firstAudio, rtf, gaps, chunks, duration } = utterance;
  if (!chunks.length) return utterance.over ? "no sound came" : "waiting for the first chunk";
  const parts = [`${seconds(duration)} of audio in ${plural(chunks.length, "chunk")}`];
  if (firstAudio !== null) parts.push(`first audio after ${seconds(firstAudio)}`);
  parts.push(`RTF ${rtf.toFixed(2)}`, gaps.length ? plural(gaps.length, "underrun") : "no underruns");
  return parts.join(", ");
}

/** Rows are added, never made again: a reader in the middle of the table stays there. */
export function table(utterance) {
  const body = $("table");
  if (body.utterance !== utterance) {
    body.replaceChildren();
    body.heard = 0; // rows before it will not change
  }
  body.utterance = utterance;
  utterance.chunks.slice(body.heard).forEach((chunk, next) => {
    const i = body.heard + next;
    const row = body.rows[i] ?? body.insertRow();
    const heard = chunk.offset <= utterance.playedTo && utterance.stretches.length;
    const cells = [
      String(chunk.index + 1),
      ...[chunk.duration, chunk.made, chunk.sent, chunk.arrived].map((value) => value.toFixed(3)),
      heard ? utterance.heardAt(chunk.offset, 0).toFixed(3) : "–",
    ];
    cells.forEach((text, column) => {
      const cell = row.cells[column] ?? row.insertCell();
      if (cell.textContent !== text) cell.textContent = text;
    });
  });
  body.heard = utterance.chunks.findIndex(({ offset }) => offset > utterance.playedTo);
  if (body.heard < 0) body.heard = utterance.chunks.length;
}

function put(id, text) {
  const element = $(id);
  if (element.textContent !== text) element.textContent = text;
}
