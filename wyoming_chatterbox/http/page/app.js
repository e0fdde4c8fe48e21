/** The page: connects its parts with each other and with the keys. */

import { Connection } from "./connection.js";
import * as figures from "./figures.js";
import { History } from "./history.js";
import { ask } from "./server.js";
import { FIRST, Settings } from "./settings.js";
import { Speaking } from "./speaking.js";
import { hideError, Loading, say, showConnection, showError } from "./status.js";
import { Timeline } from "./timeline.js";
import { Upload } from "./upload.js";
import { Voices } from "./voices.js";

const $ = (id) => document.getElementById(id);

const connection = new Connection();
const speaking = new Speaking(connection);
const loading = new Loading();
const timeline = new Timeline($("line"));
const settings = new Settings({ first: $("settings"), more: $("settings-more"), upstream: $("settings-upstream"), reset: $("settings-reset") });
const voices = new Voices({ voice: $("voice"), model: $("model"), changed: () => showNote() });
const history = new History($("history"), $("history-empty"), {
  replay: (utterance) => replay(utterance),
  reuse: (utterance) => {
    $("text").value = utterance.text;
    $("text").focus();
  },
});
new Upload({
  changedToken: () => connection.open(),
  changedVoices: (name) => refresh(name),
  listen: (clip) => speaking.replay(clip.pieces, clip.rate),
  failed: (error) => showError(error),
});

let shown = null; // the utterance in the time line

function speak() {
  const text = $("text").value.trim();
  if (!text) {
    showError({ code: "empty-text", message: "There is nothing to say: write a text first." });
    $("text").focus();
    return;
  }
  hideError();
  speaking.speak(text, { voice: voices.chosen?.name, ...settings.values });
  show(speaking.current);
  announceWait(speaking.current);
}

/** For screen readers, which would speak into the first words of a fast answer. */
function announceWait(utterance) {
  setTimeout(() => {
    if (speaking.current === utterance && !utterance.stretches.length) say("Waiting for the first sound");
  }, 1500);
}

function stop() {
  if (!speaking.busy) return;
  speaking.stop();
  update();
  say("Stopped");
}

function replay(utterance) {
  speaking.replay(utterance.pieces, utterance.rate, utterance);
  show(utterance);
}

function show(utterance) {
  shown = utterance;
  timeline.show(utterance, () => {
    const again = speaking.replaying?.utterance === utterance ? speaking.replaying : null;
    timeline.playhead = again?.position ?? null;
    return shown === utterance && (speaking.current === utterance || again !== null);
  });
  figures.show(utterance);
  update();
}

/** Buttons and the words beside the title, from what is going on. */
function update() {
  const open = connection.state === "open";
  $("speak").disabled = !open;
  $("stop").disabled = !speaking.busy;
  $("line-state").textContent = doing();
  $("line-state").dataset.bad = Boolean(shown?.error || shown?.lost || speaking.current?.waiting);
}

function doing() {
  const { current, replaying } = speaking;
  if (replaying) return "Playing again";
  if (!current) return outcome(shown);
  if (!current.stretches.length) return "Waiting for the first chunk";
  if (current.waiting) return "Underrun: waiting for the next chunk";
  return current.over ? "Playing, all is made" : "Playing while it is made";
}

function outcome(utterance) {
  if (!utterance) return "Nothing said yet";
  if (utterance.stopped) return "Stopped";
  if (utterance.error) return `Error: ${utterance.error.code}`;
  return utterance.lost ? "Connection lost" : "Finished";
}

function showNote() {
  const { name, settings: understood = [] } = voices.chosen ?? {};
  const unused = voices.chosen && !FIRST.every((setting) => understood.includes(setting));
  $("settings-note").hidden = !unused;
  $("settings-note").textContent = `${name} has one way to speak: these settings are for other voices.`;
}

/** What the server offers; `choose` is a voice that was just added. */
async function refresh(choose) {
  try {
    const [listed, knobs] = await Promise.all([ask("v1/audio/voices"), ask("api/settings")]);
    voices.show(listed.voices, choose);
    if (!settings.knobs.length) settings.show(knobs);
    showNote();
  } catch (error) {
    showError(error);
  }
}

connection.addEventListener("state", ({ detail }) => {
  showConnection(detail);
  if (detail.state === "open") {
    hideError();
    refresh();
    loading.look();
  }
  if (detail.state === "refused") $("token").focus();
  update();
});

speaking.addEventListener("change", ({ detail: { utterance } }) => {
  if (utterance && utterance === shown) figures.show(utterance);
  update();
});

speaking.addEventListener("end", ({ detail: { utterance } }) => {
  if (utterance.chunks.length) history.add(utterance);
  if (!utterance.stopped) say(`${outcome(utterance)}: ${figures.inWords(utterance)}`);
  if (utterance.fallback) loading.look();
});

speaking.addEventListener("fail", ({ detail: { error } }) => showError(error));

$("speak").addEventListener("click", speak);
$("stop").addEventListener("click", stop);
$("retry").addEventListener("click", () => connection.retry());
$("error-close").addEventListener("click", () => {
  hideError();
  $("text").focus();
});
$("table-details").addEventListener("toggle", () => shown && figures.table(shown));

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") stop();
  if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
  event.preventDefault();
  if (!$("speak").disabled) speak();
});

// Browsers allow sound once somebody did something here.
for (const deed of ["pointerdown", "keydown"]) addEventListener(deed, () => speaking.prepare(), { once: true });

connection.open();
update();
