/** What was said lately: to hear again, to keep, to say again. It lives in this page alone. */

import { seconds } from "./figures.js";

const MOST = 20;
const MOST_BYTES = 128 * 1024 * 1024; // 45 minutes of speech

export class History {
  /** @param {{replay, reuse}} actions each gets the utterance */
  constructor(list, empty, actions) {
    Object.assign(this, { list, empty, actions, utterances: [] });
  }

  add(utterance) {
    this.utterances.unshift(utterance);
    this.list.prepend(this.item(utterance));
    while (this.utterances.length > 1 && (this.utterances.length > MOST || this.bytes > MOST_BYTES)) {
      this.utterances.pop();
      this.list.lastElementChild.remove();
    }
    this.empty.hidden = true;
  }

  get bytes() {
    return this.utterances.reduce((sum, utterance) => sum + utterance.bytes, 0);
  }

  item(utterance) {
    const item = document.createElement("li");
    const text = document.createElement("p");
    text.className = "said";
    text.textContent = utterance.text;
    const facts = document.createElement("p");
    facts.className = "fine";
    facts.textContent = this.facts(utterance);
    const buttons = document.createElement("div");
    buttons.className = "together";
    const about = utterance.text.slice(0, 60);
    buttons.append(
      button("Play", about, () => this.actions.replay(utterance)),
      button("Download", about, () => download(utterance)),
      button("Use text", about, () => this.actions.reuse(utterance)),
    );
    item.append(text, facts, buttons);
    return item;
  }

  facts(utterance) {
    const { voice, duration, firstAudio, gaps, date, fallback, error, stopped, lost } = utterance;
    const time = date.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
    const facts = [time, fallback ? `${voice} (fallback)` : voice, seconds(duration)];
    if (firstAudio !== null) facts.push(`first audio ${seconds(firstAudio)}`);
    if (gaps.length) facts.push(`${gaps.length} underrun${gaps.length === 1 ? "" : "s"}`);
    if (stopped) facts.push("stopped");
    if (lost) facts.push("connection lost");
    if (error) facts.push(error.code);
    return facts.map((fact) => fact.replaceAll(" ", "\u00a0")).join(" · "); // lines break between facts
  }
}

function button(label, about, action) {
  const element = document.createElement("button");
  element.type = "button";
  element.className = "small";
  element.textContent = label;
  element.setAttribute("aria-label", `${label}: ${about}`);
  element.addEventListener("click", action);
  return element;
}

function download(utterance) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(utterance.wav());
  link.download = utterance.fileName;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000); // Safari reads it late
}
