/** A new voice: a token, then a name and a clip that is recorded or chosen. */

import { MOST_SECONDS, Recorder } from "./recorder.js";
import { ask, sendable, token } from "./server.js";

const $ = (id) => document.getElementById(id);

export class Upload {
  /**
   * @param {{changedToken, changedVoices, listen, failed}} actions `changedVoices(name)` after an upload, with the
   *   voice to choose, `listen(clip)` to hear a recording, `failed(error)`
   */
  constructor(actions) {
    this.actions = actions;
    this.clip = null;
    this.level = 0;
    this.recorder = new Recorder((state) => this.recording(state));
    $("token-form").addEventListener("submit", (event) => this.useToken(event));
    $("token-forget").addEventListener("click", () => this.forgetToken());
    $("record").addEventListener("click", () => this.toggle());
    $("record-play").addEventListener("click", () => actions.listen(this.clip));
    $("upload-file").addEventListener("change", () => this.choose());
    $("upload").addEventListener("submit", (event) => this.send(event));
    $("upload-undo").addEventListener("click", () => this.undo());
    if (Recorder.missing) {
      $("record").disabled = true;
      $("record-state").textContent = Recorder.missing;
    }
    this.showToken();
  }

  useToken(event) {
    event.preventDefault();
    const value = $("token").value.trim();
    if (!value) return;
    if (!sendable(value)) {
      const message = "This token cannot be sent by a browser: it may hold only letters, digits and . _ ~ + -";
      this.actions.failed({ code: "invalid-token", message });
      return;
    }
    token.set(value);
    $("token").value = "";
    this.showToken();
    $("token-forget").focus();
    this.actions.changedToken();
  }

  forgetToken() {
    token.set("");
    this.showToken();
    $("token").focus();
    this.actions.changedToken();
  }

  showToken() {
    const known = Boolean(token.get());
    $("token-form").hidden = known;
    $("token-known").hidden = !known;
    $("upload").hidden = !known;
  }

  async toggle() {
    if (this.recorder.running) {
      this.finish();
      return;
    }
    try {
      await this.recorder.start();
    } catch (error) {
      const message = `The microphone cannot be used: ${error.message}. Allow it in the browser, or choose a file.`;
      this.actions.failed({ code: "no-microphone", message });
      return;
    }
    $("upload-file").value = "";
    $("record").setAttribute("aria-pressed", "true");
    $("record").textContent = "Stop recording";
    $("record-level").hidden = false;
    $("record-play").hidden = true;
  }

  recording({ seconds, level }) {
    this.level = Math.max(level, this.level * 0.98);
    $("record-level").value = this.level;
    const text = `Recording: ${Math.floor(seconds)} s`;
    if ($("record-state").textContent !== text) $("record-state").textContent = text;
    if (seconds >= MOST_SECONDS) this.finish();
  }

  finish() {
    this.clip = this.recorder.stop();
    $("record").setAttribute("aria-pressed", "false");
    $("record").textContent = "Record again";
    $("record-level").hidden = true;
    $("record-play").hidden = false;
    $("record-state").textContent = `${this.clip.seconds.toFixed(1)} s recorded.`;
  }

  choose() {
    this.clip = null;
    $("record-play").hidden = true;
    const file = $("upload-file").files[0];
    if (file && !$("upload-name").value) $("upload-name").value = file.name.replace(/\.[^.]*$/, "");
  }

  async send(event) {
    event.preventDefault();
    if (this.recorder.running) this.finish();
    const recorded = this.clip && new File([this.clip.blob], "recording.wav", { type: "audio/wav" });
    const file = recorded || $("upload-file").files[0];
    if (!file) {
      this.actions.failed({ code: "no-clip", message: "There is no clip yet: record one, or choose a file." });
      return;
    }
    const name = $("upload-name").value.trim();
    const body = new FormData();
    body.append("name", name);
    body.append("file", file);
    $("upload-send").disabled = true;
    $("upload-undo").hidden = true;
    $("upload-state").textContent = "Sending…";
    try {
      const { voice, warnings } = await ask("v1/audio/voices", { method: "POST", body });
      $("upload").reset();
      this.clip = null;
      $("record-play").hidden = true;
      $("upload-state").textContent = [`The voice ${voice.name} was added and is chosen.`, ...warnings].join(" ");
      this.last = voice.name;
      $("upload-undo").hidden = false;
      this.actions.changedVoices(voice.name);
    } catch (error) {
      $("upload-state").textContent = "";
      this.actions.failed(error);
    } finally {
      $("upload-send").disabled = false;
    }
  }

  /** Take the last upload away: a bad recording is made again under the same name. */
  async undo() {
    try {
      await ask(`v1/audio/voices/${encodeURIComponent(this.last)}`, { method: "DELETE" });
      $("upload-name").value = this.last;
      $("upload-state").textContent = `The voice ${this.last} was removed.`;
      $("upload-undo").hidden = true;
      $("upload-name").focus();
      this.actions.changedVoices();
    } catch (error) {
      this.actions.failed(error);
    }
  }
}
