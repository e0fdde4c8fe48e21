/** What the page says about itself: the connection, the model while it loads, errors, and words for screen readers. */

import { ask } from "./server.js";

const POLL_SECONDS = { loading: 1, ready: 20 };

/** What helps where the server's own message cannot say it. */
const REMEDIES = {
  unreachable: "Is the server running, and is this its address?",
  unauthorized: "Enter the token under “Your own voices”.",
  "server-busy": "Wait for what is being spoken, then press Speak again.",
  "model-unavailable": "Wait until the model is loaded, or choose another voice.",
  "connection-lost": "The page connects again by itself.",
};

/** What a model does that cannot speak yet, after its name. */
const DOING = {
  waiting: "waits to be loaded",
  downloading: "is being downloaded",
  loading: "is being loaded",
  warming: "is warming up",
};

const $ = (id) => document.getElementById(id);

/** Tell a screen reader, politely. */
export function say(text) {
  $("live").textContent = text;
}

export function showError({ code, message }) {
  $("error-message").textContent = message;
  $("error-code").textContent = code;
  $("error-remedy").textContent = REMEDIES[code] ?? "";
  $("error-remedy").hidden = !REMEDIES[code];
  $("error").hidden = false;
}

export function hideError() {
  $("error").hidden = true;
}

/** The pill at the top. `detail` is that of Connection's "state". */
export function showConnection({ state, seconds, reason }) {
  clearInterval(showConnection.clock);
  $("state").dataset.state = state;
  $("retry").hidden = state !== "waiting";
  const text = { connecting: "Connecting…", open: "Connected", refused: "Token needed" }[state];
  $("state-text").textContent = text ?? "Not connected";
  if (state === "refused") showError({ code: "unauthorized", message: reason || "This server asks for a token" });
  if (state !== "waiting") return;
  $("state").title = reason ?? "";
  const until = performance.now() + seconds * 1000;
  showConnection.clock = setInterval(() => {
    const left = Math.ceil((until - performance.now()) / 1000);
    // The number is no news for a screen reader: it is drawn by style.css.
    $("state-text").dataset.left = left > 0 ? `, next try in ${left} s` : "";
  }, 200);
}

/** Watches /health/ready: often while the model loads, seldom afterwards. */
export class Loading {
  constructor() {
    this.text = "";
    this.state = null;
  }

  async look() {
    clearTimeout(this.timer);
    const health = await ask("health/ready", { accept: [503] }).catch(() => null);
    const ready = !health || health.state === "ready";
    if (health) this.show(health, ready);
    this.timer = setTimeout(() => this.look(), 1000 * (ready ? POLL_SECONDS.ready : POLL_SECONDS.loading));
  }

  show(health, ready) {
    const text = ready ? "" : sentence(health);
    const share = health.progress ?? null;
    if (text !== this.text) $("loading-text").textContent = text;
    // Every percent is no news for a screen reader, another state is.
    if (health.state !== this.state && (!ready || this.state)) say(text || `The model ${health.model} is ready`);
    Object.assign(this, { text, state: health.state });
    $("loading").hidden = ready;
    $("loading-progress").hidden = ["failed", "unloaded"].includes(health.state);
    if (share === null) $("loading-progress").removeAttribute("value");
    else $("loading-progress").value = share;
  }
}

function sentence({ model, state, progress, speaks, status }) {
  if (!DOING[state]) return `${status}.`; // failed, unloaded: the server says why, and who speaks instead
  const share = progress == null ? "" : `: ${Math.floor(progress * 100)} %`;
  const what = `The model ${model} ${DOING[state]}${share}.`;
  return speaks
    ? `${what} Until it can speak, the fallback voice answers (model ${speaks}).`
    : `${what} Nothing can speak until then.`;
}
